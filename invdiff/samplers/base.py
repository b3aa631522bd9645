"""What a sampler is: an ``init`` and a ``step`` on a tuple of tensors."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["Image", "Info", "Kind", "Sampler"]

Info = dict[str, Tensor]
"""What a step tells about itself: each entry is (b,), one number per row, or (n,), per item."""

Kind = Literal["exact", "approximate", "point"]
"""exact: converges to the posterior; approximate: samples with a bias; point: an estimate."""


class Image(NamedTuple):
    """The state of a sampler that carries nothing but its images, (b, *shape)."""

    x: Tensor


@runtime_checkable
class Sampler(Protocol):
    """A way from noise to the posterior.

    A sampler is a frozen dataclass of hyper-parameters. Its state is a NamedTuple of tensors that
    lead with the row axis b, the first of them ``x``; a field ``log_w`` (b,), float64, carries
    weights. The loop around it is ``invdiff.sample``.
    """

    kind: ClassVar[Kind]
    needs_linear: ClassVar[bool]

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Any:
        """The state at the first level."""
        ...

    def step(
        self,
        state: Any,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Any, Info]:
        """The state at ``sigma_next``; both levels are float64, (), on the host."""
        ...


def prior_noise(problem: Problem, sigma: Tensor, rng: Rng) -> Tensor:
    """x of the first level, (b, *domain): pure noise, in the measurement's precision."""
    like = problem.y.real.new_empty(len(problem), *problem.operator.domain)
    return sigma * rng.normal(like)
