"""Filtered backprojection of a plane, or of the cone through it: weight, filter, add up."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from invdiff.operators.ct_backprojection import Slices, backproject
from invdiff.operators.ct_filter import ramp_filter
from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_orbit import orbit
from invdiff.operators.ct_rays import cells_at
from invdiff.operators.ct_weights import ray_weights
from invdiff.operators.ct_windows import Window

__all__ = ["filtered_backprojection"]


def filtered_backprojection(
    plane: Geometry,
    y: Tensor,
    window: Window,
    incomplete: bool,
    elevation: float | np.ndarray = 1.0,
    slices: Slices | None = None,
) -> Tensor:
    """Images (b, slices, rows, columns) of data (b, detector rows, views, cells).

    Arguments:
        plane: The geometry of one slice.
        y: Line integrals, of one detector row for one slice.
        window: Of the ramp filter.
        incomplete: Whether missing angles and sides count as zero, instead of raising ValueError.
        elevation: The cosine of every ray's angle to the plane, (detector rows, 1, cells).
        slices: The slices of a volume; None: the plane itself.
    """
    scan = orbit(plane)
    weights = ray_weights(plane, scan, incomplete) * scan.obliquity * elevation
    kept = y.to(torch.float64 if y.dtype == torch.float64 else torch.float32)
    weighted = kept * torch.from_numpy(weights).to(kept)
    # A pixel may land beyond the detector, where the filter's answer to the data is not zero.
    beyond = _cells_beyond(plane)
    wider = replace(plane, detectors=(plane.detectors[0] + 2 * beyond,))
    radius = scan.depth if plane.arc else math.inf
    filtered = ramp_filter(pad(weighted, (beyond, beyond)), scan.spacing, window, radius)
    return backproject(wider, filtered, slices).to(y.dtype)


def _cells_beyond(plane: Geometry) -> int:
    """How many cells are missing, on either side, for the whole image to land on the detector."""
    half = [(n - 1) / 2 * p for n, p in zip(plane.image_shape, plane.pixel_size, strict=True)]
    corners = np.array(list(itertools.product((-half[1], half[1]), (-half[0], half[0]))))
    cells = np.array([cells_at(plane, view, *corners.T) for view in range(plane.views)])
    last = plane.detectors[0] - 1
    return max(0, math.ceil(float(max(-cells.min(), cells.max() - last))))
