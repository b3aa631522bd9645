"""Weighted particles: effective sample size, resampling per item, and the evidence.

Rows b = items x particles; log-weights are float64. A weighted state is a NamedTuple of tensors
with the fields ``log_w`` (b,) and ``log_evidence`` (b,), which holds what earlier resampling has
absorbed; all its fields follow their particle when it is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from invdiff.rng import Rng

__all__ = [
    "Multinomial",
    "Resampling",
    "Residual",
    "Stratified",
    "Systematic",
    "effective_sample_size",
    "log_mean",
    "resample",
    "weight_info",
]


def effective_sample_size(log_w: Tensor) -> Tensor:
    r""":math:`1 / \sum_k W_k^2` of the normalised weights, for log_w (n, k); gives (n,)."""
    return torch.exp(-torch.logsumexp(2 * torch.log_softmax(log_w.double(), 1), 1))


def log_mean(log_w: Tensor) -> Tensor:
    """The log of the mean weight of an item, (n, k) -> (n,)."""
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


class Resampling(Protocol):
    """A way to choose k ancestors: particle j is chosen k W_j times on average."""

    def __call__(self, log_w: Tensor, rng: Rng) -> Tensor:
        """Ancestors (n, k), integers, for log-weights (n, k)."""
        ...


@dataclass(frozen=True)
class Systematic:
    """One uniform number per item: j is chosen floor(k W_j) or floor(k W_j) + 1 times.

    (Kitagawa, Monte Carlo filter and smoother for non-Gaussian nonlinear models, 1996.)
    """

    def __call__(self, log_w: Tensor, rng: Rng) -> Tensor:
        return _search(log_w, _strata(log_w) + rng.uniform().to(log_w)[:, None] / log_w.shape[1])


@dataclass(frozen=True)
class Stratified:
    """One uniform number in each of k equal strata.

    (Kitagawa, Monte Carlo filter and smoother for non-Gaussian nonlinear models, 1996.)
    """

    def __call__(self, log_w: Tensor, rng: Rng) -> Tensor:
        k = log_w.shape[1]
        return _search(log_w, _strata(log_w) + rng.uniform(k).to(log_w) / k)


@dataclass(frozen=True)
class Multinomial:
    """k independent choices: the most noise, and what many published codes do."""

    def __call__(self, log_w: Tensor, rng: Rng) -> Tensor:
        return _search(log_w, rng.uniform(log_w.shape[1]).to(log_w).sort(1).values)


@dataclass(frozen=True)
class Residual:
    """floor(k W_j) times for sure, and the remainders by systematic choice.

    (Liu and Chen, Sequential Monte Carlo methods for dynamic systems, 1998.)
    """

    def __call__(self, log_w: Tensor, rng: Rng) -> Tensor:
        k = log_w.shape[1]
        expected = k * torch.softmax(log_w.double(), 1)
        sure = torch.floor(expected + 1e-12)  # 1 - 1e-16 is one copy for sure
        ends = (expected - sure).clamp(min=0).cumsum(1)
        ends[:, -1] = k - sure.sum(1)  # a whole number, but for rounding
        passed = torch.floor(ends + rng.uniform().to(log_w)[:, None])
        copies = sure.cumsum(1) + passed
        place = torch.arange(k, dtype=copies.dtype, device=log_w.device).expand_as(copies)
        found = torch.searchsorted(copies, place.contiguous(), right=True)
        return found.clamp(max=k - 1)


State = TypeVar("State", bound=Any)


def resample(
    state: State, rng: Rng, threshold: float = 0.5, scheme: Resampling | None = None
) -> State:
    """Replaces the particles of the items whose effective sample size is below the threshold.

    Their mean weight goes to ``log_evidence``, and their weights become equal; the other items
    stay as they are.

    Arguments:
        state: A weighted state, whose fields lead with b rows.
        rng: The step's random numbers.
        threshold: The fraction of the particles below which an item is resampled; 1 or more
            resamples always, 0 never.
        scheme: ``Systematic()`` if None.
    """
    k = rng.particles
    log_w = state.log_w.reshape(-1, k)
    low = effective_sample_size(log_w) < threshold * k * (1 + 1e-9)
    stay = torch.arange(k, device=log_w.device).expand_as(log_w)
    ancestors = torch.where(low[:, None], (scheme or Systematic())(log_w, rng), stay)
    first = k * torch.arange(len(log_w), device=log_w.device)
    rows = (first[:, None] + ancestors).flatten()
    chosen = type(state)(*(field[rows.to(field.device)] for field in state))
    low_rows = low.repeat_interleave(k)
    absorbed = torch.where(low, log_mean(log_w), 0.0).repeat_interleave(k)
    result: State = chosen._replace(
        log_w=torch.where(low_rows, 0.0, chosen.log_w), log_evidence=chosen.log_evidence + absorbed
    )
    return result


def weight_info(state: Any, particles: int) -> dict[str, Tensor]:
    """The effective sample size and the log-evidence so far, per item (n,)."""
    log_w = state.log_w.reshape(-1, particles)
    absorbed = state.log_evidence.reshape(-1, particles)[:, 0]
    return {"ess": effective_sample_size(log_w), "log_evidence": absorbed + log_mean(log_w)}


def _strata(log_w: Tensor) -> Tensor:
    k = log_w.shape[1]
    return torch.arange(k, dtype=torch.float64, device=log_w.device) / k


def _search(log_w: Tensor, points: Tensor) -> Tensor:
    cumulative = torch.softmax(log_w.double(), 1).cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    found = torch.searchsorted(cumulative, points.expand_as(cumulative).contiguous(), right=True)
    return found.clamp(max=log_w.shape[1] - 1)
