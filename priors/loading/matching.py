"""Finding the weights in a checkpoint, and fitting them into a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from invdiff.errors import PriorError
from invdiff.priors.loading.files import Checkpoint

__all__ = ["State", "assemble", "find_weights", "strip_prefix"]

State = dict[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

AVERAGED = ("ema", "model_ema", "ema_model", "ema_state_dict", "params_ema")
PLAIN = ("state_dict", "model", "net", "model_state_dict", "unet_state_dict", "params")
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "unet.",
    "ema_model.",
    "backbone.",
    "diffusion_model.",
)


def find_weights(checkpoint: Checkpoint) -> tuple[State, str]:
    """The state dict in a checkpoint, and which one it is.

    Moving averages come first: they are what a diffusion model is sampled with.
    Raises PriorError if there is none.
    """
    tree = checkpoint.tree
    if _is_state(tree):
        return dict(tree), "the only ones"
    if isinstance(tree, Mapping):
        for name in (*AVERAGED, *PLAIN):
            if _is_state(tree.get(name)):
                kind = "ema" if name in AVERAGED else "not averaged"
                return dict(tree[name]), f"{name!r} ({kind})"
    found = list(tree)[:6] if isinstance(tree, Mapping) else type(tree).__name__
    raise PriorError(
        f"{checkpoint.path} holds no state dict, but {found}. Save one mapping of names to "
        "tensors."
    )


def _is_state(tree: object) -> bool:
    return (
        isinstance(tree, Mapping)
        and len(tree) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in tree.items())
    )


def strip_prefix(state: State, known: Callable[[State], bool]) -> State:
    """Drops wrappers' prefixes, such as "module.", until `known` says the names are right.

    Names without the prefix are then not the network's, and are dropped. If no prefix helps, the
    state is returned as it was.
    """
    now = state
    for _ in range(4):
        if known(now):
            return now
        shorter = [
            {key[len(p) :]: value for key, value in now.items() if key.startswith(p)}
            for p in PREFIXES
        ]
        now = max(shorter, key=len)
        if not now:
            break
    return state


def assemble(build: Callable[[], Network], state: State, what: str) -> Network:
    """A network with these weights, in float32 and evaluation mode.

    It is built without memory first, so nothing is drawn or allocated for a file that does not
    fit.

    Arguments:
        build: Makes the network, from deterministic arguments.
        state: Its weights and buffers.
        what: The file, for messages.

    Raises:
        PriorError: Names are missing or unexpected, shapes differ, or weights are not finite.
    """
    try:
        with torch.device("meta"):
            network = build()
    except (AssertionError, RuntimeError, ValueError) as error:
        raise PriorError(f"The network of {what} cannot be built: {error}.") from error
    check_match(network.state_dict(), state, what)
    ready = {name: _float(value, name, what) for name, value in state.items()}
    network.load_state_dict(ready, assign=True)
    return network.requires_grad_(False).eval()


def check_match(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], what: str) -> None:
    """Raises PriorError unless names and shapes are the same."""
    missing = [name for name in expected if name not in got]
    unexpected = [name for name in got if name not in expected]
    shapes = [
        f"{name} {tuple(got[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in got and got[name].shape != value.shape
    ]
    if missing or unexpected or shapes:
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        text = "; ".join(f"{len(names)} {kind}: {brief(names)}" for kind, names in parts if names)
        raise PriorError(f"The weights of {what} do not fit the network: {text}.")


def brief(names: list[str], most: int = 3) -> str:
    """The first few of a list."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _float(value: Any, name: str, what: str) -> Tensor:
    if not value.is_floating_point() and not value.is_complex():
        table: Tensor = value.clone()
        return table
    if value.is_complex() or value.layout is not torch.strided:
        raise PriorError(f"{name} of {what} is {value.dtype} {value.layout}, expected real dense.")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise PriorError(f"{name} of {what} repeats its memory: that is no weight of a network.")
    ready: Tensor = value.to(torch.float32).contiguous()
    if not bool(ready.isfinite().all()):
        raise PriorError(f"{name} of {what} has values that are not finite: it is damaged.")
    return ready
