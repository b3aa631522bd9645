"""Decoupled annealing posterior sampling.

Reference: Zhang et al., Improving diffusion inverse problem solving with decoupled noise
annealing, 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from invdiff.conditional import draw_gaussian, draw_langevin
from invdiff.integrators import Integrator, dpm_solver_2m
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.reverse import reverse
from invdiff.rng import Rng
from invdiff.samplers.base import Image, Info, Kind, prior_noise

__all__ = ["DAPS", "CleanVariance", "ErrorVariance", "NoiseVariance"]


class CleanVariance(Protocol):
    """How far the clean image may lie from its estimate, at level sigma: a variance, ()."""

    def __call__(self, prior: Prior, sigma: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class NoiseVariance:
    r""":math:`s\, \sigma^2`, the choice of the paper with ``scale`` :math:`s` = 1."""

    scale: float = 1.0

    def __call__(self, prior: Prior, sigma: Tensor) -> Tensor:
        return self.scale * sigma**2


@dataclass(frozen=True)
class ErrorVariance:
    r""":math:`s\, v(\sigma)`, with the denoiser's error variance: never more than the images'."""

    scale: float = 1.0

    def __call__(self, prior: Prior, sigma: Tensor) -> Tensor:
        return self.scale * prior.error_variance(sigma)


@dataclass(frozen=True)
class DAPS:
    r"""At each level: a clean image of the prior, a draw that fits the data, fresh noise.

    .. math:: x' \sim p(y \mid x)\, N(x;\, \hat x_0, r^2), \qquad
              \hat x_0 = \text{the end of the probability flow from } x_\sigma

    and :math:`x_{\sigma'} = x' + \sigma' \xi`. The draw is exact for linear operators and by
    Langevin steps for others. Levels are coupled by nothing but the clean image, so early
    mistakes can be undone. Biased: the flow's end is taken as if all directions were known
    equally well, and samples come out too wide where the prior knows more.

    Arguments:
        variance: :math:`r^2`: ``NoiseVariance()``, the paper's, or ``ErrorVariance()``.
        flow_steps: The steps of the flow.
        integrator: Their rule; ``dpm_solver_2m()`` by default, ``DDIM()`` is Euler's.
        langevin_steps: The gradients of a draw where the operator is not linear.
        cg_iterations: The most conjugate-gradient steps of a draw where it is.
        cg_tolerance: The relative residual at which they stop.
    """

    variance: CleanVariance = field(default_factory=NoiseVariance)
    flow_steps: int = 5
    integrator: Integrator = field(default_factory=dpm_solver_2m)
    langevin_steps: int = 100
    cg_iterations: int = 100
    cg_tolerance: float = 1e-4

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Image:
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
        clean = reverse(prior, state.x, sigma, self.integrator, self.flow_steps, rng)
        fitted = self._fit(clean, float(self.variance(prior, sigma)), problem, rng)
        x = fitted if sigma_next == 0 else fitted + sigma_next * rng.normal(fitted)
        return Image(x), {"chi2": problem.chi2(fitted)}

    def _fit(self, clean: Tensor, variance: float, problem: Problem, rng: Rng) -> Tensor:
        if not problem.operator.linear:
            # Where the data say nothing, a row that starts spread out is right from the start.
            start = clean + variance**0.5 * rng.normal(clean)
            return draw_langevin(problem, start, clean, variance, rng, steps=self.langevin_steps)
        return draw_gaussian(
            problem, clean, variance, rng,
            tolerance=self.cg_tolerance, iterations=self.cg_iterations,
        )  # fmt: skip
