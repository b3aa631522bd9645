"""Accelerated multi-coil magnetic resonance imaging."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invdiff.baselines import tv
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.simulation import simulate_mri
from invdiff.demos.case import Case
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import AsComplex
from invdiff.operators.cartesian_mri import ifft2c
from invdiff.priors import AffinePrior, ComplexPrior, load_prior
from invdiff.problem import Problem
from invdiff.samplers import DDS

__all__ = ["mri_case", "mri_demo", "sagittal_head"]

ACCELERATION = 4.0
COILS = 8
CENTRE = 0.12  # of the columns, all measured: coil maps are estimated from them
SIDE = 160
NOISE = 0.01  # of the brightest pixel, per real component
TV_WEIGHT = 160.0  # tuned on other MR slices: docs/demos.md


def mri_demo(seed: int, steps: int) -> Case:
    """A simulated 8-coil acquisition of the real T1-weighted slice that comes with matplotlib."""
    scan = simulate_mri(sagittal_head(), ACCELERATION, NOISE, seed, COILS, CENTRE)
    caption = (
        f"MRI, {COILS} coils, acceleration {scan.acceleration:.2f}, simulated from a T1 slice"
    )
    return mri_case(scan.kspace, steps, caption, torch.from_numpy(scan.truth)[None])


def mri_case(kspace: KSpace, steps: int, caption: str, truth: Tensor | None = None) -> Case:
    """The reconstruction of measured or simulated k-space, maps estimated from its centre.

    The prior is that of grey photographs, for the real and the imaginary part each: there is no
    MR prior in the package yet. It is scaled to the data, not the data to it, by the brightest
    (99.9th percentile) of the zero-filled image.
    """
    rows, columns = kspace.mask.shape
    operator = kspace.operator() @ AsComplex((1, rows, columns))
    y = torch.from_numpy(kspace.kspace).to(torch.complex64)[None]
    problem = Problem(y, operator, Gaussian(kspace.sigma))
    coil_images = ifft2c(y).abs().square().sum(1).sqrt()
    scale = float(np.percentile(coil_images.numpy(), 99.9))
    prior = AffinePrior(ComplexPrior(load_prior("photo", channels=1)), scale=scale, offset=0.0)
    zero_filled = operator.adjoint(y)
    total_variation = tv(operator, y, kspace.sigma, TV_WEIGHT / scale)
    return Case(
        task="mri",
        caption=caption,
        problem=problem,
        prior=prior,
        sampler=DDS(),
        ladder=karras(steps, prior.sigma_min, prior.sigma_max),
        baselines={"zero_filled": zero_filled, "tv": total_variation},
        show=_magnitude,
        show_std=_magnitude,
        unit="signal",
        limits=(0.0, scale),
        data_range=scale if truth is None else float(truth.abs().max()),
        truth=None if truth is None else truth.abs(),
        notes={"prior_scale": scale, "calibration_width": kspace.calibration_width},
    )


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
