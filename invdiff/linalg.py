"""Batched linear algebra: every row has its own inner products, step sizes and stopping test."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["Solved", "as_matrix", "cg", "expand", "inner", "squared_norm"]


def inner(a: Tensor, b: Tensor) -> Tensor:
    r"""The real part of :math:`\langle a, b \rangle` per row: (b, ...) x (b, ...) -> (b,)."""
    return (a.conj() * b).real.flatten(1).sum(1)


def squared_norm(a: Tensor) -> Tensor:
    r""":math:`\|a\|^2` per row, (b,)."""
    return inner(a, a)


def expand(per_row: Tensor, like: Tensor) -> Tensor:
    """(b,) viewed as (b, 1, ..., 1), to multiply ``like`` (b, ...) row by row."""
    return per_row.reshape(-1, *[1] * (like.ndim - 1))


class Solved(NamedTuple):
    """The solution (b, ...), its relative residual (b,) and the iterations each row took (b,)."""

    x: Tensor
    residual: Tensor
    iterations: Tensor


def cg(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    x: Tensor | None = None,
    *,
    tolerance: float = 1e-5,
    iterations: int = 100,
) -> Solved:
    r"""Solves :math:`M x = b` per row by conjugate gradients, M Hermitian positive definite.

    Nothing is absolute: a row stops at :math:`\|b - M x\| \le` ``tolerance`` :math:`\|b\|`, so
    data of scale 1e-7 are solved as well as data of scale 1. A row that has converged is left as
    it is while others go on, so that no row sees its neighbours. A row that meets NaN is all NaN.

    Arguments:
        apply: :math:`x \mapsto M x` on (b, ...), real or complex; rows must not mix.
        b: The right-hand sides (b, ...).
        x: Where to start, zero if None.
        tolerance: The relative residual at which a row stops.
        iterations: The largest number of iterations.

    (Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems, 1952.)
    """
    # One scale per row keeps squared norms inside float32 for data of 1e-25 or 1e25.
    scale = b.abs().flatten(1).amax(1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    b = b / expand(scale, b)
    x = torch.zeros_like(b) if x is None else x / expand(scale, b)
    residual = b - apply(x)
    direction = residual
    energy = squared_norm(residual)
    goal = tolerance**2 * squared_norm(b)
    taken = torch.zeros_like(energy)
    for _ in range(iterations):
        active = energy > goal  # false for NaN: a broken row stops instead of running on
        if not bool(active.any()):
            break
        image = apply(direction)
        curvature = inner(direction, image)
        active = active & (curvature > 0)
        step = torch.where(active, energy / torch.where(active, curvature, 1), 0)
        moved = expand(active, x)
        x = torch.where(moved, x + expand(step, x) * direction, x)
        residual = torch.where(moved, residual - expand(step, x) * image, residual)
        previous, energy = energy, torch.where(active, squared_norm(residual), energy)
        if not bool(active.any()):
            break
        ratio = torch.where(active, energy / torch.where(active, previous, 1), 0)
        direction = torch.where(moved, residual + expand(ratio, x) * direction, direction)
        taken = taken + active
    size = squared_norm(b)
    relative = torch.sqrt(energy / torch.where(size > 0, size, 1))
    broken = expand(~torch.isfinite(energy), x)  # or its last finite x would pass for a solution
    x = torch.where(broken, torch.nan, x * expand(scale, x))
    return Solved(x, relative, taken)


def as_matrix(operator: Operator, dtype: torch.dtype = torch.float64) -> Tensor:
    """The dense matrix of a linear operator with a real domain, (items or 1, rows, columns).

    A complex measurement becomes its real parts followed by its imaginary parts. For tests and
    exact posteriors of small problems: memory is the product of both sizes.
    """
    size = torch.Size(operator.domain).numel()
    columns = []
    items = operator.items or 1
    for j in range(size):
        unit = torch.zeros(items, size, dtype=dtype)
        unit[:, j] = 1
        column = operator(unit.reshape(items, *operator.domain)).flatten(1)
        columns.append(torch.cat([column.real, column.imag], 1) if column.is_complex() else column)
    return torch.stack(columns, 2)
