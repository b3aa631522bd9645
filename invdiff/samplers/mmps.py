"""Moment matching posterior sampling.

Reference: Rozet et al., Learning diffusion priors from observations by expectation maximization,
2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from invdiff.covariance import TweedieCovariance
from invdiff.diffusion import denoise_vjp, number
from invdiff.integrators import Estimate, Integrator, sde_dpm_solver_2m
from invdiff.linalg import cg
from invdiff.samplers.guided import Guided, Place

__all__ = ["MMPS"]


@dataclass(frozen=True)
class MMPS(Guided):
    r"""Follows the likelihood of a guess with Tweedie's covariance, :math:`N(D, \sigma^2 J)`.

    .. math:: x_0' = D(x) + \sigma^2 J^T A^* (W^{-1} + A\, \sigma^2 J A^*)^{-1} (y - A D(x))

    with the Jacobian J of the denoiser: each conjugate-gradient step costs one derivative of it.
    Exact for Gaussian priors, up to the error of the reverse step; biased elsewhere, most where
    the image given x has several modes. The operator must be linear.

    Arguments:
        cg_iterations: The largest number of conjugate-gradient steps per level. A few are enough
            for a rough image; the claim for Gaussian priors holds when the tolerance is reached.
        cg_tolerance: The relative residual at which they stop.
        integrator: The reverse step; ``sde_dpm_solver_2m()``, of second order, by default.
    """

    cg_iterations: int = 50
    cg_tolerance: float = 1e-4
    integrator: Integrator = field(default_factory=sde_dpm_solver_2m, kw_only=True)

    needs_linear: ClassVar[bool] = True

    def estimate(self, place: Place) -> Estimate:
        problem, root = place.problem, place.problem.precision.sqrt()
        a, noise = problem.operator, number(place.sigma) ** 2
        x0, vjp = denoise_vjp(place.prior, place.x, place.sigma)
        spread = TweedieCovariance().at(place.prior, place.sigma, vjp)
        white = root * problem.residual(x0)
        solved = cg(
            lambda u: u + root * a(spread(a.adjoint(root * u))),
            white,
            tolerance=self.cg_tolerance,
            iterations=self.cg_iterations,
        )
        chi2 = white.abs().square().flatten(1).sum(1) / problem.measured
        gradient = vjp(a.adjoint(root * solved.x))
        return Estimate(x0.add(gradient, alpha=noise), {"chi2": chi2})
