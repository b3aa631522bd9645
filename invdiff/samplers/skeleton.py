"""A whole sampler in one method: copy this file to begin a new one (docs/new-sampler.md)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from invdiff.curvature import push_forward
from invdiff.diffusion import number
from invdiff.integrators import Estimate
from invdiff.linalg import expand, inner, squared_norm
from invdiff.samplers.guided import Guided, Place

__all__ = ["Skeleton"]


@dataclass(frozen=True)
class Skeleton(Guided):
    r"""Moves the clean estimate down the gradient of the data misfit, as far as is best.

    .. math:: x_0' = D + \frac{\|g\|^2}{\|g\|^2 / (\gamma v) + \|A g\|_W^2}\, g, \quad
              g = A^* W (y - A D)

    the minimum along g of :math:`\tfrac12 \|y - A x\|_W^2 + \|x - D\|^2 / (2 \gamma v)`, with
    W the inverse noise variance and v the prior's error variance. Where :math:`A^* W A` is a
    multiple of the identity, as in denoising, and the error of D is white, that is
    :math:`E[x_0 \mid x, y]`; elsewhere one step towards it. No derivative of the network is taken.

    Any differentiable operator. Biased: data of unequal strength are met only in part.

    Arguments:
        data_weight: :math:`\gamma`; 1 weighs prior and data by their errors, at any scale.
    """

    data_weight: float = 1.0

    def estimate(self, place: Place) -> Estimate:
        problem = place.problem
        x0 = place.prior(place.x, place.sigma)
        value, adjoint = problem.operator.linearize(x0)
        residual = problem.center - value
        weighted = problem.precision * residual
        gradient = adjoint(weighted)
        image = push_forward(problem, x0, gradient)
        size, bend = squared_norm(gradient), inner(problem.precision * image, image)
        variance = self.data_weight * number(place.prior.error_variance(place.sigma))
        length = variance * size / torch.where(size > 0, size + variance * bend, 1)
        chi2 = inner(weighted, residual) / problem.measured
        return Estimate(x0 + expand(length, x0) * gradient, {"chi2": chi2})
