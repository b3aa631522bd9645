"""Backprojection by interpolation: every pixel collects what the detector has where it falls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from invdiff.operators.ct_geometry import Beam, Geometry

__all__ = ["Slices", "backproject"]

NUMBERS = 2**22  # in memory at once, about


class Slices(NamedTuple):
    """Planes across the axis, and the rows of a detector that see them from a circle; all in mm.

    ``z``: Their heights (slices,). ``source``, ``detector``: The heights of the source and of the
    detector's centre. ``spacing``: From row to row. ``rows``: How many there are.
    """

    z: Tensor
    source: float
    detector: float
    spacing: float
    rows: int


def backproject(plane: Geometry, y: Tensor, slices: Slices | None = None) -> Tensor:
    r"""The sum over views :math:`\sum_v m_v^2(x)\, y_v(u_v(x))`, (b, slices, rows, columns).

    u is where the ray through x lands (linear interpolation; zero beyond the detector) and m the
    magnification there, 1 for parallel rays. Differentiable; nothing crosses rows.

    Arguments:
        plane: The geometry of one slice.
        y: Filtered data (b, detector rows, views, cells).
        slices: The slices of a volume; None: the one that the detector's only row sees.
    """
    depth = 1 if slices is None else len(slices.z)
    rows, columns = plane.image_shape
    image = torch.zeros(len(y), depth, rows, columns, dtype=y.dtype, device=y.device)
    pixels = rows * columns * (len(y) + 8)
    views, planes = max(1, NUMBERS // (pixels * depth)), max(1, NUMBERS // pixels)
    for first in range(0, plane.views, views):
        part = slice(first, first + views)
        cell, magnification = _landing(plane, part, y.device)
        data = y[:, :, part].permute(2, 0, 1, 3)
        sums = [
            _collect(data, cell, magnification, heights)
            for heights in _chunks(slices, planes, magnification)
        ]
        image = image + torch.cat(sums, dim=1)
    return image


def _collect(data: Tensor, cell: Tensor, magnification: Tensor, height: Tensor) -> Tensor:
    """Data (views, b, detector rows, cells) at heights (views, slices, rows, columns) summed.

    Cells and heights are places on the detector, whose ends are -1 and 1.
    """
    place = torch.stack([cell[:, None].expand_as(height), height], dim=-1).to(data.dtype)
    found = grid_sample(data, place.flatten(1, 2), align_corners=False)  # zero outside
    found = found.unflatten(2, height.shape[1:3])
    added: Tensor = (found * magnification.square()[:, None, None].to(data.dtype)).sum(0)
    return added


def _chunks(slices: Slices | None, size: int, magnification: Tensor) -> Iterator[Tensor]:
    """On which row the pixels of some slices land."""
    if slices is None:
        yield torch.zeros_like(magnification)[:, None]
        return
    for z in slices.z.split(size):
        rise = (z[:, None, None] - slices.source) * magnification[:, None]
        row = (slices.source + rise - slices.detector) / slices.spacing
        yield 2 * row / slices.rows


def _landing(plane: Geometry, views: slice, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the rays through the pixels land, and how magnified; (views, rows, columns) each.

    Places are cells from the detector's middle, divided by half the number of cells.
    """
    vectors = torch.tensor(plane.array[views], device=device).reshape(-1, 3, 2, 1, 1)
    first, centre, step = vectors.unbind(1)
    x = _centres(plane.image_shape[1], plane.pixel_size[1], device)
    y = -_centres(plane.image_shape[0], plane.pixel_size[0], device)[:, None]
    if plane.beam is Beam.PARALLEL:
        across = _cross((x - centre[:, 0], y - centre[:, 1]), first.unbind(1))
        cell = across / _cross(step.unbind(1), first.unbind(1))
        magnification = torch.ones_like(cell)
    else:
        ray, towards = (x - first[:, 0], y - first[:, 1]), (centre - first).unbind(1)
        along = step.unbind(1)
        if plane.arc:
            radius, width = torch.hypot(*towards), torch.hypot(*along)
            turn = torch.atan2(_dot(ray, along) / width, _dot(ray, towards) / radius)
            cell, magnification = turn * radius / width, radius / torch.hypot(*ray)
        else:
            depth = _cross(ray, along)
            cell = _cross(towards, ray) / depth
            magnification = _cross(towards, along) / depth
    return 2 * cell / plane.detectors[0], magnification


def _centres(count: int, size: float, device: torch.device) -> Tensor:
    return size * (torch.arange(count, dtype=torch.float64, device=device) - (count - 1) / 2)


def _cross(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return a[0] * b[1] - a[1] * b[0]


def _dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1]
