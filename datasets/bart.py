"""Arrays in the pair of files that BART uses: ``NAME.cfl`` (numbers) and ``NAME.hdr`` (sizes).

The numbers are complex64, little-endian, with the first axis varying fastest; the header has a
line of sizes after a line "# Dimensions". Reference: https://bart-doc.readthedocs.io
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from invdiff.datasets.untrusted import file_size, nameless
from invdiff.errors import ShapeError
from invdiff.files import written_whole

__all__ = ["images_to_cfl", "kspace_from_cfl", "kspace_to_cfl", "read_cfl", "write_cfl"]

LIMIT = 2 * 1024**3  # bytes
HEADER = 2**16  # bytes
AXES = 16
COIL, SLICE = 3, 13  # axes of BART's; 0 is the readout, 1 and 2 are phase encodings


def read_cfl(path: str | Path) -> np.ndarray:
    """The array with all of BART's axes, complex64.

    Arguments:
        path: Either file, or their common name.

    Raises:
        FileNotFoundError, PermissionError: If one of the files is missing, or may not be read.
        ValueError: If the header is none, sizes do not fit the file, or exceed 2 GiB.
    """
    numbers, header = _pair(path)
    stored, _ = file_size(numbers), file_size(header)
    with nameless():
        shape = _sizes(header)
    size = 8 * math.prod(shape)
    if size > LIMIT:
        raise ValueError(f"The header declares {size} bytes, expected at most {LIMIT}.")
    if stored != size:
        raise ValueError(
            f"The .cfl file has {stored} bytes, but its header declares shape "
            f"{shape}, {size} bytes. It is truncated or belongs to another header."
        )
    with nameless():
        flat = np.fromfile(numbers, np.dtype("<c8"), count=math.prod(shape))
    if flat.size != math.prod(shape):  # it shrank meanwhile
        raise ValueError("The .cfl file could not be read whole. Copy it again.")
    return flat.reshape(shape, order="F")


def write_cfl(path: str | Path, array: np.ndarray) -> None:
    """Writes both files; at no time does a header stand beside numbers that are not its own.

    Raises:
        ShapeError: If there are more than 16 axes, or none.
        TypeError: If the array is not of real or complex numbers.
        ValueError: If numbers are not finite in single precision.
    """
    if not 1 <= array.ndim <= AXES or array.size == 0:
        raise ShapeError(f"The array has shape {array.shape}, expected 1 to {AXES} axes.")
    if array.dtype.kind not in "fciu":
        raise TypeError(f"The array has dtype {array.dtype}, expected real or complex numbers.")
    with np.errstate(over="ignore"):
        values = array.astype(np.dtype("<c8"))
    if not np.isfinite(values).all():
        raise ValueError("The array has numbers that are not finite in single precision.")
    numbers, header = _pair(path)
    sizes = (*array.shape, *[1] * (AXES - array.ndim))
    with written_whole(header) as new:
        new.write_text(f"# Dimensions\n{' '.join(map(str, sizes))} \n", encoding="ascii")
        with written_whole(numbers) as temporary:
            temporary.write_bytes(values.tobytes(order="F"))
            header.unlink(missing_ok=True)


def kspace_from_cfl(array: np.ndarray) -> np.ndarray:
    """k-space (slices, coils, rows, columns) from BART's axes: readout, phase, 1, coils, ...

    Frequency zero is at n // 2 in both. Slices are BART's axis 13, all other axes must be 1.
    Raises ShapeError if they are not.
    """
    shape = (*array.shape, *[1] * (AXES - array.ndim))
    used = {axis for axis, n in enumerate(shape) if n > 1}
    if not used <= {0, 1, COIL, SLICE}:
        raise ShapeError(
            f"The array has sizes {shape}; expected 1 along all but the axes 0 (readout), 1 "
            f"(phase), {COIL} (coils) and {SLICE} (slices). Select or transform the others first."
        )
    kept = array.reshape(shape[0], shape[1], shape[COIL], shape[SLICE])
    return np.ascontiguousarray(kept.transpose(3, 2, 0, 1))


def kspace_to_cfl(kspace: np.ndarray) -> np.ndarray:
    """The inverse of ``kspace_from_cfl``; raises ShapeError unless there are four axes."""
    if kspace.ndim != 4:
        raise ShapeError(
            f"k-space has shape {kspace.shape}, expected (slices, coils, rows, columns)."
        )
    slices, coils, rows, columns = kspace.shape
    shape = [rows, columns, 1, coils, *[1] * (AXES - 4)]
    shape[SLICE] = slices
    return kspace.transpose(2, 3, 1, 0).reshape(shape)


def images_to_cfl(images: np.ndarray) -> np.ndarray:
    """Images (slices, rows, columns) in BART's axes; raises ShapeError if they are not."""
    if images.ndim != 3:
        raise ShapeError(f"Images have shape {images.shape}, expected (slices, rows, columns).")
    return kspace_to_cfl(images[:, None])


def _pair(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    common = path.with_suffix("") if path.suffix in (".cfl", ".hdr") else path
    return common.with_name(f"{common.name}.cfl"), common.with_name(f"{common.name}.hdr")


def _sizes(header: Path) -> tuple[int, ...]:
    with header.open("rb") as file:
        text = file.read(HEADER + 1)
    lines = text.decode("ascii", errors="replace").splitlines()
    try:
        if len(text) > HEADER or lines[0].strip() != "# Dimensions":
            raise ValueError
        words = lines[1].split()
        if not 1 <= len(words) <= AXES or not all(word.isdigit() for word in words):
            raise ValueError
        shape = tuple(int(word[:18]) for word in words)
        if min(shape) < 1 or max(map(len, words)) > 18:
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(
            f"The .hdr file is none: expected '# Dimensions' and a line of up to {AXES} positive "
            "sizes. It may be damaged: copy or write it again."
        ) from None
    return shape
