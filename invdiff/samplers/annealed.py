"""What particle samplers weigh with: a likelihood that is vague at first and exact at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.linalg import expand
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.singular import SingularSystem, singular_system

__all__ = ["Annealed", "Coordinates", "Widened", "anneal", "annealed", "guide", "start"]


class Coordinates(NamedTuple):
    r"""Bayes' rule along every singular direction, for :math:`z \sim N(m, v)` and data on z.

    mean (b, r) and std (1 or b, r) of z given the data, and the data's log-density, (b,), float64.
    """

    mean: Tensor
    std: Tensor
    log_density: Tensor

    def draw(
        self, system: SingularSystem, center: Tensor, projected: Tensor, std: float, noise: Tensor
    ) -> Tensor:
        """An image N(center, std^2) whose coordinates, N(projected, std^2), are drawn from this.

        The coordinates use their share of the noise, (b, *shape): nothing else is drawn.
        """
        shift = self.mean - projected + (self.std - std) * system.project(noise)
        return center.add(noise, alpha=std) + system.lift(shift)


@dataclass(frozen=True, eq=False)
class Annealed(ABC):
    """log p(y | x), widened as if x were uncertain by some variance; exact at variance 0.

    Arguments:
        problem: b rows.
        constant: What is computed once per row, (b,), float64; carried in the sampler's state.
    """

    problem: Problem
    constant: Tensor

    @abstractmethod
    def value(self, x: Tensor, variance: float) -> Tensor:
        """(b,), float64."""

    @abstractmethod
    def value_and_gradient(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        """(b,), float64, and the gradient in x, (b, *shape)."""


@dataclass(frozen=True, eq=False)
class Widened(Annealed):
    r"""For linear A: :math:`\log N(y; A x, W^{-1} + u A A^*)`, in the singular coordinates.

    The constant makes it the log-density of y itself, at u = 0.
    """

    @property
    def system(self) -> SingularSystem:
        return singular_system(self.problem)

    def spread(self, variance: float) -> Tensor:
        """The variance of every coordinate of the whitened data, (1 or b, r)."""
        return 1 + variance * self.system.values**2

    def value(self, x: Tensor, variance: float) -> Tensor:
        return self.constant + _log_normal(self.system.residual(x), self.spread(variance))

    def value_and_gradient(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        system, spread = self.system, self.spread(variance)
        residual = system.residual(x)
        gradient = system.lift(system.values * residual / spread)
        return self.constant + _log_normal(residual, spread), gradient

    def posterior(
        self, projected: Tensor, std: float, variance: float, data: Tensor | None = None
    ) -> Coordinates:
        """Coordinates N(projected, std^2), (b, r), given the data widened by ``variance``.

        ``data`` (b, r) stands in for the problem's own, in the same coordinates.
        """
        values, spread = self.system.values, self.spread(variance)
        total = spread + (std * values) ** 2
        residual = (self.system.data if data is None else data) - values * projected
        mean = projected + std**2 * values / total * residual
        log_density = self.constant + _log_normal(residual, total)
        return Coordinates(mean, std * (spread / total).sqrt(), log_density)


@dataclass(frozen=True, eq=False)
class Tempered(Annealed):
    r"""For any A: :math:`\log p(y \mid x) / (1 + \kappa u)`, with the constant :math:`\kappa`."""

    def value(self, x: Tensor, variance: float) -> Tensor:
        return self.problem.log_likelihood(x).double() / (1 + variance * self.constant)

    def value_and_gradient(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        problem = self.problem
        value, adjoint = problem.operator.linearize(x)
        gradient = adjoint(problem.precision * (problem.center - value))
        power = 1 / (1 + variance * self.constant)
        return self.value(x, variance), expand(power.to(gradient), gradient) * gradient


def annealed(problem: Problem, constant: Tensor) -> Annealed:
    """The likelihood of a problem whose constant is known from ``anneal``."""
    return (Widened if problem.operator.linear else Tempered)(problem, constant)


def anneal(problem: Problem, x: Tensor, variance: float, particles: int) -> Annealed:
    r"""The same, from images x (b, *shape) at the first level.

    Of a nonlinear operator, :math:`\kappa` is such that the misfit of x, the mean over the
    particles of an item, becomes about 1 per measured number at the given variance.
    """
    if problem.operator.linear:
        white = singular_system(problem).residual(x)
        constant = problem.log_likelihood(x).double() + 0.5 * white.double().square().sum(1)
        return Widened(problem, constant)
    chi2 = problem.chi2(x).double().reshape(-1, particles).mean(1)
    return Tempered(problem, chi2.repeat_interleave(particles) / variance)


class Started(NamedTuple):
    """Particles (b, *shape), their log-weights (b,), and the likelihood they were weighed by."""

    x: Tensor
    log_w: Tensor
    likelihood: Annealed


def start(problem: Problem, std: float, variance: float, rng: Rng) -> Started:
    """Draws from N(0, std^2) times the likelihood, widened by ``variance``; the mean weight is
    the integral of that product.

    Exact and of equal weights for linear operators, from weighted noise for others.
    """
    noise = rng.normal(problem.y.real.new_empty(len(problem), *problem.operator.domain))
    likelihood = anneal(problem, std * noise, max(variance, std**2), rng.particles)
    if not isinstance(likelihood, Widened):
        return Started(std * noise, likelihood.value(std * noise, variance), likelihood)
    zero = torch.zeros_like(likelihood.system.data)
    given = likelihood.posterior(zero, std, variance)
    x = given.draw(likelihood.system, torch.zeros_like(noise), zero, std, noise)
    return Started(x, given.log_density, likelihood)


def guide(gradient: Tensor, std: Tensor) -> Tensor:
    r"""The shift :math:`s^2 R / \sqrt{1 + \rho^4}` of a step of noise s, (b, *shape).

    :math:`\rho` is the root mean square of s R over the pixels, of order s: in the limit nothing
    is held back, but no step goes further than its own noise. Weights know of it.
    (Hutzenthaler et al., Strong convergence of an explicit numerical method for SDEs with
    nonglobally Lipschitz continuous coefficients, 2012.)
    """
    rho = std.to(gradient) * gradient.square().flatten(1).mean(1).sqrt()
    return expand(std.to(gradient) ** 2 / (1 + rho**4).sqrt(), gradient) * gradient


def _log_normal(residual: Tensor, variance: Tensor) -> Tensor:
    """Up to its constant, which ``Widened`` knows, (b,)."""
    squares = residual.double().square() / variance.double() + variance.double().log()
    return -0.5 * squares.sum(1)
