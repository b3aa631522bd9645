"""Phantoms of ellipses, whose line integrals and Fourier transforms are known in closed form.

x points right and y up, in mm, with the origin in the centre; values of overlapping ellipses add.

References:
    | The Fourier reconstruction of a head section (Shepp and Logan, 1974)
    | https://doi.org/10.1109/TNS.1974.6499235
    | Principles of Computerized Tomographic Imaging (Kak and Slaney, 1988), section 3.1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from invdiff.operators.ct_geometry import Beam, Geometry

__all__ = ["Ellipse", "line_integrals", "random_ellipses", "rasterise", "shepp_logan", "spectrum"]


@dataclass(frozen=True)
class Ellipse:
    """A constant value inside of an ellipse.

    Arguments:
        value: What it adds to what is below.
        centre: (x, y) in mm.
        axes: The half axes in mm.
        turn: The angle of the first axis against x, counter-clockwise, in radians.

    Raises:
        ValueError: If a half axis is not positive.
    """

    value: float
    centre: tuple[float, float]
    axes: tuple[float, float]
    turn: float = 0.0

    def __post_init__(self) -> None:
        if not min(self.axes) > 0:
            raise ValueError(f"The half axes are {self.axes}, expected positive lengths in mm.")

    def radius(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The distance from the centre in units of the ellipse: 1 on its edge."""
        u, v = self.unit(x - self.centre[0], y - self.centre[1])
        distance: np.ndarray = np.hypot(u, v)
        return distance

    def unit(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vectors in the frame in which the ellipse is the unit circle."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        return (c * x + s * y) / self.axes[0], (c * y - s * x) / self.axes[1]


def shepp_logan(width: float = 200.0, contrast: str = "high") -> tuple[Ellipse, ...]:
    """The ten ellipses of Shepp and Logan in a square of ``width`` mm.

    ``contrast`` "original" gives the values of 1974 (2 for the skull, 0.02 within), "high" those
    of Toft (1996; 1 and 0.1 to 0.3) that are easier to see. Raises KeyError for others.
    """
    values = {
        "original": (2.0, -0.98, -0.02, -0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01),
        "high": (1.0, -0.8, -0.2, -0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
    }[contrast]
    shapes = [
        *((0, 0, 0.69, 0.92, 0), (0, -0.0184, 0.6624, 0.874, 0), (0.22, 0, 0.11, 0.31, -18)),
        *((-0.22, 0, 0.16, 0.41, 18), (0, 0.35, 0.21, 0.25, 0), (0, 0.1, 0.046, 0.046, 0)),
        *((0, -0.1, 0.046, 0.046, 0), (-0.08, -0.605, 0.046, 0.023, 0)),
        *((0, -0.605, 0.023, 0.023, 0), (0.06, -0.605, 0.023, 0.046, 0)),
    ]
    half = width / 2
    return tuple(
        Ellipse(value, (half * x, half * y), (half * a, half * b), math.radians(turn))
        for value, (x, y, a, b, turn) in zip(values, shapes, strict=True)
    )


def random_ellipses(seed: int, count: int = 12, width: float = 200.0) -> tuple[Ellipse, ...]:
    """A body of value 1 and ``count`` ellipses of values -0.3 to 0.3 within, from a seed."""
    generator = np.random.Generator(np.random.Philox(seed))
    body = Ellipse(1.0, (0.0, 0.0), (0.36 * width, 0.45 * width), generator.uniform(-0.2, 0.2))
    inner = []
    for _ in range(count):
        along, away = generator.uniform(0, 2 * math.pi), 0.28 * width * generator.random() ** 0.5
        a, b = width * generator.uniform(0.01, 0.07, 2)
        centre = (away * math.cos(along), away * math.sin(along))
        value, turn = generator.uniform(-0.3, 0.3), generator.uniform(0, math.pi)
        inner.append(Ellipse(value, centre, (float(a), float(b)), turn))
    return (body, *inner)


def rasterise(
    ellipses: Sequence[Ellipse],
    shape: tuple[int, int],
    pixel_size: float,
    finer: int = 8,
    centre: tuple[float, float] | None = None,
) -> np.ndarray:
    """The mean over every pixel, from ``finer`` x ``finer`` points in it; float64 (rows, columns).

    Row 0 has the largest y. The origin lies in the middle of the image, or at the pixel (row,
    column) ``centre``; that of MRI is (rows // 2, columns // 2).
    """
    rows, columns = shape
    row, column = ((rows - 1) / 2, (columns - 1) / 2) if centre is None else centre
    offsets = (np.arange(finer) + 0.5) / finer - 0.5
    image = np.zeros(shape)
    for down in offsets:
        y = (row - np.arange(rows) - down)[:, None] * pixel_size
        for right in offsets:
            x = (np.arange(columns) + right - column)[None, :] * pixel_size
            for ellipse in ellipses:
                image += ellipse.value * (ellipse.radius(x, y) <= 1)
    return image / finer**2


def line_integrals(ellipses: Sequence[Ellipse], geometry: Geometry) -> np.ndarray:
    r"""Exact integrals along the rays of a 2-D scan, through the centres of the cells.

    In the frame of an ellipse a ray is :math:`p + t d`, and with :math:`q = p \times d / |d|` its
    distance from the centre the chord has the length :math:`2 \sqrt{1 - q^2} / |d|`. Gives float64
    (views, cells). Raises ValueError for volumes and for arcs of cells.
    """
    if geometry.dimensions != 2 or geometry.arc:
        raise ValueError("Line integrals are computed for images and straight detectors only.")
    parts = geometry.array.reshape(-1, 3, 2)
    steps = np.arange(geometry.detectors[0]) - (geometry.detectors[0] - 1) / 2
    cells = parts[:, None, 1] + steps[:, None] * parts[:, None, 2]
    along = parts[:, None, 0] + 0 * cells
    if geometry.beam is Beam.DIVERGENT:
        along = cells - along
    along /= np.linalg.norm(along, axis=2, keepdims=True)
    total = np.zeros(cells.shape[:2])
    for ellipse in ellipses:
        px, py = ellipse.unit(cells[..., 0] - ellipse.centre[0], cells[..., 1] - ellipse.centre[1])
        dx, dy = ellipse.unit(along[..., 0], along[..., 1])
        length = np.hypot(dx, dy)
        distance = (px * dy - py * dx) / length
        total += ellipse.value * 2 * np.sqrt(np.maximum(1 - distance**2, 0)) / length
    return total


def spectrum(ellipses: Sequence[Ellipse], kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    r"""The Fourier transform at the frequencies (kx, ky) in cycles per mm.

    .. math:: \hat f(k) = \int f(r) e^{-2 \pi i k r} \,\mathrm{d}r
              = \sum v\, a b\, \frac{J_1(2 \pi \kappa)}{\kappa} e^{-2 \pi i k c}, \quad
              \kappa = |(a k_u, b k_v)|

    with k in the frame of each ellipse. Complex128, shape of kx and ky together, in mm^2.
    """
    from scipy.special import j1

    total = np.zeros(np.broadcast_shapes(kx.shape, ky.shape), np.complex128)
    for ellipse in ellipses:
        a, b = ellipse.axes
        c, s = math.cos(ellipse.turn), math.sin(ellipse.turn)
        kappa = np.hypot(a * (c * kx + s * ky), b * (c * ky - s * kx))
        # J1(2 pi k) / k tends to pi; the series is exact where the quotient would not be.
        small = kappa < 1e-8
        shape = np.where(small, math.pi, j1(2 * math.pi * kappa) / np.where(small, 1, kappa))
        shift = np.exp(-2j * math.pi * (kx * ellipse.centre[0] + ky * ellipse.centre[1]))
        total += ellipse.value * a * b * shape * shift
    return total
