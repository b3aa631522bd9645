"""Feynman-Kac correctors: powers, products and mixtures of priors, tilted by the data.

Reference: Skreta et al., Feynman-Kac correctors in diffusion: annealing, guidance, and product of
experts, 2025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from invdiff.diffusion import Transition, extrapolate
from invdiff.metering import MeteredPrior
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.annealed import Annealed, annealed, guide, start
from invdiff.samplers.base import Info, Kind
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["FKC", "half_guided"]


class Experts(NamedTuple):
    """Particles x with all that is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D_i(x), (b, priors, *shape)
    slope: Tensor  # their change per unit of -ln sigma, over the last step
    potential: Tensor  # r(x)
    gradient: Tensor  # of r at x
    constant: Tensor  # the annealed likelihood's
    log_w: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class FKC:
    r"""Weighted particles for :math:`\prod_i p_i(x)^{\beta_i}\, p(y \mid x)`, no Laplacian needed.

    At level :math:`\sigma` the target is :math:`\prod_i p_{i,\sigma}^{\beta_i} e^{r_\sigma}`,
    with the log-likelihood :math:`r_\sigma` annealed. With the scores :math:`s_i`,
    :math:`B = \sum_i \beta_i s_i` and :math:`R = \nabla r_\sigma`, particles move by
    :math:`\mathrm{d}x = (B + \tfrac12 R)\,\mathrm{d}u + \mathrm{d}W`,
    :math:`\mathrm{d}u = -\mathrm{d}\sigma^2`, and are weighed by

    .. math:: \mathrm{d}\log w = \tfrac12 \Bigl[|B|^2 - \sum_i \beta_i |s_i|^2
              + B \cdot R\Bigr] \mathrm{d}u + \frac{\partial r_\sigma}{\partial u} \mathrm{d}u

    A step integrates the priors exactly for clean estimates held fixed in its middle, and weighs
    its half guidance by the ratio of the kernels down and up, which tends to the above.

    - ``FKC()``: the posterior, for any differentiable operator.
    - ``FKC(power=3)``: a sharpened prior.
    - ``FKC(others=((second, 1.0),))``: the product of two priors.
    - ``FKC(power=1 - w, others=((second, w),))``: their geometric mixture, or guidance for w > 1.

    ``log_evidence`` tends to the log of the target's integral: log p(y) for ``FKC()``. The last
    step, to 0, moves to the weighted clean estimate: its powers are those of the last level.

    Arguments:
        power: :math:`\beta` of the prior given to ``sample``.
        others: More priors, each with its power; the powers' sum must be above 0.
        annealing: c. The likelihood is widened by the variance :math:`c \sigma^2` of x, linear
            operators, or tempered to match, others; 0 uses the plain likelihood at all levels,
            which needs steps shorter than the noise.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError if the powers' sum, or the annealing, is out of range.
    """

    power: float = 1.0
    others: tuple[tuple[Prior, float], ...] = ()
    annealing: float = 1.0
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not sum(self.powers) > 0:
            raise ValueError(f"The powers are {self.powers}, expected a sum above 0.")
        if not 0 <= self.annealing < math.inf:
            raise ValueError(f"annealing is {self.annealing}, expected 0 or more.")

    @property
    def powers(self) -> tuple[float, ...]:
        """The powers of all priors."""
        return (self.power, *(power for _, power in self.others))

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Experts:
        for other, _ in self.others:
            other.check_shape(problem.operator.domain)
        level, total = float(sigma), sum(self.powers)
        variance = self.annealing * level**2
        x, log_w, likelihood = start(problem, level / math.sqrt(total), variance, rng)
        pixels = x[0].numel()
        norm = 0.5 * pixels * ((1 - total) * math.log(2 * math.pi * level**2) - math.log(total))
        x0 = self._denoise(x, sigma, prior)
        potential, gradient = likelihood.value_and_gradient(x, variance)
        flat, zero = torch.zeros_like(x0), torch.zeros_like(log_w)
        constant = likelihood.constant
        return Experts(x, x0, flat, potential, gradient, constant, log_w + norm, zero)

    def step(
        self,
        state: Experts,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Experts, Info]:
        state = resample(state, rng, self.threshold, self.resampling)
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        if sigma_next == 0:
            x = _weighted(target, self.powers)
            log_w = state.log_w + problem.log_likelihood(x).double() - state.potential
            state = state._replace(x=x, log_w=log_w)
            return state, weight_info(state, rng.particles)
        plain, log_factor = _move(state.x, target, self.powers, sigma, sigma_next)
        variance = self.annealing * float(sigma_next) ** 2
        likelihood = annealed(problem, state.constant)
        x, potential, gradient, log_ratio = half_guided(state, plain, likelihood, variance, rng)
        x0 = self._denoise(x, sigma_next, prior)
        slope = (x0 - state.x0) / torch.log(sigma / sigma_next)
        log_w = state.log_w + log_factor + log_ratio
        state = Experts(
            x, x0, slope, potential, gradient, state.constant, log_w, state.log_evidence
        )
        return state, weight_info(state, rng.particles)

    def _denoise(self, x: Tensor, sigma: Tensor, prior: Prior) -> Tensor:
        priors = [prior]
        for other, _ in self.others:
            # Counted, and bounded in its rows, as the first one is.
            metered = replace(prior, prior=other) if isinstance(prior, MeteredPrior) else other
            priors.append(metered)
        return torch.stack([one(x, sigma) for one in priors], 1)


class Weighed(Protocol):
    """What half guidance asks of a state."""

    @property
    def x(self) -> Tensor: ...

    @property
    def potential(self) -> Tensor: ...

    @property
    def gradient(self) -> Tensor: ...


class Guided(NamedTuple):
    """Where half guidance leads, r and its gradient there, and the log-weight of the way."""

    x: Tensor
    potential: Tensor
    gradient: Tensor
    log_ratio: Tensor


def half_guided(
    state: Weighed, plain: Transition, likelihood: Annealed, variance: float, rng: Rng
) -> Guided:
    r"""Moves by :math:`N(m + \tfrac12 s^2 R(x), s^2)`, where the plain step is N(m, s^2).

    Weighed by :math:`e^{r'(x') - r(x)}`, by the plain over the guided density, and by the same
    for the way up, which the guidance at x' draws back.
    """
    guided = plain._replace(mean=plain.mean + 0.5 * guide(state.gradient, plain.std))
    x = guided.draw(rng.normal(state.x))
    potential, gradient = likelihood.value_and_gradient(x, variance)
    up = Transition(x, plain.std)
    up_guided = Transition(x + 0.5 * guide(gradient, plain.std), plain.std)
    log_ratio = (
        potential - state.potential + plain.log_ratio(guided, x) + up_guided.log_ratio(up, state.x)
    )
    return Guided(x, potential, gradient, log_ratio)


def _weighted(x0: Tensor, powers: tuple[float, ...]) -> Tensor:
    share = x0.new_tensor(powers) / sum(powers)
    return torch.einsum("i,bi...->b...", share, x0)


def _move(
    x: Tensor, x0: Tensor, powers: tuple[float, ...], sigma: Tensor, sigma_next: Tensor
) -> tuple[Transition, Tensor]:
    r"""The step that fits the powers, and the log of its factor to the weight, (b,), float64.

    As a function of x', the target's growth :math:`\prod_i [N(x'; D_i, \sigma'^2) /
    N(x; D_i, \sigma^2)]^{\beta_i}` times the way up, :math:`N(x; x', \sigma^2 - \sigma'^2)`, is
    a factor times a Gaussian. That is the ancestral step, of factor 1, for one prior of power 1.
    """
    total, pixels = sum(powers), x[0].numel()
    now, then = float(sigma) ** 2, float(sigma_next) ** 2
    kept, reach = then / now, 1 - then / now
    pull = kept + total * reach
    center = _weighted(x0, powers)
    mean = torch.lerp(center, x, kept / pull)
    std = torch.as_tensor(math.sqrt(then * reach / pull), dtype=torch.float64)
    weights = x0.new_tensor(powers).double()
    apart = (x0 - center[:, None]).double().square().flatten(2).sum(2) @ weights
    far = (x - center).double().square().flatten(1).sum(1)
    log_factor = (
        -0.5 * apart * (1 / then - 1 / now)
        + 0.5 * far * total * (total - 1) * reach / (now * pull)
        + 0.5 * pixels * ((1 - total) * math.log(kept) - math.log(pull))
    )
    return Transition(mean, std), log_factor
