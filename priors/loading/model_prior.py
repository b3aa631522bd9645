"""A network of declared parametrisation as a prior."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from invdiff.errors import PriorError, ShapeError
from invdiff.priors.error_curve import error_at
from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.parametrisations import Parametrisation

__all__ = ["ModelPrior"]


@dataclass(frozen=True, eq=False, repr=False)
class ModelPrior:
    r"""A network trained in any parametrisation, as a denoiser of :math:`x_0 + \sigma n`.

    .. math:: D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x, c_{noise})

    The factors are computed in float64 at the true noise level; outside of the trained range only
    the network is told the nearer end. Nothing is clipped. The skip path keeps the precision of
    x, the network runs in its own. It is differentiable in x.

    Arguments:
        card: What is declared about the network.
        network: F: x (b, channels, *size) and time (b,), and with classes also labels (b,), gives
            (b, channels, *size), or twice the channels where the variance is learned.
        parametrisation: The factors.
    """

    card: ModelCard
    network: Callable[..., Tensor]
    parametrisation: Parametrisation

    @property
    def sigma_min(self) -> float:
        """The smallest noise level it was trained for."""
        return self.parametrisation.sigma_min

    @property
    def sigma_max(self) -> float:
        """The largest noise level it was trained for."""
        return self.parametrisation.sigma_max

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of clean images, in the network's own units."""
        return self.card.value_range

    @property
    def name(self) -> str:
        """The name of the card."""
        return self.card.name

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights."""
        return self.card.sha256

    @property
    def device(self) -> torch.device:
        """Where the network is; the CPU for a function without parameters."""
        one = self._parameter
        return torch.device("cpu") if one is None else one.device

    @property
    def _parameter(self) -> Tensor | None:
        if isinstance(self.network, torch.nn.Module):
            return next(self.network.parameters(), None)
        return None

    def __repr__(self) -> str:
        return (
            f"ModelPrior({self.name!r}, {self.card.format}, {self.parametrisation}, "
            f"sha256={self.sha256[:12]!r})"
        )

    def to(self, device: str | torch.device) -> ModelPrior:
        """A copy on another device; a network that is no module stays where it is."""
        if not isinstance(self.network, torch.nn.Module):
            return self
        return replace(self, network=copy.deepcopy(self.network).to(device))

    def described(self, **fields: Any) -> ModelPrior:
        """The same network with other fields of its card, such as ``licence="MIT"``."""
        return replace(self, card=replace(self.card, **fields))

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError unless shape is (channels, *size) of an accepted size."""
        card = self.card
        size = tuple(shape[1:])
        # A reflection of fewer pixels than the image has is all that padding can add.
        reaches = all(-n % card.multiple < n for n in size)
        if (
            len(size) != card.dimensions
            or shape[0] != card.channels
            or not reaches
            or (card.size is not None and size != card.size)
        ):
            wanted = ", ".join("hwd"[: card.dimensions]) if card.size is None else f"*{card.size}"
            raise ShapeError(
                f"The prior {self.name!r} does not take images of shape {tuple(shape)}: expected "
                f"({card.channels}, {wanted}), each side more than half of {card.multiple}."
            )

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, channels, *size), sigma () or (b,)."""
        return self.denoise(x, sigma, None)

    def denoise(self, x: Tensor, sigma: Tensor, label: int | None) -> Tensor:
        """The same for images of one class; None is the network without a class.

        Raises:
            TypeError: x is not real floating-point.
            ShapeError: Of x or sigma, or of what the network returns.
            PriorError: There is no such class, or the network needs one.
        """
        self._check(x, sigma, label)
        level = sigma.to(x.device, torch.float64).expand(x.shape[0])
        factors = self.parametrisation(level)
        one = self._parameter
        kind = x.dtype if one is None else one.dtype
        skip, out, into = (
            factor.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
            for factor in (factors.skip, factors.out, factors.into)
        )
        arguments = [(into * x).to(kind), factors.noise.to(kind)]
        if self.card.classes:
            # A class one beyond the last stands for no class.
            index = self.card.classes if label is None else label
            arguments.append(torch.full((x.shape[0],), index, device=x.device))
        return skip * x + out * self._padded(*arguments).to(x.dtype)

    def _padded(self, x: Tensor, *arguments: Tensor) -> Tensor:
        size, multiple = x.shape[2:], self.card.multiple
        missing = [-n % multiple for n in size]
        if any(missing):
            amounts = [amount for n in reversed(missing) for amount in (0, n)]
            x = F.pad(x, amounts, mode="reflect")
        found = self.network(x, *arguments)
        channels = self.card.channels
        expected = (1 + self.card.learned_variance) * channels
        if found.shape != (x.shape[0], expected, *x.shape[2:]):
            raise ShapeError(
                f"The network of {self.name!r} returned {tuple(found.shape)} for images of "
                f"{tuple(x.shape)}, expected {expected} channels of the same size. Twice the "
                "channels are a learned variance: declare learned_variance=True."
            )
        return found[(slice(None), slice(channels), *(slice(n) for n in size))]

    def _check(self, x: Tensor, sigma: Tensor, label: int | None) -> None:
        if not x.is_floating_point():
            raise TypeError(
                f"The prior {self.name!r} takes real floating-point images, got {x.dtype}. "
                "Convert the image; for complex images see ComplexPrior."
            )
        self.check_shape(tuple(x.shape[1:]))
        if sigma.shape not in ((), (x.shape[0],)):
            raise ShapeError(
                f"sigma has shape {tuple(sigma.shape)}, expected () or one noise level per row, "
                f"({x.shape[0]},)."
            )
        classes = self.card.classes
        if label is None and classes and not self.card.class_free:
            raise PriorError(
                f"The prior {self.name!r} was trained with {classes} classes and not without: "
                "choose one, ClassConditional(prior, label)."
            )
        if label is not None and not 0 <= label < classes:
            raise PriorError(
                f"The prior {self.name!r} has {classes} classes, there is no class {label}."
            )

    def error_variance(self, sigma: Tensor) -> Tensor:
        r"""The expected :math:`(x_0 - D)^2` per pixel: measured, or that of white images.

        Not measured, it is :math:`v \sigma^2 / (v + \sigma^2)` with the variance v of the pixels:
        the error of the best denoiser that looks at one pixel, and so too large for most images.
        """
        if self.card.error_sigmas:
            return error_at(sigma, self.card.error_sigmas, self.card.error_variances)
        v = self.card.pixel_variance
        return v * sigma.square() / (v + sigma.square())

    def measured(
        self, images: Tensor, sigmas: Sequence[float], generator: torch.Generator
    ) -> ModelPrior:
        """The same prior with its error measured on clean images (n, channels, *size).

        Arguments:
            images: In the network's units, not seen in training.
            sigmas: 2 or more increasing noise levels; in between, and below, it is interpolated.
            generator: Of the noise, on the CPU.
        """
        found: list[float] = []
        with torch.no_grad():
            for sigma in sigmas:
                noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
                level = torch.tensor(sigma, dtype=torch.float64)
                guess = self(images + sigma * noise.to(images.device), level)
                error = float((guess - images).double().square().mean())
                found.append(max(error, found[-1] if found else 0.0))
        return self.described(error_sigmas=tuple(sigmas), error_variances=tuple(found))
