r"""Priors of one class, and classifier-free guidance.

References:
    | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), arXiv:2207.12598
    | Guiding a Diffusion Model with a Bad Version of Itself (Karras et al., 2024)
    | https://arxiv.org/abs/2406.02507
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.priors.wrapping import AroundPrior

__all__ = ["ClassConditional", "ClassPrior", "GuidedPrior"]


class ClassPrior(Prior, Protocol):
    """A prior that can be told the class of its images."""

    def denoise(self, x: Tensor, sigma: Tensor, label: int | None) -> Tensor:
        """The clean image, given its class; None is any class."""
        ...


@dataclass(frozen=True)
class ClassConditional(AroundPrior):
    r"""Images of one class, :math:`E[x_0 \mid x, c]`.

    Arguments:
        prior: A prior with classes, such as a loaded ImageNet model.
        label: The number of the class, from 0.
    """

    prior: ClassPrior
    label: int

    @property
    def name(self) -> str:
        """The name of the inner prior, and the class."""
        return f"{self.prior.name} class {self.label}"

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x, c]`. Raises PriorError without such a class."""
        return self.prior.denoise(x, sigma, self.label)


@dataclass(frozen=True)
class GuidedPrior:
    r"""Guidance away from one denoiser and past another, :math:`D_u + w (D_c - D_u)`.

    With w = 1 it is ``conditional`` alone, with w = 0 ``unconditional``; with w > 1 images are
    more typical of the class and less diverse than data. It is then no mean of a distribution:
    posteriors under it have no exact meaning. Each call costs one of each prior.

    Arguments:
        conditional: :math:`D_c`, such as ``ClassConditional(prior, 207)``.
        unconditional: :math:`D_u`: the same prior without a class (classifier-free guidance), or
            a worse one (autoguidance).
        weight: w.
    """

    conditional: Prior
    unconditional: Prior
    weight: float

    def __post_init__(self) -> None:
        one, other = self.conditional.value_range, self.unconditional.value_range
        if one != other:
            raise ValueError(f"The two priors have other ranges, {one} and {other}.")
        if not math.isfinite(self.weight):
            raise ValueError(f"weight={self.weight}: expected a finite number.")

    @property
    def sigma_min(self) -> float:
        """The larger of the two."""
        return max(self.conditional.sigma_min, self.unconditional.sigma_min)

    @property
    def sigma_max(self) -> float:
        """The smaller of the two."""
        return min(self.conditional.sigma_max, self.unconditional.sigma_max)

    @property
    def value_range(self) -> tuple[float, float]:
        """Of both priors."""
        return self.conditional.value_range

    @property
    def name(self) -> str:
        """Both names, and the weight."""
        names = f"{self.conditional.name} past {self.unconditional.name}"
        return f"{names}, weight {self.weight:g}"

    @property
    def sha256(self) -> str:
        """A SHA-256 of those of both."""
        both = self.conditional.sha256 + self.unconditional.sha256
        return hashlib.sha256(both.encode()).hexdigest()

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError if one of the priors does."""
        self.conditional.check_shape(shape)
        self.unconditional.check_shape(shape)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`D_u + w (D_c - D_u)` for x (b, *shape), sigma () or (b,)."""
        base = self.unconditional(x, sigma)
        return base + self.weight * (self.conditional(x, sigma) - base)

    def error_variance(self, sigma: Tensor) -> Tensor:
        """That of ``conditional``: guidance has none of its own."""
        return self.conditional.error_variance(sigma)
