"""Metropolis moves: particles that resampling made equal are made different again."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from invdiff.rng import Rng

__all__ = ["metropolis"]

State = TypeVar("State", bound=Any)


def metropolis(state: State, proposal: State, log_ratio: Tensor, rng: Rng) -> State:
    r"""Takes each row of the proposal with probability :math:`\min(1, e^{\text{log ratio}})`.

    ``log_ratio`` (b,), float64, is the log of target times backward proposal over target times
    forward proposal. Rows that meet NaN keep their state.
    (Metropolis et al., 1953; Hastings, 1970.)
    """
    chance = rng.uniform(rng.particles).flatten().to(log_ratio)
    accepted = torch.log(1 - chance) < log_ratio
    chosen = (
        torch.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        for new, old in zip(proposal, state, strict=True)
    )
    result: State = type(state)(*chosen)
    return result
