r"""The classical data term :math:`\frac12 \|(A x - y) / \sigma\|^2` as its minimisers need it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.linalg import expand, squared_norm
from invdiff.operators.base import Operator

__all__ = ["curvature_bound", "data_precision"]


def data_precision(operator: Operator, y: Tensor, sigma: float | Tensor) -> Tensor:
    """One over sigma squared, real, zero where nothing was measured."""
    like = y.real if y.is_complex() else y
    precision = torch.as_tensor(sigma, dtype=like.dtype, device=like.device) ** -2
    observed = operator.observed
    return precision if observed is None else precision * observed.to(like)


def curvature_bound(
    hessian: Callable[[Tensor], Tensor], like: Tensor, iterations: int = 40
) -> Tensor:
    """The largest eigenvalue of A* W A of each row, (b,), by the power method, 5 % for safety.

    ``like`` is any image (b, *domain).
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, *like.shape[1:], generator=generator, dtype=torch.float64)
    x = start.to(like).expand(like.shape)
    size = squared_norm(x)
    for _ in range(iterations):
        x = hessian(x / expand(size.sqrt(), x))
        size = squared_norm(x)
    return 1.05 * size.sqrt()
