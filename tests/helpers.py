"""Small problems with known answers, for many test files."""

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff import Gaussian, Problem
from invdiff.operators import Operator
from invdiff.priors.gaussian import GaussianPrior

PIXELS, MEASURED = 6, 4


@dataclass(frozen=True, eq=False, repr=False)
class DenseOperator(Operator):
    """A matrix (1 or b, m, n), of its own for every item."""

    matrix: Tensor

    @property
    def domain(self) -> tuple[int, ...]:
        return (self.matrix.shape[2],)

    @property
    def range(self) -> tuple[int, ...]:
        return (self.matrix.shape[1],)

    def _forward(self, x: Tensor) -> Tensor:
        return (self.matrix.to(x) @ x[..., None])[..., 0]

    def _adjoint(self, y: Tensor) -> Tensor:
        return (self.matrix.to(y).mT @ y[..., None])[..., 0]


@dataclass(frozen=True, eq=False, repr=False)
class Saturating(DenseOperator):
    """tanh(M x): differentiable and not linear."""

    @property
    def linear(self) -> bool:
        return False

    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x).tanh()

    def _adjoint(self, y: Tensor) -> Tensor:
        raise TypeError("not linear")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(pixels: int, seed: int = 0) -> Tensor:
    """A random covariance with variances about 1, float64."""
    root = torch.randn(pixels, pixels, generator=generator(seed), dtype=torch.float64)
    return root @ root.T / pixels + 0.05 * torch.eye(pixels, dtype=torch.float64)


def small_prior(pixels: int = PIXELS) -> GaussianPrior:
    mean = torch.linspace(-0.5, 1, pixels, dtype=torch.float64)
    return GaussianPrior.dense(mean, covariance(pixels))


def small_problem(
    items: int = 3,
    dtype: torch.dtype = torch.float64,
    kind: type[DenseOperator] = DenseOperator,
    sigma: float | Tensor = 0.3,
    seed: int = 1,
) -> Problem:
    """Another random matrix for every item."""
    source = generator(seed)
    matrix = torch.randn(items, MEASURED, PIXELS, generator=source, dtype=torch.float64)
    x = torch.randn(items, PIXELS, generator=source, dtype=torch.float64)
    noise = torch.randn(items, MEASURED, generator=source, dtype=torch.float64)
    operator = kind(matrix.to(dtype))
    y = operator(x.to(dtype)) + 0.1 * noise.to(dtype)
    return Problem(y, operator, Gaussian(sigma))


def grid_covariance(size: int, std: float, length: float) -> Tensor:
    """std^2 exp(-distance / length) between the pixels of a square image, float64."""
    line = torch.arange(size, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    return std**2 * torch.exp(-torch.cdist(points, points) / length)
