"""Sampling patterns of k-space: complete rows (readouts) at some columns (phase encodings).

Every pattern measures its central columns completely, around index width // 2, where the centred
transform has frequency zero: the autocalibration signal. One seed gives one pattern.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CartesianMask",
    "cartesian_mask",
    "equispaced_fraction_mask",
    "equispaced_mask",
    "gaussian_column_mask",
    "likeliest",
    "pattern_of",
]


class CartesianMask(NamedTuple):
    """A sampling pattern and what it amounts to.

    Attributes:
        mask: Zeros and ones, float32 (1, 1, height, width).
        acceleration: The achieved acceleration: samples over measured samples.
        center: The number of central columns that are all measured; for patterns in both
            directions the side of the central square that is.
    """

    mask: Tensor
    acceleration: float
    center: int


def cartesian_mask(
    shape: tuple[int, int], acceleration: float, center_fraction: float, seed: int
) -> CartesianMask:
    """Random columns and all the central ones.

    round(width / acceleration) columns are measured in all, without repetition, the central ones
    included, so the achieved acceleration differs from the nominal one by rounding only.

    Raises:
        ValueError: If the acceleration is below 1, there are no central columns, or they alone
            exceed the columns that the acceleration allows.
    """
    lines, remaining = _budget(shape[1], acceleration, center_fraction)
    outside = np.flatnonzero(~lines)
    lines[_generator(seed).choice(outside, remaining, replace=False)] = True
    return _columns(shape, lines, center_fraction)


def equispaced_mask(
    shape: tuple[int, int], acceleration: int, center_fraction: float, seed: int
) -> CartesianMask:
    """Every ``acceleration``-th column from a random offset, and all the central ones.

    The pattern of parallel imaging. The central columns come on top, so the achieved acceleration
    is lower than the nominal one; ``equispaced_fraction_mask`` keeps it.

    Raises:
        TypeError: If the acceleration is not an integer.
        ValueError: As for ``cartesian_mask``.
    """
    if not isinstance(acceleration, int):
        raise TypeError(
            f"The acceleration is {acceleration!r}, expected an integer: columns are equally "
            "spaced. Use equispaced_fraction_mask for other values."
        )
    lines, _ = _budget(shape[1], acceleration, center_fraction)
    lines[_generator(seed).integers(acceleration) :: acceleration] = True
    return _columns(shape, lines, center_fraction)


def equispaced_fraction_mask(
    shape: tuple[int, int], acceleration: float, center_fraction: float, seed: int
) -> CartesianMask:
    """As equally spaced as whole columns allow, round(width / acceleration) in all.

    The n columns outside of the centre are counted without it; numbers floor((i + u) n / k),
    i = 0 .. k - 1, are measured, with one random offset u in [0, 1). Raises as ``cartesian_mask``.
    """
    lines, remaining = _budget(shape[1], acceleration, center_fraction)
    outside = np.flatnonzero(~lines)
    steps = np.arange(remaining) + _generator(seed).uniform()
    lines[outside[np.floor(steps * len(outside) / max(remaining, 1)).astype(int)]] = True
    return _columns(shape, lines, center_fraction)


def gaussian_column_mask(
    shape: tuple[int, int],
    acceleration: float,
    center_fraction: float,
    seed: int,
    spread: float = 0.2,
) -> CartesianMask:
    r"""Random columns, denser towards the centre, and all the central ones.

    Columns are drawn one after the other, without repetition, with probabilities proportional to
    :math:`\exp(-d^2 / 2 s^2)` at the distance d from the centre, s = ``spread`` times the width;
    round(width / acceleration) in all. Raises as ``cartesian_mask``, or if spread is not positive.
    """
    if not spread > 0:
        raise ValueError(f"spread is {spread}, expected a positive fraction of the width.")
    lines, remaining = _budget(shape[1], acceleration, center_fraction)
    distance = np.arange(shape[1]) - shape[1] // 2
    log_weight = -((distance / (spread * shape[1])) ** 2) / 2
    lines[likeliest(np.where(lines, -np.inf, log_weight), remaining, _generator(seed))] = True
    return _columns(shape, lines, center_fraction)


def likeliest(log_weight: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` indices drawn without repetition, each with a chance proportional to its weight.

    Largest log weights plus Gumbel noise: the same law as drawing one after the other, and no
    weight underflows. (Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006.)
    """
    keys = log_weight + generator.gumbel(size=log_weight.shape)
    return np.argsort(-keys, kind="stable")[:count]


def pattern_of(samples: np.ndarray, center: int) -> CartesianMask:
    """The pattern of a bool array (height, width). Raises ValueError if it measures nothing."""
    if not samples.any():
        raise ValueError("The mask is empty: it measures nothing. Lower the acceleration.")
    mask = torch.from_numpy(samples.astype(np.float32))[None, None].clone()
    return CartesianMask(mask, samples.size / int(samples.sum()), center)


def _budget(width: int, acceleration: float, center_fraction: float) -> tuple[np.ndarray, int]:
    """The central columns (width,), and how many others the acceleration allows."""
    center = round(width * center_fraction)
    measured = round(width / acceleration) if acceleration >= 1 else 0
    if not 1 <= center <= measured:
        raise ValueError(
            f"An acceleration of {acceleration} of {width} columns measures {measured}, but the "
            f"centre takes {center} (center_fraction={center_fraction}); expected an acceleration "
            "of at least 1 and 1 <= centre <= measured. Lower one of the two."
        )
    lines = np.zeros(width, dtype=bool)
    first = width // 2 - center // 2
    lines[first : first + center] = True
    return lines, measured - center


def _columns(shape: tuple[int, int], lines: np.ndarray, center_fraction: float) -> CartesianMask:
    return pattern_of(np.broadcast_to(lines, shape), round(shape[1] * center_fraction))


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))
