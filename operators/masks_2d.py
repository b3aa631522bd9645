"""Sampling patterns that undersample both directions, as in volumes with two phase encodings.

Every pattern measures a central square completely. One seed gives one pattern.
"""

from __future__ import annotations

import numpy as np

from invdiff.operators.masks import CartesianMask, likeliest, pattern_of

__all__ = ["gaussian_mask", "partial_fourier", "poisson_disc_mask"]

BISECTIONS = 12


def gaussian_mask(
    shape: tuple[int, int], acceleration: float, center: int, seed: int, spread: float = 0.2
) -> CartesianMask:
    r"""Random samples, denser towards the centre, and a central square of side ``center``.

    Drawn one after the other, without repetition, with probabilities proportional to
    :math:`\exp(-(u^2 + v^2) / 2 s^2)`, u and v the distances from the centre in heights and
    widths, s = ``spread``; round(height * width / acceleration) in all.

    Raises:
        ValueError: If the acceleration is below 1, the square is empty, does not fit, or alone
            exceeds the samples that the acceleration allows, or spread is not positive.
    """
    if not spread > 0:
        raise ValueError(f"spread is {spread}, expected a positive fraction of the sides.")
    samples, remaining = _budget(shape, acceleration, center)
    u, v = ((np.arange(n) - n // 2) / n for n in shape)
    log_weight = -(u[:, None] ** 2 + v**2) / (2 * spread**2)
    log_weight = np.where(samples, -np.inf, log_weight).ravel()
    samples.ravel()[likeliest(log_weight, remaining, _generator(seed))] = True
    return pattern_of(samples, center)


def poisson_disc_mask(
    shape: tuple[int, int],
    acceleration: float,
    center: int,
    seed: int,
    elliptical: bool = True,
) -> CartesianMask:
    r"""Random samples that keep a distance, larger far from the centre: no clusters, no holes.

    Any two samples p, q outside of the central square of side ``center`` are at least
    :math:`\min(r_p, r_q)` grid steps apart, :math:`r = 1 + s \rho`, where :math:`\rho` grows from
    0 at the centre to 1 at the middle of the sides. The slope s is the largest, by bisection,
    that leaves round(height * width / acceleration) samples; a few surplus ones are dropped at
    random. Grid points are visited in one random order, and kept unless a kept one is too near.
    (Bridson, Fast Poisson disk sampling in arbitrary dimensions, 2007, for the idea.)

    Arguments:
        shape: Height and width.
        acceleration: All samples of the rectangle over the measured ones.
        center: The side of the central square.
        seed: Of the random order.
        elliptical: Whether nothing is measured in the corners, :math:`\rho > 1`.

    Raises:
        ValueError: As for ``gaussian_mask``, or if the ellipse holds too few samples.
    """
    centre, remaining = _budget(shape, acceleration, center)
    u, v = ((np.arange(n) - n // 2) / (n / 2) for n in shape)
    rho = np.hypot(u[:, None], v)
    allowed = ~centre & ((rho <= 1) | (not elliptical))
    if allowed.sum() < remaining:
        raise ValueError(
            f"An acceleration of {acceleration} takes {remaining} samples outside of the centre, "
            f"but the ellipse holds {allowed.sum()}. Raise it, or use elliptical=False."
        )
    generator = _generator(seed)
    order = generator.permutation(np.flatnonzero(allowed))
    low, high, best = 0.0, float(max(shape)), order
    for _ in range(BISECTIONS):
        slope = (low + high) / 2
        kept = _throw(order, 1 + slope * rho)
        if len(kept) >= remaining:
            low, best = slope, kept
        else:
            high = slope
    samples = centre.copy()
    samples.ravel()[generator.permutation(best)[:remaining]] = True
    return pattern_of(samples, center)


def partial_fourier(
    pattern: CartesianMask, fraction: float, axis: int = -1, from_start: bool = False
) -> CartesianMask:
    """The pattern without the samples at one end of k-space, kept over ``fraction`` of an axis.

    Arguments:
        pattern: Any pattern.
        fraction: Of the rows or columns that remain, from above 1/2 to 1.
        axis: -1 drops columns, -2 drops rows.
        from_start: Whether the first ones are dropped (negative frequencies) or the last.

    Raises:
        ValueError: If the fraction is outside of (1/2, 1], or the calibration centre is cut.
    """
    length = pattern.mask.shape[axis]
    kept = round(fraction * length)
    half = (pattern.center + 1) // 2
    if not (0.5 < fraction <= 1 and kept >= length - length // 2 + half and axis in (-1, -2)):
        raise ValueError(
            f"A fraction of {fraction} of axis {axis} keeps {kept} of {length}, and the centre "
            f"takes {pattern.center}; expected axis -1 or -2 and a fraction in (1/2, 1] that "
            "keeps the centre whole. Raise the fraction."
        )
    samples = pattern.mask[0, 0].numpy() == 1
    dropped: list[slice] = [slice(None), slice(None)]
    dropped[axis] = slice(0, length - kept) if from_start else slice(kept, length)
    samples[tuple(dropped)] = False
    return pattern_of(samples, pattern.center)


def _throw(order: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The flat indices of ``order`` that no earlier kept point has within its radius."""
    height, width = radius.shape
    reach = int(np.ceil(radius.max()))
    free = np.ones((height + 2 * reach, width + 2 * reach), dtype=bool)
    steps = np.arange(-reach, reach + 1)
    distance = np.hypot(steps[:, None], steps)
    kept = []
    for start in range(0, len(order), 512):
        rows, columns = np.divmod(order[start : start + 512], width)
        hopeful = free[rows + reach, columns + reach]
        for row, column in zip(rows[hopeful].tolist(), columns[hopeful].tolist(), strict=True):
            if not free[row + reach, column + reach]:
                continue
            kept.append(row * width + column)
            r = radius[row, column]
            k = int(np.ceil(r)) - 1  # whole steps below the radius
            disc = distance[reach - k : reach + k + 1, reach - k : reach + k + 1] < r
            around = free[
                row + reach - k : row + reach + k + 1, column + reach - k : column + reach + k + 1
            ]
            around &= ~disc
    return np.array(kept, dtype=int)


def _budget(shape: tuple[int, int], acceleration: float, center: int) -> tuple[np.ndarray, int]:
    """The central square (height, width), and how many others the acceleration allows."""
    size = shape[0] * shape[1]
    measured = round(size / acceleration) if acceleration >= 1 else 0
    if not (1 <= center <= min(shape) and center**2 <= measured):
        raise ValueError(
            f"An acceleration of {acceleration} of {shape} samples measures {measured}, but the "
            f"central square takes {center} x {center}; expected an acceleration of at least 1 "
            "and a square that is not empty, fits and leaves samples. Lower one of the two."
        )
    samples = np.zeros(shape, dtype=bool)
    top, left = (n // 2 - center // 2 for n in shape)
    samples[top : top + center, left : left + center] = True
    return samples, measured - center**2


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))
