"""Any function as a prior, with a declared parametrisation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from invdiff.priors.loading.model_card import ModelCard
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.loading.parametrisations import Parametrisation

__all__ = ["fingerprint", "from_function"]


def from_function(
    network: Callable[..., Tensor],
    parametrisation: Parametrisation,
    *,
    channels: int,
    value_range: tuple[float, float],
    name: str | None = None,
    **card: Any,
) -> ModelPrior:
    """A network in memory as a prior: say what it predicts, on which schedule, of which images.

    For example ``from_function(net, Predicts(Target.V, DiscreteSchedule.cosine()), channels=1,
    value_range=(0, 1))``. Nothing about it is guessed; ``invdiff check-prior`` looks for mistakes.

    Arguments:
        network: x (b, channels, *size) and time (b,), and with classes labels (b,), to a tensor
            like x. Best a module in evaluation mode.
        parametrisation: What it predicts.
        channels: Of an image.
        value_range: Of clean images as the network sees them, such as (-1, 1).
        name: What provenance calls it; None for that of its class or function.
        card: Other fields of `ModelCard`. Without ``sha256`` it is that of the state of a module,
            or of the name of a function, which does not change with what the function does.
    """
    called = getattr(network, "__qualname__", type(network).__qualname__)
    fields = {
        "name": called if name is None else name,
        "format": "function",
        "sha256": fingerprint(network),
        **card,
    }
    return ModelPrior(
        ModelCard(channels=channels, value_range=value_range, **fields), network, parametrisation
    )


def fingerprint(network: object) -> str:
    """The SHA-256 of a module's class and state, or of a function's name."""
    called = getattr(network, "__qualname__", type(network).__qualname__)
    digest = hashlib.sha256(called.encode())
    if isinstance(network, nn.Module):
        for name, value in sorted(network.state_dict().items()):
            digest.update(name.encode())
            dense = value.detach().cpu().contiguous()
            digest.update(str(dense.dtype).encode())
            digest.update(dense.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
