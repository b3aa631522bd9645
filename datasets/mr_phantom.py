r"""An MR scan of ellipses with several coils, whose k-space is known in closed form.

Coil sensitivities (with the phase of the object in them) are sums of a few plane waves,

.. math:: s_c(r) = \sum_j w_{cj} e^{2 \pi i \nu_j r},

so each coil sees a sum of shifted copies of the phantom's own Fourier transform, which is one of
Bessel functions. No image on a grid is ever made: no inverse crime, and the true Gibbs ringing.

Reference:
    | Realistic analytical phantoms for parallel magnetic resonance imaging
    | (Guerquin-Kern et al., 2012), https://doi.org/10.1109/TMI.2011.2174158
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from invdiff.datasets.ellipses import Ellipse, spectrum

__all__ = ["Tissue", "WaveMaps", "analytic_kspace", "band_limited", "mr_head", "wave_maps"]

WAVES = 2  # from -2 to 2 along each axis
PERIOD = 2.0  # of the slowest wave, in fields of view


@dataclass(frozen=True)
class Tissue:
    """Proton density, and relaxation times in seconds."""

    density: float
    t1: float
    t2: float

    def signal(self, repetition: float, echo: float) -> float:
        """Of a spin echo with these times in seconds, density (1 - exp(-TR/T1)) exp(-TE/T2)."""
        recovered = 1 - math.exp(-repetition / self.t1)
        return self.density * recovered * math.exp(-echo / self.t2)


# Typical numbers at 1.5 T.
FAT, MARROW = Tissue(1.0, 0.26, 0.08), Tissue(0.12, 0.3, 0.05)
FLUID, GREY, WHITE = Tissue(1.0, 4.2, 2.0), Tissue(0.8, 0.95, 0.1), Tissue(0.7, 0.6, 0.08)
LESION = Tissue(0.85, 1.2, 0.2)


def mr_head(
    repetition: float = 0.6, echo: float = 0.015, width: float = 240.0
) -> tuple[Ellipse, ...]:
    """A head of 16 ellipses: scalp, skull, fluid, grey and white matter, ventricles, lesions.

    Arguments:
        repetition, echo: TR and TE in seconds; the defaults weigh T1, 4 and 0.1 would weigh T2.
        width: The field of view in mm that the head fits.
    """
    # The tissue, what it lies in, x, y, half axes (mm of 240), turn.
    parts: list[tuple[Tissue, Tissue | None, float, float, float, float, float]] = [
        *((FAT, None, 0, 0, 80, 104, 0), (MARROW, FAT, 0, 0, 75, 99, 0)),
        *((FLUID, MARROW, 0, 0, 69, 92, 0), (GREY, FLUID, 0, 0, 66, 89, 0)),
        *((LESION, WHITE, 44, 32, 4, 3, 0), (LESION, WHITE, -40, 40, 2.5, 4, 0)),
        *((LESION, WHITE, 40, -36, 6, 5, 0), (LESION, GREY, 0, -70, 2.5, 2.5, 0)),
    ]
    for side in (-1, 1):
        parts += [
            (WHITE, GREY, 31 * side, 4, 26, 66, 0.06 * side),
            (FLUID, WHITE, 17 * side, 18, 6, 24, -0.25 * side),
            (FLUID, WHITE, 20 * side, -26, 5, 15, 0.45 * side),
            (GREY, WHITE, 35 * side, 2, 7, 13, 0.3 * side),
        ]
    u = width / 240
    ellipses = []
    for tissue, around, x, y, a, b, turn in parts:
        below = 0.0 if around is None else around.signal(repetition, echo)
        value = tissue.signal(repetition, echo) - below
        ellipses.append(Ellipse(value, (u * x, u * y), (u * a, u * b), turn))
    return tuple(ellipses)


@dataclass(frozen=True, eq=False)
class WaveMaps:
    """Sensitivities as plane waves.

    Arguments:
        weights: Complex (coils, waves).
        frequencies: (waves, 2): along x and y, in cycles per mm.
    """

    weights: np.ndarray = field(repr=False)
    frequencies: np.ndarray = field(repr=False)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The sensitivities at points in mm, complex128 (coils, *points)."""
        phase = np.multiply.outer(self.frequencies[:, 0], x + 0 * y)
        phase += np.multiply.outer(self.frequencies[:, 1], y + 0 * x)
        return np.tensordot(self.weights, np.exp(2j * math.pi * phase), 1)


def wave_maps(coils: int, width: float, seed: int, radius: float = 1.5) -> WaveMaps:
    """Coils on a circle of ``radius`` half fields of view around the object, with smooth phases.

    Waves of periods down to the field of view are fitted by least squares to coils whose magnitude
    falls off as one over the distance; a seed turns the circle and adds a random phase to each.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    n = np.arange(-WAVES, WAVES + 1)
    frequencies = np.stack(np.meshgrid(n, n), -1).reshape(-1, 2) / (PERIOD * width)
    axis = np.linspace(-width / 2, width / 2, 24)
    x, y = (points.ravel() for points in np.meshgrid(axis, axis))
    waves = np.exp(
        2j * math.pi * (np.outer(x, frequencies[:, 0]) + np.outer(y, frequencies[:, 1]))
    )
    angles = 2 * math.pi * np.arange(coils) / coils + generator.uniform(0, 2 * math.pi)
    turns = generator.uniform(0, 2 * math.pi, coils)
    weights = []
    for angle, turn in zip(angles, turns, strict=True):
        dx, dy = x - radius * width / 2 * math.cos(angle), y - radius * width / 2 * math.sin(angle)
        wanted = np.exp(1j * (np.arctan2(dy, dx) - angle + turn)) / np.hypot(dx, dy)
        weights.append(np.linalg.lstsq(waves, wanted, rcond=1e-6)[0])
    fitted = np.array(weights)
    total = np.abs(fitted @ waves.T) ** 2
    return WaveMaps(fitted / math.sqrt(total.sum(0).mean()), frequencies)


def analytic_kspace(
    ellipses: Sequence[Ellipse], maps: WaveMaps, shape: tuple[int, int], pixel_size: float
) -> np.ndarray:
    r"""Noise-free k-space, complex128 (coils, rows, columns), as the orthonormal transform has it.

    .. math:: y_{ck} = \frac{1}{\sqrt{n m}\, p^2} \sum_j w_{cj} \hat f(k - \nu_j)

    with p ``pixel_size`` in mm and frequency zero at index n // 2. The origin of the phantom is
    the pixel (rows // 2, columns // 2), and row 0 has the largest y. Its inverse transform
    is the phantom times the map, averaged by the point spread function of the scan.
    """
    ky, kx = _frequencies(shape, pixel_size)
    waves = np.stack([spectrum(ellipses, kx - u, ky - v) for u, v in maps.frequencies])
    return np.tensordot(maps.weights, waves, 1) / (math.sqrt(math.prod(shape)) * pixel_size**2)


def band_limited(
    ellipses: Sequence[Ellipse], shape: tuple[int, int], pixel_size: float
) -> np.ndarray:
    """k-space of the phantom alone (rows, columns): the truth of a scan without coil maps."""
    ky, kx = _frequencies(shape, pixel_size)
    return spectrum(ellipses, kx, ky) / (math.sqrt(math.prod(shape)) * pixel_size**2)


def _frequencies(shape: tuple[int, int], pixel_size: float) -> tuple[np.ndarray, np.ndarray]:
    """In cycles per mm; rows run against y."""
    rows, columns = ((np.arange(n) - n // 2) / (n * pixel_size) for n in shape)
    return -rows[:, None], columns[None, :]
