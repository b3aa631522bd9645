"""BART's k-space as measurements: NAME.cfl, and what lies beside it.

NAME-maps.cfl or maps.cfl holds coil maps, NAME-noise.cfl or noise.cfl samples without a signal.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invdiff.commands.raw_kspace import COILS, noise_level
from invdiff.datasets.bart import kspace_from_cfl, read_cfl
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.errors import ShapeError
from invdiff.operators.coil_compression import compress_coils
from invdiff.operators.coil_noise import border_samples, noise_covariance, whiten

__all__ = ["bart_slices", "is_beside", "measurement_of_bart"]

MAPS, NOISE = "maps", "noise"


def is_beside(path: Path) -> bool:
    """Whether a file is no k-space but goes with one, by its name."""
    return path.suffix == ".cfl" and path.stem.rpartition("-")[2] in (MAPS, NOISE)


def bart_slices(path: Path) -> list[partial[MRIMeasurement]]:
    """What reads each slice of a k-space file.

    Raises:
        FileNotFoundError: If one of the two files of a pair is missing.
        ShapeError, ValueError: If it is no k-space of slices.
    """
    slices = len(kspace_from_cfl(read_cfl(path)))
    return [partial(measurement_of_bart, path, number) for number in range(slices)]


def measurement_of_bart(path: Path, number: int) -> MRIMeasurement:
    """One slice, in units of its noise; ``scale`` leads back to the file's.

    Noise comes from its file, or else from the border of k-space. Without maps the coils are
    whitened and compressed, and maps are estimated later on. Given maps belong to the coils as
    they are: then these stay, and each coil has its own sigma, as if their noise were independent.
    What is zero in all coils was not measured.

    Raises:
        ShapeError: If noise or maps do not fit k-space.
        ValueError: If samples are not finite, or the border was not measured.
    """
    kspace = kspace_from_cfl(read_cfl(path))[number]
    if not np.isfinite(kspace).all():
        raise ValueError("k-space has NaN or infinite samples, expected none.")
    mask = (kspace != 0).any(0)
    raw = torch.from_numpy(kspace)[None]
    noise = _beside(path, NOISE)
    if noise is None:
        covariance = noise_covariance(border_samples(raw, torch.from_numpy(mask)))
    else:
        covariance = noise_covariance(_samples(noise, len(kspace)))
    level, maps = noise_level(covariance), _beside(path, MAPS)
    if maps is None:
        white = compress_coils(whiten(raw, covariance), min(COILS, len(kspace))).kspace
        data, sigma = white.numpy() * mask, np.ones((1, 1, 1, 1))
    else:
        maps = _of_slice(maps, number, kspace)
        own = covariance[0].diagonal().real.sqrt().numpy()
        data, sigma = kspace[None] / np.float32(level), own[None, :, None, None] / level
    return MRIMeasurement(("item",), data, sigma, mask[None], maps, level)


def _beside(path: Path, what: str) -> np.ndarray | None:
    """What lies beside a file, (slices, coils, rows, columns)."""
    for name in (f"{path.stem}-{what}", what):
        if path.with_name(f"{name}.cfl").is_file():
            return kspace_from_cfl(read_cfl(path.with_name(name)))
    return None


def _samples(noise: np.ndarray, coils: int) -> Tensor:
    """(1, coils, samples)."""
    if noise.shape[1] != coils:
        raise ShapeError(f"The noise has {noise.shape[1]} coils, but k-space {coils}.")
    return torch.from_numpy(noise.swapaxes(0, 1).reshape(1, coils, -1))


def _of_slice(maps: np.ndarray, number: int, kspace: np.ndarray) -> np.ndarray:
    """The maps of one slice, (1, coils, rows, columns)."""
    chosen = maps if len(maps) == 1 else maps[number : number + 1]
    if chosen.shape != (1, *kspace.shape):
        raise ShapeError(
            f"The maps have shape {maps.shape} (slices, coils, rows, columns), expected one set "
            f"for all slices or for each, of coils with shape {kspace.shape}."
        )
    return chosen
