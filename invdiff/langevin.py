"""Langevin dynamics with momentum, which crosses a distribution rather than wander in it."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from invdiff.rng import Rng

__all__ = ["underdamped"]


def underdamped(
    x: Tensor,
    force: Callable[[Tensor], Tensor],
    step: float,
    persistence: float,
    moves: int,
    rng: Rng,
) -> Tensor:
    r"""x after ``moves`` steps of :math:`dx = v\,dt,\; dv = \nabla \log p(x)\,dt - \gamma v\,dt +
    \sqrt{2 \gamma}\,dw`, from fresh velocities.

    Each step has the order BAOAB: half a push, half a drift, friction and noise, half a drift,
    half a push; it takes one new force. For Gaussian p its positions have the exact law at every
    stable step, that is below :math:`2 / \omega`, :math:`\omega^2` the largest curvature of
    :math:`-\log p`; for others the error is of second order in the step. Nothing is rejected,
    so that no density is needed.

    Arguments:
        x: Where it starts, (b, *shape).
        force: :math:`\nabla \log p`, (b, *shape) to (b, *shape).
        step: In units of x, for velocities of variance 1.
        persistence: :math:`e^{-\gamma h}`, what of the velocity a step keeps.
        moves: How many steps, each one evaluation of the force, and one more at the start.
        rng: Of the velocities and the noise.

    (Leimkuhler and Matthews, Rational construction of stochastic numerical methods for molecular
    sampling, 2013.)
    """
    if moves == 0:
        return x
    kick = math.sqrt(1 - persistence**2)
    velocity, push = rng.normal(x), force(x)
    for _ in range(moves):
        velocity = velocity.add(push, alpha=step / 2)
        x = x.add(velocity, alpha=step / 2)
        velocity = (persistence * velocity).add_(rng.normal(x), alpha=kick)
        x = x.add(velocity, alpha=step / 2)
        push = force(x)
        velocity = velocity.add_(push, alpha=step / 2)
    return x
