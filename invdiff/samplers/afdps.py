"""Weighted particles with the likelihood at the noisy image.

Reference: Chen et al., Solving inverse problems via diffusion-based priors: an approximation-free
ensemble sampling approach, 2025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from invdiff.diffusion import ancestral, extrapolate
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.annealed import Annealed, Widened, annealed, guide, start
from invdiff.samplers.base import Info, Kind
from invdiff.samplers.fkc import half_guided
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["AFDPS", "Diffusion", "Flow", "HalfGuidance"]


class Noisy(NamedTuple):
    """Particles x with all that is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D(x)
    slope: Tensor  # the change of x0 per unit of -ln sigma, over the last step
    potential: Tensor  # r(x)
    gradient: Tensor  # of r at x
    constant: Tensor  # the annealed likelihood's
    log_w: Tensor
    log_evidence: Tensor


class Place(NamedTuple):
    """A step from sigma to sigma_next: its mid-step clean estimate, and the likelihood there."""

    target: Tensor
    sigma: Tensor
    sigma_next: Tensor
    likelihood: Annealed
    variance: float
    rng: Rng


class Form(Protocol):
    """How particles move, and what they are weighed by."""

    def move(self, state: Noisy, place: Place) -> Noisy:
        """x, potential, gradient and log_w at the next level; the rest is AFDPS's."""
        ...

    def refine(self, state: Noisy, prior: Prior, place: Place) -> Noisy:
        """Leaves the target of the next level as it is; after x0 is known there."""
        ...


class Plain:
    """A form that needs no refinement."""

    def refine(self, state: Noisy, prior: Prior, place: Place) -> Noisy:
        return state


@dataclass(frozen=True)
class Diffusion(Plain):
    r"""Full guidance, :math:`\mathrm{d}x = (s + R)\,\mathrm{d}u + \mathrm{d}W`.

    .. math:: \mathrm{d}\log w = \bigl[s \cdot R + \tfrac12 |R|^2 + \tfrac12 \Delta r\bigr]
              \mathrm{d}u + \frac{\partial r}{\partial u} \mathrm{d}u

    For linear operators a step draws from :math:`p(x' \mid x)\, e^{r'(x')}`, exactly, in the
    singular coordinates, and weighs by its integral: no step is too stiff. For others the
    Laplacian is in the change of r along the step, one random probe of it for free. Either way
    its weights vary more than those of half guidance.
    """

    def move(self, state: Noisy, place: Place) -> Noisy:
        likelihood, variance = place.likelihood, place.variance
        plain = ancestral(state.x, place.target, place.sigma, place.sigma_next)
        noise = place.rng.normal(state.x)
        if isinstance(likelihood, Widened):
            projected, std = likelihood.system.project(plain.mean), float(plain.std)
            given = likelihood.posterior(projected, std, variance)
            x = given.draw(likelihood.system, plain.mean, projected, std, noise)
            potential, gradient = likelihood.value_and_gradient(x, variance)
            gain = given.log_density - state.potential
        else:
            guided = plain._replace(mean=plain.mean + guide(state.gradient, plain.std))
            x = guided.draw(noise)
            potential, gradient = likelihood.value_and_gradient(x, variance)
            gain = potential - state.potential + plain.log_ratio(guided, x)
        return state._replace(
            x=x, potential=potential, gradient=gradient, log_w=state.log_w + gain
        )


@dataclass(frozen=True)
class HalfGuidance(Plain):
    r"""Half guidance, :math:`\mathrm{d}x = (s + \tfrac12 R)\,\mathrm{d}u + \mathrm{d}W`.

    .. math:: \mathrm{d}\log w = \tfrac12 s \cdot R\, \mathrm{d}u
              + \frac{\partial r}{\partial u} \mathrm{d}u

    without a Laplacian: the smoothest weights for nonlinear operators. It is ``FKC()``.
    """

    def move(self, state: Noisy, place: Place) -> Noisy:
        plain = ancestral(state.x, place.target, place.sigma, place.sigma_next)
        x, potential, gradient, log_ratio = half_guided(
            state, plain, place.likelihood, place.variance, place.rng
        )
        log_w = state.log_w + log_ratio
        return state._replace(x=x, potential=potential, gradient=gradient, log_w=log_w)


@dataclass(frozen=True)
class Flow:
    r"""The probability flow, :math:`\mathrm{d}x = \tfrac12 s\,\mathrm{d}u`, then Langevin steps.

    The flow carries the prior from level to level, so the weight is the change of r along it,
    :math:`\log w \mathrel{+}= r'(x') - r(x)`. It contracts: without the unadjusted Langevin steps

    .. math:: x \leftarrow x + h \sigma'^2 (s + R) + \sqrt{2 h}\, \sigma' \xi

    particles leave the data, unseen by the effective sample size. Their bias is of order h.

    Arguments:
        corrections: The Langevin steps per level, each one more evaluation of the prior.
        size: h, in units of the noise.

    Raises ValueError if there is no correction, or h is not in (0, 1).
    """

    corrections: int = 2
    size: float = 0.1

    def __post_init__(self) -> None:
        if self.corrections < 1 or not 0 < self.size < 1:
            raise ValueError(f"{self}: expected 1 correction or more, and a size between 0 and 1.")

    def move(self, state: Noisy, place: Place) -> Noisy:
        ratio = float(place.sigma_next / place.sigma)
        x = place.target.lerp(state.x, ratio)
        potential, gradient = place.likelihood.value_and_gradient(x, place.variance)
        log_w = state.log_w + potential - state.potential
        return state._replace(x=x, potential=potential, gradient=gradient, log_w=log_w)

    def refine(self, state: Noisy, prior: Prior, place: Place) -> Noisy:
        level = float(place.sigma_next)
        x, x0, gradient, potential = state.x, state.x0, state.gradient, state.potential
        for _ in range(self.corrections):
            drift = x0 - x + level**2 * gradient
            noise = place.rng.normal(x)
            x = x.add(drift, alpha=self.size).add(noise, alpha=level * math.sqrt(2 * self.size))
            x0 = prior(x, place.sigma_next)
            potential, gradient = place.likelihood.value_and_gradient(x, place.variance)
        return state._replace(x=x, x0=x0, potential=potential, gradient=gradient)


@dataclass(frozen=True)
class AFDPS:
    r"""Weighted particles for :math:`p_\sigma(x)\, e^{r_\sigma(x)}`, down to the posterior.

    :math:`r_\sigma` is the log-likelihood at the noisy image. For linear operators it is annealed,
    :math:`r_\sigma(x) = \log N(y; A x, W^{-1} + c \sigma^2 A A^*)`: with c = 1 that is what y
    says about x under a flat prior, and it can be followed with any ladder. The weights of
    ``Diffusion`` then vary so much that its error falls slower than the root of the particles;
    c = 4 mends that (docs/convergence.md). For others it is
    tempered, by :math:`1 / (1 + c \kappa \sigma^2)` with :math:`\kappa \sigma_{\max}^2` the misfit
    of pure noise. The un-annealed likelihood of the paper, c = 0, needs steps shorter than the
    noise of the data: else the weights have infinite variance.

    Particles start from :math:`N(0, \sigma_{\max}^2)` times the likelihood, exactly if A is
    linear, and move and are weighed as the form says, with s the prior's score, :math:`R = \nabla
    r_\sigma` and :math:`\mathrm{d}u = -\mathrm{d}\sigma^2`. As particles and levels grow they
    converge to the posterior, and ``log_evidence`` to log p(y). Of one run's particles, the one
    of the highest weight is no posterior sample.

    Arguments:
        form: ``HalfGuidance()``, ``Diffusion()`` or ``Flow()``.
        annealing: c.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError if the annealing is negative or not finite.
    """

    form: Form = field(default_factory=HalfGuidance)
    annealing: float = 1.0
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.annealing < math.inf:
            raise ValueError(f"annealing is {self.annealing}, expected 0 or more.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Noisy:
        variance = self.annealing * float(sigma) ** 2
        x, log_w, likelihood = start(problem, float(sigma), variance, rng)
        potential, gradient = likelihood.value_and_gradient(x, variance)
        x0, constant = prior(x, sigma), likelihood.constant
        zero, flat = torch.zeros_like(log_w), torch.zeros_like(x0)
        return Noisy(x, x0, flat, potential, gradient, constant, log_w, zero)

    def step(
        self,
        state: Noisy,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Noisy, Info]:
        state = resample(state, rng, self.threshold, self.resampling)
        if sigma_next == 0:
            log_likelihood = problem.log_likelihood(state.x0).double()
            log_w = state.log_w + log_likelihood - state.potential
            state = state._replace(x=state.x0, potential=log_likelihood, log_w=log_w)
            return state, weight_info(state, rng.particles)
        variance = self.annealing * float(sigma_next) ** 2
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        likelihood = annealed(problem, state.constant)
        place = Place(target, sigma, sigma_next, likelihood, variance, rng)
        moved = self.form.move(state, place)
        x0 = prior(moved.x, sigma_next)
        slope = (x0 - state.x0) / torch.log(sigma / sigma_next)
        state = self.form.refine(moved._replace(x0=x0, slope=slope), prior, place)
        return state, weight_info(state, rng.particles)
