"""Charts as SVG: they need no code, print sharply, and read well aloud."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from invdiff.report.content import Bars, Chart, Curve

__all__ = ["draw_chart"]

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 42
Point = tuple[float, float]


class _Axes(NamedTuple):
    """From numbers to places, and the ticks."""

    across: Callable[[float], float]
    down: Callable[[float], float]
    x_ticks: list[float]
    y_ticks: list[float]


def draw_chart(chart: Chart) -> str:
    """The chart as an ``svg`` element with a title and a description."""
    axes = _axes(chart)
    shapes = "".join(
        _bars(mark, axes) if isinstance(mark, Bars) else _curve(mark, axes, number)
        for number, mark in enumerate(chart.marks)
    )
    described = escape(f"{chart.y_label} against {chart.x_label}. {chart.note}")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(chart.title)}</title><desc>{described}</desc>"
        f"{_frame(chart, axes)}{shapes}{_legend(chart)}</svg>"
    )


def _axes(chart: Chart) -> _Axes:
    x, y = _numbers(chart)
    # A logarithmic axis has no place for what is not positive.
    usable = [v for v in y if math.isfinite(v) and (v > 0 or not chart.logarithmic)] or [1.0]
    low, high = min(usable), max(usable)
    if chart.logarithmic:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        high = high if high > low else 10 * low
        y_ticks = _decades(low, high)
    else:
        y_ticks = _ticks(min(low, 0.0), high)
        low, high = min(low, 0.0, y_ticks[0]), max(high, y_ticks[-1])
        high = high if high > low else low + 1
    left, right = min(x, default=0.0), max(x, default=1.0)
    right = right if right > left else left + 1

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - left) / (right - left)

    def down(value: float) -> float:
        part = (
            math.log(max(value, low) / low) / math.log(high / low)
            if chart.logarithmic
            else (value - low) / (high - low)
        )
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part

    inside = [tick for tick in _ticks(left, right) if left <= tick <= right]
    return _Axes(across, down, inside, y_ticks)


def _numbers(chart: Chart) -> tuple[list[float], list[float]]:
    x: list[float] = []
    y: list[float] = []
    for mark in chart.marks:
        x += mark.edges if isinstance(mark, Bars) else mark.x
        y += mark.heights if isinstance(mark, Bars) else (*mark.y, *mark.low, *mark.high)
    return x, y


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten; of few decades also 2 and 5 times them."""
    first, last = round(math.log10(low)), round(math.log10(high))
    stride = max(1, round((last - first) / 5))
    finer = (1, 2, 5) if last - first < 3 else (1,)
    ticks = [m * 10.0**e for e in range(first, last + 1, stride) for m in finer]
    return [tick for tick in ticks if tick <= high]


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that begin at or below ``low``."""
    span = high - low if high > low else 1.0
    raw = span / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = min((m * unit for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    first = math.floor(low / step + 1e-9)
    return [step * n for n in range(first, math.ceil(high / step - 1e-9) + 1)]


def _frame(chart: Chart, axes: _Axes) -> str:
    parts = []
    for tick in axes.y_ticks:
        place = axes.down(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" '
            f'y2="{place:.1f}"/><text class="tick" x="{LEFT - 6}" y="{place + 3.5:.1f}" '
            f'text-anchor="end">{tick:g}</text>'
        )
    for tick in axes.x_ticks:
        parts.append(
            f'<text class="tick" x="{axes.across(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" '
            f'text-anchor="middle">{tick:g}</text>'
        )
    middle = TOP + (HEIGHT - BOTTOM - TOP) / 2
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" '
        f'y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{escape(chart.x_label)}</text>'
        f'<text class="label" transform="translate(13 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _bars(bars: Bars, axes: _Axes) -> str:
    floor = axes.down(0)
    shapes = []
    for (left, right), height in zip(pairwise(bars.edges), bars.heights, strict=True):
        x, y = axes.across(left), axes.down(height)
        shapes.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" '
            f'width="{max(axes.across(right) - x - 0.6, 0.2):.1f}" height="{floor - y:.1f}"/>'
        )
    return "".join(shapes)


def _curve(curve: Curve, axes: _Axes, number: int) -> str:
    def places(values: Sequence[float]) -> Iterator[Point]:
        for x, y in zip(curve.x, values, strict=True):
            if math.isfinite(y):
                yield axes.across(x), axes.down(y)

    band = ""
    if curve.low:
        outline = [*places(curve.low), *reversed(list(places(curve.high)))]
        band = f'<polygon class="band" points="{_path(outline)}"/>'
    kind = "expected" if curve.expected else f"line line{number % 3}"
    return f'{band}<polyline class="{kind}" points="{_path(places(curve.y))}"/>'


def _legend(chart: Chart) -> str:
    """What each line is, if there are several besides the expected one."""
    lines = [(n, m) for n, m in enumerate(chart.marks) if isinstance(m, Curve) and not m.expected]
    if len(lines) < 2:
        return ""
    parts = []
    for place, (number, curve) in enumerate(lines):
        y = TOP + 8 + 14 * place
        parts.append(
            f'<polyline class="line line{number % 3}" points="{LEFT + 8},{y} {LEFT + 26},{y}"/>'
            f'<text class="tick" x="{LEFT + 32}" y="{y + 3.5}">{escape(curve.label)}</text>'
        )
    return "".join(parts)


def _path(points: Iterator[Point] | list[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
