"""Schedules that are known only as functions of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.priors.loading.schedules import check_range

__all__ = ["NumericSchedule"]


@dataclass(frozen=True)
class NumericSchedule:
    r"""Any process on t in [0, 1], given as a function; t is found by bisection.

    Arguments:
        scales: t (float64, any shape) to :math:`(\alpha_t, \sigma_t)`, with
            :math:`\sigma_t / \alpha_t` increasing.
        t_min, t_max: The range of times that was trained on.
    """

    scales: Callable[[Tensor], tuple[Tensor, Tensor]]
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.sigma_min, self.sigma_max)

    @property
    def sigma_min(self) -> float:
        """The noise level at t_min."""
        return float(self._sigma(torch.tensor(self.t_min, dtype=torch.float64)))

    @property
    def sigma_max(self) -> float:
        """The noise level at t_max."""
        return float(self._sigma(torch.tensor(self.t_max, dtype=torch.float64)))

    def _sigma(self, t: Tensor) -> Tensor:
        alpha, sigma = self.scales(t)
        return sigma / alpha

    def alpha(self, sigma: Tensor) -> Tensor:
        r""":math:`\alpha_t` at the time of sigma."""
        return self.scales(self.time(sigma))[0].expand(sigma.shape)

    def time(self, sigma: Tensor) -> Tensor:
        """t, to 1e-15 of its range."""
        low = torch.full_like(sigma, self.t_min)
        high = torch.full_like(sigma, self.t_max)
        for _ in range(52):
            middle = (low + high) / 2
            below = self._sigma(middle) < sigma
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2
