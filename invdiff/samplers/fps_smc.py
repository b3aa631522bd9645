"""Filtering posterior sampling.

Reference: Dou and Song, Diffusion posterior sampling for linear inverse problem solving: a
filtering perspective, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.diffusion import ancestral, extrapolate, share
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.annealed import Widened
from invdiff.samplers.base import Info, Kind
from invdiff.singular import singular_system
from invdiff.smc import Resampling, Systematic, effective_sample_size, resample

__all__ = ["FPSSMC"]


class Filtered(NamedTuple):
    """Particles x with all that is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D(x)
    slope: Tensor  # the change of x0 per unit of -ln sigma, over the last step
    path: Tensor  # the noisy data of this level, in singular coordinates (b, r)
    log_w: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class FPSSMC:
    r"""Filters the noisy image, given noisy data of every level.

    The data get a path of their own, :math:`y_\sigma = y + \sigma A \epsilon` with the increments
    of one Wiener process per item, and each level is taken as a new measurement
    :math:`y_\sigma = A x_\sigma + n`. Particles are drawn from :math:`p(x' \mid x, y_{\sigma'})`,
    exactly, in the singular coordinates of a linear operator, and chosen beforehand by

    .. math:: w = p(y_{\sigma'} \mid x) = N(y_{\sigma'}; A\, m(x), W^{-1} + s^2 A A^*)

    where the prior's step is N(m, s^2). Samples are equally weighted: the last choice is before
    the last step.

    Biased: the noise n is the same at all levels, but is filtered as if it were new at each. The
    more levels are finer than the noise, the more the samples trust the data: exact without
    noise, far too narrow with it (a ninth of the variance, for data as precise as the prior and
    60 levels). The weights do not estimate the evidence.

    Arguments:
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.
    """

    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = True

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Filtered:
        system, level = singular_system(problem), float(sigma)
        noise = rng.normal(problem.y.real.new_empty(len(problem), *problem.operator.domain))
        path = system.data + level * system.values * _shared(system.data, rng)
        zero, log_w = torch.zeros_like(path), torch.zeros(len(path), dtype=torch.float64)
        log_w = log_w.to(path.device)
        given = Widened(problem, log_w).posterior(zero, level, 0.0, path)
        x = given.draw(system, torch.zeros_like(noise), zero, level, noise)
        x0 = prior(x, sigma)
        return Filtered(x, x0, torch.zeros_like(x0), path, log_w, torch.zeros_like(log_w))

    def step(
        self,
        state: Filtered,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Filtered, Info]:
        ess = {"ess": effective_sample_size(state.log_w.reshape(-1, rng.particles))}
        if sigma_next == 0:
            state = resample(state, rng, 1.0, self.resampling)
            return state._replace(x=state.x0), ess
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        plain = ancestral(state.x, target, sigma, sigma_next)
        system, std = singular_system(problem), float(plain.std)
        kept = 1 - float(share(sigma, sigma_next))
        path = system.data + kept * (state.path - system.data)
        path = path + std * system.values * _shared(path, rng)
        likelihood = Widened(problem, torch.zeros_like(state.log_w))
        given = likelihood.posterior(system.project(plain.mean), std, 0.0, path)
        # The mean travels in the place of x: ancestors are chosen before they are moved.
        ahead = state._replace(x=plain.mean, path=path, log_w=state.log_w + given.log_density)
        ess = {"ess": effective_sample_size(ahead.log_w.reshape(-1, rng.particles))}
        ahead = resample(ahead, rng, self.threshold, self.resampling)
        projected = system.project(ahead.x)
        given = likelihood.posterior(projected, std, 0.0, path)
        x = given.draw(system, ahead.x, projected, std, rng.normal(ahead.x))
        x0 = prior(x, sigma_next)
        slope = (x0 - ahead.x0) / torch.log(sigma / sigma_next)
        return ahead._replace(x=x, x0=x0, slope=slope), ess


def _shared(like: Tensor, rng: Rng) -> Tensor:
    """Standard normal numbers (b, r), the same for all particles of an item."""
    first = rng.normal(like).reshape(-1, rng.particles, like.shape[1])[:, :1]
    return first.expand(-1, rng.particles, -1).flatten(0, 1)
