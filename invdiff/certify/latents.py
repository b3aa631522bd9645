"""Increments as Gaussians of random variance: the latent variables of a Gibbs sampler.

Every law is u | v ~ N(0, v), switched off where it has an atom; v has a prior, and given u a
conditional law that can be drawn from exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from invdiff.priors.increments import BernoulliLaplace, Gauss, Increments, Laplace, Student

__all__ = ["Mixture", "mixture_of"]


class Mixture(Protocol):
    """The law of the variance v of increments."""

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """v from its prior, of the shape of ``like``."""
        ...

    def given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """v given increments u (...)."""
        ...


@dataclass(frozen=True)
class Constant:
    """The variance of Gaussian increments."""

    variance: float

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(like, self.variance)

    def given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(u, self.variance)


@dataclass(frozen=True)
class Exponential:
    r"""Variances of Laplace increments, exponential with mean :math:`2 b^2`.

    1 / v given u is inverse Gaussian with mean :math:`1 / (b |u|)` and shape :math:`1 / b^2`.
    (Park and Casella, The Bayesian lasso, 2008; drawn as by Michael, Schucany and Haas, 1976.)
    """

    scale: float

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return self.scale**2 * _chi_square(2, like, generator)

    def given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        size = u.abs().clamp(min=1e-100) / self.scale  # exactly 0 with probability 0 only
        half = 0.5 * _chi_square(1, u, generator) / size
        root = 1 + half + (half.square() + 2 * half).sqrt()
        first = _uniform(u, generator) * (1 + root) < root
        return self.scale**2 * size * torch.where(first, root, 1 / root)


@dataclass(frozen=True)
class InverseGamma:
    r"""Variances of Student increments, :math:`\nu / \chi^2_\nu`."""

    degrees: int

    def prior(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return self.degrees / _chi_square(self.degrees, like, generator)

    def given(self, u: Tensor, generator: torch.Generator) -> Tensor:
        return (self.degrees + u.square()) / _chi_square(self.degrees + 1, u, generator)


def mixture_of(law: Increments) -> Mixture:
    """The latent variances of a law's continuous part. Raises TypeError for an unknown law."""
    match law:
        case Gauss(variance):
            return Constant(variance)
        case Laplace(scale) | BernoulliLaplace(_, scale):
            return Exponential(scale)
        case Student(degrees):
            return InverseGamma(degrees)
    raise TypeError(
        f"{law!r} is not known as a Gaussian scale mixture, expected Gauss, Laplace, Student or "
        "BernoulliLaplace. Add its variances to invdiff/certify/latents.py."
    )


def _chi_square(degrees: int, like: Tensor, generator: torch.Generator) -> Tensor:
    shape = degrees, *like.shape
    return torch.randn(shape, generator=generator, dtype=like.dtype).square().sum(0)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype)
