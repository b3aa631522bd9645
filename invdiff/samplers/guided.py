"""What guided diffusion samplers share: everything but the guidance itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from torch import Tensor

from invdiff.diffusion import number
from invdiff.integrators import Ancestral, Estimate, Integrator, Walk
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise

__all__ = ["Guided", "Place"]


class Place(NamedTuple):
    """Where a sampler stands, and all it may look at.

    x (b, *shape) at level sigma, float64, (). ``reach`` is the share of the way to the clean
    estimate that the coming step goes; ``constants`` (b, any) what ``prepare`` gave.
    """

    x: Tensor
    sigma: Tensor
    reach: float
    constants: Tensor
    problem: Problem
    prior: Prior
    rng: Rng


@dataclass(frozen=True)
class Guided(ABC):
    """A sampler that estimates the clean image given the data, level by level.

    A subclass gives ``estimate``: its own mathematics. The step down is its integrator's.

    Arguments:
        integrator: The reverse step, from ``invdiff.integrators``.
    """

    integrator: Integrator = field(default_factory=Ancestral, kw_only=True)

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    @abstractmethod
    def estimate(self, place: Place) -> Estimate:
        """The clean image (b, *shape) that the data and the prior suggest."""

    def prepare(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        """Numbers (b, any) that are computed once, such as how strong the data are."""
        return problem.y.real.new_empty(len(problem), 0)

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Walk:
        x = prior_noise(problem, sigma, rng)
        return Walk.begin(x, self.integrator.kept, self.prepare(problem, prior, rng))

    def step(
        self,
        state: Walk,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Walk, Info]:
        reach = self.integrator.reach(number(sigma), number(sigma_next))

        def field(x: Tensor, level: Tensor) -> Estimate:
            return self.estimate(Place(x, level, reach, state.constants, problem, prior, rng))

        return self.integrator.step(field, state, sigma, sigma_next, prior, rng)
