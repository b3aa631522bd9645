"""Moves of the variances of a Gaussian linear model, with the Gaussian itself integrated out.

y = H u + n with u ~ N(0, diag(v)) and n ~ N(0, 1): log p(y | v) changes by little algebra when one
or two variances do. Everything is kept as M = [H, y]* C^-1 [H, y], C = 1 + H diag(v) H*, of which
a pass over the entries of u needs only the part still ahead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["data_factor", "rearrange"]


def data_factor(steps: Tensor, variances: Tensor) -> Tensor:
    """The Cholesky factor of C, for H (b, m, n) and v (b, n): (b, m, m)."""
    covariance = (steps * variances[:, None]) @ steps.mT
    covariance.diagonal(dim1=1, dim2=2).add_(1)
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor


def rearrange(
    steps: Tensor,
    y: Tensor,
    variances: Tensor,
    active: Tensor,
    atom: float,
    exchange: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Switches entries on and off, and exchanges neighbours, in one pass: p(v, active | y) stays.

    Arguments:
        steps: H, (b, m, n).  y: The data, (b, m).
        variances: (b, n).  active: Entries that are off are 0, (b, n).
        atom: The probability that an entry is off; 0: none ever is.
        exchange: Whether to exchange neighbours, too.
    """
    factor = data_factor(steps, variances * active)
    root = torch.linalg.solve_triangular(factor, torch.cat([steps, y[..., None]], 2), upper=False)
    m = (root.mT @ root).permute(1, 2, 0).contiguous()  # (n + 1, n + 1, b), the last of y
    v, on = list(variances.unbind(1)), list(active.unbind(1))
    for place in range(len(v)):
        if atom > 0:
            on[place] = _switch(v[place], on[place], m, atom, generator)
        if exchange and place + 1 < len(v):
            pair = slice(place, place + 2)
            swap = _exchange(v[place] * on[place], v[place + 1] * on[place + 1], m, generator)
            v[pair], on[pair] = _swapped(v[pair], swap), _swapped(on[pair], swap)
        m = m[1:, 1:]
    return torch.stack(v, 1), torch.stack(on, 1)


def _switch(v: Tensor, on: Tensor, m: Tensor, atom: float, generator: torch.Generator) -> Tensor:
    """Draws whether the first entry is on, given all other variances; updates m in place."""
    change = torch.where(on, -v, v)
    ratio = 1 + change * m[0, 0]
    log_odds = 0.5 * (change * m[0, -1].square() / ratio - ratio.log())
    log_odds += torch.where(on, -1.0, 1.0) * math.log((1 - atom) / atom)
    flip = _uniform(v, generator) < log_odds.sigmoid()
    column = m[0].clone()
    m.addcmul_((torch.where(flip, change / ratio, 0.0) * column)[:, None], column, value=-1)
    return on ^ flip


def _exchange(first: Tensor, second: Tensor, m: Tensor, generator: torch.Generator) -> Tensor:
    """Whether the first two entries exchange variances, by Metropolis' rule; updates what follows.

    C changes by H_2 diag(d, -d) H_2*; ``ratio`` is the change of its determinant, and ``weight``
    the 2 x 2 matrix of Woodbury's formula.
    """
    d, (a, c), b = second - first, m[0, :2], m[1, 1]
    ratio = (1 + d * a) * (1 - d * b) + (d * c).square()
    weight = d / ratio * torch.stack([1 - d * b, d * c, -1 - d * a])  # 11, 12 = 21, 22
    p, q = m[0, -1], m[1, -1]
    quadratic = weight[0] * p.square() + 2 * weight[1] * p * q + weight[2] * q.square()
    swap: Tensor = _uniform(first, generator).log() < 0.5 * (quadratic - ratio.log())
    weight = torch.where(swap, weight, 0.0)
    rows, rest = m[:2, 1:].clone(), m[1:, 1:]
    left = torch.stack([weight[:2, None] * rows, weight[1:, None] * rows]).sum(1)
    for one, other in zip(left, rows, strict=True):
        rest.addcmul_(one[:, None], other, value=-1)
    return swap


def _swapped(pair: list[Tensor], swap: Tensor) -> list[Tensor]:
    first, second = pair
    return [torch.where(swap, second, first), torch.where(swap, first, second)]


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype)
