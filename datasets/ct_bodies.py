"""CT phantoms in Hounsfield units: single slices of a head or a trunk, and volumes of ellipsoids.

Slices are those of ``ct_phantoms`` with a declared body and seed. A volume is painted from soft
ellipsoids in millimetres, so that neighbouring slices belong together: a stack for simulated
series. None of this is a person, or an anatomical atlas.
"""

from __future__ import annotations

import math

import numpy as np

from invdiff.datasets.ct_painter import CTVolume, Painter, noisy
from invdiff.datasets.ct_phantoms import Canvas, head, torso

__all__ = ["head_slice", "head_volume", "torso_slice", "torso_volume"]


def head_slice(seed: int, size: int = 256, width: float = 240.0, noise: float = 5.0) -> np.ndarray:
    """A random head from above, float32 HU (size, size), in a field of ``width`` mm.

    ``noise`` is the standard deviation in HU of noise with the spectrum of filtered
    backprojection; the same arguments give the same slice.
    """
    rng = np.random.default_rng((seed, 1))
    canvas = Canvas(rng, size, width / size, (0.0, 0.0), float(rng.uniform(0.5, 1.2)), 1.5)
    head(canvas, float(rng.uniform(66, 82)), float(rng.uniform(84, 104)))
    return noisy(canvas.hu, rng, noise)


def torso_slice(
    seed: int, size: int = 256, width: float = 420.0, chest: bool = True, noise: float = 8.0
) -> np.ndarray:
    """A random chest or abdomen from below, as ``head_slice``."""
    rng = np.random.default_rng((seed, 2))
    a = float(rng.uniform(140, 190))
    canvas = Canvas(rng, size, width / size, (0.0, 0.0), float(rng.uniform(0.5, 1.2)), 3.0)
    torso(canvas, a, a * float(rng.uniform(0.6, 0.75)), chest)
    return noisy(canvas.hu, rng, noise)


def head_volume(
    seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float], noise: float = 5.0
) -> CTVolume:
    """A head of ellipsoids: skin, skull, face, neck, brain, ventricles, eyes, sinuses, spine.

    Arguments:
        seed: Sizes, places and noise follow from it.
        shape: (slices, rows, columns).
        spacing: Of them, in mm; 200 x 240 x 200 mm show all.
        noise: Standard deviation in HU, independent in each slice.

    Raises:
        ShapeError: If shape or spacing are not three positive numbers.
    """
    painter = Painter(seed, shape, spacing)
    u = painter.uniform
    a, b, c = u(70, 80), u(88, 100), u(95, 105)
    painter.paint(u(30, 60), (0, 20, -130), (58, 62, 110))  # the neck, and the face below
    painter.paint(u(30, 60), (0, -20, -60), (62, b - 18, 62))
    painter.paint(u(20, 60), (0, 0, 0), (a, b, c))
    painter.paint(u(-90, -50), (0, 0, 0), (a - 2, b - 2, c - 2))
    painter.paint(u(900, 1400), (0, 0, 0), (a - 6, b - 6, c - 6))
    thick = u(5, 8)
    inner = (a - 6 - thick, b - 6 - thick, c - 6 - thick)
    painter.paint(u(8, 15), (0, 0, 0), inner)
    painter.paint(u(34, 40), (0, 0, 0), tuple(r - 3 for r in inner))
    for side in (-1, 1):
        painter.paint(u(24, 30), (30 * side, 5, 15), (25, 52, 34))
        painter.paint(u(4, 12), (u(10, 15) * side, u(0, 10), 15), (u(4, 7), 26, 10))
        painter.paint(u(900, 1200), (32 * side, -b + 24, -35), (20, 22, 19))
        painter.paint(u(-90, -60), (32 * side, -b + 22, -35), (17, 20, 16))
        painter.paint(u(10, 25), (32 * side, -b + 16, -35), (12, 12, 12))
        painter.paint(-950, (18 * side, -b + 26, -62), (12, 15, 14))
        painter.paint(u(600, 1100), (44 * side, 22, -50), (15, 20, 13))
    for _ in range(3):
        place = (u(-35, 35), u(-45, 45), u(0, 45))
        painter.paint(u(50, 75), place, (u(2, 7), u(2, 7), u(2, 7)))
    _spine(painter, (0, 30), (-math.inf, -60), 12)
    return painter.finished(noise)


def torso_volume(
    seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float], noise: float = 8.0
) -> CTVolume:
    """A trunk: fat, muscle, lungs with vessels, heart, aorta, liver, kidneys, spine and ribs.

    Arguments and errors are those of ``head_volume``; 400 x 280 x 400 mm show all.
    """
    painter = Painter(seed, shape, spacing)
    u = painter.uniform
    a, b = u(150, 180), u(100, 120)
    tall = math.inf
    painter.paint(u(-110, -90), (0, 0, 0), (a, b, tall))
    fat = u(8, 25)
    painter.paint(u(45, 60), (0, 0, 0), (a - fat, b - fat, tall))
    painter.paint(u(-105, -90), (0, -8, -120), (a - fat - 14, b - fat - 14, 110))
    for side in (-1, 1):
        painter.paint(u(-880, -800), (75 * side, 0, 80), (u(52, 60), u(65, 75), u(115, 130)))
        for _ in range(25):
            place = (75 * side + u(-35, 35), u(-45, 45), 80 + u(-80, 80))
            painter.paint(u(20, 50), place, (u(1, 4), u(1, 4), u(3, 12)))
        painter.paint(u(30, 45), (62 * side, 35, -110), (u(22, 28), u(18, 24), u(45, 55)))
    painter.paint(u(40, 60), (22, -25, 40), (48, 40, 55))
    painter.paint(u(50, 65), (-60, -10, -60), (u(70, 85), u(60, 70), u(60, 75)))
    painter.paint(u(40, 55), (15, 38, 0), (12, 12, tall))
    for height in np.arange(-180, 200, 30.0):
        for side in (-1, 1):
            place = ((a - fat - 6) * 0.9 * side, u(-20, 20), height + u(-3, 3))
            painter.paint(u(500, 900), place, (6, u(40, 55), 5))
    _spine(painter, (0, 60), (-math.inf, math.inf), 20)
    return painter.finished(noise)


def _spine(
    painter: Painter, place: tuple[float, float], between: tuple[float, float], radius: float
) -> None:
    """Vertebral bodies with discs between them, and a canal behind."""
    x, y = place
    step, top = 1.6 * radius, painter.z.max() + 50
    for height in np.arange(-top, top, step):
        if between[0] <= height <= between[1]:
            painter.paint(700, (x, y, height), (radius, 0.8 * radius, 0.42 * step))
            inner = (radius - 2, 0.8 * radius - 2, 0.42 * step - 2)
            painter.paint(220, (x, y, height), inner)
            painter.paint(800, (x, y + 1.3 * radius, height), (0.75 * radius, 0.6 * radius, 8))
            painter.paint(25, (x, y + 1.2 * radius, height), (0.45 * radius, 0.4 * radius, 8.5))
