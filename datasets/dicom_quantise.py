"""Real values as 16-bit integers: slope, intercept, and how many values did not fit."""

from __future__ import annotations

import math

import numpy as np

from invdiff.errors import NotFinite

__all__ = ["Rescale", "quantise", "rescale_for", "window_for"]

LOWEST, HIGHEST = -(2**15), 2**15 - 1

Rescale = tuple[float, float]


def rescale_for(values: np.ndarray, modality: str) -> Rescale:
    """Slope and intercept: 1 and -1024 for CT, as scanners write.

    For MR the intercept is 0 and the slope 1 for integers that fit, so that they stay exact, else
    the smallest with four digits that holds the largest magnitude.
    """
    if modality == "CT":
        return 1.0, -1024.0
    largest = float(np.abs(values).max())
    if largest <= HIGHEST and np.array_equal(values, np.rint(values)):
        return 1.0, 0.0
    exponent = math.floor(math.log10(largest / HIGHEST)) - 3
    digits = math.ceil(largest / HIGHEST / 10.0**exponent)
    return float(f"{digits}e{exponent}"), 0.0


def quantise(values: np.ndarray, rescale: Rescale) -> tuple[np.ndarray, int]:
    r"""Int16 :math:`\mathrm{round}((v - b) / s)`, and how many values had to be clipped.

    Raises:
        NotFinite: If a value is NaN or infinite.
        ValueError: If the slope is not positive.
    """
    slope, intercept = rescale
    if not 0 < slope < math.inf or not math.isfinite(intercept):
        raise ValueError(f"The rescale is {rescale}, expected a positive slope and an intercept.")
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise NotFinite(
            f"The volume has {bad} values that are NaN or infinite, expected none: DICOM cannot "
            "hold them."
        )
    stored = np.rint((values.astype(np.float64) - intercept) / slope)
    clipped = int(((stored < LOWEST) | (stored > HIGHEST)).sum())
    return np.clip(stored, LOWEST, HIGHEST).astype(np.int16), clipped


def window_for(values: np.ndarray, modality: str) -> tuple[float, float]:
    """Centre and width: soft tissue for CT, else the middle 99 % of the values."""
    if modality == "CT":
        return 40.0, 400.0
    low, high = np.quantile(values, [0.005, 0.995]).tolist()
    return (low + high) / 2, max(high - low, 1e-6)
