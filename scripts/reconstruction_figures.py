"""The pictures of `measure_reconstruction.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reconstruction_tables import COVERED, TITLES
from reconstruction_trials import Trial
from torch import Tensor

from invdiff.figure import Panel, draw
from invdiff.files import written_whole

__all__ = ["EXAMPLES", "draw_coverage", "draw_example"]

EXAMPLES = {
    "inpaint": "motorcycle",
    "sr": "chelsea",
    "ct60": "skull base (2x2 mean)",
    "ct20": "skull base (2x2 mean)",
    "mri": "axial head, PD",
}
Row = Mapping[str, Any]


def draw_example(path: Path, trial: Trial, samples: Tensor, row: Row) -> None:
    """Truth, mean, one sample, standard deviation, error and where the truth is not covered.

    Does nothing unless the trial is the example of its task. ``samples`` is (k, *domain).
    """
    if EXAMPLES.get(trial.task) != trial.image:
        return
    shown, truth = trial.show(samples).numpy(), trial.truth.numpy()
    mean = trial.show(samples.mean(0, keepdim=True))[0].numpy()
    error, std = (
        np.sqrt((v**2).mean(0, keepdims=True)) for v in (mean - truth, shown.std(0, ddof=1))
    )
    top = float(np.percentile(std, 99.5))
    outside = (truth < shown.min(0)) | (truth > shown.max(0))
    outside = outside.mean(0, keepdims=True)
    level = (len(shown) - 1) / (len(shown) + 1)
    unit = "HU" if trial.task.startswith("ct") else ""
    panels = [
        Panel("truth", truth, unit, trial.limits),
        Panel(f"posterior mean, {row['psnr']:.1f} dB", mean, unit, trial.limits),
        Panel("one sample", shown[0], unit, trial.limits),
        Panel("standard deviation", std, unit, (0, top), "viridis"),
        Panel("|mean - truth|", error, unit, (0, 2 * top), "magma"),
        Panel(f"outside of the {level:.0%} interval", outside, "share", (0, 1), "gray_r"),
    ]
    draw(path, panels, f"{TITLES[trial.task]}: {trial.image}, {row['method']}")


def draw_coverage(path: Path, rows: Sequence[Row]) -> None:
    """Coverage against level, a panel per task; a line per sampler, a dot per image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in rows if "coverage" in row and row["task"] in COVERED]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(3.6 * len(COVERED), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, task in zip(figure.subplots(1, len(COVERED)), COVERED, strict=True):
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.8)
        axis.fill_between([88, 92], 80, 95, color="0.85", linewidth=0)
        for colour, method in enumerate(methods):
            here = [r for r in rows if r["task"] == task and r["method"] == method]
            curves = [100 * np.array(r["coverage"]) for r in here if not r["apart"]]
            if not curves:
                continue
            count = here[0]["samples"]
            levels = [100 * (count + 1 - 2 * j) / (count + 1) for j in range(1, count // 2 + 1)]
            axis.plot(levels, np.mean(curves, 0), "o-", color=f"C{colour}", label=method, ms=4)
            for curve in curves:
                axis.plot(levels, curve, color=f"C{colour}", linewidth=0.5, alpha=0.6)
        axis.set(title=TITLES[task], xlabel="level, %", xlim=(0, 100), ylim=(0, 100))
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("truth inside, % of the object's pixels")
    figure.axes[0].legend(fontsize=9)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
