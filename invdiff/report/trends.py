"""The charts of a report: residuals, coverage and traces, from the figures of the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from invdiff.report.content import Bars, Chart, Curve
from invdiff.report.residuals import EDGES

__all__ = ["charts_of"]

TRACES = {
    "chi2": ("Misfit along the ladder", "chi2 of the clean estimate", True),
    "ess": ("Effective sample size", "samples", False),
}
Result = Mapping[str, Any]


def charts_of(result: Result) -> tuple[Chart, ...]:
    """Those that there are numbers for."""
    found = [_residuals(result), _coverage(result)]
    found += [_trace(result, name) for name in TRACES]
    return tuple(chart for chart in found if chart is not None)


def _residuals(result: Result) -> Chart | None:
    """Whitened residuals against the standard normal distribution."""
    known = [item["residuals"] for item in result["items"] if item["residuals"]]
    if not known:
        return None
    weights = np.array([one["numbers"] for one in known], float)
    numbers = int(weights.sum())

    def average(values: list[float]) -> float:
        return float(np.average(np.array(values), weights=weights))

    mean = average([one["mean"] for one in known])
    second = average([one["deviation"] ** 2 + one["mean"] ** 2 for one in known])
    beyond = average([one["beyond_3"] for one in known])
    counts = np.sum([one["counts"] for one in known], axis=0)
    heights = tuple((counts / numbers / (EDGES[1] - EDGES[0])).tolist())
    x = tuple(0.1 * step for step in range(-50, 51))
    normal = tuple(math.exp(-0.5 * value**2) / math.sqrt(2 * math.pi) for value in x)
    correlation = "; ".join(f"axis {axis}: {value:+.3f}" for axis, value in _correlation(known))
    note = (
        f"{numbers} numbers. Mean {mean:+.3f} (expected 0), deviation "
        f"{math.sqrt(second - mean**2):.3f} (1), beyond 3: {beyond:.2%} (0.27 %)."
        + (f" Correlation of neighbours (0): {correlation}." if correlation else "")
    )
    marks = (Bars("residuals", EDGES, heights), Curve("normal", x, normal, expected=True))
    return Chart("Residuals of the samples", "(y - A x) / noise", "density", marks, note)


def _correlation(known: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Along each axis the one of the item where it is largest."""
    axes = sorted({axis for one in known for axis, _ in one["correlation"]})
    largest = []
    for wanted in axes:
        values = [v for one in known for axis, v in one["correlation"] if axis == wanted]
        largest.append((wanted, max(values, key=abs)))
    return largest


def _coverage(result: Result) -> Chart | None:
    """Nominal against observed coverage, here and in calibration."""
    curves = []
    if result["coverage"]:
        curves.append(_points("these images", result["coverage"]))
    calibration = result["calibration"]
    if calibration is not None:
        curves.append(_points("held-out patients, before", calibration["coverage"]))
        if calibration["calibrated"]:
            curves.append(_points("held-out patients, calibrated", calibration["calibrated"]))
    if not curves:
        return None
    ideal = Curve("ideal", (0.0, 1.0), (0.0, 1.0), expected=True)
    note = "Below the dashed line intervals are too narrow, above it too wide."
    title = "Coverage of the intervals"
    return Chart(title, "nominal probability", "truth inside", (*curves, ideal), note)


def _points(label: str, points: list[list[float]]) -> Curve:
    nominal, observed = zip(*sorted(points), strict=True)
    return Curve(label, tuple(nominal), tuple(observed))


def _trace(result: Result, name: str) -> Chart | None:
    """The median of items and samples at every step, and their range."""
    told = [item["trace"][name] for item in result["items"] if name in item["trace"]]
    if not told or len({len(values) for values in told}) != 1 or len(told[0]) < 2:
        return None
    steps = len(told[0])
    columns = [np.array(values, float).reshape(steps, -1) for values in told]
    values = np.concatenate(columns, 1)  # null is NaN
    x = tuple(float(step) for step in range(1, steps + 1))
    title, label, logarithmic = TRACES[name]
    middle = tuple(np.median(values, 1).tolist())
    band, note = ((), ()), ""
    if values.shape[1] > 1:
        band = tuple(values.min(1).tolist()), tuple(values.max(1).tolist())
        note = "Line: median of all items and samples; band: from the lowest to the highest."
    line = Curve(label, x, middle, *band)
    level = 1.0 if name == "chi2" else float(len(result["items"][0]["chi2"]))
    words = "expected at the end" if name == "chi2" else "samples drawn"
    expected = Curve(words, (x[0], x[-1]), (level, level), expected=True)
    return Chart(title, "step", label, (line, expected), note, logarithmic)
