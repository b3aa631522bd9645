"""Pseudoinverse-guided diffusion.

Reference: Song et al., Pseudoinverse-guided diffusion models for inverse problems, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from invdiff.conditioning import pull
from invdiff.diffusion import denoise_vjp, number
from invdiff.integrators import Estimate, Integrator, sde_dpm_solver_2m
from invdiff.linalg import expand, squared_norm
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.guided import Guided, Place
from invdiff.singular import small_singular_system

__all__ = ["PiGDM"]


@dataclass(frozen=True)
class PiGDM(Guided):
    r"""Follows the likelihood of a Gaussian guess, :math:`x_0 \mid x \sim N(D(x), r^2 I)`.

    .. math:: x_0' = D(x) + \sigma^2 J^T A^* (W^{-1} + r^2 A A^*)^{-1} (y - A D(x))

    with the Jacobian J of the denoiser. :math:`r^2` is the error variance that the prior declares,
    or :math:`\sigma^2 v / (\sigma^2 + v)`, that of white images of variance v; the paper has
    v = 1. There is nothing to tune. The operator must be linear.

    The second term g is divided by :math:`\phi\, \sigma^2 \|J g\|^2 / (r^2 \|g\|^2)` where that
    exceeds 1: then a step that goes the share :math:`\phi` of the way could overshoot, as it does
    along smooth directions, which vary more than the average :math:`r^2`, with few levels.

    Biased: real images are not white given x. Too wide in tight directions.

    Arguments:
        variance: v, in the units of the images squared; the prior's own error variance if None.
        cg_iterations: The largest number of conjugate-gradient steps per level, where no cheap
            singular system exists (``invdiff.singular``).
        cg_tolerance: The relative residual at which they stop.
        integrator: The reverse step; ``sde_dpm_solver_2m()``, of second order, by default.

    Raises:
        ValueError: ``variance`` is not positive.
    """

    variance: float | None = None
    cg_iterations: int = 100
    cg_tolerance: float = 1e-4
    integrator: Integrator = field(default_factory=sde_dpm_solver_2m, kw_only=True)

    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.variance is not None and not self.variance > 0:
            raise ValueError(f"variance is {self.variance}, expected a positive one, or None.")

    def prepare(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        small_singular_system(problem)
        return super().prepare(problem, prior, rng)

    def estimate(self, place: Place) -> Estimate:
        problem, noise, spread = place.problem, number(place.sigma) ** 2, self._spread(place)
        x0, vjp = denoise_vjp(place.prior, place.x, place.sigma)
        force = pull(
            problem, x0, spread, tolerance=self.cg_tolerance, iterations=self.cg_iterations
        )
        gradient = vjp(force)
        size = squared_norm(gradient).clamp(min=torch.finfo(x0.dtype).tiny)  # 0 / 0 is 0 here
        bend = squared_norm(vjp(gradient)) / size
        limit = (place.reach * noise / spread * bend).clamp(min=1)
        corrected = x0.addcdiv(gradient, expand(limit, x0), value=noise)
        return Estimate(corrected, {"chi2": problem.chi2(x0)})

    def _spread(self, place: Place) -> float:
        """r^2, the variance of every pixel given x."""
        if self.variance is None:
            return number(place.prior.error_variance(place.sigma))
        noise = number(place.sigma) ** 2
        return noise * self.variance / (noise + self.variance)
