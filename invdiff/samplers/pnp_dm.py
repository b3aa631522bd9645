"""Plug-and-play diffusion: a split Gibbs sampler.

Reference: Wu et al., Principled probabilistic imaging using diffusion models as plug-and-play
priors, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from torch import Tensor

from invdiff.conditional import draw_gaussian, draw_langevin
from invdiff.integrators import Integrator, sde_dpm_solver_2m
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.reverse import reverse
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise

__all__ = ["PnPDM", "Split"]


class Split(NamedTuple):
    """The image x of the prior and the image z of the data, (b, *shape), sigma apart."""

    x: Tensor
    z: Tensor


@dataclass(frozen=True)
class PnPDM:
    r"""Alternates between an image that fits the data and one that fits the prior.

    .. math:: \pi_\sigma(x, z) \propto p(x)\, p(y \mid z)\,
              \exp\left(-\tfrac{1}{2 \sigma^2} \|x - z\|^2\right)

    A sweep draws z given x, exactly for linear operators, and x given z, by the reverse process
    of the prior from level sigma. The levels of the ladder anneal the distance of the two; x has
    the posterior whose noise covariance is raised by :math:`\sigma^2 A A^*`, and the posterior
    itself as the last level falls and its sweeps grow. A sweep moves by about sigma, so low
    levels need many: the ladder should end where :math:`\sigma \|A\|` is a few tenths of the
    noise, not at the prior's least level. A level costs ``sweeps`` times ``denoising_steps``
    evaluations.

    Arguments:
        sweeps: The sweeps at each level.
        last_sweeps: Those at the last.
        denoising_steps: The steps of the reverse process.
        integrator: Their rule, with noise; ``sde_dpm_solver_2m()`` by default.
        langevin_steps: The gradients of a draw of z where the operator is not linear.
        cg_iterations: The most conjugate-gradient steps of a draw of z where it is.
        cg_tolerance: The relative residual at which they stop.
    """

    sweeps: int = 1
    last_sweeps: int = 20
    denoising_steps: int = 10
    integrator: Integrator = field(default_factory=sde_dpm_solver_2m)
    langevin_steps: int = 50
    cg_iterations: int = 100
    cg_tolerance: float = 1e-4

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = False

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Split:
        x = prior(prior_noise(problem, sigma, rng), sigma)
        return Split(x, x)

    def step(
        self,
        state: Split,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Split, Info]:
        x, z = state
        for _ in range(self.last_sweeps if sigma_next == 0 else self.sweeps):
            z = self._fit(x, z, float(sigma) ** 2, problem, rng)
            x = reverse(prior, z, sigma, self.integrator, self.denoising_steps, rng)
        return Split(x, z), {"chi2": problem.chi2(z)}

    def _fit(self, x: Tensor, z: Tensor, variance: float, problem: Problem, rng: Rng) -> Tensor:
        if not problem.operator.linear:
            return draw_langevin(problem, z, x, variance, rng, steps=self.langevin_steps)
        return draw_gaussian(
            problem, x, variance, rng,
            tolerance=self.cg_tolerance, iterations=self.cg_iterations,
        )  # fmt: skip
