"""Faster networks that give the same answers within stated tolerances.

``Autocast`` computes in half precision; ``channels_last``, ``compiled`` and ``graphed`` change the
order of operations at most, so their results differ by rounding. docs/check-prior.md has numbers.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from invdiff.errors import PriorError
from invdiff.priors.base import Prior
from invdiff.priors.graphs import Graphed
from invdiff.priors.wrapping import AroundPrior

__all__ = ["Autocast", "channels_last", "compiled", "graphed", "with_network"]

SomePrior = TypeVar("SomePrior", bound=Prior)
HALVES = (torch.bfloat16, torch.float16)
LARGEST = 256.0  # of a cotangent in float16, whose numbers end at 65504


@dataclass(frozen=True)
class Autocast(AroundPrior):
    """Convolutions and matrix products in half precision, all else as it was.

    Images and results keep their precision, and so does what surrounds the network. For the
    embedded priors the root mean squared change of an answer is at most 6 % of the answer's own
    error in bfloat16 and 0.7 % in float16 (0.02 and 0.005 dB of PSNR); of a derivative it is at
    most 15 % and 7 %, because rectifiers near zero change sides.

    bfloat16 has the range of float32. float16 is more precise but overflows at 65504: networks
    trained in float32 may not survive it. Derivatives in float16 would vanish, so they are taken
    at a scale where they do not, row by row.

    Arguments:
        prior: A network prior.
        dtype: torch.bfloat16 or torch.float16.

    Raises:
        ValueError: dtype is another.
    """

    dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        if self.dtype not in HALVES:
            raise ValueError(
                f"Autocast takes torch.bfloat16 or torch.float16, got {self.dtype}. "
                "For full precision use the prior itself."
            )

    @property
    def name(self) -> str:
        """The name of the inner prior, and the precision."""
        return f"{self.prior.name} in {str(self.dtype).removeprefix('torch.')}"

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, *shape), sigma () or (b,)."""
        scaled = self.dtype == torch.float16 and torch.is_grad_enabled() and x.requires_grad
        scale: list[Tensor] = []
        given = _ScaleBack.apply(x, scale) if scaled else x
        with torch.autocast(x.device.type, self.dtype):
            out = self.prior(given, sigma)
        answer: Tensor = _ScaleUp.apply(out.to(x.dtype), scale) if scaled else out.to(x.dtype)
        return answer


class _ScaleUp(torch.autograd.Function):
    """The identity; its cotangent is brought to a largest entry of 128 to 256 in each row."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, scale: list[Tensor]) -> Tensor:
        ctx.scale = scale
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest = gradient.detach().flatten(1).abs().amax(1)
        power = (LARGEST / largest).log2().floor().exp2()  # exact to multiply by
        usable = torch.isfinite(power)
        power = torch.where(usable, power, torch.ones_like(power))
        ctx.scale[:] = [power.reshape(-1, *[1] * (gradient.ndim - 1))]
        return gradient * ctx.scale[0], None


class _ScaleBack(torch.autograd.Function):
    """The identity; its cotangent is brought back from the scale of the same call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: list[Tensor]) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / ctx.scale[0], None


class _ChannelsLast(nn.Module):
    """Gives a network its images with the channels of a pixel side by side in memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The network's own answer."""
        return self.network(*map(_last, inputs), **options)


def _last(value: Any) -> Any:
    image = isinstance(value, Tensor) and value.ndim == 4
    return value.contiguous(memory_format=torch.channels_last) if image else value


def channels_last(prior: SomePrior) -> SomePrior:
    """A copy whose two-dimensional convolutions run with channels last: faster on most devices.

    The embedded priors are that already. Raises PriorError if the prior has no network.
    """

    def change(network: nn.Module) -> nn.Module:
        moved: Any = copy.deepcopy(network).to(memory_format=torch.channels_last)
        return _ChannelsLast(moved)

    return with_network(prior, change)


def compiled(prior: SomePrior, **options: Any) -> SomePrior:
    """A copy whose network is compiled when it is first called, again for every new shape.

    Arguments:
        prior: A prior with a network; the weights are shared.
        options: Those of ``torch.compile``, such as ``mode="max-autotune"``.

    Raises:
        PriorError: The prior has no network.
    """
    return with_network(prior, lambda network: _Compiled(network, options))


class _Compiled(nn.Module):
    """A compiled network whose answers are its caller's to keep."""

    def __init__(self, network: nn.Module, options: dict[str, Any]) -> None:
        super().__init__()
        self.network = torch.compile(network, **options)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The network's own answer."""
        answer = self.network(*inputs, **named)
        # Modes with CUDA graphs write the next answer over this one.
        return answer.clone() if isinstance(answer, Tensor) and answer.is_cuda else answer


def graphed(prior: SomePrior) -> SomePrior:
    """A copy whose network is recorded as a CUDA graph, one per shape, and replayed.

    It saves the launches of kernels, which dominate for small networks and batches. Calls that
    need derivatives run without a graph. Raises PriorError if there is no network on a GPU.
    """
    return with_network(prior, Graphed)


def with_network(prior: SomePrior, change: Callable[[nn.Module], nn.Module]) -> SomePrior:
    """A copy of a prior with another network in place of its own, inside wrappers too.

    Raises PriorError if it, or what it wraps, is no dataclass with a ``torch.nn.Module``.
    """
    changes: dict[str, Any] = {}
    known: Any = prior
    names = [f.name for f in dataclasses.fields(known)] if dataclasses.is_dataclass(known) else []
    for name in names:
        value = getattr(known, name)
        if isinstance(value, nn.Module):
            changes[name] = change(value)
        elif isinstance(value, Prior):
            changes[name] = with_network(value, change)
    if not changes:
        raise PriorError(
            f"The prior {prior.name!r} has no network to change: expected a dataclass with a "
            "torch.nn.Module among its fields. Use the prior as it is."
        )
    replaced: SomePrior = dataclasses.replace(known, **changes)
    return replaced
