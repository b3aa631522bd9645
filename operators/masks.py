"""Sampling patterns of k-space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["CartesianMask", "cartesian_mask"]


class CartesianMask(NamedTuple):
    """A sampling pattern and what it amounts to.

    Attributes:
        mask: Zeros and ones, float32 (1, 1, height, width).
        acceleration: The achieved acceleration: columns over measured columns.
        center: The number of central columns that are all measured.
    """

    mask: Tensor
    acceleration: float
    center: int


def cartesian_mask(
    shape: tuple[int, int], acceleration: float, center_fraction: float, seed: int
) -> CartesianMask:
    """Random columns (phase encodings) and all the central ones; rows are always complete.

    round(width / acceleration) columns are measured in all, without repetition, the central ones
    included, so the achieved acceleration differs from the nominal one by rounding only. The
    central columns lie around index width // 2, where the centred transform has frequency zero.

    Raises:
        ValueError: If the acceleration is below 1, or the centre alone exceeds the columns that
            the acceleration allows.
    """
    height, width = shape
    center = round(width * center_fraction)
    measured = round(width / acceleration) if acceleration >= 1 else 0
    if not 1 <= center <= measured:
        raise ValueError(
            f"An acceleration of {acceleration} of {width} columns measures {measured}, but the "
            f"centre takes {center} (center_fraction={center_fraction}); expected an acceleration "
            "of at least 1 and 1 <= centre <= measured. Lower one of the two."
        )
    first = width // 2 - center // 2
    lines = np.zeros(width, dtype=bool)
    lines[first : first + center] = True
    generator = np.random.Generator(np.random.Philox(seed))
    outside = np.flatnonzero(~lines)
    lines[generator.choice(outside, measured - center, replace=False)] = True
    mask = torch.from_numpy(lines.astype(np.float32)).expand(1, 1, height, width).clone()
    return CartesianMask(mask, width / measured, center)
