"""Gaussian priors: exact denoiser, exact samples, exact posterior."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.priors.exact import ExactPosterior, exact_posterior
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["GaussianPrior", "tensor_digest"]


class Basis(Protocol):
    """Where the covariance is diagonal."""

    def filter(self, x: Tensor, gains: Tensor) -> Tensor:
        """Multiplies the coefficients of x (b, *shape) by gains (1 or b, pixels)."""
        ...


@dataclass(frozen=True)
class Eigenbasis:
    """The eigenvectors of a dense covariance, (pixels, pixels), in columns."""

    vectors: Tensor

    def filter(self, x: Tensor, gains: Tensor) -> Tensor:
        vectors = self.vectors.to(x)
        return ((x.flatten(1) @ vectors * gains) @ vectors.T).reshape(x.shape)


@dataclass(frozen=True)
class Fourier:
    """The frequencies of a stationary covariance over the image's last two axes, periodic."""

    def filter(self, x: Tensor, gains: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x) * gains.reshape(-1, *x.shape[1:])
        image: Tensor = torch.fft.ifft2(spectrum).real
        return image


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    r"""The prior :math:`N(m, C)`, with :math:`D(x) = m + C (C + \sigma^2)^{-1} (x - m)`.

    Make one with ``GaussianPrior.dense`` or ``GaussianPrior.stationary``.

    Arguments:
        mean: :math:`m`, of the shape of an image.
        variances: The eigenvalues of :math:`C`, (pixels,), not negative.
        basis: The eigenvectors.
    """

    mean: Tensor
    variances: Tensor
    basis: Basis

    @classmethod
    def dense(cls, mean: Tensor, covariance: Tensor) -> GaussianPrior:
        """From a mean (*shape) and a covariance (pixels, pixels), symmetric, not indefinite.

        Raises ShapeError if the shapes do not fit, ValueError if it is no covariance.
        """
        pixels = mean.numel()
        if tuple(covariance.shape) != (pixels, pixels):
            raise ShapeError(
                f"The covariance has shape {tuple(covariance.shape)}, expected "
                f"{(pixels, pixels)} for a mean of shape {tuple(mean.shape)}."
            )
        values, vectors = torch.linalg.eigh(covariance.double())
        size = float(values.abs().max())
        asymmetry = float((covariance - covariance.T).abs().max())
        if asymmetry > 1e-6 * size or float(values.min()) < -1e-6 * size:
            raise ValueError(
                f"The covariance is not one: asymmetry {asymmetry:.3g}, smallest eigenvalue "
                f"{float(values.min()):.3g}. Pass a symmetric matrix without negative eigenvalues."
            )
        return cls(mean.double(), values.clamp(min=0), Eigenbasis(vectors))

    @classmethod
    def stationary(cls, mean: Tensor, spectrum: Tensor) -> GaussianPrior:
        """From a mean (*shape) and the variance of every frequency (*shape), ordered as fft2's.

        The covariance is circulant over the last two axes; channels are independent. Raises
        ValueError unless the spectrum is real, even and not negative, ShapeError for shapes.
        """
        if spectrum.shape != mean.shape:
            raise ShapeError(
                f"The spectrum has shape {tuple(spectrum.shape)}, expected {tuple(mean.shape)}."
            )
        mirrored = spectrum.flip(-1, -2).roll((1, 1), (-1, -2))
        if bool((spectrum < 0).any()) or not torch.allclose(mirrored, spectrum):
            raise ValueError(
                "The spectrum must not be negative and must be even, S(k) = S(-k), or images "
                "would not be real. Build it from torch.fft.fftfreq."
            )
        return cls(mean.double(), spectrum.double().flatten(), Fourier())

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        mean, variances = self.mean.to(x), self.variances.to(x)
        noise = torch.as_tensor(sigma).to(x).reshape(-1, 1) ** 2
        return mean + self.basis.filter(x - mean, variances / (variances + noise))

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != tuple(self.mean.shape):
            raise ShapeError(
                f"This prior describes images of shape {tuple(self.mean.shape)}, got {shape}."
            )

    def error_variance(self, sigma: Tensor) -> Tensor:
        r""":math:`\mathrm{tr}\, C \sigma^2 (C + \sigma^2)^{-1} / n`, exact."""
        noise = torch.as_tensor(sigma)[..., None] ** 2
        variances = self.variances.to(noise)
        return (variances * noise / (variances + noise)).mean(-1)

    def conditional_covariance(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`\sigma^2 C (C + \sigma^2)^{-1}`, Cov[x0 | x] for any x, (1, n, n)."""
        noise = float(sigma) ** 2
        unit = torch.eye(self.mean.numel(), dtype=torch.float64, device=x.device)
        gains = noise * self.variances / (self.variances + noise)
        columns = self.basis.filter(unit.reshape(-1, *self.mean.shape), gains.to(unit)[None])
        return columns.flatten(1)[None]

    def draw(self, rng: Rng) -> Tensor:
        """One exact sample per row of ``rng``, (b, *shape), float64."""
        rows = len(rng.ids) * rng.particles
        white = rng.normal(torch.empty(rows, *self.mean.shape, dtype=torch.float64))
        return self.mean + self.basis.filter(white, self.variances.sqrt())

    @property
    def covariance(self) -> Tensor:
        """:math:`C` as a dense matrix, (pixels, pixels)."""
        pixels = self.mean.numel()
        unit = torch.eye(pixels, dtype=torch.float64).reshape(pixels, *self.mean.shape)
        return self.basis.filter(unit, self.variances[None]).flatten(1)

    def posterior(self, problem: Problem) -> ExactPosterior:
        """p(x | y) in closed form, for a linear operator; dense, so for small images."""
        one = torch.ones(1, dtype=torch.float64)
        return exact_posterior(one, self.mean[None], self.covariance[None], problem)

    @property
    def sigma_min(self) -> float:
        return 1e-3 * self._scale

    @property
    def sigma_max(self) -> float:
        return 100 * self._scale

    @property
    def value_range(self) -> tuple[float, float]:
        return -float("inf"), float("inf")

    @property
    def name(self) -> str:
        return "gaussian"

    @cached_property
    def sha256(self) -> str:
        return tensor_digest(self.mean, self.covariance)

    @property
    def _scale(self) -> float:
        return float(self.variances.max().sqrt())

    def __repr__(self) -> str:
        return f"GaussianPrior(shape={tuple(self.mean.shape)}, sha256={self.sha256[:12]})"


def tensor_digest(*tensors: Tensor) -> str:
    """The SHA-256 of some tensors' numbers."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
