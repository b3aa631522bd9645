"""Restoring photographs: missing pixels, and low resolution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from invdiff.baselines import tv
from invdiff.datasets.test_images import photograph
from invdiff.demos.case import Case
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators import Bicubic, Inpainting, Operator
from invdiff.priors import load_prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers import DDS

__all__ = ["crop", "inpaint_demo", "measure", "sr_demo"]

NOISE = 0.02  # on [-1, 1]
KEPT = 0.3
FACTOR = 4
SIDE = 192
INPAINT_TV_WEIGHT = 32.0  # tuned on other photographs: docs/demos.md
SR_TV_WEIGHT = 8.0


def inpaint_demo(seed: int, steps: int) -> Case:
    """30 % of the pixels of a photograph, with a little noise."""
    truth = crop("astronaut", 0, 128)
    operator = Inpainting.random((3, SIDE, SIDE), KEPT, seed)
    caption = f"Inpainting, {KEPT:.0%} of the pixels kept, noise {NOISE} on [-1, 1]"
    problem = measure(operator, truth, seed)
    baselines = {
        "biharmonic": biharmonic(problem),
        "tv": tv(operator, problem.y, NOISE, INPAINT_TV_WEIGHT),
    }
    return _case("inpaint", caption, problem, baselines, truth, steps)


def sr_demo(seed: int, steps: int) -> Case:
    """Super-resolution by 4 of a photograph reduced with the anti-aliased bicubic kernel."""
    truth = crop("chelsea", 40, 110)
    operator = Bicubic((3, SIDE, SIDE), FACTOR)
    caption = f"Super-resolution x{FACTOR}, bicubic, noise {NOISE} on [-1, 1]"
    problem = measure(operator, truth, seed)
    baselines = {
        "bicubic": torch.nn.functional.interpolate(problem.y, scale_factor=FACTOR, mode="bicubic"),
        "tv": tv(operator, problem.y, NOISE, SR_TV_WEIGHT),
    }
    return _case("sr", caption, problem, baselines, truth, steps)


def _case(
    task: str,
    caption: str,
    problem: Problem,
    baselines: dict[str, Tensor],
    truth: Tensor,
    steps: int,
) -> Case:
    prior = load_prior("photo")
    return Case(
        task=task,
        caption=caption,
        problem=problem,
        prior=prior,
        sampler=DDS(),
        ladder=karras(steps, prior.sigma_min, prior.sigma_max),
        baselines=baselines,
        show=lambda image: (image + 1) / 2,
        unit="of white",
        limits=(0.0, 1.0),
        data_range=1.0,
        truth=(truth[0] + 1) / 2,
    )


def measure(operator: Operator, truth: Tensor, seed: int) -> Problem:
    """A noisy measurement of one image (1, *domain)."""
    clean = operator(truth)
    noisy = clean + NOISE * Rng(seed, ["measurement"], 1).normal(clean)
    if operator.observed is not None:
        noisy = noisy * operator.observed
    return Problem(noisy, operator, Gaussian(NOISE))


def crop(name: str, top: int, left: int) -> Tensor:
    """A square of a photograph on [-1, 1], (1, 3, SIDE, SIDE)."""
    image = photograph(name)[top : top + SIDE, left : left + SIDE].astype(np.float32)
    return torch.from_numpy(image / 127.5 - 1).permute(2, 0, 1)[None]


def biharmonic(problem: Problem) -> Tensor:
    from skimage.restoration import inpaint_biharmonic

    observed = problem.operator.observed
    assert observed is not None
    missing = ~observed[0].expand(problem.y.shape[1:])[0].numpy()
    picture = problem.y[0].permute(1, 2, 0).numpy()
    filled = inpaint_biharmonic(picture, missing, channel_axis=-1, split_into_regions=True)
    return torch.from_numpy(filled).permute(2, 0, 1)[None].to(problem.y)
