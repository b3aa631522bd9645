"""Loss-guided diffusion.

Reference: Song et al., Loss-guided diffusion models for plug-and-play controllable generation,
2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from invdiff.curvature import bend
from invdiff.diffusion import denoise_vjp, number
from invdiff.integrators import Estimate
from invdiff.linalg import expand, squared_norm
from invdiff.samplers.guided import Guided, Place

__all__ = ["LGD"]


@dataclass(frozen=True)
class LGD(Guided):
    r"""Follows a likelihood averaged over random guesses of the clean image.

    .. math:: x_0' = D(x) + \frac{\zeta \sigma^2}{c}\, \nabla_x \log \frac1m \sum_{j=1}^m
              p(y \mid D(x) + r \xi_j), \quad \xi_j \sim N(0, I)

    with the prior's error variance :math:`r^2`. The divisor c is the largest of 1 and
    :math:`\ell\, \|A J g\|_W^2 / \|g\|^2`, beyond which a reverse step of length :math:`\ell`
    would pass the minimum of the linearised misfit along the gradient g, as in DPS. So
    ``step_size`` 1 needs no retuning.

    Any differentiable operator. Biased: a few guesses say little about an image of many pixels.

    Arguments:
        draws: m, the number of guesses.
        step_size: :math:`\zeta`.
        integrator: The reverse step.

    Raises:
        ValueError: ``draws`` is below 1.
    """

    draws: int = 10
    step_size: float = 1.0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}, expected at least 1.")

    def estimate(self, place: Place) -> Estimate:
        problem, scale = place.problem, self.step_size * number(place.sigma) ** 2
        x0, vjp = denoise_vjp(place.prior, place.x, place.sigma)
        gradient = vjp(self._average(x0, place))
        size, curvature = squared_norm(gradient), bend(problem, x0, vjp(gradient))
        overshoot = place.reach * scale * curvature / torch.where(size > 0, size, 1)
        corrected = x0.addcdiv(gradient, expand(overshoot.clamp(min=1), x0), value=scale)
        return Estimate(corrected, {"chi2": problem.chi2(x0)})

    def _average(self, x0: Tensor, place: Place) -> Tensor:
        """The gradient of the averaged log-likelihood with respect to x0, (b, *domain)."""
        problem = place.problem
        spread = sqrt(number(place.prior.error_variance(place.sigma)))
        logs, pulls = [], []
        for _ in range(self.draws):
            value, adjoint = problem.operator.linearize(x0.add(place.rng.normal(x0), alpha=spread))
            residual = problem.center - value
            weighted = problem.precision * residual
            logs.append(-0.5 * (weighted.conj() * residual).real.flatten(1).sum(1))
            pulls.append(adjoint(weighted))
        shares = torch.stack(logs, 1).softmax(1)
        return torch.einsum("bm,bm...->b...", shares, torch.stack(pulls, 1))
