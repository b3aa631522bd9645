"""Volumes of multi-coil k-space in HDF5 files as fastMRI publishes them.

======================  ==============================================================
``kspace``              complex (slices, coils, rows, columns): rows are the oversampled
                        readout, columns the phase encodings, frequency zero in the centre
``ismrmrd_header``      XML: the encoded and the reconstructed space, the encoding limits
``mask``                zeros and ones (columns,), optional: all columns if absent
attributes              of the file; those that name a patient are neither read nor shown
======================  ==============================================================

Columns outside of the encoding limits are zeros that were never measured: they are not part of the
mask here. Needs h5py: ``pip install invdiff[mri]``.

Reference:
    | fastMRI: An open dataset and benchmarks for accelerated MRI (Zbontar et al., 2018)
    | https://arxiv.org/abs/1811.08839
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from invdiff.datasets.ismrmrd_header import Header, parse_header, write_header
from invdiff.errors import ShapeError
from invdiff.files import written_whole

__all__ = ["FastMRIFile", "is_hdf5", "write_fastmri"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LIMIT = 2 * 1024**3  # bytes of one slice


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
            ImportError: If h5py is not installed.
            OSError: If the file cannot be opened.
            ShapeError, TypeError, ValueError: If it is not HDF5, lacks a data set, or its parts
                contradict each other.
        """
        path = Path(path)
        if not is_hdf5(path):
            raise ValueError(
                f"{path.name} is not an HDF5 file. It may be truncated: copy or write it again."
            )
        with _reading(path) as file:
            missing = [name for name in ("kspace", "ismrmrd_header") if name not in file]
            if missing:
                raise ValueError(
                    f"{path.name} lacks {missing}; it has {sorted(file)[:20]}. Expected a file "
                    "with multi-coil k-space in the layout of docs/formats.md."
                )
            kspace = file["kspace"]
            shape = _checked_shape(kspace.shape, kspace.dtype)
            header = parse_header(_text(file["ismrmrd_header"][()]))
            stored = np.asarray(file["mask"]) if "mask" in file else np.ones(shape[3])
        return cls(path, shape, _measured(stored, header, shape), header)

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
        with _reading(self.path) as file:
            samples: np.ndarray = file["kspace"][index]
        if not np.isfinite(samples).all():
            raise ValueError(f"Slice {index} has NaN or infinite samples, expected none.")
        if samples[..., ~self.mask].any():
            raise ValueError(
                f"Slice {index} is not zero in columns that the mask or the header's encoding "
                "limits call unmeasured. Check the header and the mask."
            )
        return samples


def is_hdf5(path: str | Path) -> bool:
    """Whether the file begins as HDF5 files do. Raises OSError if it cannot be opened."""
    with Path(path).open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def write_fastmri(
    path: str | Path, kspace: np.ndarray, header: Header, mask: np.ndarray | None = None
) -> None:
    """Writes a file that ``FastMRIFile`` reads, whole or not at all.

    Arguments:
        path: Where to.
        kspace: Complex (slices, coils, rows, columns).
        header: Must agree with it.
        mask: Zeros and ones (columns,).

    Raises:
        ShapeError, TypeError, ValueError: As ``FastMRIFile.open``.
    """
    shape = _checked_shape(kspace.shape, kspace.dtype)
    _measured(np.ones(shape[3]) if mask is None else mask, header, shape)
    with written_whole(Path(path)) as temporary, _h5py().File(temporary, "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        file["ismrmrd_header"] = write_header(header)
        if mask is not None:
            file["mask"] = np.asarray(mask, dtype=np.float32)


def _checked_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int, int, int]:
    if len(shape) != 4 or 0 in shape:
        raise ShapeError(
            f"kspace has shape {tuple(shape)}, expected (slices, coils, rows, columns). "
            "Single-coil files lack the coil axis: add one of length 1."
        )
    if dtype.kind != "c":
        raise TypeError(f"kspace has dtype {dtype}, expected complex numbers.")
    if int(np.prod(shape[1:])) * dtype.itemsize > LIMIT:
        raise ValueError(f"One slice of shape {tuple(shape[1:])} exceeds {LIMIT} bytes.")
    return shape[0], shape[1], shape[2], shape[3]


def _measured(stored: np.ndarray, header: Header, shape: tuple[int, ...]) -> np.ndarray:
    """The stored mask within the encoding limits, bool (columns,)."""
    rows, columns = shape[2:]
    if tuple(header.encoded.matrix[:2]) != (rows, columns):
        raise ShapeError(
            f"The header encodes {header.encoded.matrix[:2]} samples, but kspace has "
            f"{(rows, columns)} (rows, columns)."
        )
    if stored.shape != (columns,) or not np.isin(stored, (0, 1)).all():
        raise ValueError(
            f"The mask has shape {stored.shape}, expected zeros and ones of shape ({columns},)."
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
    inside = np.zeros(columns, dtype=bool)
    inside[limits] = stored[limits] == 1
    if not inside.any():
        raise ValueError("The mask is empty: no column was measured. Check the mask.")
    return inside


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        with _h5py().File(path, "r") as file:
            yield file
    except OSError:
        raise ValueError(
            f"{path.name} cannot be read as HDF5: it is damaged or truncated. Copy or write it "
            "again."
        ) from None


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(
            "Reading and writing HDF5 files needs h5py. Install it with: pip install invdiff[mri]"
        ) from None
    return h5py
