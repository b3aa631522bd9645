"""Random complex crops of magnetic resonance images: contrast, shading and phase are random too.

A magnitude image is known for few people and one contrast; what a scanner makes of the same
anatomy varies in three ways that are drawn here: the grey levels of the tissues, the smooth
shading of the coils, and the smooth phase.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invdiff.datasets.crops import Array, resample, symmetry

__all__ = ["MRCrops", "planes_of", "remap", "shading", "smooth_phase"]

SCALES = (1.0, 0.75, 0.55)
LARGEST = 1.25  # magnitudes: 1 is the 99.9th percentile of a volume
KNOTS = 7


class MRCrops:
    r"""Complex crops as two channels, (b, 2, size, size): real and imaginary part.

    .. math:: x = a \, s(r) \, f(m(r)) \, e^{i \varphi(r)} + n

    with m a magnitude crop, turned, mirrored, zoomed by 1 to 1.6 or taken as it is, f a random
    grey-level curve (`remap`), s a random shading (`shading`), a a brightness in [0.6, 1.1],
    phi a random phase (`smooth_phase`, zero for a share of the crops), and n, for another share,
    weak complex noise, as real images have.

    Arguments:
        pools: One list of magnitude images (h, w) per source, each at least as large as a crop.
        weights: The share of the crops that is drawn from each source.
        real: The share of the crops without phase.
        noisy: The share of the crops with noise, its standard deviation log-uniform in
            [0.002, 0.015].

    Raises:
        ValueError: There are not as many weights as pools, or a pool is empty.
    """

    channels = 2

    def __init__(
        self,
        pools: list[list[Array]],
        weights: list[float],
        real: float = 0.15,
        noisy: float = 0.2,
    ) -> None:
        if len(pools) != len(weights) or not pools or not all(pools):
            raise ValueError(
                f"Each pool of images needs a weight: got pools of {[len(p) for p in pools]} "
                f"images and {len(weights)} weights. Give as many, and no empty pool."
            )
        self.pools = pools
        self.weights = np.array(weights) / sum(weights)
        self.real = real
        self.noisy = noisy

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> Tensor:
        """Draws a batch, float32."""
        crops = np.empty((batch, size, size), np.complex64)
        for row in crops:
            row[...] = self._one(rng, size)
        return torch.from_numpy(np.stack([crops.real, crops.imag], axis=1))

    def _one(self, rng: np.random.Generator, size: int) -> Array:
        magnitude = self._magnitude(rng, size)
        if rng.random() < 0.7:
            magnitude = remap(magnitude, rng)
        magnitude = magnitude * shading(size, rng) * rng.uniform(0.6, 1.1)
        phase = 0.0 if rng.random() < self.real else smooth_phase(size, rng)
        image: Array = np.minimum(magnitude, LARGEST) * np.exp(1j * phase)
        if rng.random() < self.noisy:
            real, imaginary = rng.standard_normal((2, size, size))
            image = image + 0.002 * 7.5 ** rng.random() * (real + 1j * imaginary)
        return image

    def _magnitude(self, rng: np.random.Generator, size: int) -> Array:
        crop = np.empty(0)
        for _ in range(2):  # air is taken only after another crop was air
            pool = self.pools[int(rng.choice(len(self.pools), p=self.weights))]
            image = pool[int(rng.integers(len(pool)))]
            crop = _cut(image, rng, size)
            if crop.max() > 0.15:
                break
        return np.clip(crop, 0, LARGEST)


def _cut(image: Array, rng: np.random.Generator, size: int) -> Array:
    """A square of the image, or a turned and magnified one: (size, size), float32."""
    height, width = image.shape
    if rng.random() < 0.5:
        top = int(rng.integers(height - size + 1))
        left = int(rng.integers(width - size + 1))
        return symmetry(image[top : top + size, left : left + size], rng).astype(np.float32)
    zoom = float(np.exp(rng.uniform(0.02, np.log(1.6))))
    angle = float(rng.uniform(0, 2 * np.pi))
    half = size / zoom / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)))
    if 2 * half > min(height, width):
        angle, half = 0.0, size / zoom / 2
    cy = float(rng.uniform(half, height - half))
    cx = float(rng.uniform(half, width - half))
    return symmetry(resample(image, cy, cx, zoom, angle, size), rng)


def remap(magnitude: Array, rng: np.random.Generator) -> Array:
    r"""Another contrast: :math:`m \mapsto f(m)`, f random with f(0) = 0 and largest value 1.

    A third of the curves are powers :math:`m^\gamma`, gamma in [0.6, 1.7]; the others mix the
    identity with a smooth random curve, which need not be monotone.
    """
    grid = np.linspace(0, LARGEST, 128)
    if rng.random() < 1 / 3:
        curve = grid ** rng.uniform(0.6, 1.7)
    else:
        knots = rng.uniform(0, 1, KNOTS)
        knots[0] = 0.0
        random = np.interp(grid, np.linspace(0, 1, KNOTS), knots)
        random = np.convolve(np.pad(random, 6, mode="edge"), np.full(13, 1 / 13), mode="valid")
        random -= random[0]
        curve = np.abs(grid + rng.uniform(0.3, 1) * (random - grid))
    curve = curve / np.interp(np.linspace(0, 1, 32), grid, curve).max()
    out: Array = np.interp(magnitude, grid, curve).astype(np.float32)
    return out


def shading(size: int, rng: np.random.Generator) -> Array:
    """The sensitivity of coils: exp of a smooth field of mean zero, (size, size)."""
    field = rng.uniform(0, 0.5) * _waves(size, rng, shortest=120.0)
    out: Array = np.exp(field - field.mean())
    return out


def smooth_phase(size: int, rng: np.random.Generator) -> Array:
    """A phase in radians: constant + linear + quadratic + three long waves, (size, size).

    Gradients of up to 0.08 rad per pixel: an echo two samples away from the centre of 160.
    """
    axis = (np.arange(size) - size / 2) / 128
    y, x = axis[:, None], axis[None]
    slope = rng.normal(0, 1.0, 2) * (rng.random() < 0.7) * 3
    bend = rng.normal(0, 1.0, 3) * (rng.random() < 0.5)
    phase = rng.uniform(-np.pi, np.pi) + slope[0] * y + slope[1] * x
    phase = phase + bend[0] * y * y + bend[1] * x * y + bend[2] * x * x
    out: Array = phase + rng.uniform(0, 1.5) * _waves(size, rng, shortest=40.0)
    return out


def _waves(size: int, rng: np.random.Generator, shortest: float) -> Array:
    """Three plane waves of random direction, wavelengths from `shortest` to 400 pixels."""
    axis = np.arange(size)
    out = np.zeros((size, size))
    for _ in range(3):
        length = np.exp(rng.uniform(np.log(shortest), np.log(400.0)))
        angle, start = rng.uniform(0, 2 * np.pi, 2)
        step = 2 * np.pi / length
        wave = np.cos(step * (np.cos(angle) * axis[:, None] + np.sin(angle) * axis) + start)
        out += wave * min(1.0, length / 200)
    return out


def planes_of(volume: Array, axes: tuple[int, ...], smallest: int) -> list[Array]:
    """The planes of a volume that show tissue, at three scales.

    Arguments:
        volume: Magnitudes, (z, y, x), 1 the brightest tissue.
        axes: The axes to cut across: those whose planes have square pixels.
        smallest: The least height and width of a plane; planes are extended by air to it.
    """
    planes = []
    for axis in axes:
        for plane in np.moveaxis(volume, axis, 0):
            if (plane > 0.1).mean() < 0.15:
                continue
            image = torch.from_numpy(np.ascontiguousarray(plane, np.float32))[None, None]
            for scale in SCALES:
                size = [max(round(n * scale), 1) for n in plane.shape]
                small = F.interpolate(image, size, mode="bicubic", antialias=True)
                lack = [max(0, smallest - n) for n in size]
                small = F.pad(small, (0, lack[1], 0, lack[0]))
                planes.append(small[0, 0].clamp(0, LARGEST).half().numpy())
    return planes
