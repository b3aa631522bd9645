"""Models of Cov[x0 | x]: what is still unknown about a clean image, given its noisy version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from invdiff.priors.base import Prior

__all__ = ["Covariance", "IsotropicCovariance", "TweedieCovariance"]

Linear = Callable[[Tensor], Tensor]


class Covariance(Protocol):
    """Gives the map u -> Cov[x0 | x] u on images (b, *shape)."""

    def at(self, prior: Prior, sigma: Tensor, vjp: Linear) -> Linear:
        """At level sigma; ``vjp`` multiplies by the transposed Jacobian of the denoiser."""
        ...


@dataclass(frozen=True)
class IsotropicCovariance:
    r""":math:`v(\sigma) I`, with the prior's error variance: costs nothing.

    Too small along smooth directions and too large along rough ones, since real images are not
    white: weights computed from it need many particles.
    """

    def at(self, prior: Prior, sigma: Tensor, vjp: Linear) -> Linear:
        variance = prior.error_variance(sigma)
        return lambda u: variance * u


@dataclass(frozen=True)
class TweedieCovariance:
    r""":math:`\sigma^2 J`, Tweedie's second-order formula: one derivative per multiplication.

    Exact for an exact denoiser. The Jacobian of a network is not quite symmetric.
    (Rozet et al., Learning diffusion priors from observations by expectation maximization, 2024:
    moment matching posterior sampling.)
    """

    def at(self, prior: Prior, sigma: Tensor, vjp: Linear) -> Linear:
        return lambda u: sigma**2 * vjp(u)
