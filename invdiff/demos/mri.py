"""Accelerated multi-coil magnetic resonance imaging."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invdiff.baselines import tv
from invdiff.datasets.fastmri import FastMRIFile, is_hdf5
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.kspace_preparation import prepare
from invdiff.datasets.simulation import simulate_mri
from invdiff.demos.case import Case
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import AsComplex, root_sum_of_squares
from invdiff.operators.fourier import ifft2c
from invdiff.priors import AffinePrior, load_prior
from invdiff.problem import Problem
from invdiff.samplers import DDS
from invdiff.sense import sense_cg

__all__ = ["mri_case", "mri_demo", "mri_prior", "read_kspace", "sagittal_head"]

ACCELERATION = 4.0
COILS = 8
CENTRE = 0.12  # of the columns, all measured: coil maps are estimated from them
SIDE = 160
NOISE = 0.01  # of the brightest pixel, per real component
TV_WEIGHT = 160.0  # tuned on other MR slices: docs/demos.md
SENSE_WEIGHT = 300.0
VIRTUAL_COILS = 12


def mri_demo(seed: int, steps: int) -> Case:
    """A simulated 8-coil acquisition of the real T1-weighted slice that comes with matplotlib."""
    scan = simulate_mri(sagittal_head(), ACCELERATION, NOISE, seed, COILS, CENTRE)
    caption = (
        f"MRI, {COILS} coils, acceleration {scan.acceleration:.2f}, simulated from a T1 slice"
    )
    return mri_case(scan.kspace, steps, caption, torch.from_numpy(scan.truth)[None])


def mri_prior(kspace: KSpace) -> AffinePrior:
    """The prior of complex images (2, rows, columns), in the unit of this k-space.

    It is scaled to the data, not the data to it, by the brightest (99.9th percentile) of the
    zero-filled image.
    """
    coil_images = ifft2c(torch.from_numpy(kspace.kspace))[None]
    scale = float(np.percentile(root_sum_of_squares(coil_images).numpy(), 99.9))
    return AffinePrior(load_prior("mr"), scale=scale, offset=0.0)


def mri_case(
    kspace: KSpace,
    steps: int,
    caption: str,
    truth: Tensor | None = None,
    notes: dict[str, object] | None = None,
) -> Case:
    """The reconstruction of measured or simulated k-space, maps estimated from its centre."""
    rows, columns = kspace.mask.shape
    operator = kspace.operator() @ AsComplex((1, rows, columns))
    y = torch.from_numpy(kspace.kspace).to(torch.complex64)[None]
    prior = mri_prior(kspace)
    scale = prior.scale
    return Case(
        task="mri",
        caption=caption,
        problem=Problem(y, operator, Gaussian(kspace.sigma)),
        prior=prior,
        sampler=DDS(),
        ladder=karras(steps, prior.sigma_min, prior.sigma_max),
        baselines={
            "zero_filled": operator.adjoint(y),
            "sense": sense_cg(operator, y, kspace.sigma, SENSE_WEIGHT / scale**2),
            "tv": tv(operator, y, kspace.sigma, TV_WEIGHT / scale),
        },
        show=_magnitude,
        show_map=_magnitude,
        unit="signal",
        limits=(0.0, scale),
        data_range=scale if truth is None else float(truth.abs().max()),
        truth=None if truth is None else truth.abs(),
        notes={"prior_scale": scale, "calibration_width": kspace.calibration_width}
        | (notes or {}),
    )


def read_kspace(path: Path, index: int | None) -> tuple[KSpace, dict[str, object]]:
    """k-space from an npz file, or from a slice of a raw HDF5 file, and notes for the report.

    A raw slice, the middle one if ``index`` is None, is whitened with the border of k-space, freed
    of readout oversampling, and compressed to at most ``VIRTUAL_COILS``.

    Raises:
        OSError, ShapeError, TypeError, ValueError: If it cannot be read, or an npz file is asked
            for a slice.
        ImportError: If h5py is missing for a raw file.
    """
    if not is_hdf5(path):
        if index is not None:
            raise ValueError("The file is not HDF5: it has one slice. Omit the slice.")
        return KSpace.load(path), {}
    raw = FastMRIFile.open(path)
    chosen = raw.middle if index is None else index
    made = prepare(raw.read(chosen), raw.mask, raw.header.readout, VIRTUAL_COILS)
    energy = round(made.energy, 6)
    notes: dict[str, object] = {"slice": chosen, "slices": raw.shape[0], "coil_energy": energy}
    return made.kspace, notes


def sagittal_head() -> np.ndarray:
    """A sagittal T1-weighted slice of a head, (160, 160), scaled to a largest value of 1.

    Reduced from 256 x 256, so that the demonstration takes a minute or two rather than five.
    """
    from matplotlib.cbook import get_sample_data
    from skimage.transform import resize

    path = str(get_sample_data("s1045.ima.gz", asfileobj=False))
    pixels = np.frombuffer(gzip.decompress(Path(path).read_bytes()), np.uint16)
    full = pixels.reshape(256, 256).astype(np.float32) / pixels.max()
    image: np.ndarray = resize(full, (SIDE, SIDE), anti_aliasing=True).astype(np.float32)
    scaled: np.ndarray = image / image.max()
    return scaled


def _magnitude(image: Tensor) -> Tensor:
    """(n, 2, h, w) -> (n, 1, h, w)."""
    return image.square().sum(1, keepdim=True).sqrt()
