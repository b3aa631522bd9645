"""Grey and colour pictures with 8 or 16 bits: PNG and TIFF, as numbers in [0, 1] and back.

A picture of b bits holds whole numbers c, and its values are :math:`x = c / (2^b - 1)`. Reading
and writing again gives the same c. PNG holds colour with 8 bits only; TIFF holds all.
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from invdiff.datasets.quiet import quiet
from invdiff.datasets.untrusted import file_size, nameless
from invdiff.errors import ShapeError
from invdiff.files import written_whole

__all__ = ["read_picture", "write_picture"]

LIMIT = 2**28  # bytes of the file, and of its pixels
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*")
EXPANSION = 1100  # deflate cannot do more
DEFLATED = (8, 32946)  # TIFF's numbers for it
MODES = {"L": (8, 1), "RGB": (8, 3), "I;16": (16, 1)}


def read_picture(path: str | Path) -> np.ndarray:
    """The values, float32 (channels, rows, columns) in [0, 1], of one channel or three.

    Raises:
        FileNotFoundError: If there is no such file.
        ShapeError, TypeError, ValueError: If it is neither PNG nor TIFF, is damaged, larger than
            256 MiB, has a palette, transparency, several pages, or other than 8 or 16 bits.
    """
    path = Path(path)
    if file_size(path) > LIMIT:
        raise ValueError(f"It has more than {LIMIT} bytes. Check where it comes from.")
    with nameless():
        content = path.read_bytes()
    if content.startswith(PNG):
        codes = _read_png(content)
    elif content.startswith(TIFF):
        codes = _read_tiff(content)
    else:
        raise ValueError("It is neither PNG nor TIFF. Convert it, without loss.")
    if codes.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"It holds {codes.dtype}, expected whole numbers of 8 or 16 bits.")
    if codes.ndim == 2:
        codes = codes[..., None]
    if codes.ndim != 3 or codes.shape[2] not in (1, 3) or codes.size == 0:
        raise ShapeError(
            f"It has shape {codes.shape}, expected rows and columns of one channel or three. "
            "Drop transparency; write pages one by one."
        )
    largest = np.float32(np.iinfo(codes.dtype).max)
    return np.ascontiguousarray(codes.transpose(2, 0, 1).astype(np.float32) / largest)


def write_picture(path: str | Path, values: np.ndarray, bits: Literal[8, 16]) -> None:
    """Writes values (channels, rows, columns) in [0, 1], rounded to 8 or 16 bits, whole.

    Raises:
        ShapeError, TypeError, ValueError: If they are not of that shape or range, or the file's
            name does not end with .png, .tif or .tiff, or PNG is asked for 16-bit colour.
    """
    path = Path(path)
    if values.ndim != 3 or values.shape[0] not in (1, 3) or values.size == 0:
        raise ShapeError(
            f"The picture has shape {values.shape}, expected (1 or 3 channels, rows, columns)."
        )
    if values.dtype.kind != "f" or bits not in (8, 16):
        raise TypeError(
            f"The picture has dtype {values.dtype} and {bits} bits were asked for; expected "
            "floating-point values and 8 or 16 bits."
        )
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"The values lie in [{low:.4g}, {high:.4g}], expected [0, 1]. Scale them by a range "
            "that you declare, or clip them knowingly."
        )
    codes = np.rint(values.astype(np.float64) * (2**bits - 1)).astype(f"uint{bits}")
    codes = codes[0] if len(codes) == 1 else codes.transpose(1, 2, 0)
    content = _encoded(path.suffix.lower(), np.ascontiguousarray(codes))
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def _encoded(suffix: str, codes: np.ndarray) -> bytes:
    stream = io.BytesIO()
    if suffix == ".png":
        if codes.ndim == 3 and codes.dtype == np.uint16:
            raise ValueError("PNG with 16-bit colour is not written here. Use .tif, or 8 bits.")
        from PIL import Image

        Image.fromarray(codes).save(stream, "PNG")
    elif suffix in (".tif", ".tiff"):
        import tifffile

        kind = "rgb" if codes.ndim == 3 else "minisblack"
        tifffile.imwrite(stream, codes, photometric=kind, metadata=None)
    else:
        raise ValueError("The name of the file must end with .png, .tif or .tiff.")
    return stream.getvalue()


def _read_png(content: bytes) -> np.ndarray:
    """Pillow decodes; what it would convert silently is refused before."""
    from PIL import Image

    try:
        depth, colour = content[24], content[25]
        with quiet("PIL"), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            bits, channels = MODES.get(image.mode, (0, 0))
            plain = colour in (0, 2) and depth == bits and "transparency" not in image.info
            size = math.prod(image.size) * channels * bits // 8
            codes = np.asarray(image) if plain and size <= LIMIT else None
    except Exception:  # whatever Pillow raises
        raise ValueError("It is a damaged PNG file. Copy or write it again.") from None
    if size > LIMIT:
        raise ValueError(f"It unpacks to {size} bytes, expected at most {LIMIT}.")
    if codes is None:
        raise TypeError(
            f"It is a PNG of colour type {colour} with {depth} bits; expected grey of 8 or 16 "
            "bits, or RGB of 8, without palette or transparency. Convert it, or use TIFF."
        )
    return codes


def _read_tiff(content: bytes) -> np.ndarray:
    """tifffile decodes one page whose pixels are stored plainly or deflated."""
    import tifffile

    problem, codes = "", np.empty(0)
    try:
        with quiet("tifffile"), tifffile.TiffFile(io.BytesIO(content)) as file:
            page: Any = file.pages.first
            size = math.prod(page.shape) * page.dtype.itemsize
            if len(file.pages) != 1:
                problem = "It has several pages, expected one. Write one file per page."
            elif page.compression not in (1, *DEFLATED):
                problem = "It is compressed in a way that is not read here. Use none, or deflate."
            elif page.photometric not in (1, 2) or page.extrasamples:
                problem = "It is neither grey nor RGB, or has transparency. Convert it."
            elif page.dtype not in (np.uint8, np.uint16):
                problem = f"It holds {page.dtype}, expected whole numbers of 8 or 16 bits."
            elif size > LIMIT or _swollen(page, content, size):
                problem = f"It unpacks to more than {LIMIT} bytes, or than it declares. Refused."
            else:
                codes = page.asarray()
    except Exception:  # whatever tifffile raises
        problem = "It is a damaged TIFF file. Copy or write it again."
    if problem:
        raise ValueError(problem)
    return codes


def _swollen(page: Any, content: bytes, size: int) -> bool:
    """Whether more is declared than the file can hold, or a part unpacks to more than its place.

    tifffile asks for neither.
    """
    plain = page.compression not in DEFLATED
    part = math.prod(page.chunks) * page.dtype.itemsize
    if size > len(content) * (1 if plain else EXPANSION):
        return True
    if part * len(page.dataoffsets) > max(4 * size, 2**24):
        return True
    if plain:
        return False
    return any(
        len(zlib.decompressobj().decompress(content[start : start + count], part + 1)) > part
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
