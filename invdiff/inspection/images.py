"""Images whose truth is known, cut to what a prior takes; nothing is downloaded."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.test_images import ct_slice, photograph

__all__ = ["KnownImage", "known_images"]

COLOURED = ("coffee", "retina", "chelsea", "motorcycle")  # warm: red and blue are far apart
GREY = ("camera", "coins")
SLICES = ("spine",)  # the others are JPEG 2000, which not every installation reads
AIR, TOP = -1024.0, 3071.0  # the values of 12 bits, in HU


@dataclass(frozen=True, eq=False)
class KnownImage:
    """A clean image on [0, 1].

    Arguments:
        name: What it shows.
        kind: "photograph", "ct" (0 is -1024 HU and 1 is 3071 HU) or "mr" (of magnitudes on
            [0, 1]; 1/2 is zero in the two parts of a complex image).
        values: (channels, size, size), float32.
    """

    name: str
    kind: str
    values: Tensor


def known_images(channels: int, size: int) -> tuple[KnownImage, ...]:
    """Test images with 1 channel (all kinds), 2 (complex MR) or 3 (colour photographs).

    Raises ValueError for other numbers of channels: there are no such test images.
    """
    if channels == 3:
        return tuple(_image(name, "photograph", _photograph(name), size) for name in COLOURED)
    if channels == 2:
        return (_image("head, T1, with a phase", "mr", _with_phase(_head()), size),)
    if channels != 1:
        raise ValueError(
            f"There are no test images with {channels} channels, only with 1, 2 or 3. "
            "Pass images of your own to inspect_prior."
        )
    slices = {name: (ct_slice(name) - AIR) / (TOP - AIR) for name in SLICES}
    return (
        *(_image(name, "photograph", _photograph(name), size) for name in GREY),
        *(_image(f"CT, {name}", "ct", values, size) for name, values in slices.items()),
        _image("head, T1", "mr", _head(), size),
    )


def _image(name: str, kind: str, values: np.ndarray, size: int) -> KnownImage:
    """The centre, shrunk by whole factors to about twice the size so that it shows something."""
    planes = values[..., None] if values.ndim == 2 else values
    factor = max(1, min(planes.shape[:2]) // (2 * size))
    if min(planes.shape[:2]) < size:  # mirrored to fill a large network's image
        wide = [(0, max(0, size - side)) for side in planes.shape[:2]]
        planes = np.pad(planes, (*wide, (0, 0)), mode="symmetric")
    height, width = (side // factor * factor for side in planes.shape[:2])
    shape = (height // factor, factor, width // factor, factor, -1)
    small = planes[:height, :width].reshape(shape).mean((1, 3))
    top, left = ((side - size) // 2 for side in small.shape[:2])
    part = small[top : top + size, left : left + size].transpose(2, 0, 1)
    return KnownImage(name, kind, torch.from_numpy(np.ascontiguousarray(part)).float())


def _photograph(name: str) -> np.ndarray:
    return photograph(name).astype(np.float64) / 255


def _head() -> np.ndarray:
    """The T1-weighted slice that comes with matplotlib; 1 is its 99.9th percentile."""
    from matplotlib.cbook import get_sample_data

    raw = Path(str(get_sample_data("s1045.ima.gz", asfileobj=False))).read_bytes()
    image = np.frombuffer(gzip.decompress(raw), np.uint16).reshape(256, 256)
    return image / np.percentile(image, 99.9)


def _with_phase(magnitude: np.ndarray) -> np.ndarray:
    """Real and imaginary part under a smooth phase of about one turn, from [-1, 1] to [0, 1]."""
    rows, columns = np.indices(magnitude.shape) / max(magnitude.shape)
    phase = 2 * np.pi * (0.3 * rows**2 + 0.5 * columns * rows + 0.2 * columns)
    parts = np.stack([magnitude * np.cos(phase), magnitude * np.sin(phase)], axis=-1)
    return (1 + parts) / 2
