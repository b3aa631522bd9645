"""Volumes in NIfTI files, with their place in the patient.

NIfTI counts columns first and points right, anterior, superior; here slices come first, and the
axes point left, posterior, superior as in DICOM. Needs nibabel: ``pip install invdiff[nifti]``.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from invdiff.datasets.quiet import quiet
from invdiff.datasets.untrusted import file_size, nameless
from invdiff.errors import ShapeError
from invdiff.files import written_whole

__all__ = ["NiftiVolume", "read_nifti", "write_nifti"]

LIMIT = 2 * 1024**3  # bytes, unpacked
PART = 2**20  # bytes
PER_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # right and anterior to left and posterior
REVERSE = np.eye(4)[[2, 1, 0, 3]]  # (slice, row, column) to (column, row, slice)


@dataclass(frozen=True, eq=False)
class NiftiVolume:
    r"""Values on a regular grid, and where it lies in the patient.

    Arguments:
        pixels: (slices, rows, columns), real or complex.
        affine: Float64 (4, 4), :math:`(k, i, j, 1) \mapsto (x, y, z, 1)`: slice, row and column
            index to patient coordinates (left, posterior, superior) in mm.

    Raises:
        ShapeError, TypeError, ValueError: If they are not.
    """

    pixels: np.ndarray = field(repr=False)
    affine: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.size == 0:
            raise ShapeError(
                f"The volume has shape {self.pixels.shape}, expected (slices, rows, columns)."
            )
        if self.pixels.dtype.kind not in "fciu":
            raise TypeError(f"The volume has dtype {self.pixels.dtype}, expected numbers.")
        affine = self.affine
        fits = affine.shape == (4, 4) and affine.dtype.kind == "f" and np.isfinite(affine).all()
        if not fits or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise ValueError("The affine is not a finite 4 x 4 matrix with the last row 0 0 0 1.")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * np.prod(lengths):
            raise ValueError("The affine is singular: two axes coincide. Correct it.")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Of slices, rows and columns, in mm."""
        k, i, j = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return k, i, j


def read_nifti(path: str | Path) -> NiftiVolume:
    """Reads one volume from a .nii or .nii.gz file (NIfTI-1 or 2), values scaled as it asks.

    Values that need no scaling keep their dtype; others become float64. Texts in the header are
    not read.

    Raises:
        FileNotFoundError, ImportError: If there is no such file, or no nibabel.
        ShapeError, TypeError, ValueError: If it is no such file, is damaged, unpacks to more than
            2 GiB, has several volumes, or does not say where it lies in the patient.
    """
    nibabel = _nibabel()
    content = _unpacked(Path(path))
    kind = nibabel.Nifti1Image if content[:4] in (b"\\\1\0\0", b"\0\0\1\\") else None
    kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else kind
    if kind is None:
        raise ValueError("It is not a NIfTI file. It may be damaged: copy or write it again.")
    try:
        with quiet("nibabel.global"):
            image = kind.from_bytes(content)
            shape, header = image.shape, image.header
            placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
            scale = PER_MM[header.get_xyzt_units()[0]]
            if math.prod(shape) * image.get_data_dtype().itemsize > len(content):
                raise ValueError
            pixels = np.asanyarray(image.dataobj)
            affine = np.asarray(image.affine, np.float64)
    except Exception:  # whatever nibabel raises may quote the header
        raise ValueError(
            "It cannot be read as NIfTI: it is damaged or truncated. Copy or write it again."
        ) from None
    if not placed:
        raise ValueError(
            "It does not say where it lies in the patient: neither sform nor qform is set. Set "
            "one, with nibabel's set_sform, say."
        )
    if math.prod(shape[3:]) != 1 or len(shape) < 3 or min(shape) < 1:
        raise ShapeError(f"It has shape {shape}, expected one volume. Write one per file.")
    if pixels.dtype.kind not in "fciu":
        raise TypeError("It holds colours or labels of several parts, expected plain numbers.")
    affine = FLIP @ affine
    affine[:3] *= scale
    volume = pixels.reshape(shape[:3]).transpose(2, 1, 0)
    return NiftiVolume(np.ascontiguousarray(volume), affine @ REVERSE)


def write_nifti(path: str | Path, volume: NiftiVolume) -> None:
    """Writes a .nii or .nii.gz file, whole or not at all; values and dtype come back as they are.

    Raises:
        ImportError: Without nibabel.
        TypeError: If the dtype has no place in NIfTI.
        ValueError: If the file's name ends otherwise.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError("The name of the file must end with .nii or .nii.gz.")
    nibabel = _nibabel()
    affine = FLIP @ volume.affine @ REVERSE
    try:
        header = nibabel.Nifti1Header()
        header.set_data_dtype(volume.pixels.dtype)
    except nibabel.spatialimages.HeaderDataError:
        raise TypeError(
            f"NIfTI has no dtype {volume.pixels.dtype}. Use int16, float32 or complex64, say."
        ) from None
    image = nibabel.Nifti1Image(volume.pixels.transpose(2, 1, 0), affine, header)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner", strip_shears=True)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def _unpacked(path: Path) -> bytes:
    """The whole file, at most ``LIMIT`` bytes of it."""
    file_size(path)
    with nameless(), path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        content = bytearray()
        with gzip.open(path) if packed else path.open("rb") as file:
            # Part by part: a single read would take the memory of the limit at once.
            while len(content) <= LIMIT and (part := file.read(PART)):
                content += part
    except (EOFError, zlib.error, OSError):
        raise ValueError(
            "It cannot be unpacked: it is damaged or truncated. Copy it again."
        ) from None
    if len(content) > LIMIT:
        raise ValueError(f"It unpacks to more than {LIMIT} bytes. Check where it comes from.")
    return bytes(content)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise ImportError(
            "Reading and writing NIfTI needs nibabel. Install it with: pip install invdiff[nifti]"
        ) from None
    return nibabel
