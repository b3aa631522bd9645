"""Raw MRI scans in the ISMRMRD (MRD) format: HDF5 with one record per readout.

Readouts are sorted into Cartesian k-space by their encoding counters; noise scans and separate
calibration lines are kept apart. Nothing of the header but sizes is read: it names the patient.
Needs h5py: ``pip install invdiff[mri]``.

Reference:
    | ISMRM Raw data format (Inati et al., 2017), https://doi.org/10.1002/mrm.26089
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invdiff.datasets.hdf5 import HDF5File
from invdiff.datasets.mrd_header import MRDHeader, parse_mrd_header
from invdiff.datasets.mrd_lines import Lines, Readout
from invdiff.datasets.mrd_noise import NoiseScans

__all__ = ["MRDScan", "read_mrd"]

LIMIT = 2 * 1024**3  # bytes of k-space, and of a block of readouts
BLOCK = 256  # readouts at a time
NOISE, CALIBRATION, CALIBRATION_TOO, REVERSE = (1 << bit for bit in (18, 19, 20, 21))
# Navigators, phase correction, feedback, dummy, surface coil and phase stabilisation scans.
OTHERS = sum(1 << bit for bit in (22, 23, 25, 26, 27, 28, 29, 30))


@dataclass(frozen=True, eq=False)
class MRDScan:
    """A scan of n slices (contrasts, repetitions, ...), or of one or more volumes.

    Arguments:
        header: Sizes, fields of view and limits.
        items: A name for each of the n, from its counters, such as "slice-003".
        kspace: Complex64 (n, coils, readout, phase, partitions), the average of what was
            measured and zero elsewhere; one partition for slices. Frequency zero is at n // 2.
        counts: How often each line was measured, int (n, phase, partitions); 0: never.
        noise: Samples of the noise scans, complex64 (coils, samples), with the variance that they
            would have in the scan; None if there are none.
        calibration: Separate lines for coil maps and their counts, like kspace and counts; None if
            there are none.
        skipped: How many readouts were navigators, phase corrections and the like.
    """

    header: MRDHeader
    items: tuple[str, ...]
    kspace: np.ndarray
    counts: np.ndarray
    noise: np.ndarray | None
    calibration: tuple[np.ndarray, np.ndarray] | None
    skipped: int

    def __repr__(self) -> str:
        return f"MRDScan({len(self.items)} items, k-space {self.kspace.shape})"


def read_mrd(path: str | Path) -> MRDScan:
    """Reads a file with one Cartesian scan.

    Raises:
        FileNotFoundError, ImportError: If there is no such file, or no h5py.
        ValueError: If it is no such file, is damaged or too large, the scan is not Cartesian,
            a readout does not fit the header, was reversed (EPI) or read in part (asymmetric
            echo), or a line was measured twice. No content is quoted: it may name a patient.
    """
    with HDF5File(path, LIMIT) as file:
        group = _scan(file)
        header = parse_mrd_header("".join(file.texts(f"{group}xml")))
        lines, calibration = Lines(header, LIMIT), Lines(header, LIMIT)
        noise, skipped = NoiseScans(LIMIT), 0
        for readout in _readouts(file, f"{group}data"):
            if readout.flags & NOISE:
                noise.add(readout)
            elif readout.flags & OTHERS:
                skipped += 1
            elif readout.flags & REVERSE:
                raise ValueError(
                    "It has reversed readouts (EPI), which need a correction of their phase. "
                    "Correct and reorder them first."
                )
            elif _separate(readout.flags, header):
                calibration.add(readout)
            else:
                lines.add(readout)
    if not lines.items:
        raise ValueError("It has no readout of the image: all are noise, calibration or others.")
    items = sorted(lines.items)
    kspace, counts = lines.collected(items)
    reference = calibration.collected(items) if calibration.items else None
    return MRDScan(
        header,
        _names(items),
        kspace,
        counts,
        noise.scaled(lines.dwell, header.noise_bandwidth) if noise else None,
        reference,
        skipped,
    )


def _separate(flags: int, header: MRDHeader) -> bool:
    """Whether a readout is for calibration only; embedded lines belong to the image as well."""
    only = bool(flags & CALIBRATION) and not flags & CALIBRATION_TOO
    return only and header.calibration != "embedded"


def _scan(file: HDF5File) -> str:
    """The path of the one group with a header and readouts, with a slash at its end."""
    found = [
        name.removesuffix("xml")
        for name, entry in file.entries.items()
        if entry is not None and (name == "xml" or name.endswith("/xml"))
    ]
    found = [group for group in found if file.entries.get(f"{group}data") is not None]
    if len(found) != 1:
        raise ValueError(
            f"It holds {len(found)} scans (groups with 'xml' and 'data'), expected 1 as in the "
            "ISMRMRD format. Write one scan per file."
        )
    return found[0]


def _readouts(file: HDF5File, name: str) -> Iterator[Readout]:
    """One after the other, a block at a time in memory."""
    entry = file.entries[name]
    assert entry is not None
    if len(entry.shape) not in (1, 2) or math.prod(entry.shape[1:]) != 1 or entry.kind != "fields":
        raise ValueError(
            f"Its readouts have shape {entry.shape}, expected a list of records as in the ISMRMRD "
            "format. Images in that format are not raw data."
        )
    for start in range(0, entry.shape[0], BLOCK):
        stop = min(start + BLOCK, entry.shape[0])
        fields = file.fields(name, start, stop)
        yield from Readout.of_fields(fields, stop - start)


def _names(items: list[tuple[int, ...]]) -> tuple[str, ...]:
    """Slice, contrast, phase, repetition and set; those that are always 0 are left out."""
    kinds = ("slice", "contrast", "phase", "repetition", "set")
    used = [k for k in range(len(kinds)) if k == 0 or any(item[k] for item in items)]
    return tuple("/".join(f"{kinds[k]}-{item[k]:03d}" for k in used) for item in items)
