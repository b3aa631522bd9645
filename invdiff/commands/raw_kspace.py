"""Raw k-space of a file as a measurement: white, without oversampling, of fewer coils."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from invdiff.datasets.fastmri import FastMRIFile
from invdiff.datasets.hdf5 import HDF5File
from invdiff.datasets.kspace_preparation import prepare
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.errors import ShapeError
from invdiff.operators.coil_noise import border_samples, noise_covariance

__all__ = ["COILS", "NOISE", "TRUTH", "measurement_of_raw", "noise_level"]

COILS = 12  # virtual ones, at most
NOISE, TRUTH = "noise", "truth"  # arrays that may stand beside those of fastMRI's layout


def measurement_of_raw(raw: FastMRIFile, number: int) -> MRIMeasurement:
    """One slice, in units of its noise; ``scale`` leads back to the scanner's.

    If the coils' noise is independent and equal, magnitudes times ``scale`` are what the root sum
    of squares of the coils' images would be. Noise comes from the array ``noise`` of the file, or
    else from the border of k-space; the truth from the array ``truth``, if it is there.

    Raises what reading and ``prepare`` do, and ShapeError if noise or truth have another shape.
    """
    kspace = raw.read(number)
    noise, truth = _known(raw, number)
    if noise is None:
        measured = torch.from_numpy(raw.mask).expand(kspace.shape[1:])
        noise = border_samples(torch.from_numpy(kspace)[None], measured)
    level = noise_level(noise_covariance(noise))
    made = prepare(kspace, raw.mask, raw.header.readout, COILS, noise)
    measurement = MRIMeasurement.from_kspace(made.kspace, "item")
    if truth is not None:
        truth = (truth / level).astype(np.complex64)
    return replace(measurement, scale=level, truth=truth)


def noise_level(covariance: torch.Tensor) -> float:
    """The root mean square over coils of the noise's standard deviation, per real component."""
    return math.sqrt(float(covariance.diagonal(dim1=-2, dim2=-1).real.mean()))


def _known(raw: FastMRIFile, number: int) -> tuple[torch.Tensor | None, np.ndarray | None]:
    """The noise scan (1, coils, samples), and the truth of a slice (1, rows, columns)."""
    slices, coils, _, columns = raw.shape
    noise = truth = None
    with HDF5File(raw.path) as file:
        if (entry := file.entries.get(NOISE)) is not None:
            if entry.kind != "c" or entry.shape[:1] != (coils,) or len(entry.shape) != 2:
                raise ShapeError(
                    f"The noise scan has shape {entry.shape}, expected complex numbers of shape "
                    f"({coils}, samples)."
                )
            noise = torch.from_numpy(file.array(NOISE))[None]
        if (entry := file.entries.get(TRUTH)) is not None:
            expected = slices, raw.header.readout, columns
            if entry.kind != "f" or entry.shape != expected:
                raise ShapeError(
                    f"The truth has shape {entry.shape}, expected real images of shape "
                    f"{expected}, as they are reconstructed."
                )
            truth = file.array(TRUTH, number, number + 1)
    return noise, truth
