r"""What weighted samplers give with infinitely many particles on a problem of one pixel.

Backwards from the last level: the expected weight of all steps to come, and with it that of the
final image, is a function of where a particle is. Each step takes it one level up, through the
sampler's own ``step`` and a Gauss-Hermite rule for its random number; splines stand between. For
any prior, and steps that need not be affine.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from limit_laws import Given
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.samplers.annealed import annealed
from invdiff.samplers.conjugate_tds import ConjugateTDS
from invdiff.samplers.fk_steering import FKSteering
from invdiff.samplers.tds import TDS

__all__ = ["LineLaw", "line_law"]

F64 = torch.float64
WIDTH = 1.5  # of the grid, in ranges of the pilot to either side of its middle


class LineLaw(NamedTuple):
    """Of the particles: mean, variance; and the log of the mean evidence."""

    mean: float
    variance: float
    log_evidence: float


class Future(NamedTuple):
    """The log of the expected weight to come, and the final image's first two moments, (rows,)."""

    log_weight: Tensor
    mean: Tensor
    square: Tensor

    @classmethod
    def averaged(cls, log_w: Tensor, then: Future, log_rule: Tensor) -> Future:
        """Over the random number, whose nodes are the last axis of (rows, nodes)."""
        total = log_w + then.log_weight + log_rule
        share = total.softmax(1)
        return cls(total.logsumexp(1), (share * then.mean).sum(1), (share * then.square).sum(1))


class Places(NamedTuple):
    """A grid of x and of the slope of the clean estimate, at one level."""

    x: Tensor
    slope: Tensor

    @classmethod
    def around(cls, state: Any, size: tuple[int, int]) -> Places:
        """Three times as wide as a pilot run's particles: weights may grow outwards."""
        slope = getattr(state, "slope", torch.zeros_like(state.x))
        axes = []
        for values, count in zip((state.x, slope), size, strict=True):
            low, high = float(values.min()), float(values.max())
            half = WIDTH * max(high - low, 1e-9)
            middle = 0.5 * (low + high)
            axes.append(torch.linspace(middle - half, middle + half, count, dtype=F64))
        return cls(*axes)

    def spline(self, values: Tensor) -> Any:
        grid = values.reshape(len(self.x), len(self.slope)).numpy()
        orders = (min(3, len(axis) - 1) for axis in self)
        kx, ky = orders
        return RectBivariateSpline(self.x.numpy(), self.slope.numpy(), grid, kx=kx, ky=ky)


def rebuilt(
    sampler: Any, like: Any, x: Tensor, slope: Tensor, level: Tensor, problem: Problem, prior: Any
) -> Any:
    """The state of a particle at x (b, 1); slopes (b, 1) are those of the step before."""
    zero = torch.zeros(len(x), dtype=F64)
    if isinstance(sampler, ConjugateTDS):
        return sampler._look(x, level, problem, prior)
    fields = {"x": x, "log_w": zero, "log_evidence": zero}
    fields |= {
        name: value.reshape(-1, *getattr(like, name).shape[1:])
        for name, value in (("x0", prior(x, level)), ("slope", slope))
    }
    if isinstance(sampler, TDS):
        # The slope of the shift steers the proposal alone, which the weights undo: it is left out.
        _, shift, log_twist = sampler._twist(x, level, problem, prior)
        fields |= {"shift": shift, "shift_slope": torch.zeros_like(shift), "log_twist": log_twist}
    if isinstance(sampler, FKSteering):
        constant = like.constant[:1].expand(len(x))
        variance = float(prior.error_variance(level))
        reward = annealed(problem, constant).value(prior(x, level), variance)
        fields |= {"constant": constant, "memory": reward, "spent": reward}
    if "potential" in like._fields:
        constant = like.constant[:1].expand(len(x))
        variance = sampler.annealing * float(level) ** 2
        r, gradient = annealed(problem, constant).value_and_gradient(x, variance)
        fields |= {"constant": constant, "potential": r, "gradient": gradient}
    return like._replace(**fields)


def line_law(
    sampler: Any, problem: Problem, prior: Prior, ladder: Tensor, size: tuple[int, int] = (101, 15)
) -> LineLaw:
    """Of the particles of a sampler with weights, whose state is x and a slope, of one item.

    Arguments:
        sampler: With weights; ``ConjugateTDS``, ``TDS``, ``FKC``, ``AFDPS``, ``MCGDiff`` or
            ``FKSteering`` with differences.
        problem: One item with one pixel.
        prior: Any.
        ladder: Its levels.
        size: Grid points in x and in the slope.
    """
    nodes, rule = np.polynomial.hermite_e.hermegauss(24)
    number, log_rule = torch.from_numpy(nodes), torch.from_numpy(np.log(rule / rule.sum()))
    if isinstance(sampler, ConjugateTDS):
        size = size[0], 2  # nothing depends on the slope
    clouds = pilot(sampler, problem, prior, ladder)
    places = [Places.around(state, size) for state in clouds]
    splines: list[Any] = []

    def future(state: Any) -> Future:
        """By the splines of the level that the state has reached; the end at the last."""
        x = state.x.flatten()
        if not splines:
            return Future(torch.zeros_like(x), x, x**2)
        slope = getattr(state, "slope", torch.zeros_like(x)).flatten()
        return Future(*(torch.from_numpy(s.ev(x.numpy(), slope.numpy())) for s in splines))

    def averaged(state: Any) -> Future:
        then = (part.reshape(-1, len(number)) for part in future(state))
        return Future.averaged(state.log_w.reshape(-1, len(number)), Future(*then), log_rule)

    for i in reversed(range(len(ladder) - 1)):
        here = places[i]
        grid = torch.cartesian_prod(here.x, here.slope).repeat_interleave(len(number), 0)
        rows = problem.rows(torch.zeros(len(grid), dtype=torch.long))
        numbers = number.repeat(len(grid) // len(number))[:, None]
        state = rebuilt(sampler, clouds[i], grid[:, :1], grid[:, 1:], ladder[i], rows, prior)
        state, _ = sampler.step(
            state, ladder[i], ladder[i + 1], rows, prior, Given(numbers, i + 1)
        )
        splines = [here.spline(part) for part in averaged(state)]
    rows = problem.rows(torch.zeros(len(number), dtype=torch.long))
    whole = averaged(sampler.init(rows, prior, ladder[0], Given(number[:, None])))
    mean = float(whole.mean)
    return LineLaw(mean, float(whole.square) - mean**2, float(whole.log_weight))


def pilot(sampler: Any, problem: Problem, prior: Prior, ladder: Tensor) -> list[Any]:
    """The states of 2000 particles, level by level, to see where they are."""
    rows = problem.rows(torch.zeros(2000, dtype=torch.long))
    source = torch.Generator().manual_seed(0)
    numbers = torch.randn(len(rows), 1, generator=source, dtype=F64)
    states = [sampler.init(rows, prior, ladder[0], Given(numbers))]
    for i, (now, then) in enumerate(pairwise(ladder[:-1])):
        numbers = torch.randn(len(rows), 1, generator=source, dtype=F64)
        state, _ = sampler.step(states[-1], now, then, rows, prior, Given(numbers, i + 1))
        states.append(state)
    return states
