"""The error of a denoiser between the noise levels at which it was measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["error_at"]


def error_at(sigma: Tensor, grid: Sequence[float], values: Sequence[float]) -> Tensor:
    """Log-log linear inside the grid, proportional to sigma^2 below, constant above.

    Arguments:
        sigma: Noise levels, of any shape.
        grid: Increasing noise levels, 2 or more, and
        values: the mean squared error at each.
    """
    x = torch.tensor(grid, dtype=torch.float64, device=sigma.device).log()
    y = torch.tensor(values, dtype=torch.float64, device=sigma.device).log()
    at = sigma.to(torch.float64).log()
    inside = at.clamp(float(x[0]), float(x[-1]))
    left = (torch.searchsorted(x, inside, right=True) - 1).clamp(0, len(grid) - 2)
    share = (inside - x[left]) / (x[left + 1] - x[left])
    out = y[left] + share * (y[left + 1] - y[left]) + 2 * (at - x[0]).clamp(max=0)
    return out.exp().to(sigma.dtype)
