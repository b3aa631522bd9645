"""Writing a scan as an ISMRMRD (MRD) file: what scanners' converters write, without a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from invdiff.datasets.hdf5 import h5py_module
from invdiff.datasets.hdf5_writing import written_hdf5
from invdiff.datasets.ismrmrd_header import Header
from invdiff.datasets.mrd_header import write_mrd_header
from invdiff.errors import ShapeError

__all__ = ["write_mrd"]

NOISE = 1 << 18
COUNTERS = (
    *("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase"),
    *("repetition", "set", "segment"),
)


def write_mrd(
    path: str | Path,
    kspace: np.ndarray,
    mask: np.ndarray,
    header: Header,
    noise: np.ndarray | None = None,
    dwell: float = 5.0,
) -> None:
    """Writes the measured lines of slices, and a noise scan before them; whole or not at all.

    Arguments:
        path: Where to.
        kspace: Complex (slices, coils, readout, phase), frequency zero at n // 2.
        mask: The measured phase encodings, zeros and ones (phase,).
        header: Must agree with it.
        noise: Samples of noise, complex (coils, samples), of the same dwell time.
        dwell: The time per sample in microseconds.

    Raises:
        ImportError: Without h5py.
        OSError: If the disk is full or the folder cannot be written.
        ShapeError, TypeError: If the parts do not fit each other, or k-space is not complex.
    """
    if kspace.ndim != 4 or header.encoded.matrix[:2] != kspace.shape[2:]:
        raise ShapeError(
            f"k-space has shape {kspace.shape} and the header encodes {header.encoded.matrix}; "
            "expected (slices, coils, readout, phase) with the same readout and phase."
        )
    if kspace.dtype.kind != "c":
        raise TypeError(f"k-space has dtype {kspace.dtype}, expected complex numbers.")
    slices, coils, length, phases = kspace.shape
    wrong_noise = noise is not None and (noise.ndim != 2 or len(noise) != coils)
    if mask.shape != (phases,) or wrong_noise:
        raise ShapeError(
            f"The mask has shape {mask.shape}, expected {(phases,)}; the noise, if any, must be "
            f"({coils}, samples)."
        )
    shift = header.limits.center - phases // 2
    lines = [(k, y) for k in range(slices) for y in np.flatnonzero(mask).tolist()]
    scans = [] if noise is None else np.array_split(noise, -(-noise.shape[1] // length), axis=1)
    records = np.zeros(len(scans) + len(lines), _record(h5py_module()))
    for index, scan in enumerate(scans):
        _fill(records, index, scan, dwell, flags=NOISE)
    for index, (k, y) in enumerate(lines, len(scans)):
        _fill(records, index, kspace[k, :, :, y], dwell, kspace_encode_step_1=y + shift, slice=k)
    with written_hdf5(Path(path)) as file:
        group = file.create_group("dataset")
        group["xml"] = np.array([write_mrd_header(header, coils).encode()], dtype=object).astype(
            h5py_module().string_dtype()
        )
        group.create_dataset("data", data=records, maxshape=(None,), chunks=True)


def _record(h5py: Any) -> np.dtype[Any]:
    """Version 1 of the format."""
    counters = [(name, "<u2") for name in COUNTERS] + [("user", "<u2", (8,))]
    head = [
        *(("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4")),
        *(("scan_counter", "<u4"), ("acquisition_time_stamp", "<u4")),
        *(("physiology_time_stamp", "<u4", (3,)), ("number_of_samples", "<u2")),
        *(("available_channels", "<u2"), ("active_channels", "<u2")),
        *(("channel_mask", "<u8", (16,)), ("discard_pre", "<u2"), ("discard_post", "<u2")),
        *(("center_sample", "<u2"), ("encoding_space_ref", "<u2")),
        *(("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4"), ("position", "<f4", (3,))),
        *(("read_dir", "<f4", (3,)), ("phase_dir", "<f4", (3,)), ("slice_dir", "<f4", (3,))),
        *(("patient_table_position", "<f4", (3,)), ("idx", counters)),
        *(("user_int", "<i4", (8,)), ("user_float", "<f4", (8,))),
    ]
    ragged = h5py.vlen_dtype(np.float32)
    return np.dtype([("head", head), ("traj", ragged), ("data", ragged)])


def _fill(
    records: np.ndarray,
    index: int,
    samples: np.ndarray,
    dwell: float,
    flags: int = 0,
    **counters: int,
) -> None:
    """One record from samples (coils, readout)."""
    coils, length = samples.shape
    head = records[index]["head"]
    head["version"], head["flags"], head["scan_counter"] = 1, flags, index
    head["number_of_samples"], head["center_sample"] = length, length // 2
    head["available_channels"] = head["active_channels"] = coils
    head["sample_time_us"] = dwell
    for axis, name in enumerate(("read_dir", "phase_dir", "slice_dir")):
        head[name][axis] = 1
    for name, count in counters.items():
        head["idx"][name] = count
    records[index]["traj"] = np.empty(0, np.float32)
    values = np.ascontiguousarray(samples, np.complex64).view(np.float32)
    records[index]["data"] = values.ravel()
