"""The picture of the certificate: mean error against variance, and the weight of a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invdiff.files import written_whole

__all__ = ["draw_certificate"]

MARKS = {
    "DPS": ("o", "C0"),
    "DDS": ("s", "C1"),
    "STSL": ("D", "C2"),
    "REDDiff": ("v", "C4"),
    "TDS": ("*", "C3"),
    "TDS, 8 particles": ("P", "C3"),
    "TDS, 1000 particles": ("X", "C3"),
    "TDS, isotropic": ("p", "C3"),
    "DPS, defaults": ("o", "0.55"),
    "DPS, weight 100": ("h", "0.55"),
    "DiffPIR, defaults": ("^", "0.55"),
    "DDRM, defaults": ("<", "0.55"),
    "PiGDM": (">", "0.55"),
    "MomentMatching": ("d", "0.55"),
}


def draw_certificate(
    path: Path, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]
) -> None:
    """One panel per problem; the runs of a sampler are joined, the largest mark has most steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    high = -(-(len(titles) + 1) // 3)  # the panel after the last one holds the legend
    figure = Figure(figsize=(13, 4.2 * high + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(high, 3).ravel()
    for axis, (case, title) in zip(axes, titles.items(), strict=False):
        here = [row for row in rows if row["case"] == case]
        key = "e" if here[0]["mode"] is None else "mode"
        _panel(axis, here, key)
        axis.set_title(title.replace("; ", ";\n"), fontsize=10)
    for axis in axes[len(titles) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    axes[len(titles)].legend(handles, labels, loc="center", ncols=2, fontsize=9, frameon=False)
    figure.suptitle(
        "Exact posteriors: a perfect sampler sits on the cross. Colour: invdiff; grey: deepinv.",
        fontsize=12,
    )
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _panel(axis: Any, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    exact = next(row for row in rows if row["method"] == "exact draws")
    ignorant = next(row for row in rows if row["method"].startswith("prior draws"))
    for name, (mark, colour) in MARKS.items():
        label = f"deepinv {name}" if colour == "0.55" else name
        if not any(row["method"] == name for row in rows):
            axis.scatter([], [], 90, color=colour, marker=mark, label=label)
            continue
        runs = sorted((row for row in rows if row["method"] == name), key=lambda row: row["steps"])
        x, y = [row[key] for row in runs], [row["variance"] for row in runs]
        sizes = [90 if k == len(runs) - 1 else 28 for k in range(len(runs))]
        axis.plot(x, y, color=colour, linewidth=0.8, alpha=0.6, zorder=1)
        axis.scatter(x, y, sizes, color=colour, marker=mark, label=label, zorder=2,
                     edgecolors="black", linewidths=0.4)  # fmt: skip
    axis.scatter([exact[key]], [exact["variance"]], 160, color="black", marker="+", zorder=3,
                 label="exact draws")  # fmt: skip
    axis.scatter([ignorant[key]], [ignorant["variance"]], 60, color="black", marker="x", zorder=3,
                 label="prior draws, y ignored")  # fmt: skip
    axis.axhline(1, color="black", linewidth=0.6)
    axis.set_yscale("symlog", linthresh=0.1)
    axis.set_ylim(-0.02, 20)
    axis.yaxis.set_major_locator(FixedLocator([0, 0.1, 0.2, 0.5, 1, 2, 5, 10]))
    axis.set_ylabel("total variance / exact", fontsize=9)
    if key == "e":
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1, 2]))
        axis.set_xlabel("e: error of the mean in posterior standard deviations", fontsize=9)
    else:
        axis.set_xlabel("weight of the first mode", fontsize=9)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_minor_locator(NullLocator())
        scale.set_major_formatter(ScalarFormatter())
    axis.grid(alpha=0.25)
