"""What priors around other priors share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.priors.base import Prior

__all__ = ["AroundPrior"]


@dataclass(frozen=True)
class AroundPrior:
    """A prior of the same images: all but the denoiser is that of the inner prior.

    Arguments:
        prior: The inner prior.
    """

    prior: Prior

    @property
    def sigma_min(self) -> float:
        """Of the inner prior."""
        return self.prior.sigma_min

    @property
    def sigma_max(self) -> float:
        """Of the inner prior."""
        return self.prior.sigma_max

    @property
    def value_range(self) -> tuple[float, float]:
        """Of the inner prior."""
        return self.prior.value_range

    @property
    def name(self) -> str:
        """Of the inner prior."""
        return self.prior.name

    @property
    def sha256(self) -> str:
        """Of the inner prior."""
        return self.prior.sha256

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError if the inner prior does."""
        self.prior.check_shape(shape)

    def error_variance(self, sigma: Tensor) -> Tensor:
        """Of the inner prior."""
        return self.prior.error_variance(sigma)
