"""Sparse-view computed tomography."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.baselines import tv
from invdiff.datasets.hounsfield import attenuation_to_hu
from invdiff.datasets.simulation import simulate_ct
from invdiff.datasets.sinogram import Sinogram
from invdiff.datasets.test_images import ct_slice, ct_spacing
from invdiff.demos.case import Case
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import ParallelBeamCT, fbp, hann, ram_lak
from invdiff.priors import AffinePrior, load_prior
from invdiff.problem import Problem
from invdiff.samplers import DDS

__all__ = ["VIEWS", "ct_case", "ct_demo"]

VIEWS = 30
PHOTONS = 5e4  # per ray
WATER = 0.02  # 1/mm
TV_WEIGHT = 250.0  # tuned on other slices: docs/demos.md
DATA_RANGE = 2000.0  # HU


def ct_demo(seed: int, steps: int) -> Case:
    """30 noisy views of a real CT slice, the one that comes with pydicom."""
    truth = ct_slice("spine")
    scan = simulate_ct(truth, ct_spacing("spine"), VIEWS, PHOTONS, WATER, seed)
    caption = f"CT, {VIEWS} parallel views, {PHOTONS:.0f} photons per ray"
    return ct_case(scan.sinogram, steps, caption, torch.from_numpy(truth)[None])


def ct_case(sinogram: Sinogram, steps: int, caption: str, truth: Tensor | None = None) -> Case:
    """The reconstruction of a measured or simulated sinogram with the prior ``ct``."""
    operator = sinogram.operator()
    sigma = torch.from_numpy(sinogram.sigma)
    sigma = sigma[None, None] if sigma.ndim else sigma
    y = torch.from_numpy(sinogram.sinogram)[None, None].float()
    problem = Problem(y, operator, Gaussian(sigma.float()))
    # The prior speaks of HU / 1000, images are attenuations: mu = water (1 + HU / 1000).
    prior = AffinePrior(load_prior("ct"), scale=sinogram.water, offset=sinogram.water)

    def show(image: Tensor) -> Tensor:
        return torch.from_numpy(attenuation_to_hu(image.cpu().numpy(), sinogram.water))

    return Case(
        task="ct",
        caption=caption,
        problem=problem,
        prior=prior,
        sampler=DDS(),
        ladder=karras(steps, prior.sigma_min, prior.sigma_max),
        baselines=_baselines(operator, y, sigma.float(), truth, show),
        show=show,
        unit="HU",
        limits=(-1000.0, 1000.0),
        data_range=DATA_RANGE,
        truth=truth,
        notes={"projector": operator.describe()},
    )


def _baselines(
    operator: ParallelBeamCT,
    y: Tensor,
    sigma: Tensor,
    truth: Tensor | None,
    show: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    filtered = [fbp(operator, y, window, incomplete=True) for window in (hann, ram_lak)]
    best = filtered[0]
    if truth is not None:  # the better window, so that the comparison favours the classic
        best = min(filtered, key=lambda image: float((show(image)[0] - truth).square().mean()))
    return {"fbp": best, "tv": tv(operator, y, sigma, TV_WEIGHT, nonnegative=True)}
