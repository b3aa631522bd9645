"""Inpainting masks: which pixels are measured, as published experiments choose them.

Every mask is boolean, (1, channels, height, width), the same in all channels, and hides an exact
number of pixels. It depends on nothing but its arguments. ``seed`` is an integer, or a tuple such
as (seed, item) for another mask per item: ``torch.cat([... for item in range(n)])``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["box_mask", "free_form_mask", "random_box_mask", "random_pixel_mask"]

Seed = int | Sequence[int]


def random_pixel_mask(shape: tuple[int, int, int], keep: float, seed: Seed) -> Tensor:
    """Keeps round(keep * height * width) pixels of (channels, height, width), drawn at random.

    "70 % inpainting" is keep=0.3 (DAPS, ReSample), "92 %" is keep=0.08 (the DPS paper), DDRM's is
    keep=0.5. Raises ValueError if ``keep`` is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}, but must be a share of the pixels, in (0, 1].")
    _, height, width = shape
    order = _generator(seed).permutation(height * width)
    kept = np.zeros(height * width, dtype=bool)
    kept[order[: max(1, round(keep * height * width))]] = True
    return _mask(shape, kept.reshape(height, width))


def box_mask(
    shape: tuple[int, int, int], size: tuple[int, int], corner: tuple[int, int] | None = None
) -> Tensor:
    """Hides a box of ``size`` (rows, columns) pixels whose upper left pixel is ``corner``.

    The box is centred if ``corner`` is None. Raises ValueError if it leaves the image.
    """
    _, height, width = shape
    top, left = corner or ((height - size[0]) // 2, (width - size[1]) // 2)
    inside = 0 <= top <= top + size[0] <= height and 0 <= left <= left + size[1] <= width
    if not inside or min(size) < 1:
        raise ValueError(
            f"The box of {size} pixels at {(top, left)} does not fit into the image of "
            f"{(height, width)} pixels. Choose a smaller box or another corner."
        )
    kept = np.ones((height, width), dtype=bool)
    kept[top : top + size[0], left : left + size[1]] = False
    return _mask(shape, kept)


def random_box_mask(
    shape: tuple[int, int, int], size: tuple[int, int], seed: Seed, margin: int
) -> Tensor:
    """Hides a box of ``size`` pixels at a random place, at least ``margin`` pixels from the edge.

    Its top is uniform on the integers margin ... height - margin - rows - 1, its left alike: for a
    box of 128 x 128 in 256 x 256 DPS takes margin=16 (so 16 ... 111), DAPS and InverseBench 32.
    Raises ValueError if no such place exists.
    """
    _, height, width = shape
    ends = (height - margin - size[0], width - margin - size[1])
    if margin < 0 or min(ends) <= margin:
        raise ValueError(
            f"A box of {size} pixels with a margin of {margin} has no place to choose in an image "
            f"of {(height, width)} pixels. Choose a smaller box or margin, or use box_mask."
        )
    generator = _generator(seed)
    top, left = (int(generator.integers(margin, end)) for end in ends)
    return box_mask(shape, size, (top, left))


def free_form_mask(
    shape: tuple[int, int, int],
    hide: float,
    seed: Seed,
    brush: tuple[float, float] = (0.05, 0.16),
) -> Tensor:
    """Hides round(hide * height * width) pixels under the strokes of a brush.

    A stroke starts anywhere in any direction and has 4 to 12 straight parts, each 5 to 20 % of the
    image's diagonal long and turned against the last one by a normal angle of 1 rad; it hides all
    pixels within half its width, which is ``brush`` times the shorter side, low to high. Strokes
    follow one another until the share is reached, where the brush is lifted.

    The published families (Liu et al., Image inpainting for irregular holes, 2018; Yu et al.,
    Free-form image inpainting with gated convolution, 2019) hide 10-20, 20-30, ... % in this
    manner; this is a definition of our own, its masks are not theirs.

    Raises:
        ValueError: ``hide`` is not in [0, 1), or the brush is not positive and ordered.
    """
    if not 0 <= hide < 1 or not 0 < brush[0] <= brush[1]:
        raise ValueError(
            f"hide is {hide} and brush {brush}, expected a share in [0, 1) and two positive "
            "widths, the smaller one first."
        )
    _, height, width = shape
    generator = _generator(seed)
    kept = np.ones((height, width), dtype=bool)
    missing = round(hide * height * width)
    while missing > 0:
        missing -= _stroke(kept, missing, brush, generator)
    return _mask(shape, kept)


def _stroke(
    kept: np.ndarray, missing: int, brush: tuple[float, float], generator: np.random.Generator
) -> int:
    """Hides the pixels of one stroke in place, ``missing`` at most; how many there were."""
    size = np.array(kept.shape, dtype=np.float64)
    diagonal = float(np.hypot(*size))
    radius = 0.5 * size.min() * generator.uniform(*brush)
    start, direction = size * generator.random(2), generator.uniform(0, 2 * np.pi)
    hidden = 0
    for _ in range(generator.integers(4, 13)):
        length = diagonal * generator.uniform(0.05, 0.2)
        step = length * np.array([np.sin(direction), np.cos(direction)])
        end = np.clip(start + step, 0, size)
        pixels = _under_the_brush(kept, start, end, radius)[: missing - hidden]
        kept.ravel()[pixels] = False
        hidden += len(pixels)
        start, direction = end, direction + generator.normal()
    return hidden


def _under_the_brush(
    kept: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float
) -> np.ndarray:
    """The kept pixels within ``radius`` of a line, in the order in which the brush meets them."""
    rows, columns = np.indices(kept.shape).reshape(2, -1) + 0.5
    along, length2 = end - start, float(np.sum((end - start) ** 2))
    place = (rows - start[0]) * along[0] + (columns - start[1]) * along[1]
    place = np.clip(place / length2, 0, 1) if length2 > 0 else np.zeros_like(rows)
    distance2 = (rows - start[0] - place * along[0]) ** 2
    distance2 += (columns - start[1] - place * along[1]) ** 2
    met = np.flatnonzero((distance2 <= radius**2) & kept.ravel())
    order: np.ndarray = met[np.argsort(place[met], kind="stable")]
    return order


def _generator(seed: Seed) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _mask(shape: tuple[int, int, int], kept: np.ndarray) -> Tensor:
    return torch.from_numpy(kept).repeat(1, shape[0], 1, 1)
