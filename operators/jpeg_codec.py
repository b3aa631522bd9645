"""What JPEG does to an image, step by step, with the roundings of libjpeg's defaults.

Arrays hold 8-bit levels, 0 to 255, in float64, which holds libjpeg's integers (its constants have
13 or 16 binary places) exactly. Every rounding passes gradients on as if it were not there.

References:
    | ITU-T Recommendation T.81 (1992): the transform and the tables of Annex K
    | https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    | JPEG File Interchange Format (1992): the colours
    | Practical fast 1-D DCT algorithms with 11 multiplications (Loeffler and others, 1989)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "compress_plane",
    "halve",
    "quantisation_tables",
    "rounded",
    "to_rgb",
    "to_ycbcr",
    "twice",
]

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
_ROTATIONS = (
    *(0.541196100, 0.765366865, 1.847759065, 1.175875602, 0.899976223, 2.562915447),
    *(1.961570560, 0.390180644, 0.298631336, 2.053119869, 3.072711026, 1.501321110),
)
_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.16874, -0.33126, 0.5], [0.5, -0.41869, -0.08131]])
_FROM_DIFFERENCES = np.array([[0, 1.402], [-0.34414, -0.71414], [1.772, 0]])


class _Replaced(torch.autograd.Function):
    """The value of ``exact`` with the derivative of ``smooth``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(smooth: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None

    @staticmethod
    def jvp(ctx: Any, smooth: Tensor, exact: Tensor | None) -> Tensor:
        return smooth.clone()


def rounded(smooth: Tensor, offset: float | Tensor = 0.5) -> Tensor:
    """floor(smooth + offset), with the derivative of ``smooth``."""
    value: Tensor = _Replaced.apply(smooth, torch.floor(smooth.detach() + offset))
    return value


def quantisation_tables(quality: int) -> np.ndarray:
    """The steps of both tables, (2, 8, 8): Annex K scaled to a quality of 1 ... 100 (libjpeg)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = (np.array([_LUMINANCE, _CHROMINANCE]) * scale + 50) // 100
    clipped: np.ndarray = np.clip(tables, 1, 255)
    return clipped


def to_ycbcr(rgb: Tensor) -> Tensor:
    """Luma and the two colour differences, ITU-R BT.601 over the full range, (b, 3, ...)."""
    luma, blue, red = _mixed(_TO_YCBCR, rgb).unbind(1)
    below = 0.5 - 2**-16  # ties go down here
    return torch.stack([rounded(luma), rounded(blue + 128, below), rounded(red + 128, below)], 1)


def to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of ``to_ycbcr`` up to rounding, clipped to 0 ... 255."""
    difference = ycbcr[:, 1:] - 128
    return (ycbcr[:, :1] + rounded(_mixed(_FROM_DIFFERENCES, difference))).clamp(0, 255)


def _mixed(matrix: np.ndarray, planes: Tensor) -> Tensor:
    weights = torch.from_numpy(np.round(matrix * 2**16) / 2**16).to(planes)
    return torch.einsum("ij,bjhw->bihw", weights, planes)


def halve(plane: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; ties go down and up in turn, so that they favour neither."""
    rows, columns = plane.shape[-2:]
    blocks = plane.reshape(*plane.shape[:-2], rows // 2, 2, columns // 2, 2)
    up = (torch.arange(columns // 2, device=plane.device) % 2).to(plane)
    return rounded(blocks.mean((-3, -1)), 0.25 + 0.25 * up)


def twice(plane: Tensor) -> Tensor:
    """Twice as many pixels along both axes, interpolated between the nearest 2 x 2.

    Weights 9, 3, 3 and 1 sixteenths ("fancy upsampling"); the edge is repeated beyond the border.
    """
    above, below = _neighbours(plane, -2)
    rows = torch.stack([3 * plane + above, 3 * plane + below], -2).flatten(-3, -2)
    before, after = _neighbours(rows, -1)
    left = rounded((3 * rows + before) / 16, 8 / 16)
    right = rounded((3 * rows + after) / 16, 7 / 16)
    return torch.stack([left, right], -1).flatten(-2)


def _neighbours(plane: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The plane moved by one pixel either way, its edge repeated."""
    size = plane.shape[axis]
    first, last = plane.narrow(axis, 0, 1), plane.narrow(axis, size - 1, 1)
    before = torch.cat([first, plane.narrow(axis, 0, size - 1)], axis)
    after = torch.cat([plane.narrow(axis, 1, size - 1), last], axis)
    return before, after


def compress_plane(plane: Tensor, table: np.ndarray) -> Tensor:
    """Cosine transform of 8 x 8 blocks, quantised with the steps ``table``, and back."""
    cosine, step = torch.from_numpy(_cosine()).to(plane), torch.from_numpy(table).to(plane)
    rows, columns = plane.shape[-2:]
    blocks = plane.reshape(*plane.shape[:-2], rows // 8, 8, columns // 8, 8).transpose(-3, -2)
    # Scaled by sqrt(8) per axis, and by 4 in between: libjpeg rounds after either axis.
    across = rounded(4 * (blocks - 128) @ cosine.T)
    eighths = rounded(across.mT @ cosine.T / 4).mT
    count = torch.floor((eighths.abs() + 4 * step) / (8 * step))  # ties away from zero
    coefficients: Tensor = _Replaced.apply(eighths / 8, (eighths.sign() * count * step).detach())
    across = rounded(4 * coefficients.mT @ cosine).mT
    back = rounded(across @ cosine / 32) + 128
    return back.clamp(0, 255).transpose(-3, -2).reshape(plane.shape)


def _cosine() -> np.ndarray:
    r"""The cosine transform of 8 numbers times :math:`\sqrt 8`, of constants with 13 places."""
    c = np.round(np.array(_ROTATIONS) * 2**13) / 2**13
    even = np.array([[1, 1, 1, 1], [0] * 4, [1, -1, -1, 1], [0] * 4], dtype=np.float64)
    even[1] = [c[0] + c[1], c[0], -c[0], -c[0] - c[1]]
    even[3] = [c[0], c[0] - c[2], c[2] - c[0], -c[0]]
    odd = c[3] + np.diag(c[8:])  # rows: frequencies 7, 5, 3, 1; columns: differences 3, 2, 1, 0
    for pairs, constant in (((0, 3), c[4]), ((1, 2), c[5]), ((0, 2), c[6]), ((1, 3), c[7])):
        odd[np.ix_(pairs, pairs)] -= constant
    matrix = np.zeros((8, 8))
    matrix[0::2] = np.concatenate([even, even[:, ::-1]], 1)
    odd = odd[::-1, ::-1]
    matrix[1::2] = np.concatenate([odd, -odd[:, ::-1]], 1)
    return matrix
