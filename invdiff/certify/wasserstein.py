"""Sliced Wasserstein distances between weighted samples and reference draws."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from invdiff.certify.case import Case
from invdiff.certify.draws import Draws
from invdiff.certify.statistics import mode_error
from invdiff.rng import Rng

__all__ = ["floors", "sliced_wasserstein", "wasserstein_squared"]

SLICES = 100


def wasserstein_squared(x: Tensor, weights: Tensor, reference: Tensor) -> Tensor:
    r""":math:`\int_0^1 (F^{-1}(u) - G^{-1}(u))^2 du` in one dimension, exactly.

    Arguments:
        x: Samples (..., samples) with ``weights`` of the same shape that sum to 1.
        reference: Equally heavy draws, (..., draws).
    """
    x, order = x.sort(-1)
    reference = reference.sort(-1).values
    ends = weights.gather(-1, order).cumsum(-1)
    count = reference.shape[-1]
    marks = torch.arange(1, count + 1, dtype=torch.float64) / count
    edges = torch.cat([ends, marks.expand_as(reference)], -1).clamp(max=1).sort(-1).values
    widths = edges.diff(dim=-1, prepend=torch.zeros_like(edges[..., :1]))
    middle = edges - 0.5 * widths
    mine = torch.searchsorted(ends.contiguous(), middle).clamp(max=x.shape[-1] - 1)
    theirs = (middle * count).floor().long().clamp(max=count - 1)
    gap = x.gather(-1, mine) - reference.gather(-1, theirs)
    return (widths * gap.square()).sum(-1)


def sliced_wasserstein(draws: Draws, reference: Tensor, slices: int = SLICES) -> Tensor:
    r"""The root mean square over random directions of the projected distance W2, (items,).

    The directions are the same in every call: keyed, not drawn. ``reference`` is
    (items, draws, pixels). (Bonneel et al., Sliced and Radon Wasserstein barycenters of measures,
    2015.)
    """
    directions = _directions(draws.x.shape[2], slices)
    x, other = ((part @ directions).mT for part in (draws.x, reference))
    weights = draws.weights[:, None].expand_as(x)
    return wasserstein_squared(x, weights, other).mean(1).sqrt()


@lru_cache(maxsize=64)
def floors(case: Case, samples: int) -> dict[str, Tensor]:
    """What ``samples`` exact draws score on a case, mean over repetitions, each (items,).

    Raises ValueError if the case has too few draws for one repetition.
    """
    spare = case.truth.spare
    if spare.shape[1] < samples:
        raise ValueError(
            f"The case {case.name} has {2 * spare.shape[1]} exact draws, but the floor of "
            f"{samples} samples needs {2 * samples}. Build it with more draws, or sample less."
        )
    runs = [Draws.equal(part) for part in spare.split(samples, 1) if part.shape[1] == samples][:4]
    found = {"wasserstein": [sliced_wasserstein(run, case.truth.reference) for run in runs]}
    modes = case.truth.modes
    if modes is not None:
        shape = tuple(case.images.shape[1:])
        found["modes"] = [mode_error(run, modes, shape) for run in runs]
    return {name: torch.stack(values).mean(0) for name, values in found.items()}


def _directions(pixels: int, slices: int) -> Tensor:
    """Unit vectors in columns, (pixels, slices)."""
    like = torch.empty(slices, pixels, dtype=torch.float64)
    vectors = Rng(0, ["sliced wasserstein"], slices).normal(like)
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit.T
