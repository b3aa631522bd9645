"""Balls and discs whose line integrals are known exactly, along the rays of any geometry."""

import math

import numpy as np
import torch
from torch import Tensor

from invdiff.operators import Geometry
from invdiff.operators.ct_rays import rays

BALLS = (((9.0, -6.0, 0.0), 16.0, 0.02), ((-18.0, 11.0, 0.0), 5.0, 0.03))
DISC, BEYOND = (
    (9.0, -6.0),
    22.0,
)  # the larger one's middle; farther from it there is nearly nothing


def chords(geometry: Geometry, centre: tuple[float, ...], radius: float) -> np.ndarray:
    """Lengths in mm of every ray within a disc or ball, sinogram_shape."""
    lines = rays(geometry, np.arange(math.prod(geometry.sinogram_shape)))
    away = np.array(centre[: geometry.dimensions]) - lines.origin
    along = (away * lines.direction).sum(axis=1)
    inside = radius**2 - (away**2).sum(axis=1) + along**2
    return (2 * np.sqrt(np.maximum(inside, 0))).reshape(geometry.sinogram_shape)


def scan(geometry: Geometry) -> Tensor:
    """Line integrals (1, 1, *sinogram_shape) of the two balls, or of the discs in z = 0."""
    total = sum(value * chords(geometry, centre, radius) for centre, radius, value in BALLS)
    return torch.from_numpy(np.asarray(total))[None, None]


def grid(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """x (1, columns) and y (rows, 1) of a slice's pixel centres in mm."""
    (rows, columns), (down, right) = geometry.image_shape[-2:], geometry.pixel_size[-2:]
    x = (np.arange(columns) - (columns - 1) / 2) * right
    y = -(np.arange(rows) - (rows - 1) / 2) * down
    return x[None, :], y[:, None]


def errors(geometry: Geometry, image: np.ndarray) -> tuple[float, float, float, float]:
    """Of a slice (rows, columns) in z = 0, relative to 0.02: bias and rms inside, both outside."""
    x, y = grid(geometry)
    first, second = (np.hypot(x - c[0], y - c[1]) for c, _, _ in BALLS)
    inside = image[(first < 12) & (second > 9)] / 0.02 - 1
    outside = image[(first > BEYOND) & (second > 9)] / 0.02
    rms = np.sqrt(np.mean(inside**2)), np.sqrt(np.mean(outside**2))
    return abs(inside.mean()), float(rms[0]), abs(outside.mean()), float(rms[1])
