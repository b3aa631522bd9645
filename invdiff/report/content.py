"""What a report shows: pictures, charts, notices and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from invdiff.errors import ShapeError

__all__ = ["Bars", "Chart", "Curve", "Group", "Notice", "Picture", "Report", "Section", "evenly"]


class Group(Enum):
    """Pictures of one group share their window and their colours."""

    IMAGE = "image"
    UNCERTAINTY = "uncertainty"
    CHANGE = "change"
    SHARE = "share"


class Section(Enum):
    """Where on the page a picture stands."""

    IMAGES = "Images"
    UNCERTAINTY = "Uncertainty and error"
    ORIGIN = "From the data, or from the prior?"


@dataclass(frozen=True, eq=False)
class Picture:
    """One stack of slices.

    Arguments:
        title: What it shows.
        values: (slices, rows, columns), or (slices, 3, rows, columns) in [0, 1] for colour.
        unit: Of the values; empty if they have none.
        window: The values shown darkest and brightest.
        group: What it shares its window with.
        section: Where it stands.
        note: One line under it.

    Raises:
        ShapeError, ValueError: If the values have another shape, or the window is empty.
    """

    title: str
    values: np.ndarray
    unit: str
    window: tuple[float, float]
    group: Group = Group.IMAGE
    section: Section = Section.IMAGES
    note: str = ""

    def __post_init__(self) -> None:
        colour = self.values.ndim == 4 and self.values.shape[1] == 3
        if not (self.values.ndim == 3 or colour) or self.values.size == 0:
            raise ShapeError(
                f"The picture {self.title!r} has shape {self.values.shape}, expected (slices, "
                "rows, columns), or (slices, 3, rows, columns) for colour."
            )
        if not self.window[0] < self.window[1]:
            raise ValueError(
                f"The window of {self.title!r} is {self.window}, expected two increasing numbers."
            )


@dataclass(frozen=True)
class Curve:
    """A line through points; ``low`` and ``high`` are a band about it, ``expected`` is dashed."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    expected: bool = False


@dataclass(frozen=True)
class Bars:
    """A histogram: one more edge than heights."""

    label: str
    edges: tuple[float, ...]
    heights: tuple[float, ...]


@dataclass(frozen=True)
class Chart:
    """Curves and bars on common axes.

    Arguments:
        title: What it shows.
        x_label, y_label: What the axes are.
        marks: The curves and bars.
        note: One line under it: what is expected.
        logarithmic: Whether the y axis is.
    """

    title: str
    x_label: str
    y_label: str
    marks: tuple[Curve | Bars, ...]
    note: str = ""
    logarithmic: bool = False


@dataclass(frozen=True)
class Notice:
    """A warning; a serious one means that the image should not be believed as it is."""

    text: str
    serious: bool = False


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report shows. Nothing in it may name a patient.

    Arguments:
        title: Of the page.
        caption: What was measured, in one line.
        pictures: In the order in which they are shown; all stacks of the same size.
        result: The figures, as ``result.json`` has them (docs/report.md). Charts and warnings
            are made from them.
        timings: Seconds and memory: what differs from run to run.
        presets: Windows of the images by their names.
        slices: The numbers of the slices that the pictures hold, counted from 0.

    Raises:
        ShapeError: If there are no pictures, or their sizes differ.
    """

    title: str
    caption: str
    pictures: tuple[Picture, ...]
    result: Mapping[str, Any]
    timings: Mapping[str, float] = field(default_factory=dict)
    presets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    slices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = {(len(p.values), *p.values.shape[-2:]) for p in self.pictures}
        if len(sizes) != 1:
            raise ShapeError(
                f"The pictures have the sizes {sorted(sizes)}, expected one size (slices, rows, "
                "columns) for all of them."
            )
        if not self.slices:
            object.__setattr__(self, "slices", tuple(range(len(self.pictures[0].values))))
        if len(self.slices) != len(self.pictures[0].values):
            raise ShapeError(
                f"The pictures hold {len(self.pictures[0].values)} slices, but {len(self.slices)} "
                "numbers of slices were given. Expected one for each."
            )

    def thinned(self, most: int) -> Report:
        """The same with at most so many slices in its pictures, evenly spaced."""
        count = len(self.slices)
        if count <= most:
            return self
        kept = evenly(count, most)
        pictures = tuple(replace(p, values=p.values[list(kept)]) for p in self.pictures)
        return replace(self, pictures=pictures, slices=tuple(self.slices[i] for i in kept))


def evenly(count: int, most: int) -> tuple[int, ...]:
    """At most so many of the numbers 0 to count - 1: the middles of equal parts."""
    most = min(count, most)
    return tuple(int((i + 0.5) * count / most) for i in range(most))
