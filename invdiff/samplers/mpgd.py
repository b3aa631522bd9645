"""Manifold preserving guided diffusion.

Reference: He et al., Manifold preserving guided diffusion, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from invdiff.curvature import bend
from invdiff.diffusion import number
from invdiff.integrators import Estimate, Integrator, Renoise
from invdiff.linalg import expand, inner, squared_norm
from invdiff.samplers.guided import Guided, Place

__all__ = ["MPGD"]


@dataclass(frozen=True)
class MPGD(Guided):
    r"""Moves the clean estimate down the misfit's gradient, not through the network.

    .. math:: x_0' = D(x) + \zeta t\, g, \quad g = A^* W (y - A D(x)), \quad
              t = \frac{v(\sigma)}{1 + v(\sigma) \|A g\|_W^2 / \|g\|^2}

    where t is the minimum along g of :math:`\|y - A x_0\|_W^2 + \|x_0 - D\|^2 / v`, with the
    prior's error variance v: so ``step_size`` 1 needs no retuning. No derivative of the network
    is taken. This is the form without the projection onto an autoencoder's images.

    Any differentiable operator. Biased: one gradient step reaches few directions, so that means
    need many levels; known directions come out too narrow.

    Arguments:
        step_size: :math:`\zeta`.
        integrator: The reverse step; ``Renoise(0.85)`` by default, along the prior's own noise.
    """

    step_size: float = 1.0
    integrator: Integrator = field(default=Renoise(0.85), kw_only=True)

    def estimate(self, place: Place) -> Estimate:
        problem = place.problem
        x0 = place.prior(place.x, place.sigma)
        value, adjoint = problem.operator.linearize(x0)
        residual = problem.center - value
        weighted = problem.precision * residual
        gradient = adjoint(weighted)
        size, curvature = squared_norm(gradient), bend(problem, x0, gradient)
        variance = number(place.prior.error_variance(place.sigma))
        length = variance / (1 + variance * curvature / torch.where(size > 0, size, 1))
        chi2 = inner(weighted, residual) / problem.measured
        noise = (place.x - x0) / number(place.sigma)  # the prior's own, as in the paper
        corrected = x0 + expand(self.step_size * length, x0) * gradient
        return Estimate(corrected, {"chi2": chi2}, noise)
