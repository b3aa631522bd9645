r"""The reverse step: from one noise level to the next, given clean estimates.

In :math:`\lambda = -\ln\sigma` every diffusion is the same equation, with D the clean estimate:

.. math:: \mathrm{d}x = (1 + \eta^2)\, (D - x)\, \mathrm{d}\lambda
          + \sqrt{2}\, \eta\, \sigma\, \mathrm{d}W

deterministic for :math:`\eta = 0`. Integrators differ in what they hold fixed over a step. The
last step of a ladder, to 0, is D itself. Which to take, and on which ladder: docs/integrators.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from invdiff.diffusion import number, renoise
from invdiff.exponential import exponential_weights
from invdiff.multistep import DEIS, DPMSolver2M, Multistep, UniPC, check_share
from invdiff.priors.base import Prior
from invdiff.rng import Rng
from invdiff.walk import Estimate, Field, Integrator, Walk

__all__ = [
    "DDIM",
    "DEIS",
    "Ancestral",
    "DPMSolver2M",
    "Estimate",
    "Field",
    "Heun",
    "Integrator",
    "Multistep",
    "Renoise",
    "UniPC",
    "Walk",
    "dpm_solver_2m",
    "dpm_solver_3m",
    "sde_dpm_solver_2m",
    "unipc",
]


@dataclass(frozen=True)
class Ancestral:
    r"""DDPM's step with the spread of x0 given x put in: first order.

    .. math:: x' = x_0 + r^2 (x - x_0) + \sqrt{\sigma'^2 (1 - r^2) + (1 - r^2)^2 v(\sigma)}\, \xi,
              \quad r = \sigma' / \sigma

    With :math:`v`, the prior's error variance, the law of white Gaussian images is exact however
    few the steps. Directions that vary more than the average stay too narrow, by O(1/steps).
    (Ho et al., 2020; the variance: Bao et al., Analytic-DPM, 2022.)
    """

    kept: int = field(default=0, init=False, repr=False)

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - (sigma_next / sigma) ** 2

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        now, then = number(sigma), number(sigma_next)
        if then == 0:
            return walk.moved(x0), info
        reach = self.reach(now, then)
        spread = math.sqrt(then**2 * reach + reach**2 * number(prior.error_variance(sigma)))
        x = x0.lerp(walk.x, 1 - reach).add(rng.normal(x0), alpha=spread)
        return walk.moved(x), info


@dataclass(frozen=True)
class DDIM:
    r"""First order, with eta in the convention of DDIM.

    .. math:: x' = x_0 + \sqrt{1 - \eta^2 (1 - r^2)}\, r\, (x - x_0)
              + \eta\, \sigma' \sqrt{1 - r^2}\, \xi, \quad r = \sigma' / \sigma

    0 is deterministic, 1 is DDPM. Not the eta of DDRM, DDNM and DDS: that is ``Renoise``.
    (Song et al., Denoising diffusion implicit models, 2021.)
    """

    eta: float = 0.0
    kept: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        check_share("eta", self.eta)

    def _stay(self, ratio: float) -> float:
        return math.sqrt(1 - self.eta**2 * (1 - ratio**2)) * ratio

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - self._stay(sigma_next / sigma)

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        now, then = number(sigma), number(sigma_next)
        x = x0.lerp(walk.x, self._stay(then / now))
        spread = self.eta * then * math.sqrt(1 - (then / now) ** 2)
        return walk.moved(x.add(rng.normal(x0), alpha=spread) if spread else x), info


@dataclass(frozen=True)
class Renoise:
    r"""Puts noise back on the clean estimate, with eta in the convention of DDRM, DDNM and DDS.

    .. math:: x' = x_0 + \sigma' (\sqrt{1 - \eta^2}\, \epsilon + \eta\, \xi)

    Here 0.85 keeps only half of the old noise; DDIM's 0.85 keeps nearly all over a short step.
    With 1, the spread of x0 given x is lost at every level: too narrow for any number of steps.
    (Kawar et al., Denoising diffusion restoration models, 2022.)
    """

    eta: float = 0.85
    kept: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        check_share("eta", self.eta)

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - math.sqrt(1 - self.eta**2) * sigma_next / sigma

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, noise = field(walk.x, sigma)
        then = number(sigma_next)
        if then == 0:
            return walk.moved(x0), info
        if noise is None:
            noise = (walk.x - x0) / number(sigma)
        return walk.moved(renoise(x0, noise, then, rng.normal(x0), self.eta)), info


@dataclass(frozen=True)
class Heun:
    r"""Predicts a step, evaluates at its end, and takes the trapezoid: second order.

    .. math:: x' = \tfrac12 \left[ r x + \int_0^h e^{-(h - t)} D(t)\, \mathrm{d}t \right]
              + \tfrac12 \left[ x + \int_\sigma^{\sigma'} \epsilon\, \mathrm{d}s \right],
              \quad r = \sigma' / \sigma = e^{-h}

    with D in one half and the noise :math:`\epsilon = (x - D)/\sigma` in the other linear in
    lambda between both ends. Each half alone is of second order; their errors have opposite signs
    and nearly cancel in the variance of samples. Deterministic, two evaluations a step.

    (Karras et al., Elucidating the design space of diffusion-based generative models, 2022, who
    take the trapezoid for the noise in sigma: 15 % too wide with 20 evaluations.)
    """

    kept: int = field(default=0, init=False, repr=False)

    def reach(self, sigma: float, sigma_next: float) -> float:
        return 1 - sigma_next / sigma

    def step(
        self, field: Field, walk: Walk, sigma: Tensor, sigma_next: Tensor, prior: Prior, rng: Rng
    ) -> tuple[Walk, dict[str, Tensor]]:
        x0, info, _ = field(walk.x, sigma)
        now, then = number(sigma), number(sigma_next)
        if then == 0:
            return walk.moved(x0), info
        predicted = x0.lerp(walk.x, then / now)
        x0_there = field(predicted, sigma_next).x0
        noise, noise_there = (walk.x - x0) / now, (predicted - x0_there) / then
        length = math.log(now / then)
        of_x0 = exponential_weights((0.0, length), length)
        of_noise = exponential_weights((0.0, length), length, -1)
        x = walk.x * (0.5 * (1 + then / now))
        x = x.add(x0, alpha=0.5 * of_x0[0]).add(x0_there, alpha=0.5 * of_x0[1])
        x = x.add(noise, alpha=0.5 * then * of_noise[0])
        return walk.moved(x.add(noise_there, alpha=0.5 * then * of_noise[1])), info


def dpm_solver_2m() -> DPMSolver2M:
    """DPM-Solver++(2M): second order, deterministic."""
    return DPMSolver2M()


def dpm_solver_3m() -> Multistep:
    """DPM-Solver++(3M): third order, deterministic."""
    return Multistep(3)


def sde_dpm_solver_2m() -> DPMSolver2M:
    """SDE-DPM-Solver++(2M): second order in the law of the samples, with DDPM's noise."""
    return DPMSolver2M(eta=1.0)


def unipc(order: int = 2) -> UniPC:
    """UniPC: a predictor of this order, corrected to one order more."""
    return UniPC(order)
