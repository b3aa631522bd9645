"""A sampler that tells when it has done a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, Sampler

__all__ = ["Watched"]


class Watched:
    """The same sampler, by its name and in everything it does.

    Arguments:
        sampler: It.
        told: Called after every step.
    """

    kind: Kind
    needs_linear: bool

    def __init__(self, sampler: Sampler, told: Callable[[], None]) -> None:
        self.kind, self.needs_linear = sampler.kind, sampler.needs_linear
        self._sampler, self._told = sampler, told

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Any:
        """That of the sampler."""
        return self._sampler.init(problem, prior, sigma, rng)

    def step(
        self,
        state: Any,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Any, Info]:
        """That of the sampler, and then the call."""
        result = self._sampler.step(state, sigma, sigma_next, problem, prior, rng)
        self._told()
        return result

    def __repr__(self) -> str:
        return repr(self._sampler)
