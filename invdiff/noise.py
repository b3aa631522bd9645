"""Noise models: how a measurement scatters around its noise-free value.

Convention for complex measurements: ``sigma`` is the standard deviation of the real part, and of
the imaginary part; a complex number counts as two measured numbers.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from invdiff.errors import NotFinite

__all__ = ["Gaussian", "Noise", "Poisson"]


class Noise(Protocol):
    """What a problem asks of its noise."""

    def check(self, y: Tensor) -> None:
        """Raises ValueError or NotFinite when y (b, *range) cannot have come from this noise."""
        ...

    def center(self, y: Tensor) -> Tensor:
        """y in the units of A x."""
        ...

    def precision(self, y: Tensor) -> Tensor:
        """One over the variance of each real number of ``center(y)``; broadcasts against y."""
        ...

    def log_likelihood(self, y: Tensor, mean: Tensor) -> Tensor:
        """log p(y | A x = mean) of every entry, shape of y, real."""
        ...

    def rows(self, index: Tensor) -> Self: ...

    def to(self, device: torch.device | str) -> Self: ...


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian:
    r"""Additive Gaussian noise: :math:`y = A x + \sigma n`.

    Arguments:
        sigma: The standard deviation of each real number, in the units of y: a number, or a
            tensor (1 or b, ...) with as many axes as y, of size 1 or y's. There is no default.

    Raises:
        ValueError: sigma is not positive and finite.
    """

    sigma: float | Tensor

    def __post_init__(self) -> None:
        sigma = torch.as_tensor(self.sigma)
        if not bool((torch.isfinite(sigma) & (sigma > 0)).all()):
            raise ValueError(
                f"sigma is {show(self.sigma)}, expected positive and finite numbers. Give the "
                "standard deviation of the noise in the units of the measurement."
            )

    def check(self, y: Tensor) -> None:
        require_fit("sigma", self.sigma, y)

    def center(self, y: Tensor) -> Tensor:
        return y

    def precision(self, y: Tensor) -> Tensor:
        sigma = torch.as_tensor(self.sigma, dtype=y.real.dtype, device=y.device)
        return 1 / sigma**2

    def log_likelihood(self, y: Tensor, mean: Tensor) -> Tensor:
        weight = self.precision(y)
        numbers = 2 if y.is_complex() else 1
        normaliser = 0.5 * numbers * torch.log(weight / (2 * math.pi))
        return normaliser - 0.5 * weight * (y - mean).abs().square()

    def rows(self, index: Tensor) -> Gaussian:
        chosen = rows_of(self.sigma, index)
        return self if chosen is self.sigma else Gaussian(chosen)

    def to(self, device: torch.device | str) -> Gaussian:
        return Gaussian(self.sigma.to(device)) if isinstance(self.sigma, Tensor) else self

    def __repr__(self) -> str:
        return f"Gaussian(sigma={show(self.sigma)})"


@dataclass(frozen=True)
class Poisson:
    r"""Counting noise: :math:`y \sim \mathrm{Poisson}(g\, A x)`, y in counts.

    Samplers that need a quadratic data term use Neyman's approximation, the variance
    :math:`\max(y, 1) / g^2` of :math:`y / g`; ``log_likelihood`` is exact.

    Arguments:
        gain: The counts per unit of A x, :math:`g`.

    Raises:
        ValueError: gain is not positive and finite, or y has negative or fractional counts.
    """

    gain: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise ValueError(f"gain is {self.gain}, expected counts per unit of A x, above zero.")

    def check(self, y: Tensor) -> None:
        if y.is_complex() or bool((y < 0).any()) or bool((y != y.round()).any()):
            raise ValueError(
                "The measurement holds negative, fractional or complex numbers, but Poisson noise "
                "gives counts. Pass the counts themselves, not rescaled intensities."
            )

    def center(self, y: Tensor) -> Tensor:
        return y / self.gain

    def precision(self, y: Tensor) -> Tensor:
        return self.gain**2 / y.clamp(min=1)

    def log_likelihood(self, y: Tensor, mean: Tensor) -> Tensor:
        rate = self.gain * mean
        value = torch.xlogy(y, rate) - rate - torch.lgamma(y + 1)
        return torch.where(rate < 0, -math.inf, value)

    def rows(self, index: Tensor) -> Poisson:
        return self

    def to(self, device: torch.device | str) -> Poisson:
        return self


def require_fit(name: str, value: float | Tensor, y: Tensor) -> None:
    """Raises ValueError if a parameter of noise does not broadcast, axis by axis, to y."""
    given, expected = tuple(torch.as_tensor(value).shape), tuple(y.shape)
    fits = len(given) == len(expected) and all(
        a in (1, b) for a, b in zip(given, expected, strict=True)
    )
    if given and not fits:  # fewer axes would align with the last ones: items taken for pixels
        raise ValueError(
            f"{name} has shape {given}, which does not fit the measurement {expected}: "
            "give it as many axes, each of size 1 or that of the measurement. "
            "Lead with 1 (shared) or the item axis."
        )


def rows_of(value: float | Tensor, index: Tensor) -> float | Tensor:
    """A parameter's rows; the parameter itself if it is shared."""
    if isinstance(value, Tensor) and value.ndim and value.shape[0] != 1:
        return value[index.to(value.device)]
    return value


def show(value: float | Tensor) -> str:
    """A parameter in a ``repr``: the number, or the tensor's range, shape and SHA-256."""
    if not isinstance(value, Tensor):
        return repr(value)
    digest = hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes())
    ends = f"{float(value.min()):.4g}..{float(value.max()):.4g}"
    return f"Tensor({ends}, shape={tuple(value.shape)}, sha256={digest.hexdigest()[:12]})"


def require_finite(y: Tensor, what: str) -> None:
    """Raises NotFinite, with the number of bad entries and the items they sit in."""
    bad = ~torch.isfinite(torch.view_as_real(y) if y.is_complex() else y)
    if bool(bad.any()):
        items = bad.flatten(1).any(1).nonzero().flatten().tolist()
        raise NotFinite(
            f"The {what} has {int(bad.sum())} entries that are NaN or infinite, in items {items}. "
            "Only finite numbers can be explained; repair or drop these items."
        )
