"""From a raw ISMRMRD scan to a measurement: white, without oversampling, fewer coils."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.kspace import KSpace
from invdiff.datasets.kspace_preparation import check_white
from invdiff.datasets.mrd import MRDScan
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.operators.coil_compression import compress_coils
from invdiff.operators.coil_noise import border_samples, noise_covariance, whiten
from invdiff.operators.fourier import fftc, ifftc

__all__ = ["measurement_of_mrd"]


def measurement_of_mrd(scan: MRDScan, coils: int = 12) -> MRIMeasurement:
    r"""The measurement of a scan, whitened, cropped along the readout, with fewer coils.

    The noise has sigma = 1 per real component, and :math:`1 / \sqrt n` where n readouts were
    averaged: images are in units of the noise. Volumes are divided along the readout, which is
    fully sampled, by its inverse Fourier transform: each position is an item, with the partitions
    as rows. Coil maps come from separate calibration lines if there are any, or else from the
    centre later on.

    Arguments:
        scan: What ``read_mrd`` gave.
        coils: The most virtual coils.

    Raises:
        ValueError: If the header asks for more readout than there is, the noise has too few
            samples, or a slice was not measured at all.
    """
    length, keep = scan.header.shape[0], scan.header.header.readout
    if not 1 <= keep <= length:
        raise ValueError(
            f"The header reconstructs {keep} of {length} samples of the readout. Check its fields "
            "of view."
        )
    covariance = noise_covariance(_noise(scan))
    raw = [scan.kspace] if scan.calibration is None else [scan.kspace, scan.calibration[0]]
    # The items are one more axis of space: they share their virtual coils.
    white = [whiten(torch.from_numpy(k).transpose(0, 1)[None], covariance) for k in raw]
    for part in white:
        check_white(part)
    compressed = compress_coils(white[0], min(coils, white[0].shape[1]))
    parts = [compressed.kspace[0]]
    parts += [torch.einsum("vc,c...->v...", compressed.matrix[0], w[0]) for w in white[1:]]
    volumes = scan.header.shape[2] > 1
    kspace = [_slices(_cropped(part, keep), volumes) for part in parts]
    counts = [_counts(c, keep, volumes) for c in _all_counts(scan)]
    mask = counts[0] > 0
    maps = None if len(kspace) == 1 else _maps(kspace[1], counts[1] > 0)
    sigma = np.maximum(counts[0], 1.0)[:, None] ** -0.5
    items = scan.items
    if volumes:
        items = tuple(f"{item}/readout-{k:04d}" for item in scan.items for k in range(keep))
    return MRIMeasurement(
        items, kspace[0] * mask[:, None], sigma, mask, maps, pixel_size=_pixels(scan, volumes)
    )


def _noise(scan: MRDScan) -> Tensor:
    """That of the noise scans, or else of the border of the first item's k-space."""
    if scan.noise is not None:
        return torch.from_numpy(scan.noise)[None]
    coils, length = scan.kspace.shape[1:3]
    flat = torch.from_numpy(scan.kspace[0]).reshape(1, coils, length, -1)
    measured = torch.from_numpy(scan.counts[0].reshape(1, -1) > 0).expand(length, -1)
    return border_samples(flat, measured)


def _all_counts(scan: MRDScan) -> list[np.ndarray]:
    return [scan.counts] if scan.calibration is None else [scan.counts, scan.calibration[1]]


def _cropped(kspace: Tensor, keep: int) -> Tensor:
    """(coils, n, readout, phase, partitions): the image along the readout, its central part."""
    images = ifftc(kspace, (2,))
    return images.narrow(2, images.shape[2] // 2 - keep // 2, keep)


def _slices(images: Tensor, volumes: bool) -> np.ndarray:
    """k-space of items (n, coils, rows, columns)."""
    if volumes:  # (coils, n, readout, phase, partitions) -> (n * readout, coils, part., phase)
        return images.permute(1, 2, 0, 4, 3).flatten(0, 1).contiguous().numpy()
    return fftc(images, (2,))[..., 0].transpose(0, 1).contiguous().numpy()


def _counts(counts: np.ndarray, keep: int, volumes: bool) -> np.ndarray:
    """(n, phase, partitions) as (items, rows, columns) of the slices above."""
    if volumes:
        return np.repeat(counts.transpose(0, 2, 1), keep, axis=0)
    return np.repeat(counts[:, :, 0][:, None], keep, axis=1)


def _maps(kspace: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """From the centres of the calibration lines."""
    scans = [KSpace(y * mask, 1.0, mask) for y, mask in zip(kspace, masks, strict=True)]
    return torch.cat([scan.operator().maps for scan in scans]).numpy()


def _pixels(scan: MRDScan, volumes: bool) -> tuple[float, float]:
    """Between rows and between columns, mm. Only the readout is cropped."""
    space = scan.header.header.encoded
    steps = [view / n for view, n in zip(space.view, space.matrix, strict=True)]
    return (steps[2], steps[1]) if volumes else (steps[0], steps[1])
