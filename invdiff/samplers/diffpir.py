"""Diffusion models as denoisers for plug-and-play image restoration.

Reference: Zhu et al., Denoising diffusion models for plug-and-play image restoration, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar

from torch import Tensor

from invdiff.conditioning import pull
from invdiff.diffusion import number
from invdiff.integrators import Estimate, Integrator, Renoise
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.guided import Guided, Place
from invdiff.singular import small_singular_system

__all__ = ["DiffPIR"]


@dataclass(frozen=True)
class DiffPIR(Guided):
    r"""Splits data from prior: the clean estimate is brought to the data, then re-noised.

    .. math:: x_0' = \arg\min_x \|y - A x\|_W^2
              + \frac{\lambda}{v(\sigma)} \|x - D(x_\sigma)\|^2

    v is the error variance that the prior declares. The paper has :math:`\sigma^2` there, the
    error of an estimate that knows nothing of images: too much trust in the data at high levels.
    The noise direction is that of the corrected estimate, :math:`(x_\sigma - x_0') / \sigma`, of
    which :math:`\zeta` is made afresh: the paper's zeta is ``Renoise(sqrt(zeta))``, DDRM's eta
    squared. No derivative of the network is taken. The operator must be linear.

    Biased: the width of the samples follows zeta and not the posterior.

    Arguments:
        prior_weight: :math:`\lambda`; the noise level of the data is W's.
        cg_iterations: The largest number of conjugate-gradient steps per level, where no cheap
            singular system exists (``invdiff.singular``).
        cg_tolerance: The relative residual at which they stop.
        integrator: The reverse step; ``Renoise(sqrt(0.3))`` by default.

    Raises:
        ValueError: ``prior_weight`` is not positive.
    """

    prior_weight: float = 1.0
    cg_iterations: int = 100
    cg_tolerance: float = 1e-4
    integrator: Integrator = field(default=Renoise(sqrt(0.3)), kw_only=True)

    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.prior_weight > 0:
            raise ValueError(f"prior_weight is {self.prior_weight}, expected a positive number.")

    def prepare(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        small_singular_system(problem)
        return super().prepare(problem, prior, rng)

    def estimate(self, place: Place) -> Estimate:
        problem, error = place.problem, place.prior.error_variance(place.sigma)
        variance = number(error) / self.prior_weight
        x0 = place.prior(place.x, place.sigma)
        gradient = pull(
            problem,
            x0,
            variance,
            tolerance=self.cg_tolerance,
            iterations=self.cg_iterations,
        )
        return Estimate(x0.add(gradient, alpha=variance), {"chi2": problem.chi2(x0)})
