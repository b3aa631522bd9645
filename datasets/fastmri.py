"""Volumes of multi-coil k-space in HDF5 files as fastMRI publishes them.

======================  ==============================================================
``kspace``              complex (slices, coils, rows, columns): rows are the oversampled
                        readout, columns the phase encodings, frequency zero in the centre
``ismrmrd_header``      XML: the encoded and the reconstructed space, the encoding limits
``mask``                zeros and ones (columns,), optional: all columns if absent
======================  ==============================================================

Columns outside of the encoding limits are zeros that were never measured: they are not part of the
mask here. Attributes are not read, and no message quotes a name or a value: each may name a
patient. Needs h5py: ``pip install invdiff[mri]``.

Reference:
    | fastMRI: An open dataset and benchmarks for accelerated MRI (Zbontar et al., 2018)
    | https://arxiv.org/abs/1811.08839
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from invdiff.datasets.hdf5 import Entry, HDF5File
from invdiff.datasets.hdf5_writing import written_hdf5
from invdiff.datasets.ismrmrd_header import Header, parse_header, write_header
from invdiff.datasets.untrusted import file_size, nameless
from invdiff.errors import ShapeError

__all__ = ["FastMRIFile", "is_hdf5", "write_fastmri"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LIMIT = 2 * 1024**3  # bytes of one slice
REQUIRED = ("kspace", "ismrmrd_header")
PARTS = (*REQUIRED, "mask")


@dataclass(frozen=True, eq=False)
class FastMRIFile:
    """What a file holds, without the samples; ``read`` loads one slice.

    Arguments:
        path: Where it is.
        shape: (slices, coils, rows, columns).
        mask: The measured columns, bool (columns,): the stored mask within the encoding limits.
        header: Sizes, fields of view and limits.
    """

    path: Path = field(repr=False)  # a file name may name a patient
    shape: tuple[int, int, int, int]
    mask: np.ndarray
    header: Header

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Reads all but the samples, and checks it.

        Raises:
            FileNotFoundError, PermissionError: If there is no such file, or it may not be read.
            ImportError: If h5py is not installed.
            ShapeError, TypeError, ValueError: If it is not HDF5, lacks a data set, or its parts
                contradict each other.
        """
        path = Path(path)
        with HDF5File(path, LIMIT) as file:
            found = {name: file.entries.get(name) for name in PARTS}
            missing = [name for name in REQUIRED if found[name] is None]
            if missing:
                raise ValueError(
                    f"It lacks {missing}, and has {len(file.entries)} arrays and groups. Expected "
                    "multi-coil k-space in the layout of docs/formats.md."
                )
            shape = _checked_shape(found["kspace"])
            header = parse_header("".join(file.texts("ismrmrd_header")))
            _check_header(header, shape)
            stored = np.ones(shape[3])
            if found["mask"] is not None:
                _check_mask(found["mask"], shape[3])  # before it is read
                stored = file.array("mask")
        return cls(path, shape, _measured(stored, header), header)

    @property
    def middle(self) -> int:
        """The index of the middle slice."""
        return self.shape[0] // 2

    def read(self, index: int) -> np.ndarray:
        """k-space of one slice, (coils, rows, columns), zero where nothing was measured.

        Raises:
            ValueError: If there is no such slice, the file is damaged, or samples are not finite,
                or not zero outside of the mask.
        """
        if not 0 <= index < self.shape[0]:
            raise ValueError(
                f"Slice {index} was asked for; the file has {self.shape[0]}, from 0 on."
            )
        with HDF5File(self.path, LIMIT) as file:
            if _checked_shape(file.entries.get("kspace")) != self.shape:
                raise ValueError("Its k-space has changed since it was opened. Open it again.")
            samples: np.ndarray = file.array("kspace", index, index + 1)[0]
        if not np.isfinite(samples).all():
            raise ValueError(f"Slice {index} has NaN or infinite samples, expected none.")
        if samples[..., ~self.mask].any():
            raise ValueError(
                f"Slice {index} is not zero in columns that the mask or the header's encoding "
                "limits call unmeasured. Check the header and the mask."
            )
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def is_hdf5(path: str | Path) -> bool:
    """Whether the file begins as HDF5 files do. Raises OSError if it cannot be opened."""
    file_size(Path(path))
    with nameless(), Path(path).open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def write_fastmri(
    path: str | Path,
    kspace: np.ndarray,
    header: Header,
    mask: np.ndarray | None = None,
    **others: np.ndarray,
) -> None:
    """Writes a file that ``FastMRIFile`` reads, whole or not at all.

    Arguments:
        path: Where to.
        kspace: Complex (slices, coils, rows, columns).
        header: Must agree with it.
        mask: Zeros and ones (columns,).
        others: More arrays, by their names; ``FastMRIFile`` leaves them alone.

    Raises:
        ImportError: If h5py is not installed.
        OSError: If the disk is full or the folder cannot be written.
        ShapeError, TypeError, ValueError: As ``FastMRIFile.open``.
    """
    shape = _checked_shape(Entry(kspace.shape, kspace.dtype.kind, kspace.nbytes))
    _check_header(header, shape)
    if mask is not None:
        _check_mask(Entry(mask.shape, mask.dtype.kind, mask.nbytes), shape[3])
        _measured(mask, header)
    with written_hdf5(Path(path)) as file:
        file["kspace"] = kspace.astype(np.complex64)
        file["ismrmrd_header"] = write_header(header)
        if mask is not None:
            file["mask"] = np.asarray(mask, dtype=np.float32)
        for name, array in others.items():
            file[name] = array


def _checked_shape(kspace: Entry | None) -> tuple[int, int, int, int]:
    shape = () if kspace is None else kspace.shape
    if kspace is None or len(shape) != 4 or 0 in shape:
        raise ShapeError(
            f"kspace has shape {shape}, expected (slices, coils, rows, columns). "
            "Single-coil files lack the coil axis: add one of length 1."
        )
    if kspace.kind != "c":
        raise TypeError(
            f"kspace holds no complex numbers (numpy calls its kind {kspace.kind!r}, expected "
            "'c'). Write real and imaginary parts as one complex array."
        )
    if kspace.bytes // shape[0] > LIMIT:
        raise ValueError(
            f"One slice of shape {shape[1:]} exceeds {LIMIT} bytes. Check where it comes from."
        )
    return shape[0], shape[1], shape[2], shape[3]


def _check_header(header: Header, shape: tuple[int, ...]) -> None:
    rows, columns = shape[2:]
    if tuple(header.encoded.matrix[:2]) != (rows, columns):
        raise ShapeError(
            f"The header encodes {header.encoded.matrix[:2]} samples, but kspace has "
            f"{(rows, columns)} (rows, columns)."
        )
    limits = header.measured
    if not 0 <= limits.start < limits.stop <= columns:
        raise ValueError(
            f"The header's encoding limits are columns {limits.start} to {limits.stop - 1} of "
            f"{columns}. They must lie inside of k-space."
        )
    if not 1 <= header.readout <= rows:
        raise ValueError(
            f"The header reconstructs {header.readout} of {rows} rows; expected no more than "
            "there are. Check the fields of view."
        )


def _check_mask(mask: Entry, columns: int) -> None:
    if mask.shape != (columns,) or mask.kind not in "biuf":
        raise ValueError(
            f"The mask has shape {mask.shape}, expected zeros and ones of shape ({columns},)."
        )


def _measured(stored: np.ndarray, header: Header) -> np.ndarray:
    """The stored mask within the encoding limits, bool (columns,)."""
    if not np.isin(stored, (0, 1)).all():
        raise ValueError("The mask has other values than zeros and ones. Write it again.")
    inside = np.zeros(stored.shape, dtype=bool)
    inside[header.measured] = stored[header.measured] == 1
    if not inside.any():
        raise ValueError("The mask is empty: no column was measured. Check the mask.")
    return inside
