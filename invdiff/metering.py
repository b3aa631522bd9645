"""Counting what a run costs, and bounding the rows a network sees at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invdiff.operators.around import AroundOperator
from invdiff.priors.base import Prior

__all__ = ["MeteredOperator", "MeteredPrior"]


@dataclass(frozen=True)
class MeteredPrior:
    """A prior that counts evaluations and derivatives, in passes of at most ``limit`` rows.

    Derivatives recompute each pass, so that memory stays that of one pass.
    """

    prior: Prior
    counts: Counter[str]
    limit: int | None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.counts["prior"] += len(x)
        tracked = torch.is_grad_enabled() and x.requires_grad
        if tracked:
            x = _Count.apply(x, self.counts)
        if self.limit is None or len(x) <= self.limit:
            return self.prior(x, sigma)
        levels = sigma.expand(len(x)) if sigma.ndim == 0 else sigma
        passes = zip(x.split(self.limit), levels.split(self.limit), strict=True)
        if tracked:
            rows = [checkpoint(self.prior, *part, use_reentrant=False) for part in passes]
        else:
            rows = [self.prior(*part) for part in passes]
        return torch.cat(rows)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.prior, name)
        if name == "conditional_covariance":
            return partial(self._counted, found)
        return found

    def _counted(self, covariance: Callable[..., Tensor], x: Tensor, sigma: Tensor) -> Tensor:
        self.counts["covariance"] += len(x)
        return covariance(x, sigma)


class _Count(torch.autograd.Function):
    """The identity, whose backward pass is counted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Counter[str]) -> Tensor:
        ctx.counts = counts
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts["vjp"] += len(gradient)
        return gradient, None


@dataclass(frozen=True, eq=False, repr=False)
class MeteredOperator(AroundOperator):
    """An operator that counts the rows it is applied to, forward and adjoint."""

    counts: Counter[str] = field(default_factory=Counter)

    def _forward(self, x: Tensor) -> Tensor:
        self.counts["forward"] += len(x)
        return self.operator._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        self.counts["adjoint"] += len(y)
        return self.operator._adjoint(y)

    def normal(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        apply = self.operator.normal(weight)

        def counted(x: Tensor) -> Tensor:
            self.counts["forward"] += len(x)
            self.counts["adjoint"] += len(x)
            return apply(x)

        return counted

    def linearize(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        value, vjp = self.operator.linearize(x)
        self.counts["forward"] += len(x)

        def counted(u: Tensor) -> Tensor:
            self.counts["adjoint"] += len(u)
            return vjp(u)

        return value, counted

    def __repr__(self) -> str:
        return repr(self.operator)
