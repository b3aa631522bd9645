"""Random training crops of photographs and CT slices, held in memory.

A source draws a batch from a numpy Generator and nothing else, so that a step of a training run
is reproduced by its number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Array = np.ndarray

SCALES = (1.0, 0.71, 0.5, 0.35, 0.25)
MAGNIFICATION = (1.0, 3.0)  # of photographs
LUMA = np.array((0.2125, 0.7154, 0.0721), np.float32)  # as skimage.color.rgb2gray


class Crops(Protocol):
    """A source of training crops."""

    channels: int

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> Tensor:
        """(batch, channels, size, size), float32, in the units of the prior."""
        ...


def read_rgb(path: Path) -> Image.Image:
    """A picture of any depth as 8-bit RGB."""
    with Image.open(path) as picture:
        if picture.mode.startswith("I"):  # grey with 16 bits, which Pillow would clip
            return Image.fromarray((np.asarray(picture) / 257).astype(np.uint8)).convert("RGB")
        return picture.convert("RGB")


def pyramid(picture: Image.Image, smallest: int) -> list[Array]:
    """A photograph at several scales, uint8 (h, w, 3), short side at least `smallest`."""
    levels = []
    for scale in SCALES:
        size = (round(picture.width * scale), round(picture.height * scale))
        if min(size) >= smallest:
            levels.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))
    return levels


def symmetry(crop: Array, rng: np.random.Generator) -> Array:
    """One of the eight symmetries of the square, axes (h, w, ...)."""
    k = int(rng.integers(8))
    crop = np.rot90(crop, k % 4)
    return crop[:, ::-1] if k >= 4 else crop


class PhotoCrops:
    """Crops of photographs on [-1, 1]: (b, 3, size, size).

    Arguments:
        photos: Files of photographs; drawn with a weight of the fourth root of their area.
        leaves: Files of dead-leaves pictures, drawn with probability `leaf_fraction`.
        grey_fraction: The share of crops turned grey (three equal channels).
        smallest: The smallest short side of a scaled photograph.
        magnified: The share of crops that is turned by any angle and magnified. Photographs at
            their own resolution hold few smooth areas as large as those of a fundus or a sky.
    """

    channels = 3

    def __init__(
        self,
        photos: list[Path],
        leaves: list[Path],
        grey_fraction: float = 0.35,
        leaf_fraction: float = 0.12,
        smallest: int = 128,
        magnified: float = 0.3,
    ) -> None:
        self.grey_fraction = grey_fraction
        self.magnified = magnified
        self.leaf_fraction = leaf_fraction if leaves else 0.0
        self.pools = [self._load(paths, smallest) for paths in (photos, leaves)]
        weights = np.array([levels[0].size ** 0.25 for levels in self.pools[0]])
        self.weights = weights / weights.sum()

    @staticmethod
    def _load(paths: list[Path], smallest: int) -> list[list[Array]]:
        pool = []
        for path in sorted(paths):
            levels = pyramid(read_rgb(path), smallest)
            if levels:
                pool.append(levels)
        return pool

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> Tensor:
        """Draws a batch; a third of the crops are grey."""
        crops = np.empty((batch, size, size, 3), np.float32)
        for i in range(batch):
            crops[i] = self._one(rng, size)
        return torch.from_numpy(crops).permute(0, 3, 1, 2)

    def _one(self, rng: np.random.Generator, size: int) -> Array:
        crop = np.empty(0, np.uint8)
        for _ in range(2):  # an empty crop is taken only after another was empty
            if rng.random() < self.leaf_fraction:
                levels = self.pools[1][int(rng.integers(len(self.pools[1])))]
            else:
                levels = self.pools[0][int(rng.choice(len(self.pools[0]), p=self.weights))]
            image = levels[int(rng.integers(len(levels)))]
            if self.magnified and rng.random() < self.magnified:
                crop = magnify(image, rng, MAGNIFICATION, size).clip(0, 255)
            else:
                crop = cut(image, rng, size)
            if crop.std() > 1.5:
                break
        values = symmetry(crop, rng).astype(np.float32) / 127.5 - 1
        if rng.random() < self.grey_fraction:
            values = np.broadcast_to((values @ LUMA)[..., None], values.shape)
        return values


class CTCrops:
    """Crops of CT slices in HU / 1000: (b, 1, size, size).

    A share is rotated and zoomed by bicubic interpolation.

    Arguments:
        pools: Slices of several sources, int16 HU, each (h, w).
        weights: The share of the crops that is drawn from each source.
        zoom: The largest magnification.
    """

    channels = 1

    def __init__(
        self,
        pools: Sequence[Sequence[Array] | Array],
        weights: Sequence[float],
        zoom: float = 2.5,
    ) -> None:
        self.pools = pools
        self.weights = np.array(weights) / sum(weights)
        self.zoom = zoom

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> Tensor:
        """Draws a batch."""
        crops = np.empty((batch, size, size), np.float32)
        for i in range(batch):
            pool = self.pools[int(rng.choice(len(self.pools), p=self.weights))]
            for _ in range(3):  # air is taken only after two other crops were air
                crops[i] = self._one(rng, pool, size)
                if crops[i].max() > -900:
                    break
        return torch.from_numpy(np.clip(crops, -1024, 3071) / 1000)[:, None]

    def _one(self, rng: np.random.Generator, pool: Sequence[Array] | Array, size: int) -> Array:
        image = pool[int(rng.integers(len(pool)))]
        height = image.shape[0]
        if height >= size and rng.random() < 0.4:
            return symmetry(cut(image, rng, size), rng)
        return symmetry(magnify(image, rng, (0.75, self.zoom), size), rng)


def cut(image: Array, rng: np.random.Generator, size: int) -> Array:
    """A square of an image at its own resolution: (h, w, ...) -> (size, size, ...)."""
    top = int(rng.integers(image.shape[0] - size + 1))
    left = int(rng.integers(image.shape[1] - size + 1))
    return image[top : top + size, left : left + size]


def magnify(image: Array, rng: np.random.Generator, zoom: tuple[float, float], size: int) -> Array:
    """A square of an image, magnified by a random factor and, if it fits, turned by any angle."""
    height, width = image.shape[:2]
    least = size / (min(height, width) - 2)
    factor = float(np.exp(rng.uniform(np.log(max(zoom[0], least)), np.log(zoom[1]))))
    angle = float(rng.uniform(0, 2 * np.pi)) if least * 1.42 < factor else 0.0
    half = size / factor / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)))
    centre_y = float(rng.uniform(half, height - half))
    centre_x = float(rng.uniform(half, width - half))
    return resample(image, centre_y, centre_x, factor, angle, size)


def resample(image: Array, cy: float, cx: float, zoom: float, angle: float, size: int) -> Array:
    """A rotated, magnified square of an image, bicubic: (h, w, ...) -> (size, size, ...)."""
    reach = int(np.ceil(size / zoom * 0.75)) + 3
    top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
    part = np.ascontiguousarray(image[top : int(cy) + reach, left : int(cx) + reach], np.float32)
    height, width = part.shape[:2]
    cos, sin = np.cos(angle) * size / zoom, np.sin(angle) * size / zoom
    theta = torch.tensor(
        [
            [cos / width, -sin / width, 2 * (cx - left) / width - 1],
            [sin / height, cos / height, 2 * (cy - top) / height - 1],
        ],
        dtype=torch.float32,
    )
    grid = F.affine_grid(theta[None], [1, 1, size, size], align_corners=False)
    planes = torch.from_numpy(part).reshape(height, width, -1).permute(2, 0, 1)
    out = F.grid_sample(
        planes[None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return out[0].permute(1, 2, 0).reshape(size, size, *image.shape[2:]).numpy()


def ct_pools(volume: Array, held_out: tuple[int, int]) -> tuple[Array, Array]:
    """Splits a head into axial planes and coronal and sagittal strips, held-out slab removed.

    (108, 256, 256) at 1.5 x 0.957 x 0.957 mm -> axial (n, 256, 256), strips (m, 66, 256).
    The strips are resampled along z to square pixels and never touch the slab.
    """
    low, high = held_out
    strips = []
    for part in (volume[:low], volume[high:]):
        height = max(66, round(len(part) * 1.5 / 0.957))
        stack = torch.from_numpy(part.astype(np.float32))[None, None]
        shape = (height, *part.shape[1:])
        cube = F.interpolate(stack, shape, mode="trilinear", align_corners=False)[0, 0].numpy()
        for axis in (1, 2):
            planes = np.moveaxis(cube, axis, 0)
            planes = planes[planes.std(axis=(1, 2)) > 150]
            strips += [planes[:, :66], planes[:, -66:]] if height > 80 else [planes[:, -66:]]
    axial = np.concatenate([volume[:low], volume[high:]])
    axial = axial[axial.std(axis=(1, 2)) > 150]
    return axial, np.concatenate(strips).round().astype(np.int16)
