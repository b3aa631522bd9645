"""Draws what `invdiff calibrate` found: coverage on held-out patients, before and after.

python scripts/calibration_figure.py docs/images/calibration.png CT=ct.json MRI=mri.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from invdiff.commands.intervals import read_factor


def main(target: str, *named: str) -> None:
    """A panel for each calibration."""
    figure = Figure(figsize=(4 * len(named), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, _, file) in enumerate(word.partition("=") for word in named):
        factor = read_factor(Path(file))
        axes = figure.add_subplot(1, len(named), place + 1)
        axes.plot([0, 1], [0, 1], "--", color="0.6", label="nominal")
        for points, label, colour in (
            (factor.coverage, "as sampled", "#b4451f"),
            (factor.calibrated, "calibrated", "#1f5fb4"),
        ):
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
        axes.set(xlim=(0.45, 1), ylim=(0.25, 1.01), xlabel="nominal probability")
        axes.set_ylabel("pixels whose truth is inside")
        axes.set_title(f"{title}: {factor.tested} held-out patients", fontsize=11)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
