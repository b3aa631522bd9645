"""Figures: a row of images with titles, colour bars and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invdiff.files import written_whole

__all__ = ["Panel", "draw"]


@dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Arguments:
        title: What it shows.
        image: (channels, rows, columns) with 1 or 3 channels; colour images lie in [0, 1].
        unit: The unit of its values, for the colour bar.
        limits: The values shown darkest and brightest; None spans 0 to the 99.5th percentile.
        colours: The name of a colour map.
    """

    title: str
    image: np.ndarray
    unit: str
    limits: tuple[float, float] | None = None
    colours: str = "gray"


def draw(path: Path, panels: Sequence[Panel], caption: str, columns: int = 3) -> None:
    """Writes the panels as a PNG, ``columns`` in a row, under a caption."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    height, width = panels[0].image.shape[-2:]
    tall = 3.1 * min(max(height / width, 0.5), 2.0)
    figure = Figure(figsize=(3.9 * columns, (tall + 0.45) * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(caption, fontsize=11)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        limits = panel.limits or (0.0, max(float(np.percentile(panel.image, 99.5)), 1e-12))
        colour = panel.image.shape[0] == 3
        shown = np.clip(panel.image.transpose(1, 2, 0), 0, 1) if colour else panel.image[0]
        drawn = axis.imshow(
            shown, cmap=panel.colours, vmin=limits[0], vmax=limits[1], interpolation="nearest"
        )
        axis.set_title(panel.title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        bar = figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.02)
        bar.set_label(panel.unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.ax.set_visible(not colour)  # a colour image keeps the space, so that panels align
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
