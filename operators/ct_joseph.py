r"""Line integrals of an interpolated image as a sparse matrix, for any rays.

A ray is sampled where it meets the grid lines that it crosses most often: those along one axis,
in 2-D, are the rows or the columns of pixel centres. At each of them the image is interpolated
linearly along the line (bilinearly within the plane, in 3-D), and the sum is multiplied by the
length of the ray from one line to the next. Pixels may have different sizes along each axis.

Reference:
    An improved algorithm for reprojecting rays through pixel images (Joseph, 1982)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_rays import Rays, rays

__all__ = ["joseph_blocks", "joseph_entries"]

CROSSINGS = 2**19  # computed at once: what stays in a processor's cache is fastest
SAMPLE = 2**11  # rays that the number of entries is estimated from


def joseph_blocks(geometry: Geometry) -> Iterator[sparse.csr_matrix]:
    """The matrix (entries of the sinogram, pixels) in mm, a block of rows at a time.

    float32 and int32, indices sorted.
    """
    rays = math.prod(geometry.sinogram_shape)
    block = max(1, CROSSINGS // max(geometry.image_shape))
    for first in range(0, rays, block):
        yield _rows(geometry, np.arange(first, min(first + block, rays)))


def joseph_entries(geometry: Geometry) -> int:
    """About how many entries the matrix has, from a part of its rays."""
    total = math.prod(geometry.sinogram_shape)
    index = np.unique(np.linspace(0, total - 1, min(total, SAMPLE)).astype(np.int64))
    block = max(1, CROSSINGS // max(geometry.image_shape))
    counted = sum(
        len(pixel)
        for first in range(0, len(index), block)
        for _, pixel, _ in _entries(geometry, index[first : first + block])
    )
    return math.ceil(counted * (total / len(index)))


def _rows(geometry: Geometry, index: np.ndarray) -> sparse.csr_matrix:
    ray, pixel, weight = (
        np.concatenate(arrays) for arrays in zip(*_entries(geometry, index), strict=True)
    )
    shape = len(index), math.prod(geometry.image_shape)
    matrix = sparse.csr_matrix((weight, (ray, pixel)), shape=shape, dtype=np.float32)
    matrix.sort_indices()
    return matrix


def _entries(
    geometry: Geometry, index: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(position in ``index``, pixel, weight) of the entries, in a few arrays."""
    lines = _in_pixels(geometry, rays(geometry, index))
    main = np.abs(lines.direction).argmax(axis=1)  # the axis along which most lines are crossed
    for axis in range(geometry.dimensions):
        (chosen,) = np.nonzero(main == axis)
        crossing = Rays(lines.origin[chosen], lines.direction[chosen])
        for ray, pixel, weight in _crossings(geometry, crossing, axis):
            yield chosen[ray].astype(np.int32), pixel, weight


def _in_pixels(geometry: Geometry, lines: Rays) -> Rays:
    """Positions along the image's axes (pixel centres are whole), directions in pixels per mm."""
    size = np.array(geometry.pixel_size)
    signs = np.ones(geometry.dimensions)
    signs[-2] = -1  # rows count downwards, y upwards
    scale = signs / size
    middle = (np.array(geometry.image_shape) - 1) / 2
    return Rays(lines.origin[:, ::-1] * scale + middle, lines.direction[:, ::-1] * scale)


def _crossings(
    geometry: Geometry, lines: Rays, axis: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(ray, pixel, weight) where the rays cross the grid lines of one axis."""
    shape = geometry.image_shape
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    others = [k for k in range(len(shape)) if k != axis]
    grid = np.arange(shape[axis])
    length = 1 / np.abs(lines.direction[:, axis])
    time = (grid - lines.origin[:, axis, None]) / lines.direction[:, axis, None]
    at = [lines.origin[:, k, None] + time * lines.direction[:, k, None] for k in others]
    met = np.logical_and.reduce([(-1 < at[j]) & (at[j] < shape[k]) for j, k in enumerate(others)])
    if geometry.beam is Beam.DIVERGENT:
        met &= time > 0
    ray, line = np.nonzero(met)
    places = [position[met] for position in at]
    below = [np.floor(place).astype(np.int32) for place in places]
    above = [place - low for place, low in zip(places, below, strict=True)]
    length = length[ray]
    for corner in itertools.product((0, 1), repeat=len(others)):
        pixel, weight = line * strides[axis], length
        inside = np.ones(len(ray), dtype=bool)
        for side, low, share, k in zip(corner, below, above, others, strict=True):
            place = low + side
            weight = weight * (share if side else 1 - share)
            pixel = pixel + place * strides[k]
            inside &= (place >= 0) & (place < shape[k])
        inside &= weight > 0
        yield ray[inside], pixel[inside].astype(np.int32), weight[inside].astype(np.float32)
