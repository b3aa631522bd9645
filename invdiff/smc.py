"""Weighted particles: effective sample size and resampling, per item."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["effective_sample_size", "systematic_resampling"]


def effective_sample_size(log_w: Tensor) -> Tensor:
    r""":math:`1 / \sum_k W_k^2` of the normalised weights, for log_w (n, k); gives (n,)."""
    return torch.exp(-torch.logsumexp(2 * torch.log_softmax(log_w.double(), 1), 1))


def systematic_resampling(log_w: Tensor, uniform: Tensor) -> Tensor:
    """Ancestors (n, k) of k particles, drawn with one uniform number (n,) per item.

    Particle j is chosen floor(k W_j) or floor(k W_j) + 1 times, and k W_j times on average.
    (Kitagawa, Monte Carlo filter and smoother for non-Gaussian nonlinear models, 1996.)
    """
    items, particles = log_w.shape
    cumulative = torch.softmax(log_w.double(), 1).cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]
    steps = torch.arange(particles, dtype=torch.float64, device=log_w.device)
    points = (steps + uniform.to(steps)[:, None]) / particles
    ancestors = torch.searchsorted(cumulative, points.expand(items, -1).contiguous(), right=True)
    return ancestors.clamp(max=particles - 1)
