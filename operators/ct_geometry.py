"""The geometry of a parallel-beam scan, in millimetres and radians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from invdiff.errors import ShapeError

__all__ = ["ParallelBeamGeometry", "Projection"]


class Projection(Enum):
    """How a ray meets the pixels.

    LINEAR (Joseph, 1982) interpolates along a thin ray: the better one to reconstruct with.
    STRIP integrates over the width of a detector: the better one to simulate with.
    """

    LINEAR = "linear"
    STRIP = "strip"

    def __repr__(self) -> str:
        return f"Projection.{self.name}"


@dataclass(frozen=True)
class ParallelBeamGeometry:
    r"""Where rays and pixels are.

    Pixel centres are symmetric about the origin; x points right along the columns, y points up,
    so row 0 has the largest y. The ray of a detector at u under the angle theta is
    :math:`x \cos\theta + y \sin\theta = u`; angles run counter-clockwise, and detectors are
    centred on u = 0 in the order of growing u.

    Arguments:
        image_shape: Rows and columns of the image.
        angles: The angle of every view in radians.
        pixel_size: The side of a (square) pixel in mm.
        detectors: The number of detectors.
        detector_spacing: The distance between detector centres in mm.
        kernel: How a ray meets the pixels.

    Raises:
        ShapeError: If there are no pixels, views or detectors.
        ValueError: If a length is not positive or a number is not finite.
    """

    image_shape: tuple[int, int]
    angles: tuple[float, ...]
    pixel_size: float
    detectors: int
    detector_spacing: float
    kernel: Projection

    def __post_init__(self) -> None:
        if len(self.image_shape) != 2 or min(*self.image_shape, self.detectors) < 1:
            raise ShapeError(
                f"image_shape is {self.image_shape} with {self.detectors} detectors; expected "
                "(rows, columns) and a detector count, all at least 1."
            )
        if not self.angles or not all(math.isfinite(angle) for angle in self.angles):
            raise ValueError(
                f"There are {len(self.angles)} angles, or some are not finite. "
                "Give at least one finite angle in radians."
            )
        for name in ("pixel_size", "detector_spacing"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(
                    f"{name} is {value!r}, but must be one positive length in mm. Pixels must be "
                    "square: resample an image with two different spacings first."
                )

    @property
    def matrix_bytes(self) -> int:
        """About (and at most a few % below) how much memory the pair of matrices takes."""
        rows, columns = self.image_shape
        rays = self.pixel_size / self.detector_spacing  # per pixel width
        if self.kernel is Projection.LINEAR:
            # A ray crosses every line of the image once, and meets two pixels of each.
            lines = sum(max(abs(math.cos(a)), abs(math.sin(a))) for a in self.angles)
            entries = 2 * rows * columns * rays * lines
        else:
            # A pixel's shadow is 4 / pi pixels wide on average, and its ends lie within strips.
            entries = rows * columns * len(self.angles) * (4 / math.pi * rays + 1)
        return round(16 * entries)

    def diagonal(self) -> float:
        """The diagonal of the image in mm: detectors that cover it see every pixel."""
        return math.hypot(*self.image_shape) * self.pixel_size
