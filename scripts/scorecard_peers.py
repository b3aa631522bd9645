"""The samplers of deepinv and azula on the certificate's problems, with the same exact denoiser.

Both see a problem as a real matrix of what was measured, and images in the range that they are
made for: deepinv's denoisers live on [0, 1], azula's methods on images of standard deviation 0.5
around 0. azula takes our noise levels, deepinv its own. Hyper-parameters are the defaults of the
library unless the name says otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import azula
import deepinv
import torch
from azula.denoise import Denoiser as AzulaDenoiser
from azula.denoise import DiracPosterior
from azula.guidance.diffpir import DiffPIRDenoiser
from azula.guidance.dps import DPSSampler
from azula.guidance.mmps import MMPSDenoiser
from azula.guidance.pgdm import PGDMSampler
from azula.guidance.tds import TDSSampler
from azula.guidance.tmpd import TMPDenoiser
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import Schedule
from azula.sample import DDPMSampler
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

from invdiff.certify.case import Case
from invdiff.linalg import as_matrix
from invdiff.noise import Gaussian
from invdiff.operators import Inpainting, Matrix, as_deepinv
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior
from invdiff.problem import Problem

__all__ = ["Peer", "dense", "peers", "versions"]

versions = {"deepinv": deepinv.__version__, "azula": azula.__version__}
_SILENT = {"silent": True}


@dataclass(frozen=True)
class Flat:
    """A linear problem for images z = (x - offset) / scale, as the library likes them.

    Arguments:
        matrix: (measured, pixels), real.
        y: (y - A offset) / scale, (rows, measured).
        sigma: The noise, over scale.
        shape: Of an image.
        prior: Of x.
        counts: Of evaluations.
    """

    matrix: Tensor
    y: Tensor
    sigma: float
    shape: tuple[int, ...]
    scale: float
    offset: float
    prior: Prior
    counts: Counter[str]

    def rows(self, index: Tensor) -> Flat:
        return replace(self, y=self.y[index])

    def denoise(self, z: Tensor, level: Tensor) -> Tensor:
        """E[z0 | z0 + level n = z], counted."""
        self.counts["prior"] += len(z)
        x = self.scale * _Count.apply(z, self.counts) + self.offset
        return (self.prior(x, self.scale * level) - self.offset) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return (y @ torch.linalg.pinv(self.matrix).T).reshape(-1, *self.shape)


def dense(case: Case, spread: float, center: float) -> Flat:
    """What was measured, as real numbers; z has the given standard deviation and mean.

    One operator for all items.
    """
    problem = case.problem
    scale = float(case.images.std()) / spread
    offset = float(case.images.mean()) - center * scale
    y = problem.y.flatten(1)
    seen = problem.precision[:1].flatten(1)[0] > 0
    if y.is_complex():
        y, seen = torch.cat([y.real, y.imag], 1), torch.cat([seen, seen])
    matrix = as_matrix(problem.operator)[0][seen].float()
    flat_y = (y[:, seen].float() - offset * matrix.sum(1)) / scale
    sigma, shape = float(problem.noise.sigma) / scale, problem.operator.domain
    return Flat(matrix, flat_y, sigma, shape, scale, offset, case.prior, Counter())


Run = Callable[[Case, Flat, int], Tensor]
"""Gives one z for every row of the flat problem; the last number is the steps."""


@dataclass(frozen=True)
class Peer:
    """A sampler of another library, as a contender of the certificate.

    Arguments:
        alone: Whether it treats its batch as one image, or as the particles of one, so that every
            row, or every filter, has to run by itself.
    """

    name: str
    library: str
    steps: int
    call: Run
    particles: int | None = None
    alone: bool = False
    decomposable: bool = False

    def obstacle(self, case: Case) -> str | None:
        operator = case.problem.operator
        if not operator.linear or not isinstance(case.problem.noise, Gaussian):
            return "the comparison is made for linear operators and Gaussian noise"
        if self.decomposable and not isinstance(operator, Inpainting):
            return "needs an operator whose singular vectors the library knows"
        return None

    def run(self, case: Case, samples: int, seed: int) -> tuple[Posterior, int]:
        size = self.particles or 1
        filters = max(12, math.ceil(samples / size)) if self.particles else samples
        index = torch.arange(len(case.problem)).repeat_interleave(filters * size)
        flat = dense(case, *_RANGES[self.library])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = [
                self.call(case, flat.rows(rows), self.steps)
                for rows in index.split(size if self.alone else len(index))
            ]
        x = flat.scale * torch.cat(parts).detach().reshape(len(index), *flat.shape) + flat.offset
        return _posterior(case.problem.rows(index), x, len(case.problem), flat.counts), filters


_RANGES = {"deepinv": (1 / 6, 0.5), "azula": (0.5, 0.0)}


def _posterior(rows: Problem, x: Tensor, items: int, counts: Counter[str]) -> Posterior:
    finite = torch.isfinite(x).reshape(items, -1).all(1)
    return Posterior(
        x=x.reshape(items, -1, *x.shape[1:]),
        log_w=torch.zeros(items, len(x) // items, dtype=torch.float64),
        chi2=rows.chi2(x.to(rows.y.real)).double().reshape(items, -1),
        ids=tuple(range(items)),
        ok=finite,
        suspect=~finite,
        kind="approximate",
        counts={name: count / len(x) for name, count in counts.items()},
    )


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


class ForDeepinv(deepinv.models.Denoiser):
    """A prior of ours in deepinv's convention: D(z, sigma), both on the scale of the images."""

    def __init__(self, flat: Flat) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
        levels = torch.as_tensor(sigma, dtype=x.dtype).flatten()
        return self.flat.denoise(x, levels[0] if len(levels) == 1 else levels)


class Levels(Schedule):
    """Our ladder as azula's schedule: alpha is 1, and sigma falls as in ``karras``."""

    def __init__(self, ladder: Tensor, scale: float) -> None:
        self.ends = [float(ladder[k]) ** (1 / 7) / scale ** (1 / 7) for k in (-2, 0)]

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), (self.ends[0] * (1 - t) + self.ends[1] * t) ** 7


class ForAzula(AzulaDenoiser):
    """A prior of ours in azula's convention, z_t = alpha z + sigma n."""

    def __init__(self, flat: Flat, schedule: Schedule) -> None:
        super().__init__()
        self.flat, self.schedule = flat, schedule

    def forward(self, x: Tensor, t: Tensor, **kwargs: Any) -> DiracPosterior:
        alpha, sigma = self.schedule(t)
        return DiracPosterior(self.flat.denoise(x / alpha, sigma / alpha))


def _deepinv(make: Callable[[ForDeepinv, int], Any]) -> Run:
    def run(case: Case, flat: Flat, steps: int) -> Tensor:
        if isinstance(case.problem.operator, Inpainting):  # which deepinv can decompose
            mask = case.problem.operator.mask
            physics = deepinv.physics.Inpainting(flat.shape, mask=mask.float())
            y = torch.zeros(len(flat.y), mask.numel())
            y[:, mask.flatten() > 0] = flat.y
            y = y.reshape(-1, *flat.shape)
        else:
            physics, y = as_deepinv(Matrix(flat.matrix[None], flat.shape)), flat.y
        physics.noise_model = deepinv.physics.GaussianNoise(flat.sigma)
        model = make(ForDeepinv(flat), steps)
        options = {} if isinstance(model, DiffPIR | DDRM) else {"x_init": (len(y), *flat.shape)}
        seed = int(torch.randint(2**31, ()))
        return model(y, physics, seed=seed, **options)

    return run


def _diffusion(fidelity: Callable[[], Any]) -> Callable[[ForDeepinv, int], Any]:
    def make(denoiser: ForDeepinv, steps: int) -> Any:
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)  # as deepinv's own DPS
        solver = DDPMSolver(timesteps=times, rng=torch.Generator().manual_seed(0))
        return PosteriorDiffusion(fidelity(), denoiser, VariancePreservingDiffusion(), solver)

    return make


def _dps(**options: float) -> Callable[[ForDeepinv, int], Any]:
    return lambda denoiser, steps: DPS(
        denoiser, num_steps=steps, rng=torch.Generator().manual_seed(0), **options
    )


def _diffpir(denoiser: ForDeepinv, steps: int) -> Any:
    fidelity = deepinv.optim.data_fidelity.L2()
    return DiffPIR(denoiser, fidelity, sigma=denoiser.flat.sigma, max_iter=steps)


def _ddrm(denoiser: ForDeepinv, steps: int) -> Any:
    return DDRM(denoiser, sigmas=torch.linspace(1, 0, steps).numpy())


def _azula(make: Callable[[ForAzula, Flat, Case], Callable[[int], Any]]) -> Run:
    def run(case: Case, flat: Flat, steps: int) -> Tensor:
        schedule = Levels(case.ladder(steps), flat.scale)
        sampler = make(ForAzula(flat, schedule), flat, case)(steps)
        return sampler(sampler.init((len(flat.y), *flat.shape)))

    return run


def _guided(kind: Any, **options: Any) -> Run:
    """A denoiser that azula conditions on y, in its stochastic sampler."""

    def make(denoiser: ForAzula, flat: Flat, case: Case) -> Callable[[int], Any]:
        noise = (
            {"cov_y": IsotropicCovariance(torch.tensor(flat.sigma**2))}
            if kind is MMPSDenoiser
            else {"var_y": flat.sigma**2}
        )
        guided = kind(denoiser, flat.y, flat.forward, **noise, **options)
        return lambda steps: DDPMSampler(guided, steps=steps, **_SILENT)

    return _azula(make)


def _azula_dps(denoiser: ForAzula, flat: Flat, case: Case) -> Callable[[int], Any]:
    return lambda steps: DPSSampler(denoiser, flat.y, flat.forward, steps=steps, **_SILENT)


def _azula_pgdm(denoiser: ForAzula, flat: Flat, case: Case) -> Callable[[int], Any]:
    return lambda steps: PGDMSampler(
        denoiser, flat.y, flat.forward, flat.pseudo_inverse, steps=steps, **_SILENT
    )


def _azula_tds(denoiser: ForAzula, flat: Flat, case: Case) -> Callable[[int], Any]:
    """Its twist is the user's: the likelihood with the prior's mean error added to the noise."""
    gain = torch.linalg.matrix_norm(flat.matrix, 2) ** 2

    def twist(x: Tensor, level: Tensor) -> Tensor:
        error = case.prior.error_variance(flat.scale * level) / flat.scale**2
        variance = flat.sigma**2 + gain * error
        return -0.5 * (flat.y - flat.forward(x)).square() / variance

    return lambda steps: TDSSampler(denoiser, twist, steps=steps, **_SILENT)


def peers(steps: int) -> Iterator[Peer]:
    """All of them, with as many evaluations as our samplers at ``steps`` levels."""
    yield Peer("DPS", "deepinv", steps, _deepinv(_dps()))
    yield Peer("DPS, weight 100", "deepinv", steps, _deepinv(_dps(weight=100.0)))
    yield Peer("PiGDM", "deepinv", steps, _deepinv(_diffusion(PiGDMDataFidelity)))
    yield Peer(
        "MomentMatching", "deepinv", steps, _deepinv(_diffusion(MomentMatchingDataFidelity))
    )
    yield Peer("DiffPIR", "deepinv", steps, _deepinv(_diffpir))
    yield Peer("DDRM", "deepinv", steps, _deepinv(_ddrm), decomposable=True)
    yield Peer("DPS", "azula", steps, _azula(_azula_dps), alone=True)
    yield Peer("PGDM", "azula", steps, _azula(_azula_pgdm))
    yield Peer("MMPS", "azula", steps, _guided(MMPSDenoiser))
    yield Peer("MMPS, 5 solver steps", "azula", steps, _guided(MMPSDenoiser, iterations=5))
    yield Peer("TMPD", "azula", steps, _guided(TMPDenoiser))
    yield Peer("DiffPIR", "azula", steps, _guided(DiffPIRDenoiser))
    yield Peer("TDS", "azula", steps, _azula(_azula_tds), particles=8, alone=True)
