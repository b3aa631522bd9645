r"""Draws of an image that is close to the data and close to another image.

.. math:: p(x) \propto \exp\left(-\tfrac12 \|y - A(x)\|_W^2 - \tfrac{1}{2 v} \|x - c\|^2\right)

Split samplers ask for it at every level. W is the inverse variance of the noise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.curvature import push_forward
from invdiff.linalg import cg, expand, inner, squared_norm
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["draw_gaussian", "draw_langevin", "stiffness"]

_OPTIMAL_ACCEPTANCE = 0.574
_NUMBERS = 8192  # the random numbers a row draws at once


def draw_gaussian(
    problem: Problem,
    center: Tensor,
    variance: float,
    rng: Rng,
    *,
    tolerance: float = 1e-4,
    iterations: int = 100,
) -> Tensor:
    r"""An exact draw (b, *domain) for a linear operator: perturb both terms, then solve.

    .. math:: x = c' + v A^* W^{1/2} u, \qquad
              (1 + v W^{1/2} A A^* W^{1/2})\, u = W^{1/2} (y - A c') + \xi, \qquad
              c' = c + \sqrt{v}\, \xi'

    Solved among measurements: an error of u is at most as large, in units of the draw's own
    standard deviation, in any direction of x.

    Arguments:
        problem: A linear operator, and the data.
        center: :math:`c`, (b, *domain).
        variance: :math:`v`; 0 gives the centre.
        tolerance: The relative residual of u at which conjugate gradients stop.
        iterations: The largest number of their steps.

    (Papandreou and Yuille, Gaussian sampling by local perturbations, 2010.)
    """
    a, root = problem.operator, problem.precision.sqrt()
    moved = center + variance**0.5 * rng.normal(center)
    noise = torch.where(root > 0, rng.normal(problem.y), 0)
    solved = cg(
        lambda u: u + variance * root * a(a.adjoint(root * u)),
        root * problem.residual(moved) + noise,
        tolerance=tolerance,
        iterations=iterations,
    )
    x: Tensor = moved + variance * a.adjoint(root * solved.x)
    return x


class _Place(NamedTuple):
    """An image, minus its log density (b,), float64, and the gradient of that (b, *domain)."""

    x: Tensor
    energy: Tensor
    gradient: Tensor


def draw_langevin(
    problem: Problem, x: Tensor, center: Tensor, variance: float, rng: Rng, *, steps: int
) -> Tensor:
    r"""Moves x (b, *domain) by Langevin steps that leave p invariant, for any operator.

    .. math:: x' = x - h \nabla U(x) + \sqrt{2 h}\, \xi, \qquad
              h = \frac{n^{-1/3}}{1 / v + \lambda_{\max}(J^* W J)}

    Each step is accepted or rejected per row, so that the finite step does not bias the result.
    The step is bounded by the stiffness of data and centre where the row starts, and follows the
    acceptance over the first half of the steps, towards the rate that mixes fastest.
    NaN is never rejected: a broken row shows.

    Arguments:
        problem: Any differentiable operator, and the data.
        x: Where each row starts.
        center: :math:`c`, (b, *domain).
        variance: :math:`v`; 0 gives the centre.
        steps: The number of gradients.

    (Roberts and Rosenthal, Optimal scaling of discrete approximations to Langevin diffusions,
    1998.)
    """
    if variance < torch.finfo(x.dtype).tiny:
        return center  # the limit: no image can differ from it by as little
    here = _look(problem, x, center, variance)
    pixels = x[0].numel()
    size = pixels ** (-1 / 3) / (1 / variance + stiffness(problem, x, rng.normal(x)))
    block = min(steps, _NUMBERS // (pixels + 1) + 1)  # few calls: each costs a loop over rows
    for k in range(steps):
        if k % block == 0:
            numbers = rng.normal(x.new_empty(len(x), block, pixels + 1))
        noise, luck = numbers[:, k % block, 1:].reshape(x.shape), numbers[:, k % block, 0]
        step = expand(size, x)
        moved = here.x - step * here.gradient + (2 * step).sqrt() * noise
        there = _look(problem, moved, center, variance)
        back = (here.x - moved + step * there.gradient) / (2 * step).sqrt()
        gain = here.energy - there.energy + 0.5 * (_square(noise) - _square(back))
        lost = there.energy == torch.inf  # of no density; NaN is another matter
        # A normal number's distribution function is uniform; comparing with NaN rejects nothing.
        stays = (gain < torch.special.log_ndtr(luck.double())) | lost
        here = _Place(*(_choose(stays, a, b) for a, b in zip(here, there, strict=True)))
        if k < steps // 2:
            accepted = torch.where(lost, 0, gain.clamp(max=0).exp())
            size = size * torch.exp(accepted - _OPTIMAL_ACCEPTANCE).to(size)
    return here.x


def stiffness(problem: Problem, x: Tensor, probe: Tensor, iterations: int = 5) -> Tensor:
    r"""The largest eigenvalue of :math:`J^* W J` at x, per row (b,), by power iterations.

    J is the derivative of the operator; ``probe`` (b, *domain) is where they start. Each takes
    one derivative forward and one back. The result approaches the eigenvalue from below.
    """
    _, vjp = problem.operator.linearize(x)
    found = torch.zeros_like(squared_norm(x))
    for _ in range(iterations):
        size = squared_norm(probe).sqrt()
        probe = probe / expand(torch.where(size > 0, size, 1), probe)
        image = push_forward(problem, x, probe)
        found = (problem.precision * image.abs().square()).flatten(1).sum(1)
        probe = vjp(problem.precision * image)
    return found


def _look(problem: Problem, x: Tensor, center: Tensor, variance: float) -> _Place:
    value, vjp = problem.operator.linearize(x)
    residual = problem.center - value
    weighted = problem.precision * residual
    pull = (x - center) / variance
    # Energies in double precision: what decides is a small difference of large ones.
    data = inner(_double(residual), _double(weighted))
    energy = 0.5 * (data + variance * _square(pull))
    return _Place(x, energy, pull - vjp(weighted))


def _choose(stays: Tensor, here: Tensor, there: Tensor) -> Tensor:
    return torch.where(expand(stays, here), here, there)


def _square(a: Tensor) -> Tensor:
    return squared_norm(_double(a))


def _double(a: Tensor) -> Tensor:
    return a.to(torch.complex128 if a.is_complex() else torch.float64)
