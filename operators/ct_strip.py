r"""Line integrals averaged over detector cells as a sparse matrix, for images of square boxes.

Seen by a detector, a pixel is a trapezoid: it rises between the shadows of its first two corners,
is as high as the ray's longest way through the pixel, and falls between the last two. The entry of
a cell is the trapezoid's mean over the cell. That is exact for parallel rays. For a fan it takes
the rays through one pixel to be parallel when it comes to their length, while the corners are
projected exactly (the separable footprint of the reference).

Reference:
    3D forward and back-projection for X-ray CT using separable footprints (Long, Fessler and
    Balter, 2010)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_rays import cells_at

__all__ = ["strip_blocks", "strip_entries"]

PIXELS = 2**16  # computed at once: what stays in a processor's cache is fastest
SAMPLE = 32  # rows that the number of entries is estimated from


def strip_blocks(geometry: Geometry) -> Iterator[sparse.csr_matrix]:
    """The matrix in mm, view by view: (cells, pixels) each; float32 and int32, indices sorted."""
    rows, columns = geometry.image_shape
    block = max(1, PIXELS // columns)
    for view in range(geometry.views):
        parts = [
            _footprints(geometry, view, first, min(first + block, rows))
            for first in range(0, rows, block)
        ]
        cell, pixel, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        shape = geometry.detectors[0], rows * columns
        matrix = sparse.csr_matrix((weight, (cell, pixel)), shape=shape, dtype=np.float32)
        matrix.sort_indices()
        yield matrix


def strip_entries(geometry: Geometry) -> int:
    """About how many entries the matrix has, from some of its rows of pixels."""
    rows = np.unique(np.linspace(0, geometry.image_shape[0] - 1, SAMPLE).astype(int)).tolist()
    views = np.unique(np.linspace(0, geometry.views - 1, SAMPLE).astype(int)).tolist()
    counted = sum(
        len(_footprints(geometry, view, row, row + 1)[0]) for view in views for row in rows
    )
    share = (len(rows) / geometry.image_shape[0]) * (len(views) / geometry.views)
    return math.ceil(counted / share)


def _footprints(
    geometry: Geometry, view: int, top: int, bottom: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cell, pixel, weight) of all that the rows [top, bottom) cast on the detector."""
    rows, columns = geometry.image_shape
    y = (rows / 2 - np.arange(top, bottom + 1)) * geometry.pixel_size[0]
    x = (np.arange(columns + 1) - columns / 2) * geometry.pixel_size[1]
    edges = _sorted_corners(cells_at(geometry, view, *np.broadcast_arrays(x, y[:, None])))
    height = _longest_way(geometry, view, (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1])[:, None] / 2)
    height = np.broadcast_to(height, edges[0].shape)
    first = np.floor(edges[0])
    cells = int((edges[3] - first).max()) + 1
    pixel = np.arange(top * columns, bottom * columns).reshape(edges[0].shape)
    found, before = [], 0.0
    for k in range(cells):
        until = _ramp(first + (k + 1), *edges[:2]) - _ramp(first + (k + 1), *edges[2:])
        weight = height * (until - before)
        seen = (weight > 0) & (first >= -k) & (first < geometry.detectors[0] - k)
        found.append((first[seen] + k, pixel[seen], weight[seen]))
        before = until
    cell, pixel, weight = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return cell.astype(np.int32), pixel.astype(np.int32), weight.astype(np.float32)


def _sorted_corners(lattice: np.ndarray) -> list[np.ndarray]:
    """Where the four corners of each pixel are cast, in order; cell k reaches from k to k + 1."""
    cast = lattice + 0.5
    a, b, c, d = cast[:-1, :-1], cast[1:, 1:], cast[:-1, 1:], cast[1:, :-1]
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    lowest, low = np.minimum(a, c), np.maximum(a, c)
    high, highest = np.minimum(b, d), np.maximum(b, d)
    return [lowest, np.minimum(low, high), np.maximum(low, high), highest]


def _longest_way(geometry: Geometry, view: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Through each pixel along the ray of its centre, in mm."""
    first = geometry.array[view, :2]
    parallel = geometry.beam is Beam.PARALLEL
    right = np.abs(first[0] if parallel else x - first[0])
    up = np.abs(first[1] if parallel else y - first[1])
    down, across = geometry.pixel_size
    way: np.ndarray = np.hypot(right, up) / np.maximum(right / across, up / down)
    return way


def _ramp(end: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The integral to ``end`` of what rises from 0 at ``low`` to 1 at ``high`` and stays there."""
    width = high - low
    beyond = end - low
    within = np.clip(beyond, 0, width)
    # Beyond a ramp without width there is only the plateau: 0 / tiny is 0.
    half = within * within / np.maximum(2 * width, np.finfo(np.float64).tiny)
    ramp: np.ndarray = half + np.maximum(beyond - width, 0)
    return ramp
