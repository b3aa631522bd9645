"""Regularisation by denoising diffusion.

Reference: Mardani et al., A variational perspective on solving inverse problems with diffusion
models, 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from invdiff.curvature import bend
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise

__all__ = [
    "LogWeight",
    "PosteriorWeight",
    "PowerWeight",
    "REDDiff",
    "TruncatedWeight",
    "Weighting",
]


class Weighting(Protocol):
    r"""How much the prior counts at level sigma: the factor of :math:`\mu - D`, (b,)."""

    def __call__(self, sigma: float, scale: float, curvature: Tensor) -> Tensor:
        r"""``scale``: std of the images; ``curvature`` (b,): :math:`\mathrm{tr}(J^* W J)/n`."""
        ...


@dataclass(frozen=True)
class PosteriorWeight:
    r""":math:`1/\sigma^2`: the gradient is that of the log posterior, smoothed by sigma."""

    def __call__(self, sigma: float, scale: float, curvature: Tensor) -> Tensor:
        return torch.full_like(curvature, 1 / sigma**2)


@dataclass(frozen=True)
class PowerWeight:
    r""":math:`\kappa\, t^{p - 1}` with :math:`t = \sigma / s`, the power p of the noise.

    :math:`\kappa` is the mean curvature of the data term and s the standard deviation of the
    images. The paper's names: "linear" is p = 1, its default; "sqrt" 0.5, "power2over3" 2/3,
    "square" 2, "const" 0. It takes images and operators of size 1 and noise as part of
    :math:`\lambda`, 0.25; here the units are those of the data, so it is the same for any noise.
    """

    power: float = 1.0

    def __call__(self, sigma: float, scale: float, curvature: Tensor) -> Tensor:
        factor: float = (sigma / scale) ** (self.power - 1)
        return curvature * factor


@dataclass(frozen=True)
class LogWeight:
    r""":math:`\kappa \log(1 + t)\, t^{-1}` with :math:`t = \sigma / s`, the paper's "log"."""

    def __call__(self, sigma: float, scale: float, curvature: Tensor) -> Tensor:
        return curvature * math.log1p(sigma / scale) * scale / sigma


@dataclass(frozen=True)
class TruncatedWeight:
    r""":math:`\kappa \min(t, 1)\, t^{-1}` with :math:`t = \sigma / s`, "trunc_linear"."""

    def __call__(self, sigma: float, scale: float, curvature: Tensor) -> Tensor:
        return curvature * min(1.0, scale / sigma)


class Descent(NamedTuple):
    """The estimate x, Adam's moments (b, *shape), the steps taken (b,), and the curvature (b,)."""

    x: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class REDDiff:
    r"""Finds one image by stochastic descent; the ladder is the order of the noise levels.

    .. math:: g = -A^* W (y - A \mu) + \lambda\, \omega(\sigma)\, (\mu - D(\mu + \sigma \xi))

    With :math:`\omega = 1/\sigma^2` the second term is minus the score of the prior smoothed by
    :math:`\sigma`, so the estimate tends to a mode of the posterior. Adam's step is ``rate`` times
    the root of the prior's error variance: it shrinks with what is still unknown.

    A point estimator. The spread of several runs measures the optimiser, not the posterior.

    Arguments:
        rate: The step in units of the prior's error.
        prior_weight: :math:`\lambda`; 1 is the posterior's own balance.
        momentum: Adam's decay rates.
        weighting: :math:`\omega`; ``PosteriorWeight()`` by default, ``PowerWeight``, ``LogWeight``
            and ``TruncatedWeight`` are the paper's.
    """

    rate: float = 0.2
    prior_weight: float = 1.0
    momentum: tuple[float, float] = (0.9, 0.99)
    weighting: Weighting = field(default_factory=PosteriorWeight)

    kind: ClassVar[Kind] = "point"
    needs_linear: ClassVar[bool] = False

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Descent:
        x = prior(prior_noise(problem, sigma, rng), sigma)  # the prior's mean, nearly
        zero = torch.zeros_like(x)
        steps = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        # Along random signs, its mean is the trace of the Hessian.
        curvature = bend(problem, x, rng.signs(x)) / x[0].numel()
        return Descent(x, zero, zero, steps, curvature)

    def step(
        self,
        state: Descent,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Descent, Info]:
        value, vjp = problem.operator.linearize(state.x)
        residual = problem.center - value
        weighted = problem.precision * residual
        clean = prior(state.x + sigma * rng.normal(state.x), sigma)
        scale = float(prior.error_variance(torch.full_like(sigma, prior.sigma_max)).sqrt())
        weight = self.prior_weight * self.weighting(float(sigma), scale, state.curvature)
        gradient = expand(weight, clean) * (state.x - clean) - vjp(weighted)
        slow, fast = self.momentum
        first = slow * state.first + (1 - slow) * gradient
        second = fast * state.second + (1 - fast) * gradient**2
        taken = float(state.steps[0]) + 1  # the same for all rows
        size = (second / (1 - fast**taken)).sqrt()
        direction = first / (1 - slow**taken) / torch.where(size > 0, size, 1)
        x = state.x - self.rate * prior.error_variance(sigma).sqrt() * direction
        chi2 = (weighted.conj() * residual).real.flatten(1).sum(1) / problem.measured
        return Descent(x, first, second, state.steps + 1, state.curvature), {"chi2": chi2}
