"""Exact posteriors of Gaussian mixtures under linear operators: the truth samplers are held to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.linalg import as_matrix
from invdiff.problem import Problem

__all__ = ["ExactPosterior", "exact_posterior"]


@dataclass(frozen=True)
class ExactPosterior:
    r"""A Gaussian mixture per item, :math:`p(x \mid y) = \sum_j w_j N(x; m_j, C_j)`, float64.

    Arguments:
        weights: :math:`w_j`, (items, components).
        means: :math:`m_j`, (items, components, pixels).
        covariances: :math:`C_j`, (items, components, pixels, pixels).
        log_evidence: log p(y), (items,).
        shape: The shape of an image.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    log_evidence: Tensor
    shape: tuple[int, ...]

    @property
    def mean(self) -> Tensor:
        """E[x | y], (items, *shape)."""
        flat = torch.einsum("ij,ijn->in", self.weights, self.means)
        return flat.reshape(-1, *self.shape)

    @property
    def covariance(self) -> Tensor:
        """Cov[x | y], (items, pixels, pixels)."""
        centred = self.means - self.mean.flatten(1)[:, None]
        between = torch.einsum("ij,ijn,ijm->inm", self.weights, centred, centred)
        return between + torch.einsum("ij,ijnm->inm", self.weights, self.covariances)

    @property
    def std(self) -> Tensor:
        """The standard deviation of every pixel, (items, *shape)."""
        variance = self.covariance.diagonal(dim1=-2, dim2=-1)
        return variance.sqrt().reshape(-1, *self.shape)

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Independent exact samples, (items, samples, *shape)."""
        items, _, pixels = self.means.shape
        pick = torch.multinomial(self.weights, samples, replacement=True, generator=generator)
        values, vectors = torch.linalg.eigh(self.covariances)
        root = vectors * values.clamp(min=0).sqrt()[..., None, :]
        noise = torch.randn(items, samples, pixels, dtype=torch.float64, generator=generator)
        item = torch.arange(items)[:, None]
        flat = self.means[item, pick] + torch.einsum("isnm,ism->isn", root[item, pick], noise)
        return flat.reshape(items, samples, *self.shape)


def exact_posterior(
    weights: Tensor, means: Tensor, covariances: Tensor, problem: Problem
) -> ExactPosterior:
    r"""Conjugate update of the mixture :math:`\sum_j w_j N(m_j, C_j)` for :math:`y = A x + n`.

    With :math:`S_j = A C_j A^T + R`: mean :math:`m_j + C_j A^T S_j^{-1} (y - A m_j)`, covariance
    :math:`C_j - C_j A^T S_j^{-1} A C_j`, weight :math:`\propto w_j N(y; A m_j, S_j)`.

    Arguments:
        weights: (components,).  means: (components, *shape).
        covariances: (components, pixels, pixels).
        problem: A linear operator with real images, and Gaussian noise.

    Raises:
        TypeError: The operator is not linear, or its images are complex.
    """
    operator = problem.operator
    if not operator.linear or operator.complex_domain:
        raise TypeError(f"{operator} has no closed-form posterior: it must be linear and real.")
    matrix = as_matrix(operator)
    y = problem.center
    precision = problem.precision.expand(y.shape).flatten(1).double()
    flat_y = y.flatten(1)
    if y.is_complex():
        flat_y = torch.cat([flat_y.real, flat_y.imag], 1)
        precision = torch.cat([precision, precision], 1)
    flat_means = means.flatten(1).double()
    rows = [
        _update(
            weights.double(),
            flat_means,
            covariances.double(),
            matrix[min(i, len(matrix) - 1)],
            flat_y[i].double(),
            precision[i],
        )
        for i in range(len(problem))
    ]
    parts = [torch.stack(part) for part in zip(*rows, strict=True)]
    return ExactPosterior(parts[0], parts[1], parts[2], parts[3], tuple(operator.domain))


def _update(
    weights: Tensor, means: Tensor, covariances: Tensor, a: Tensor, y: Tensor, precision: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seen = precision > 0
    a, y, noise = a[seen], y[seen], 1 / precision[seen]
    cross = covariances @ a.T  # (components, pixels, measured)
    total = a @ cross + torch.diag(noise)
    residual = y - means @ a.T
    factor = torch.linalg.cholesky(total)
    white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
    gain = torch.cholesky_solve(cross.mT, factor).mT
    log_density = (
        -0.5 * white.square().sum(-1)
        - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        - 0.5 * len(y) * math.log(2 * math.pi)
    )
    joint = weights.log() + log_density
    new_means = means + torch.einsum("jnm,jm->jn", gain, residual)
    new_covariances = covariances - gain @ cross.mT
    symmetric = 0.5 * (new_covariances + new_covariances.mT)
    return joint.softmax(0), new_means, symmetric, joint.logsumexp(0)
