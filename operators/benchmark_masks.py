"""The sampling patterns of two public benchmarks, column for column, from their own seeds.

Both count columns as published, off-centre or off by one where they are, and draw from NumPy's
Mersenne twister, whose stream never changes: the same seed gives the benchmark's own mask.

References:
    | fastMRI: An open dataset and benchmarks for accelerated MRI (Zbontar et al., 2018)
    | https://arxiv.org/abs/1811.08839, with the masks of its code from version 0.1.1 on
    | InverseBench (Zheng et al., 2025), https://arxiv.org/abs/2503.11043
"""

from __future__ import annotations

import numpy as np

from invdiff.operators.masks import CartesianMask, pattern_of

__all__ = [
    "fastmri_equispaced_fraction_mask",
    "fastmri_equispaced_mask",
    "fastmri_random_mask",
    "inversebench_equispaced_mask",
    "inversebench_random_mask",
]

Seed = int | tuple[int, ...]


def fastmri_random_mask(
    shape: tuple[int, int], acceleration: float, center_fraction: float, seed: Seed
) -> CartesianMask:
    r"""fastMRI's ``random``: every outer column by itself, with one probability.

    .. math:: p = \frac{n / R - c}{n - c}, \quad c = \mathrm{round}(n f)

    for n columns and c central ones: n / R columns in expectation, more or fewer in a draw.

    Arguments:
        shape: Height and width.
        acceleration: The nominal R; with f: 4 and 0.08, or 8 and 0.04, in the benchmark.
        center_fraction: The fraction f of central columns.
        seed: For a volume of the benchmark: the characters' code points of its file name.

    Raises:
        ValueError: If the centre is empty, or alone exceeds n / R.
    """
    lines = _fastmri_centre(shape[1], acceleration, center_fraction)
    center = int(lines.sum())
    probability = (shape[1] / acceleration - center) / max(shape[1] - center, 1)
    lines |= _twister(seed).uniform(size=shape[1]) < probability
    return pattern_of(np.broadcast_to(lines, shape), center)


def fastmri_equispaced_mask(
    shape: tuple[int, int], acceleration: int, center_fraction: float, seed: Seed
) -> CartesianMask:
    """fastMRI's ``equispaced``: every R-th column from an offset drawn from 0 .. R - 1.

    The centre comes on top, so the achieved acceleration is lower. Arguments and errors are those
    of ``fastmri_random_mask``, with an integer R.
    """
    lines = _fastmri_centre(shape[1], acceleration, center_fraction)
    center = int(lines.sum())
    lines[_twister(seed).randint(0, acceleration) :: acceleration] = True
    return pattern_of(np.broadcast_to(lines, shape), center)


def fastmri_equispaced_fraction_mask(
    shape: tuple[int, int], acceleration: float, center_fraction: float, seed: Seed
) -> CartesianMask:
    r"""fastMRI's ``equispaced_fraction``: the spacing is widened to pay for the centre.

    .. math:: R' = \frac{R (c - n)}{c R - n}

    Columns o, o + R', o + 2 R', ... below n - 1 are measured, rounded (halves to even), with an
    offset o drawn from 0 .. round(R') - 1. This is what the benchmark's brain volumes use.
    Arguments and errors are those of ``fastmri_random_mask``.
    """
    width = shape[1]
    lines = _fastmri_centre(width, acceleration, center_fraction)
    center = int(lines.sum())
    if center * acceleration >= width:
        raise ValueError(
            f"{center} central of {width} columns leave none for an acceleration of "
            f"{acceleration}. Lower one of the two."
        )
    spacing = acceleration * (center - width) / (center * acceleration - width)
    offset = _twister(seed).randint(0, round(spacing))
    lines[np.around(np.arange(offset, width - 1, spacing)).astype(int)] = True
    return pattern_of(np.broadcast_to(lines, shape), center)


def inversebench_random_mask(
    shape: tuple[int, int], acceleration: float, seed: int = 0
) -> CartesianMask:
    """InverseBench's ``random``: floor(n / R) columns in all, drawn without repetition.

    The centre holds floor(0.08 n) columns up to R = 6, and floor(0.04 n) above. Raises ValueError
    if the centre is empty or exceeds floor(n / R).
    """
    lines = _inversebench_centre(shape[1], acceleration)
    center = int(lines.sum())
    remaining = int(shape[1] // acceleration) - center
    if remaining < 0:
        raise ValueError(
            f"{center} central columns exceed the {int(shape[1] // acceleration)} of {shape[1]} "
            f"that an acceleration of {acceleration} allows. Lower it."
        )
    lines[_twister(seed).choice(np.flatnonzero(~lines), remaining, replace=False)] = True
    return pattern_of(np.broadcast_to(lines, shape), center)


def inversebench_equispaced_mask(shape: tuple[int, int], acceleration: float) -> CartesianMask:
    """InverseBench's ``equispaced``: every int(R)-th of the columns outside of the centre.

    The count starts at column 0 and passes over the centre; nothing is random. Centre and errors
    are those of ``inversebench_random_mask``.
    """
    lines = _inversebench_centre(shape[1], acceleration)
    center = int(lines.sum())
    lines[np.flatnonzero(~lines)[:: int(acceleration)]] = True
    return pattern_of(np.broadcast_to(lines, shape), center)


def _fastmri_centre(width: int, acceleration: float, center_fraction: float) -> np.ndarray:
    center = round(width * center_fraction)
    if not (acceleration >= 1 and 1 <= center <= width / acceleration):
        raise ValueError(
            f"An acceleration of {acceleration} of {width} columns with {center} central ones "
            f"(center_fraction={center_fraction}) cannot be met; expected an acceleration of at "
            "least 1 and 1 <= centre <= width / acceleration. Lower one of the two."
        )
    first = (width - center + 1) // 2
    return _block(width, first, center)


def _inversebench_centre(width: int, acceleration: float) -> np.ndarray:
    center = int((0.08 if 1 < acceleration <= 6 else 0.04) * width)
    if acceleration < 1 or center < 1:
        raise ValueError(
            f"An acceleration of {acceleration} of {width} columns has {center} central ones; "
            "expected an acceleration of at least 1 and a wider k-space."
        )
    first = (width - center) // 2
    return _block(width, first, (width + center) // 2 - first)


def _block(width: int, first: int, count: int) -> np.ndarray:
    lines = np.zeros(width, dtype=bool)
    lines[first : first + count] = True
    return lines


def _twister(seed: Seed) -> np.random.RandomState:
    return np.random.RandomState(seed)
