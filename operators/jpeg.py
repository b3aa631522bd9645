"""JPEG compression as a measurement: the picture that comes out of the file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator
from invdiff.operators.jpeg_codec import (
    compress_plane,
    halve,
    quantisation_tables,
    rounded,
    to_rgb,
    to_ycbcr,
    twice,
)

__all__ = ["JPEG", "Chroma"]


class Chroma(Enum):
    """How finely the colour differences are kept.

    FULL ("4:4:4") keeps every pixel; QUARTER ("4:2:0", Pillow's and most cameras' choice) halves
    them along both axes.
    """

    FULL = "4:4:4"
    QUARTER = "4:2:0"

    def __repr__(self) -> str:
        return f"Chroma.{self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class JPEG(Operator):
    r"""Compresses to JPEG and opens the file again: not linear, and constant almost everywhere.

    The image is rounded to 8 bits, turned into luma and colour differences, transformed in blocks
    of 8 x 8, divided by the steps of the quality and rounded; and the way back, with libjpeg's
    tables and roundings. A grey image has luma only.

    Its derivative is 0 or does not exist, so ``linearize`` gives a declared surrogate: every
    rounding is taken for the identity (clipping is not). That is exact for quantisation averaged
    over one step, :math:`\mathrm{d}/\mathrm{d}c \, \mathrm{E}_u[q \lfloor c / q + u \rceil] = 1`
    with u uniform on [-1/2, 1/2], and so a fair direction while x is uncertain by a step or more.
    It vanishes nowhere inside, so it does not know that a step has already been met.

    Arguments:
        shape: The shape (1 or 3, height, width) of the image, RGB; height and width multiples of
            16 (of 8 for grey images and Chroma.FULL).
        quality: 1 to 100, in libjpeg's sense.
        black: The value of an image that is stored as 0.
        white: The value that is stored as 255; values beyond the two are clipped.
        chroma: How finely colour differences are kept.

    Raises:
        ShapeError: The channels are neither 1 nor 3, or the blocks do not fit the image.
        ValueError: The quality is not from 1 to 100, or white is not above black.

    (ITU-T Recommendation T.81, 1992.)
    """

    shape: tuple[int, int, int]
    quality: int
    black: float
    white: float
    chroma: Chroma = Chroma.QUARTER

    def __post_init__(self) -> None:
        block = self._block
        fits = len(self.shape) == 3 and self.shape[0] in (1, 3)
        if not fits or self.shape[1] % block or self.shape[2] % block or min(self.shape) < 1:
            raise ShapeError(
                f"The shape is {self.shape}, expected (1 or 3, height, width) with multiples of "
                f"{block} pixels. Crop or pad the image."
            )
        if self.quality not in range(1, 101) or not self.black < self.white:
            raise ValueError(
                f"quality is {self.quality}, black {self.black} and white {self.white}; expected "
                "an integer from 1 to 100 and black < white."
            )

    @property
    def _block(self) -> int:
        return 16 if self.shape[0] == 3 and self.chroma is Chroma.QUARTER else 8

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def linear(self) -> bool:
        return False

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        return self.black, self.white

    def _forward(self, x: Tensor) -> Tensor:
        unit = (self.white - self.black) / 255
        levels = rounded(((x.double() - self.black) / unit).clamp(0, 255))
        return (self.black + unit * self._compress(levels)).to(x.dtype)

    def _compress(self, levels: Tensor) -> Tensor:
        luminance, chrominance = quantisation_tables(self.quality)
        if self.shape[0] == 1:
            return compress_plane(levels, luminance)
        planes = to_ycbcr(levels)
        luma, colour = planes[:, :1], planes[:, 1:]
        if self.chroma is Chroma.QUARTER:
            colour = twice(compress_plane(halve(colour), chrominance))
        else:
            colour = compress_plane(colour, chrominance)
        return to_rgb(torch.cat([compress_plane(luma, luminance), colour], 1))
