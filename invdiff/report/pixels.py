"""Pictures for a page: 12-bit codes that the page windows itself, and PNGs that need no code."""

from __future__ import annotations

import base64
import io
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np

from invdiff.report.content import Group

__all__ = ["Packed", "colour_table", "pack", "static_png"]

LEVELS = 4096
COLOURS = {
    Group.IMAGE: "gray",
    Group.UNCERTAINTY: "viridis",
    Group.CHANGE: "RdBu_r",
    Group.SHARE: "cividis",
}


class Packed(NamedTuple):
    """Codes c of values low + step c: differences modulo 2^16, low bytes first, deflated."""

    text: str
    low: float
    step: float


def pack(values: np.ndarray) -> Packed:
    """Any values as base64 text; those that are not finite become the lowest."""
    finite = np.isfinite(values)
    known = values[finite].astype(np.float64)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    step = (high - low) / (LEVELS - 1) or 1.0
    filled = np.where(finite, values, low).astype(np.float64)
    codes = np.rint((filled - low) / step).astype(np.uint16).ravel()
    changes = np.diff(codes, prepend=np.uint16(0))
    planes = np.concatenate([changes & 0xFF, changes >> 8]).astype(np.uint8)
    packed = zlib.compress(planes.tobytes(), 9)
    return Packed(base64.b64encode(packed).decode("ascii"), low, step)


def static_png(image: np.ndarray, window: tuple[float, float], group: Group) -> str:
    """One slice, (rows, columns) or (3, rows, columns), as a data address of a PNG."""
    from PIL import Image

    low, high = window
    shade = np.clip((np.nan_to_num(image, nan=low) - low) / (high - low), 0, 1)
    bytes_ = np.rint(255 * shade).astype(np.uint8)
    colours = colour_table(group)
    if bytes_.ndim == 3:
        picture = Image.fromarray(np.ascontiguousarray(bytes_.transpose(1, 2, 0)))
    elif group is Group.IMAGE:
        picture = Image.fromarray(bytes_)
    else:
        picture = Image.fromarray(colours[bytes_])
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


@cache
def colour_table(group: Group) -> np.ndarray:
    """The 256 colours of a group, (256, 3) of uint8."""
    import matplotlib

    table = matplotlib.colormaps[COLOURS[group]](np.linspace(0, 1, 256))[:, :3]
    found: np.ndarray = np.rint(255 * table).astype(np.uint8)
    return found
