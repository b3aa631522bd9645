"""What is checked before a run: everything that can be known without a single evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.noise import Gaussian
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import ItemId
from invdiff.samplers.base import Sampler

__all__ = ["check_run"]


def check_run(
    problem: Problem,
    prior: Prior,
    sampler: Sampler,
    ladder: Tensor,
    names: Sequence[ItemId],
    samples: int,
    chunk: int | None,
    rows: int | None,
    checkpoint_every: int,
) -> None:
    """Raises ShapeError, ValueError or TypeError when the parts of a run do not fit together."""
    counts = {"samples": samples, "chunk": chunk, "rows": rows}
    for name, count in (counts | {"checkpoint_every": checkpoint_every}).items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}, expected a count of at least 1.")
    if len(names) != len(problem) or len(set(names)) != len(names):
        raise ValueError(
            f"{len(names)} ids ({len(set(names))} different) for {len(problem)} items. "
            "Give every item its own id: randomness follows it."
        )
    for what, kind, value in (("prior", Prior, prior), ("sampler", Sampler, sampler)):
        if not isinstance(value, kind):
            raise TypeError(
                f"{value!r} is no {what}: it lacks methods of invdiff's {kind.__name__}. "
                f"See {kind.__module__} for what a {what} must have."
            )
    _check_operator(problem, sampler)
    prior.check_shape(problem.operator.domain)
    _check_levels(ladder, prior)
    _check_values(problem, prior)


def _check_operator(problem: Problem, sampler: Sampler) -> None:
    operator, name = problem.operator, type(sampler).__name__
    if operator.complex_domain:
        raise TypeError(
            f"{operator} takes complex images, but priors describe real channels. "
            "Compose it: operator @ AsComplex(...)."
        )
    if sampler.needs_linear and not operator.linear:
        raise TypeError(f"{name} needs a linear operator, but {operator} is not. Use DPS or STSL.")
    if sampler.kind == "exact" and not operator.adjoint_exact:
        raise TypeError(
            f"{name} claims exact samples, but the adjoint of {operator} is not exact. "
            "Use a backend with an exact adjoint, or an approximate sampler."
        )


def _check_levels(ladder: Tensor, prior: Prior) -> None:
    high, low = float(ladder[0]), float(ladder[-2])
    if high > 1.01 * prior.sigma_max or low < 0.99 * prior.sigma_min:
        raise ValueError(
            f"The ladder runs from {high:.4g} to {low:.4g}, but the prior {prior.name!r} knows "
            f"noise from {prior.sigma_max:.4g} to {prior.sigma_min:.4g}, on the range of its "
            "images. Use karras(steps, prior.sigma_min, prior.sigma_max)."
        )


def _check_values(problem: Problem, prior: Prior) -> None:
    """Refuses measurements that no image in the prior's range can have caused."""
    low, high = prior.value_range
    if not (math.isfinite(low) and math.isfinite(high)):
        return
    bounds = problem.operator.bounds(low, high)
    if bounds is None or problem.y.is_complex():
        return
    seen = torch.broadcast_to(problem.precision > 0, problem.y.shape)
    data = problem.center[seen]
    noise = problem.noise
    sigma = float(torch.as_tensor(noise.sigma).max()) if isinstance(noise, Gaussian) else 0.0
    margin = 0.5 * (bounds[1] - bounds[0]) + 6 * sigma
    if float(data.min()) < bounds[0] - margin or float(data.max()) > bounds[1] + margin:
        raise ValueError(
            f"The measurement lies in [{float(data.min()):.4g}, {float(data.max()):.4g}], but "
            f"images of the prior {prior.name!r} lie in [{low:.4g}, {high:.4g}] and give "
            f"measurements in [{bounds[0]:.4g}, {bounds[1]:.4g}]. Rescale the data to the prior's "
            "range (0..255 images are not [-1, 1] images), or the prior with AffinePrior."
        )
