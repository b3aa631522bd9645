"""Second-order Tweedie sampling from a surrogate loss.

Reference: Rout et al., Beyond first-order Tweedie: solving inverse problems using latent
diffusion, 2024. This is its form for images; a latent prior enters through an operator composed
with the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.curvature import hessian_trace
from invdiff.diffusion import denoise_vjp, number
from invdiff.integrators import Estimate
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.dps import guidance
from invdiff.samplers.guided import Guided, Place

__all__ = ["STSL"]


@dataclass(frozen=True)
class STSL(Guided):
    r"""Averages the likelihood over the spread of x0 given x, to second order.

    .. math:: \ell(x) = \log p(y \mid D(x)) - \tfrac{\kappa}{2}\,
              \frac{\mathrm{tr}(A^* W A)}{n}\, \sigma^2\, \mathrm{tr}\, J(x)

    since :math:`E[\log p(y \mid x_0) \mid x]` loses half the trace of the data's Hessian times
    the covariance :math:`\sigma^2 J` of Tweedie's second-order formula. The trace of J comes from
    one probe per inner step, :math:`e^T (D(x + h e) - D(x)) / h`; several inner steps with
    fresh probes share one reverse step. The data's noise level is read off the residual, as DPS
    does.

    Any differentiable operator. Biased: docs/certificate.md says by how much.

    Arguments:
        inner_steps: The gradient steps taken at each level.
        trace_weight: :math:`\kappa`; 1 is the expansion itself.
        difference: h in units of sigma.
        step_size: The multiple of the gradient.
    """

    inner_steps: int = 2
    trace_weight: float = 1.0
    difference: float = 0.01
    step_size: float = 1.0

    def prepare(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """The mean eigenvalue of the data's Hessian, (b, 1)."""
        probe = rng.signs(problem.y.real.new_empty(len(problem), *problem.operator.domain))
        return (hessian_trace(problem, probe) / probe[0].numel())[:, None]

    def estimate(self, place: Place) -> Estimate:
        sigma, x = number(place.sigma), place.x
        length = self.step_size / self.inner_steps * place.reach * sigma**2
        told: dict[str, Tensor] = {}
        for _ in range(self.inner_steps):
            gradient, chi2 = self._gradient(x, length, place)
            x = x + length * gradient
            told.setdefault("chi2", chi2)
        x0 = place.prior(x, place.sigma)
        # A step towards this from place.x is a step towards x0 from the moved x.
        stay = (1 - place.reach) / place.reach
        return Estimate(x0 + stay * (x - place.x), told)

    def _gradient(self, x: Tensor, length: float, place: Place) -> tuple[Tensor, Tensor]:
        prior, sigma = place.prior, number(place.sigma)
        x0, vjp = denoise_vjp(prior, x, place.sigma)
        pull = guidance(place.problem, x0, vjp, length)
        probe = place.rng.signs(x)
        distance = self.difference * sigma
        _, vjp_near = denoise_vjp(prior, x + distance * probe, place.sigma)
        curvature = place.constants[:, 0] / pull.limit
        scaled = expand(0.5 * self.trace_weight * sigma**2 / distance * curvature, x) * probe
        gradient = pull.gradient / expand(pull.limit, x) + vjp(scaled) - vjp_near(scaled)
        return gradient, pull.chi2
