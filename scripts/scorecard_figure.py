"""The scorecard's pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scorecard_tables import label

from invdiff.files import written_whole

__all__ = ["draw_field", "draw_steps"]

Row = Mapping[str, Any]
MARKS = "osDv^<>phXPd*8"


def draw_field(folder: Path, rows: Sequence[Row]) -> Path | None:
    """Error of the mean against variance ratio, a panel per problem; None without rows."""
    rows = [row for row in rows if row["part"] in ("field", "mixture") and _scored(row)]
    counts = Counter(row["problem"] for row in rows)
    problems = [problem for problem, count in counts.items() if count > 2]  # fewer compare nothing
    if not rows:
        return None
    figure, axes = _panels(len(problems) + 1)
    styles = _styles(rows)
    for axis, problem in zip(axes, problems, strict=False):
        for row in (row for row in rows if row["problem"] == problem):
            x = min(row["mean_error_sd"], 3)  # what is beyond the frame sits on it
            y = min(max(row["variance_ratio"], 0.01), 10)
            axis.scatter([x], [y], 50, **styles[label(row)], edgecolors="black", linewidths=0.4)
        axis.set(xscale="log", yscale="log", title=problem, xlim=(0.05, 3.2), ylim=(0.009, 11))
        _plain_ticks(axis.xaxis, (0.1, 0.2, 0.5, 1, 2))
        _plain_ticks(axis.yaxis, (0.01, 0.1, 0.5, 1, 2, 10))
        axis.axhline(1, color="black", linewidth=0.6)
        axis.grid(alpha=0.25)
    handles = [axes[-1].scatter([], [], 50, label=name, **style) for name, style in styles.items()]
    axes[-1].legend(handles=handles, loc="center", ncols=2, fontsize=8, frameon=False)
    for axis in axes[len(problems) :]:
        axis.set_axis_off()
    figure.supxlabel("error of the mean, posterior standard deviations")
    figure.supylabel("variance / exact variance")
    return _save(figure, folder / "scorecard-field.png")


def draw_steps(folder: Path, rows: Sequence[Row]) -> Path | None:
    """Error of the mean against steps, a panel per size; None without rows."""
    rows = [row for row in rows if row["part"] == "steps" and row["steps"] and _scored(row)]
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    if not rows:
        return None
    figure, axes = _panels(len(problems))
    styles = _styles(rows)
    for axis, problem in zip(axes, problems, strict=False):
        for name, style in styles.items():
            runs = [row for row in rows if row["problem"] == problem and label(row) == name]
            runs.sort(key=lambda row: row["steps"])
            x, y = [row["steps"] for row in runs], [row["mean_error_sd"] for row in runs]
            axis.plot(x, y, linewidth=1, markersize=6, label=name, **style)
        axis.set(xscale="log", yscale="log", title=problem, xlabel="steps")
        _plain_ticks(axis.xaxis, (20, 50, 100, 300))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("error of the mean, posterior standard deviations")
    axes[len(problems) - 1].legend(fontsize=7, ncols=2)
    return _save(figure, folder / "scorecard-steps.png")


def _plain_ticks(axis: Any, places: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(ScalarFormatter())


def _scored(row: Row) -> bool:
    return row.get("mean_error_sd") is not None


def _panels(count: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    high = -(-count // 3)
    figure = Figure(figsize=(13, 4 * high + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(high, 3, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes


def _styles(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Ours in colour, other libraries in two greys, exact draws black."""
    greys = {"deepinv": "0.45", "azula": "0.75", "reference": "black"}
    names = {label(row): row["library"] for row in rows}
    return {
        name: {"color": greys.get(library, f"C{k % 10}"), "marker": MARKS[k % len(MARKS)]}
        for k, (name, library) in enumerate(names.items())
    }


def _save(figure: Any, path: Path) -> Path:
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
    return path
