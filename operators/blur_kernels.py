"""Kernels to blur with: of a defocused and of a shaken camera."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from invdiff.operators.inpainting_masks import Seed

__all__ = ["gaussian_kernel", "motion_kernel"]


def gaussian_kernel(std: float | tuple[float, float]) -> Tensor:
    r"""Samples of :math:`\exp(-r^2 / 2 s^2)` up to 4 s, with sum 1: float64 (1, 1, rows, columns).

    ``std`` is s in pixels, for both axes or for (rows, columns). DPS's kernel of 61 x 61 pixels
    and std 3 is this one (25 x 25) with zeros around it. Raises ValueError if s is negative.
    """
    deviations = (std, std) if isinstance(std, int | float) else std
    rows, columns = (_gaussian(deviation) for deviation in deviations)
    return torch.from_numpy(np.outer(rows, columns))[None, None]


def _gaussian(std: float) -> np.ndarray:
    if not 0 <= std < np.inf:
        raise ValueError(f"std is {std}, expected a number of pixels, 0 or more.")
    radius = int(4 * std + 0.5)
    offset = np.arange(-radius, radius + 1)
    weight: np.ndarray = np.exp(-0.5 * (offset / (std or 1.0)) ** 2)
    weight /= weight.sum()
    return weight


def motion_kernel(size: int, length: float, seed: Seed) -> Tensor:
    r"""How long a shaking camera points where: float64 (1, 1, size, size), with sum 1.

    The camera's path is a smooth random curve, :math:`p(t) = \sum_{f=1}^{6} f^{-2} (a_f \cos \pi
    f t + b_f \sin \pi f t)` for t in [0, 1] with a and b normal. Its mean is moved to the kernel's
    centre, and it is scaled until its farthest point is ``length`` / 2 pixels from there. Every
    instant is shared among the four nearest pixels by linear interpolation, which keeps the mean.

    Published experiments draw other random paths (DPS and DAPS: the package ``motionblur``, 61
    pixels, intensity 0.5). To use one of their kernels, store it and pass it to ``Blur``.

    Arguments:
        size: Rows and columns, an odd number.
        length: The diameter of the circle that holds the path, in pixels, at most size - 3.
        seed: An integer, or a tuple such as (seed, item).

    Raises:
        ValueError: The size is not odd, or the length is negative or too large for it.
    """
    if size % 2 == 0 or not 0 <= length <= size - 3:
        raise ValueError(
            f"size is {size} and length {length}, expected an odd number of pixels and a length "
            "from 0 to size - 3, so that the path stays inside."
        )
    path = _path(length, np.random.Generator(np.random.Philox(seed)))
    offset = np.arange(size) - size // 2
    distance = np.abs(offset[:, None, None] - path.T[None])  # (size, axis, time)
    rows, columns = np.moveaxis(np.maximum(1 - distance, 0), 1, 0)
    kernel = rows @ columns.T
    return torch.from_numpy(kernel / len(path))[None, None]


def _path(length: float, generator: np.random.Generator) -> np.ndarray:
    """Points (times, 2) of the path, equally spaced in time."""
    time = np.linspace(0, 1, 2001)[:, None]
    frequency = np.arange(1, 7)
    waves = np.concatenate([np.cos(np.pi * frequency * time), np.sin(np.pi * frequency * time)], 1)
    weight = generator.standard_normal((12, 2)) / np.tile(frequency, 2)[:, None] ** 2
    path: np.ndarray = waves @ weight
    path -= path.mean(0)
    path *= 0.5 * length / np.hypot(*path.T).max()
    return path
