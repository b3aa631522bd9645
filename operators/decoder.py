"""The decoder of latent images, as an operator to compose others with."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import InitVar, dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator

__all__ = ["Decoder"]


@dataclass(frozen=True, eq=False, repr=False)
class Decoder(Operator):
    r"""An image from its latent, :math:`z \mapsto \mathcal D(z)`: not linear.

    With a prior of latents, measure through ``operator @ Decoder(network, shape)``: the posterior
    is one of latents, whose images are ``Decoder(...)(posterior.x)``. Derivatives are autograd's.
    The network is copied, frozen, and runs in the precision of the latent.

    Arguments:
        network: A module from latents (b, *shape) to images (b, channels, *size), each row for
            itself.
        shape: The shape of one latent, such as (4, 32, 32).

    Raises:
        TypeError: network is no module.
        ShapeError: It does not take latents of this shape, or does not give one image for each.
    """

    network: InitVar[nn.Module]
    shape: tuple[int, ...]

    def __post_init__(self, network: nn.Module) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"Got {type(network).__name__}, expected a torch module.")
        vars(self)["_frozen"] = copy.deepcopy(network).requires_grad_(False).eval()
        vars(self)["_converted"] = {}
        if len(self.range) < 2:
            raise ShapeError(f"The network gives {self.range}, expected (channels, *size).")

    @property
    def _network(self) -> nn.Module:
        frozen: nn.Module = vars(self)["_frozen"]
        return frozen

    @cached_property
    def _example(self) -> Tensor:
        """Tells the precision and the device of the network."""
        return next(self._network.parameters(), torch.zeros(()))

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @cached_property
    def range(self) -> tuple[int, ...]:
        """The shape of an image, seen in that of an empty latent."""
        like = self._example
        probe = torch.zeros(2, *self.shape, dtype=like.dtype, device=like.device)
        try:
            with torch.no_grad():
                found = self._network(probe)
        except (RuntimeError, ValueError) as error:
            raise ShapeError(f"The decoder does not take latents {self.shape}: {error}") from error
        if not isinstance(found, Tensor) or found.shape[0] != 2:
            raise ShapeError("The decoder must give one tensor, of one image for each latent.")
        return tuple(found.shape[1:])

    @property
    def linear(self) -> bool:
        return False

    def _forward(self, z: Tensor) -> Tensor:
        image: Tensor = self._at(z)(z)
        return image

    def _at(self, like: Tensor) -> nn.Module:
        """The network on the device and with the precision of a latent."""
        if (like.dtype, like.device) == (self._example.dtype, self._example.device):
            return self._network
        known: dict[object, nn.Module] = vars(self)["_converted"]
        place = (like.dtype, like.device)
        if place not in known:
            known[place] = copy.deepcopy(self._network).to(like.device, like.dtype)
        return known[place]

    def to(self, device: torch.device | str) -> Self:
        return type(self)(copy.deepcopy(self._network).to(device), self.shape)

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self._network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def __repr__(self) -> str:
        name = type(self._network).__name__
        return f"Decoder({name}(sha256={self._digest}), shape={self.shape})"
