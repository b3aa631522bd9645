"""deepinv's samplers on invdiff's problems: the same denoiser, operator, noise and measurement.

deepinv's samplers keep their state in [-1, 1] and halve the noise level before they call a
denoiser, which lives on [0, 1] like the measurement and the physics: our priors, whose images lie
around 0.5, go in as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import deepinv
import torch
from deepinv.sampling import (
    DDRM,
    DPS,
    DDPMSolver,
    DiffPIR,
    MomentMatchingDataFidelity,
    PiGDMDataFidelity,
    PosteriorDiffusion,
    VariancePreservingDiffusion,
)
from torch import Tensor

from invdiff.noise import Gaussian
from invdiff.operators import Inpainting, as_deepinv
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior
from invdiff.problem import Problem

__all__ = ["PEERS", "Denoiser", "Peer", "run_peer", "suits", "version"]

version = deepinv.__version__


class Denoiser(deepinv.models.Denoiser):
    """A prior of ours in deepinv's convention: D(x, sigma), both on the scale of the images."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        self.counts: Counter[str] = Counter()

    def forward(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
        levels = torch.as_tensor(sigma, dtype=x.dtype).flatten()
        self.counts["prior"] += len(x)
        counted = _Count.apply(x, self.counts)
        return self.prior(counted, levels[0] if len(levels) == 1 else levels)


class _Count(torch.autograd.Function):
    """The identity, whose backward pass is counted."""

    @staticmethod
    def forward(x: Tensor, counts: Counter[str]) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Counter[str]], output: Tensor) -> None:
        ctx.counts = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts["vjp"] += len(gradient)
        return gradient, None


Run = Callable[[Denoiser, Tensor, Any, tuple[int, ...], int], Tensor]


@dataclass(frozen=True)
class Peer:
    """A sampler of deepinv: what it is called, its steps, and whether it needs an SVD."""

    name: str
    steps: int
    run: Run
    decomposable: bool = False


def _dps(**options: float) -> Run:
    def run(denoiser: Denoiser, y: Tensor, physics: Any, shape: tuple, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        return DPS(denoiser, rng=rng, **options)(y, physics, x_init=shape, seed=seed)

    return run


def _posterior_diffusion(fidelity: Callable[[], Any], steps: int) -> Run:
    def run(denoiser: Denoiser, y: Tensor, physics: Any, shape: tuple, seed: int) -> Tensor:
        times = torch.linspace(1, 0, steps, dtype=torch.float64)  # as deepinv's own DPS
        solver = DDPMSolver(timesteps=times, rng=torch.Generator().manual_seed(seed))
        model = PosteriorDiffusion(fidelity(), denoiser, VariancePreservingDiffusion(), solver)
        return model(y, physics, x_init=shape, seed=seed)

    return run


def _diffpir(denoiser: Denoiser, y: Tensor, physics: Any, shape: tuple, seed: int) -> Tensor:
    return DiffPIR(denoiser, deepinv.optim.data_fidelity.L2())(y, physics, seed=seed)


def _ddrm(denoiser: Denoiser, y: Tensor, physics: Any, shape: tuple, seed: int) -> Tensor:
    return DDRM(denoiser)(y, physics, seed=seed)


PEERS = (
    Peer("DPS, defaults", 1000, _dps()),
    Peer("DPS, weight 100", 1000, _dps(weight=100.0)),
    Peer("DiffPIR, defaults", 100, _diffpir),
    Peer("DDRM, defaults", 100, _ddrm, decomposable=True),
    Peer("PiGDM", 300, _posterior_diffusion(PiGDMDataFidelity, 300)),
    Peer("MomentMatching", 100, _posterior_diffusion(MomentMatchingDataFidelity, 100)),
    Peer("MomentMatching", 300, _posterior_diffusion(MomentMatchingDataFidelity, 300)),
)


def suits(peer: Peer, problem: Problem) -> bool:
    """Whether a peer accepts the problem's operator."""
    return isinstance(problem.operator, Inpainting) or not peer.decomposable


def run_peer(peer: Peer, problem: Problem, prior: Prior, samples: int, seed: int) -> Posterior:
    """``samples`` draws of a peer for every item, all in one batch."""
    index = torch.arange(len(problem)).repeat_interleave(samples)
    rows = problem.rows(index)
    denoiser, shape = Denoiser(prior), (len(index), *problem.operator.domain)
    with torch.random.fork_rng(devices=[]):  # DiffPIR and DDRM use the global generator
        torch.manual_seed(seed)
        x = peer.run(denoiser, rows.y, _physics(problem), shape, seed).detach()
    split = (len(problem), samples)
    return Posterior(
        x=x.reshape(*split, *shape[1:]),
        log_w=torch.zeros(split, dtype=torch.float64),
        chi2=rows.chi2(x.to(rows.y)).double().reshape(split),
        ids=tuple(range(len(problem))),
        ok=torch.isfinite(x).reshape(len(problem), -1).all(1),
        suspect=torch.zeros(len(problem), dtype=torch.bool),
        kind="approximate",
        counts={name: count / len(index) for name, count in denoiser.counts.items()},
    )


def _physics(problem: Problem) -> Any:
    """deepinv's own inpainting, which it can decompose; any other operator of ours as it is."""
    operator = problem.operator
    if isinstance(operator, Inpainting):
        physics = deepinv.physics.Inpainting(operator.domain, mask=operator.mask.float())
    else:
        physics = as_deepinv(operator)
    if not isinstance(problem.noise, Gaussian):
        raise TypeError(
            f"The noise is {problem.noise}; this comparison is made for Gaussian noise."
        )
    physics.noise_model = deepinv.physics.GaussianNoise(float(problem.noise.sigma))
    return physics
