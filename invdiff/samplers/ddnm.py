"""Denoising diffusion null-space models, for exact and for noisy data.

Reference: Wang, Yu and Zhang, Zero-shot image restoration using denoising diffusion null-space
model, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar

from torch import Tensor

from invdiff.diffusion import number
from invdiff.integrators import Estimate, Integrator, Renoise
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Image, Info, Kind, prior_noise
from invdiff.samplers.guided import Guided, Place
from invdiff.singular import singular_system

__all__ = ["DDNM", "DDNMPlus"]


@dataclass(frozen=True)
class DDNM(Guided):
    r"""Takes from the data all that they see, and the rest from the prior.

    .. math:: x_0' = D(x) + A^+ (y - A D(x))

    with the pseudoinverse in units of the noise, then re-noised along the prior's own noise
    direction. For data almost without noise: the noise of y enters the image in full, amplified
    where singular values are small. Otherwise use ``DDNMPlus``. No derivative of the network is
    taken. The operator must be linear and have a singular system (``invdiff.singular``).

    Biased: known directions have no spread, the others too little. The noise level of y plays no
    part, only the ratios between its numbers.

    Arguments:
        integrator: The reverse step; ``Renoise(0.85)``, the paper's eta, by default.

    Raises:
        ValueError, in a run: The singular system is too large.
    """

    integrator: Integrator = field(default=Renoise(0.85), kw_only=True)

    needs_linear: ClassVar[bool] = True

    def prepare(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        singular_system(problem)
        return super().prepare(problem, prior, rng)

    def estimate(self, place: Place) -> Estimate:
        system = singular_system(place.problem)
        x0 = place.prior(place.x, place.sigma)
        noise = (place.x - x0) / number(place.sigma)
        corrected = x0 + system.lift(system.inverse() * system.residual(x0))
        return Estimate(corrected, {"chi2": place.problem.chi2(x0)}, noise)


@dataclass(frozen=True)
class DDNMPlus:
    r"""DDNM for noisy data: the noise of the data is part of the noise of the step.

    Along a singular direction that the data know to :math:`\tau = 1/s`, in units of the image,

    .. math:: x' = D + \lambda (\hat y - D) + \sigma' \sqrt{1 - \eta^2}\, \epsilon
              + \sqrt{\eta^2 \sigma'^2 - \lambda^2 \tau^2}\, \xi, \quad
              \lambda = \min(1, \eta \sigma' / \tau)

    with :math:`\hat y` the data's value and :math:`\epsilon = (x - D)/\sigma`. The error of
    :math:`\lambda \hat y` and the two noises add up to exactly :math:`\sigma'` in every direction.
    Along unseen ones :math:`\lambda` is 0. The operator must be linear and have a singular system.

    Biased: known directions end without any spread, and, as in DDRM, badly known ones tend to
    :math:`\hat y` as levels are added.

    Arguments:
        eta: :math:`\eta`, the share of fresh noise, in the convention of DDRM.

    Raises:
        ValueError: eta is not in [0, 1]; in a run: the singular system is too large.
    """

    eta: float = 0.85

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}, expected a number from 0 to 1.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Image:
        singular_system(problem)
        return Image(prior_noise(problem, sigma, rng))

    def step(
        self,
        state: Image,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Image, Info]:
        system, x0 = singular_system(problem), prior(state.x, sigma)
        kept = sqrt(1 - self.eta**2) * number(sigma_next) / number(sigma)
        fresh = self.eta * number(sigma_next)
        share = (fresh * system.values).clamp(max=1)  # lambda: 1/tau is the singular value
        known = share * system.inverse()  # lambda tau, at most ``fresh`` but for rounding
        spread = (fresh**2 - known.square()).clamp(min=0).sqrt()
        noise = rng.normal(x0)
        change = known * system.residual(x0) + (spread - fresh) * system.project(noise)
        x = x0 + kept * (state.x - x0) + fresh * noise + system.lift(change)
        return Image(x), {"chi2": problem.chi2(x0)}
