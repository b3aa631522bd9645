"""What an ideal scanner sees of an image: on a grid twice as fine, with a smooth phase."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from invdiff.operators.fourier import fft2c, ifft2c

__all__ = ["central_kspace", "complex_scene"]


def complex_scene(
    magnitude: np.ndarray, phase: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A magnitude image (rows, columns) on a grid twice as fine, and on its own.

    The image is interpolated linearly and given a smooth random phase of ``phase`` radians
    (standard deviation). Returns complex128 (1, 1, 2 rows, 2 columns), and the image of the
    centre of its k-space, (1, 1, rows, columns): band-limited, as any scan is.

    Raises ValueError if the image is not a finite real array (rows, columns).
    """
    image = np.asarray(magnitude)
    if image.ndim != 2 or image.dtype.kind not in "fiu" or not np.isfinite(image).all():
        raise ValueError(
            f"The image has shape {image.shape} and dtype {image.dtype}; expected a finite real "
            "array (rows, columns)."
        )
    pixels = torch.from_numpy(image.astype(np.float32))[None, None]
    fine = interpolate(pixels, scale_factor=2, mode="bilinear", align_corners=False).double()
    scene = torch.polar(fine, phase * _smooth_field(fine.shape[2], fine.shape[3], generator))
    return scene, ifft2c(central_kspace(scene))


def central_kspace(images: Tensor) -> Tensor:
    """The inner half of the k-space of images (..., 2 rows, 2 columns); values stay theirs."""
    kspace = fft2c(images)
    rows, columns = kspace.shape[-2] // 2, kspace.shape[-1] // 2
    top, left = rows - rows // 2, columns - columns // 2
    return kspace[..., top : top + rows, left : left + columns] / 2


def _smooth_field(rows: int, columns: int, generator: np.random.Generator) -> Tensor:
    """Waves of up to two periods per image with random amplitudes, standard deviation one."""
    y = np.arange(rows)[:, None] / rows
    x = np.arange(columns)[None, :] / columns
    field = np.zeros((rows, columns))
    for down in range(3):
        for right in range(3):
            amplitude, shift = generator.standard_normal(), generator.uniform(0, 2 * math.pi)
            wave = np.cos(math.pi * (down * y + right * x) + shift)
            field += amplitude / (1 + down**2 + right**2) * wave
    field -= field.mean()
    return torch.from_numpy(field / field.std())
