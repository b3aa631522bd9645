"""Gaussian-mixture priors: multimodal, and still exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.priors.exact import ExactPosterior, exact_posterior
from invdiff.priors.gaussian import tensor_digest
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["GaussianMixturePrior"]


@dataclass(frozen=True, eq=False)
class GaussianMixturePrior:
    r"""The prior :math:`\sum_j w_j N(m_j, C_j)`.

    .. math:: D(x) = \sum_j r_j(x) \left[m_j + C_j (C_j + \sigma^2)^{-1} (x - m_j)\right], \quad
              r_j \propto w_j N(x; m_j, C_j + \sigma^2)

    Arguments:
        weights: :math:`w_j`, (components,), positive; they are normalised.
        means: :math:`m_j`, (components, *shape).
        covariances: :math:`C_j`, (components, pixels, pixels), symmetric, not indefinite.

    Raises:
        ShapeError: The shapes do not fit together.
        ValueError: A weight is not positive.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        components, pixels = self.means.shape[0], self.means[0].numel()
        expected = (components,), (components, pixels, pixels)
        given = tuple(self.weights.shape), tuple(self.covariances.shape)
        if given != expected:
            raise ShapeError(f"Weights and covariances have shapes {given}, expected {expected}.")
        if not bool((self.weights > 0).all()):
            raise ValueError(f"The weights are {self.weights.tolist()}, expected all above zero.")

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Of every component, or of one if all covariances are equal: (1 or components, ...)."""
        covariances = self.covariances.double()
        if bool((covariances == covariances[:1]).all()):
            covariances = covariances[:1]
        values, vectors = torch.linalg.eigh(covariances)
        return values.clamp(min=0), vectors

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        if self._rotated:
            log_joint, coordinates, gains = self._around_common_axes(x, sigma)
            share, (means, vectors) = log_joint.softmax(1), self._rotated
            shrunk = share @ means + gains * (coordinates - share @ means)
            return (shrunk @ vectors.T).to(x).reshape(x.shape)
        log_joint, coefficients, gains, vectors = self._components(x, sigma)
        share = log_joint.softmax(1)
        shrunk = share[..., None] * coefficients * gains
        clean = share @ self.means.flatten(1).to(x) + torch.einsum("jnm,bjm->bn", vectors, shrunk)
        return clean.reshape(x.shape)

    def conditional_covariance(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`\mathrm{Cov}[x_0 \mid x]`, within the components and between, (b, n, n)."""
        log_joint, coefficients, gains, vectors = self._components(x.double(), sigma)
        share = log_joint.softmax(1)
        means = self.means.flatten(1).to(share)
        means = means + torch.einsum("jnm,bjm->bjn", vectors, coefficients * gains)
        centred = means - torch.einsum("bj,bjn->bn", share, means)[:, None]
        between = torch.einsum("bj,bjn,bjm->bnm", share, centred, centred)
        own = float(sigma) ** 2 * torch.einsum("jnm,bjm,jkm->jnk", vectors, gains[:1], vectors)
        return between + torch.einsum("bj,jnm->bnm", share, own)

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x) of images with noise of level sigma added, (b,)."""
        known = self._around_common_axes if self._rotated else self._components
        density: Tensor = torch.logsumexp(known(x, sigma)[0], 1)
        return density.to(x)

    @cached_property
    def _rotated(self) -> tuple[Tensor, Tensor] | None:
        """Means in the axes that all components share, and these axes, if they share them.

        Not if a component is all but flat: then squares of distances must not be expanded.
        """
        values, vectors = self._eigen
        if len(vectors) > 1 or not float(values.min()) > 1e-3 * float(values.max()):
            return None
        return self.means.flatten(1).double() @ vectors[0], vectors[0]

    def _around_common_axes(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The log of the joint density, (b, components), the coordinates of x and their gains.

        Squared distances are expanded, so that no array is of size (b, components, pixels); in
        float64, since they are differences of large numbers then.
        """
        assert self._rotated is not None
        means, vectors = (part.to(x.device) for part in self._rotated)
        values = self._eigen[0].to(x.device)
        noise = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1, 1)
        total = values + noise**2  # (1 or b, pixels)
        coordinates = x.flatten(1).double() @ vectors
        scaled = coordinates / total
        quadratic = (coordinates * scaled).sum(1, keepdim=True) - 2 * scaled @ means.T
        quadratic = quadratic + (1 / total) @ means.square().T
        log_weights = (self.weights / self.weights.sum()).log().to(total)
        volume = (2 * math.pi * total).log().sum(1, keepdim=True)
        return log_weights - 0.5 * (quadratic + volume), coordinates, values / total

    def _components(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values, vectors = (part.to(x) for part in self._eigen)
        noise = torch.as_tensor(sigma).to(x).reshape(-1, 1, 1) ** 2
        total = values + noise  # (1 or b, components, pixels)
        means = self.means.flatten(1).to(x)
        if len(vectors) == 1:
            coefficients = (x.flatten(1) @ vectors[0])[:, None] - means @ vectors[0]
        else:
            coefficients = torch.einsum("jnm,bjn->bjm", vectors, x.flatten(1)[:, None] - means)
        log_weights = (self.weights / self.weights.sum()).log().to(x)
        quadratic = (coefficients.square() / total).sum(-1) + (2 * math.pi * total).log().sum(-1)
        return log_weights - 0.5 * quadratic, coefficients, values / total, vectors

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if tuple(shape) != tuple(self.means.shape[1:]):
            raise ShapeError(
                f"This prior describes images of shape {tuple(self.means.shape[1:])}, got {shape}."
            )

    def error_variance(self, sigma: Tensor) -> Tensor:
        """The error of the best linear denoiser: an upper bound, exact for one component."""
        noise = torch.as_tensor(sigma)[..., None] ** 2
        variances = self._total_variances.to(noise)
        return (variances * noise / (variances + noise)).mean(-1)

    @cached_property
    def _total_variances(self) -> Tensor:
        share = (self.weights / self.weights.sum()).double()
        flat = self.means.flatten(1).double()
        centred = flat - share @ flat
        between = torch.einsum("j,jn,jm->nm", share, centred, centred)
        within = torch.einsum("j,jnm->nm", share, self.covariances.double())
        variances: Tensor = torch.linalg.eigvalsh(between + within)
        return variances.clamp(min=0)

    def draw(self, rng: Rng) -> Tensor:
        """One exact sample per row of ``rng``, (b, *shape), float64."""
        rows, pixels = len(rng.ids) * rng.particles, self.means[0].numel()
        white = rng.normal(torch.empty(rows, 1 + pixels, dtype=torch.float64))
        edges = (self.weights / self.weights.sum()).double().cumsum(0)
        pick = torch.searchsorted(edges, torch.special.ndtr(white[:, 0]).contiguous())
        pick = pick.clamp(max=len(edges) - 1)
        values, vectors = (part.expand(len(edges), *part.shape[1:]) for part in self._eigen)
        scaled = white[:, 1:] * values[pick].sqrt()
        flat = self.means.flatten(1).double()[pick] + torch.einsum(
            "bnm,bm->bn", vectors[pick], scaled
        )
        return flat.reshape(rows, *self.means.shape[1:])

    def posterior(self, problem: Problem) -> ExactPosterior:
        """p(x | y) in closed form, for a linear operator; dense, so for small images."""
        share = self.weights.double() / self.weights.sum()
        return exact_posterior(share, self.means, self.covariances, problem)

    @property
    def sigma_min(self) -> float:
        return 1e-3 * float(self._eigen[0].amax(1).min().sqrt())  # of the narrowest component

    @property
    def sigma_max(self) -> float:
        return 100 * float(self._total_variances.max().sqrt())

    @property
    def value_range(self) -> tuple[float, float]:
        return -float("inf"), float("inf")

    @property
    def name(self) -> str:
        return "gaussian mixture"

    @cached_property
    def sha256(self) -> str:
        return tensor_digest(self.weights, self.means, self.covariances)

    def __repr__(self) -> str:
        shape = tuple(self.means.shape[1:])
        return (
            f"GaussianMixturePrior(components={len(self.weights)}, shape={shape}, "
            f"sha256={self.sha256[:12]})"
        )
