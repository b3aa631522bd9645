"""Trajectories through k-space, in cycles per pixel: frequencies in [-1/2, 1/2].

All give float64 (1, spokes or interleaves, samples, 2 or 3), for pixels of equal sides. These are
ideal: delays and the slew rate of gradients are not modelled.

References:
    | An optimal radial profile order based on the golden ratio (Winkelmann et al., 2007)
    | https://doi.org/10.1109/TMI.2006.885337
    | Temporal stability of adaptive 3D radial MRI using multidimensional golden means (Chan et
      al., 2009)
    | https://doi.org/10.1002/mrm.21837
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "golden_radial_trajectory",
    "kooshball_trajectory",
    "radial_trajectory",
    "spiral_trajectory",
]

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2  # 111.25 degrees
GOLDEN_MEANS = (0.4656, 0.6823)  # of the axial and of the azimuthal direction


def radial_trajectory(spokes: int, samples: int) -> Tensor:
    """Spokes through the centre at equal angles over [0, pi).

    ``samples`` lie at (index - samples // 2) / samples along a spoke: as many as the image has
    pixels on a side, or twice that with an oversampled readout. An image n pixels wide is fully
    sampled by n pi / 2 spokes. Raises ValueError unless both are at least 1 and 2.
    """
    _check(spokes=(spokes, 1), samples=(samples, 2))
    angle = math.pi * torch.arange(spokes, dtype=torch.float64) / spokes
    return _spokes(torch.stack([angle.sin(), angle.cos()], -1), samples)


def golden_radial_trajectory(spokes: int, samples: int) -> Tensor:
    """Spokes at multiples of the golden angle: any run of them covers the disc about evenly.

    Otherwise as ``radial_trajectory`` (Winkelmann et al., 2007).
    """
    _check(spokes=(spokes, 1), samples=(samples, 2))
    angle = GOLDEN_ANGLE * torch.arange(spokes, dtype=torch.float64)
    return _spokes(torch.stack([angle.sin(), angle.cos()], -1), samples)


def kooshball_trajectory(spokes: int, samples: int) -> Tensor:
    """Three-dimensional spokes through the centre, spread over the sphere by golden means.

    Samples are as in ``radial_trajectory`` (Chan et al., 2009).
    """
    _check(spokes=(spokes, 1), samples=(samples, 2))
    index = torch.arange(spokes, dtype=torch.float64)
    axial = (index * GOLDEN_MEANS[0]).remainder(1)
    azimuth = 2 * math.pi * (index * GOLDEN_MEANS[1]).remainder(1)
    across = (1 - axial.square()).sqrt()
    return _spokes(
        torch.stack([axial, across * azimuth.sin(), across * azimuth.cos()], -1), samples
    )


def spiral_trajectory(interleaves: int, samples: int, turns: float) -> Tensor:
    r"""Archimedean spirals from the centre to 1/2, turned against each other.

    .. math:: k(s) = \tfrac12 \sqrt{s}\, e^{2 \pi i\, \mathrm{turns} \sqrt{s}}

    for s = index / (samples - 1): after the first turn, samples are about equally far along the
    curve. An image n pixels wide is fully sampled by turns * interleaves = n / 2, if samples are
    dense along the curve too, pi n turns / 2 or more of them. Raises ValueError unless there are
    at least 1 interleave, 2 samples, and a positive number of turns.
    """
    _check(interleaves=(interleaves, 1), samples=(samples, 2))
    if not 0 < turns < math.inf:
        raise ValueError(f"turns is {turns}, expected a positive number.")
    radius = torch.linspace(0, 1, samples, dtype=torch.float64).sqrt()
    start = 2 * math.pi * torch.arange(interleaves, dtype=torch.float64) / interleaves
    angle = 2 * math.pi * turns * radius + start[:, None]
    return (radius[:, None] / 2 * torch.stack([angle.sin(), angle.cos()], -1))[None]


def _spokes(directions: Tensor, samples: int) -> Tensor:
    """(spokes, dimensions) -> (1, spokes, samples, dimensions)."""
    along = (torch.arange(samples, dtype=torch.float64) - samples // 2) / samples
    return (along[:, None] * directions[:, None])[None]


def _check(**counts: tuple[int, int]) -> None:
    for name, (count, least) in counts.items():
        if count < least:
            raise ValueError(f"{name} is {count}, expected at least {least}.")
