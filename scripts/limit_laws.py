r"""What samplers give with infinitely many particles, at a given ladder, without drawing any.

On a linear Gaussian problem many samplers are affine in their random numbers, and the logarithm of
their weights is quadratic. So is what many particles tend to: a Gaussian, carried from level to
level by the sampler's own ``step``, asked at as many points as a quadratic function has numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.priors.exact import ExactPosterior
from invdiff.problem import Problem

__all__ = ["Errors", "Given", "Law", "affine_law", "errors", "stationary_law", "weighted_law"]

F64 = torch.float64


class Law(NamedTuple):
    """Of the samples: mean (n,), covariance (n, n); and the log of the mean evidence."""

    mean: Tensor
    covariance: Tensor
    log_evidence: float


class Errors(NamedTuple):
    """Of a law: root mean square of the mean's in posterior sd, trace ratio - 1, evidence."""

    mean: float
    variance: float
    evidence: float


def errors(law: Law, truth: ExactPosterior) -> Errors:
    gap = (law.mean - truth.mean[0].flatten()) / truth.std[0].flatten()
    ratio = float(law.covariance.trace() / truth.covariance[0].trace())
    return Errors(
        float(gap.square().mean().sqrt()),
        ratio - 1,
        law.log_evidence - float(truth.log_evidence[0]),
    )


class Given:
    """Random numbers (b, count) that are handed out rather than drawn; 0 beyond the last."""

    particles = 1

    def __init__(self, numbers: Tensor, step: int = 0) -> None:
        self.numbers, self.step, self.used = numbers, step, 0

    def normal(self, like: Tensor) -> Tensor:
        size = like[0].numel()
        found = self.numbers[:, self.used : self.used + size]
        self.used += size
        return torch.nn.functional.pad(found, (0, size - found.shape[1])).reshape(like.shape)

    def uniform(self, count: int | None = None) -> Tensor:
        rows = len(self.numbers)
        return torch.zeros((rows,) if count is None else (rows, count), dtype=F64)


@dataclass(frozen=True)
class Quadratic:
    """c + g e + e H e / 2 of a vector e, for several functions: (k,), (k, d), (k, d, d)."""

    constant: Tensor
    gradient: Tensor
    curvature: Tensor

    @classmethod
    def through(cls, values: Tensor, size: int) -> Quadratic:
        """The one with these values (rows, k) at ``points(size)``."""
        first, ahead, behind = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
        curvature = values.new_zeros(values.shape[1], size, size)
        i, j = torch.triu_indices(size, size, 1)
        curvature[:, i, j] = (values[2 * size + 1 :] - ahead[i] - ahead[j] + first).T
        curvature = curvature + curvature.mT + torch.diag_embed((ahead + behind - 2 * first).T)
        return cls(first, 0.5 * (ahead - behind).T, curvature)

    def at(self, e: Tensor) -> Tensor:
        """(rows, k) for e (rows, d)."""
        half = 0.5 * torch.einsum("ri,kij,rj->rk", e, self.curvature, e)
        return self.constant + e @ self.gradient.T + half

    def after(self, shift: Tensor, root: Tensor) -> Quadratic:
        """As a function of e', where e = shift + root e'."""
        slope = self.gradient + self.curvature @ shift
        return Quadratic(self.at(shift[None])[0], slope @ root, root.T @ self.curvature @ root)


def points(size: int) -> Tensor:
    """0, the unit vectors, minus them, and the sums of any two."""
    unit = torch.eye(size, dtype=F64)
    i, j = torch.triu_indices(size, size, 1)
    return torch.cat([torch.zeros(1, size, dtype=F64), unit, -unit, unit[i] + unit[j]])


class Cloud(NamedTuple):
    """A state whose images are affine, and numbers quadratic, in a standard normal vector."""

    kind: Any  # the state's type
    shapes: list[tuple[int, ...]]  # of its images, None for its numbers
    center: Tensor
    root: Tensor
    numbers: Quadratic
    log_evidence: float

    def state(self, e: Tensor) -> Any:
        """At e (rows, d); log-weights are 0."""
        images = (self.center + e @ self.root.T).split([math.prod(s) for s in self.shapes], 1)
        images = iter(i.reshape(len(e), *s) for i, s in zip(images, self.shapes, strict=True))
        numbers = iter(self.numbers.at(e).T)
        zero = torch.zeros(len(e), dtype=F64)
        fields = [
            zero if name in ("log_w", "log_evidence") else next(images if image else numbers)
            for name, image in zip(self.kind._fields, self._is_image, strict=True)
        ]
        return self.kind(*fields)

    @property
    def _is_image(self) -> list[bool]:
        return _IMAGES[self.kind]


_IMAGES: dict[Any, list[bool]] = {}


def gathered(state: Any, size: int, log_evidence: float) -> Cloud:
    """What the weighted state at ``points(size)`` says of all particles: the tilted normal law."""
    kind = type(state)
    _IMAGES[kind] = [field.ndim > 1 for field in state]
    images = [field for field in state if field.ndim > 1]
    scalars = [
        field
        for name, field in zip(kind._fields, state, strict=True)
        if field.ndim == 1 and name not in ("log_w", "log_evidence")
    ]
    weight = Quadratic.through(state.log_w[:, None], size)
    precision = torch.eye(size, dtype=F64) - weight.curvature[0]
    factor = torch.linalg.cholesky(precision)  # fails if the weights have no mean
    shift = torch.cholesky_solve(weight.gradient[0][:, None], factor)[:, 0]
    root = torch.linalg.inv(factor).T
    gain = weight.constant[0] + 0.5 * weight.gradient[0] @ shift
    log_evidence += float(gain - factor.diagonal().log().sum())
    flat = torch.cat([field.flatten(1) for field in images], 1)
    slope = 0.5 * (flat[1 : size + 1] - flat[size + 1 : 2 * size + 1]).T
    u, s, vh = torch.linalg.svd(slope @ root, full_matrices=False)
    kept = s > 1e-10 * s[0]
    values = torch.stack(scalars, 1) if scalars else flat[:, :0]
    numbers = Quadratic.through(values, size).after(shift, root @ vh[kept].T)
    shapes = [tuple(field.shape[1:]) for field in images]
    return Cloud(
        kind, shapes, flat[0] + slope @ shift, u[:, kept] * s[kept], numbers, log_evidence
    )


def weighted_law(sampler: Any, problem: Problem, prior: Prior, ladder: Tensor) -> Law:
    """Of the particles of a sampler with weights, of one item; affine steps of one draw each.

    Raises torch.linalg.LinAlgError if the weights have no mean.
    """
    pixels = math.prod(problem.operator.domain)
    start = points(pixels)
    rows = problem.rows(torch.zeros(len(start), dtype=torch.long))
    cloud = gathered(sampler.init(rows, prior, ladder[0], Given(start)), pixels, 0.0)
    for i in range(len(ladder) - 1):
        known = cloud.root.shape[1]
        e = points(known + pixels)
        rows = problem.rows(torch.zeros(len(e), dtype=torch.long))
        rng = Given(e[:, known:], i + 1)
        state, _ = sampler.step(
            cloud.state(e[:, :known]), ladder[i], ladder[i + 1], rows, prior, rng
        )
        assert rng.used <= pixels
        cloud = gathered(state, known + pixels, cloud.log_evidence)
    first = cloud.shapes[0]
    mean, root = cloud.center[: math.prod(first)], cloud.root[: math.prod(first)]
    return Law(mean, root @ root.T, cloud.log_evidence)


def affine_law(sampler: Any, problem: Problem, prior: Prior, ladder: Tensor) -> Law:
    """Of the samples of a sampler without weights, of one item: a run for every random number."""
    pixels = math.prod(problem.operator.domain)
    numbers = torch.eye(pixels * len(ladder) + 1, dtype=F64)[:, :-1]  # the last row has none
    rows = problem.rows(torch.zeros(len(numbers), dtype=torch.long))
    state = sampler.init(rows, prior, ladder[0], Given(numbers[:, :pixels]))
    for i in range(len(ladder) - 1):
        rng = Given(numbers[:, (i + 1) * pixels : (i + 2) * pixels], i + 1)
        state, _ = sampler.step(state, ladder[i], ladder[i + 1], rows, prior, rng)
        assert rng.used <= pixels
    root = (state.x[:-1] - state.x[-1]).flatten(1)
    return Law(state.x[-1].flatten(), root.T @ root, math.nan)


def stationary_law(
    sampler: Any, problem: Problem, prior: Prior, level: Tensor
) -> tuple[Law, float]:
    """What sweep after sweep of a Gibbs sampler at one level tends to, and the slowest factor."""
    pixels = math.prod(problem.operator.domain)
    pair = level.new_tensor([float(level), 0.0])

    def sweep(x: Tensor, numbers: Tensor) -> tuple[Tensor, int]:
        rows, rng = problem.rows(torch.zeros(len(x), dtype=torch.long)), Given(numbers)
        state = sampler.init(rows, prior, level, Given(numbers[:, :0]))
        state, _ = sampler.step(state._replace(x=x), pair[0], pair[1], rows, prior, rng)
        return state.x.flatten(1), rng.used

    zero = torch.zeros(1, pixels, dtype=F64)
    offset, count = sweep(zero, zero[:, :0])
    matrix = (sweep(torch.eye(pixels, dtype=F64), zero[:, :0].expand(pixels, 0))[0] - offset).T
    root = sweep(zero.expand(count, -1), torch.eye(count, dtype=F64))[0] - offset
    unit = torch.eye(pixels, dtype=F64)
    mean = torch.linalg.solve(unit - matrix, offset[0])
    steady = torch.eye(pixels**2, dtype=F64) - torch.kron(matrix, matrix)
    covariance = torch.linalg.solve(steady, (root.T @ root).flatten()).reshape(pixels, pixels)
    slowest = float(torch.linalg.eigvals(matrix).abs().max())
    return Law(mean, covariance, math.nan), slowest
