"""The grade of a row, by thresholds that were written down before any sampler was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["GRADES", "THRESHOLDS", "grade"]

GRADES = "ABCDF"

THRESHOLDS: dict[str, tuple[float, float, float, float]] = {
    # The largest deviation for an A, B, C and D; the worst criterion counts.
    "mean_bias_sd": (0.1, 0.2, 0.35, 0.7),  # posterior standard deviations
    "variance_ratio": (1.1, 1.25, 1.6, 2.5),  # a factor, either way
    "tight": (1.1, 1.25, 1.6, 2.5),
    "loose": (1.1, 1.25, 1.6, 2.5),
    "coverage_90": (0.02, 0.04, 0.08, 0.15),  # from 0.9
    "mode_weight_excess": (0.02, 0.05, 0.1, 0.25),  # probability
    "wasserstein_excess_sd": (0.15, 0.3, 0.5, 1.0),  # posterior standard deviations
}


def grade(row: Mapping[str, Any]) -> str:
    """The grade of the worst figure; figures that a row lacks are not held against it.

    For its noise, a figure is forgiven one grade at most: if it would have the better one two
    standard errors closer to the truth.
    """
    worst = 0
    for name, limits in THRESHOLDS.items():
        value = row.get(name)
        if value is not None:
            here = _level(name, value, limits)
            near = _level(name, _toward(_target(name), value, row.get(f"{name}_se")), limits)
            worst = max(worst, here - 1 if near < here else here)
    return GRADES[worst]


_RATIOS = ("variance_ratio", "tight", "loose")


def _target(name: str) -> float:
    return 1.0 if name in _RATIOS else 0.9 if name == "coverage_90" else 0.0


def _level(name: str, value: float, limits: tuple[float, ...]) -> int:
    deviation = abs(value - _target(name))
    if name in _RATIOS:
        deviation = max(value, 1 / value) if value > 0 else math.inf
    return sum(deviation > limit for limit in limits)


def _toward(target: float, value: float, error: float | None) -> float:
    """``value``, moved towards the target by at most two errors."""
    return target + math.copysign(max(abs(value - target) - 2 * (error or 0), 0), value - target)
