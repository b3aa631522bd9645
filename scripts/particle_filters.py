"""Many independent particle filters at once, and how far one of them is from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.priors.exact import ExactPosterior
from invdiff.problem import Problem

__all__ = ["Slope", "Stream", "Task", "filters", "slope"]


class Task(NamedTuple):
    """A problem of few items with a known posterior."""

    name: str
    problem: Problem
    prior: Prior
    truth: ExactPosterior
    ladder: Tensor


class Stream:
    """A run's random numbers from one generator: of the same law as one per particle, and fast."""

    def __init__(self, source: torch.Generator, items: int, particles: int, step: int = 0) -> None:
        self.source, self.items, self.particles, self.step = source, items, particles, step

    def at(self, step: int) -> Stream:
        return Stream(self.source, self.items, self.particles, step)

    def normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.source, dtype=like.dtype)

    def uniform(self, count: int | None = None) -> Tensor:
        shape = (self.items,) if count is None else (self.items, count)
        return torch.rand(shape, generator=self.source, dtype=torch.float64)


class Squares(NamedTuple):
    """Squared errors of filters, (filters,): of the mean, in posterior sd; of log p(y)."""

    mean: Tensor
    evidence: Tensor


def filters(sampler: Any, task: Task, particles: int, rows: int, seed: int = 0) -> Squares:
    """Independent filters with ``rows`` particles in all, spread evenly over the items."""
    items = len(task.problem)
    count = max(1, rows // (items * particles)) * items
    item = torch.arange(items).repeat_interleave(count // items)
    problem = task.problem.rows(item.repeat_interleave(particles))
    rng = Stream(torch.Generator().manual_seed(seed), count, particles)
    state = sampler.init(problem, task.prior, task.ladder[0], rng)
    for i, (now, then) in enumerate(pairwise(task.ladder)):
        state, info = sampler.step(state, now, then, problem, task.prior, rng.at(i + 1))
    x = state.x.reshape(count, particles, -1)
    mean = (state.log_w.reshape(count, particles, 1).softmax(1) * x).sum(1)
    truth = task.truth
    gap = (mean - truth.mean.flatten(1)[item]) / truth.std.flatten(1)[item]
    evidence = info.get("log_evidence", torch.full((count,), math.nan, dtype=torch.float64))
    return Squares(gap.square().mean(1), (evidence - truth.log_evidence[item]).square())


@dataclass(frozen=True)
class Slope:
    """Root mean square errors at every size, the exponent of the size, and its standard error."""

    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    value: float
    error: float


def slope(sizes: Sequence[int], squares: Sequence[Tensor], first: int = 0) -> Slope:
    r"""Of log root-mean-square error against log size, by least squares from ``first`` on.

    The runs are independent; the standard error follows from that of every mean square.
    """
    log_size = torch.tensor(sizes, dtype=torch.float64).log()
    mean = torch.stack([each.mean() for each in squares])
    noise = torch.stack([each.std() / len(each) ** 0.5 for each in squares]) / (2 * mean)
    centred = log_size[first:] - log_size[first:].mean()
    weights = centred / centred.square().sum()
    value = float(weights @ (0.5 * mean.log())[first:])
    error = float((weights * noise[first:]).norm())
    return Slope(tuple(sizes), tuple(mean.sqrt().tolist()), value, error)
