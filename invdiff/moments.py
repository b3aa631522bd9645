r"""The first two moments of x0 given x, and their conjugate update by linear data.

Dense matrices, for images of up to about a thousand pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.diffusion import denoise_vjp
from invdiff.linalg import as_matrix
from invdiff.priors.base import Prior
from invdiff.problem import Problem

__all__ = ["Moments", "Updated", "log_peak", "moments", "updated", "whitened_matrix"]


class Moments(NamedTuple):
    """E[x0 | x], (b, n), and Cov[x0 | x], (b, n, n), or (1, n, n) if all x share it; float64."""

    mean: Tensor
    covariance: Tensor


class Updated(NamedTuple):
    """The same after the data, as what changed.

    The shift of the mean (b, n), what the covariance loses as its root (b or 1, r, n), with r
    numbers measured, and the log-evidence of the data, (b,).
    """

    shift: Tensor
    root: Tensor
    log_evidence: Tensor


def moments(prior: Prior, x: Tensor, sigma: Tensor) -> Moments:
    r"""E and Cov of x0 given x (b, *shape) at a level.

    The covariance is the prior's own ``conditional_covariance(x, sigma)``, (b or 1, n, n), where
    it has one, else Tweedie's :math:`\sigma^2 J`, symmetrised: one derivative per pixel.
    """
    known = getattr(prior, "conditional_covariance", None)
    if known is not None:
        mean = prior(x, sigma)
        return Moments(mean.flatten(1).double(), known(x, sigma).double())
    mean, vjp = denoise_vjp(prior, x, sigma)
    unit = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    jacobian = torch.stack([vjp(pixel.expand_as(x)).flatten(1) for pixel in unit], 1).double()
    covariance = 0.5 * float(sigma) ** 2 * (jacobian + jacobian.mT)
    return Moments(mean.flatten(1).double(), covariance)


def updated(given: Moments, problem: Problem, matrix: Tensor) -> Updated:
    r"""Takes N(m, C) to its posterior under the problem's data, as if noise were Gaussian.

    .. math:: S = I + B C B^T, \quad m' = m + C B^T S^{-1} W^{1/2} (y - A m), \quad
              C' = C - C B^T S^{-1} B C, \quad B = W^{1/2} A

    ``matrix`` is B, from ``whitened_matrix``.
    """
    image = given.mean.reshape(-1, *problem.operator.domain).to(problem.y.real)
    cross = matrix @ given.covariance
    total = cross @ matrix.mT
    total.diagonal(dim1=1, dim2=2).add_(1)
    factor = cholesky(total)
    flat = _real((problem.precision.sqrt() * problem.residual(image)).flatten(1)).double()
    scaled = solve(factor, flat)
    root = torch.linalg.solve_triangular(factor, cross, upper=False)
    misfit = scaled.square().sum(1)
    log_evidence = log_peak(problem) - 0.5 * misfit - log_determinant(factor)
    return Updated(apply(root.mT, scaled), root, log_evidence)


def log_peak(problem: Problem) -> Tensor:
    """The log-density of a residual of zero, per row, as if the noise were Gaussian; float64."""
    precision = problem.precision.expand(problem.y.shape).flatten(1).double()
    seen = precision > 0
    each = 0.5 * (torch.where(seen, precision, 1) / (2 * math.pi)).log()
    total = torch.where(seen, each, 0).sum(1)
    return 2 * total if problem.y.is_complex() else total


def whitened_matrix(problem: Problem) -> Tensor:
    r""":math:`W^{1/2} A` as a matrix (1 or b, r, n), float64; complex data as real numbers.

    Raises TypeError when the operator is not linear or takes complex images.
    """
    memory = vars(problem)  # as functools.cached_property does; a problem never changes
    if "whitened_matrix" not in memory:
        memory["whitened_matrix"] = _whitened_matrix(problem)
    matrix: Tensor = memory["whitened_matrix"]
    return matrix


@torch.no_grad()
def _whitened_matrix(problem: Problem) -> Tensor:
    operator = problem.operator
    if not operator.linear or operator.complex_domain:
        raise TypeError(f"{operator} has no matrix here: it must be linear and take real images.")
    root = problem.precision.sqrt().flatten(1).double()
    if bool((root == root[:1]).all()):
        root = root[:1]
    if problem.y.is_complex():
        root = torch.cat([root, root], 1)
    return root[..., None] * as_matrix(operator).to(root.device)


def apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """The products (b, m) of matrices (b or 1, m, n) and vectors (b, n)."""
    if len(matrices) == 1:
        return vectors @ matrices[0].mT
    return (matrices @ vectors[..., None])[..., 0]


def solve(factor: Tensor, vectors: Tensor) -> Tensor:
    """L^-1 v for lower triangles (b or 1, n, n) and vectors (b, n)."""
    columns = vectors.mT if len(factor) == 1 else vectors[..., None]
    solved: Tensor = torch.linalg.solve_triangular(factor, columns, upper=False)
    return solved[0].mT if len(factor) == 1 else solved[..., 0]


def cholesky(matrices: Tensor) -> Tensor:
    """The factors (b, n, n); all NaN where a matrix is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(matrices)
    return torch.where((failed > 0)[:, None, None], torch.nan, factor)


def log_determinant(factor: Tensor) -> Tensor:
    """Half the log-determinant of the matrix whose Cholesky factor this is, (b,)."""
    return factor.diagonal(dim1=1, dim2=2).log().sum(1)


def _real(values: Tensor) -> Tensor:
    return torch.cat([values.real, values.imag], 1) if values.is_complex() else values
