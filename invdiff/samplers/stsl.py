"""Second-order Tweedie sampling from a surrogate loss.

Reference: Rout et al., Beyond first-order Tweedie: solving inverse problems using latent
diffusion, 2024. This is its form for images; a latent prior enters through an operator composed
with the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from invdiff.curvature import hessian_trace
from invdiff.diffusion import ancestral, denoise_vjp, share
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise
from invdiff.samplers.dps import guidance

__all__ = ["STSL"]


class SecondOrder(NamedTuple):
    """x (b, *shape), and the mean eigenvalue of the data's Hessian, (b,)."""

    x: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class STSL:
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

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> SecondOrder:
        x = prior_noise(problem, sigma, rng)
        curvature = hessian_trace(problem, rng.signs(x)) / x[0].numel()
        return SecondOrder(x, curvature)

    def step(
        self,
        state: SecondOrder,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[SecondOrder, Info]:
        length = self.step_size / self.inner_steps * share(sigma, sigma_next) * sigma**2
        x, chi2 = state.x, None
        for _ in range(self.inner_steps):
            gradient, first = self._gradient(
                x, sigma, length, state.curvature, problem, prior, rng
            )
            x = x + length * gradient
            chi2 = first if chi2 is None else chi2
        x0 = prior(x, sigma)
        spread = prior.error_variance(sigma)
        x = ancestral(x, x0, sigma, sigma_next, spread).draw(rng.normal(x0))
        return state._replace(x=x), {} if chi2 is None else {"chi2": chi2}

    def _gradient(
        self,
        x: Tensor,
        sigma: Tensor,
        length: Tensor,
        curvature: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Tensor, Tensor]:
        x0, vjp = denoise_vjp(prior, x, sigma)
        pull = guidance(problem, x0, vjp, length)
        probe = rng.signs(x)
        distance = self.difference * sigma
        _, vjp_near = denoise_vjp(prior, x + distance * probe, sigma)
        weight = 0.5 * self.trace_weight * curvature / pull.limit * sigma**2 / distance
        scaled = expand(weight, x) * probe
        gradient = pull.gradient / expand(pull.limit, x) + vjp(scaled) - vjp_near(scaled)
        return gradient, pull.chi2
