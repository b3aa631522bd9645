"""How much memory a prior's answer takes, and how much there is."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Footprint", "footprint", "free_memory", "out_of_memory"]


class Footprint(NamedTuple):
    """The memory that a call takes at its peak, in bytes, beside what exists before it.

    Arguments:
        fixed: Whatever the number of rows.
        row: For every row.
    """

    fixed: float
    row: float


def footprint(
    prior: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor, derivative: bool
) -> Footprint:
    """Measured by calls on one row and on two: the line through both peaks.

    All tensors that live at the same time are counted, on any device; the workspaces of
    libraries are not. Like a call, it needs the memory of two rows.

    Arguments:
        prior: The denoiser.
        x: Noisy images (b, *shape), of which the first is used.
        sigma: Its noise level, ().
        derivative: Whether the derivative with respect to x is computed too.
    """
    one, two = (_peak(prior, x[:1].detach(), rows, sigma, derivative) for rows in (1, 2))
    row = max(two - one, 1)
    return Footprint(max(one - row, 0), row)


def _peak(
    prior: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    rows: int,
    sigma: Tensor,
    derivative: bool,
) -> int:
    many = x.expand(rows, *x.shape[1:]).clone().requires_grad_(derivative)
    with _Living() as living, torch.set_grad_enabled(derivative):
        out = prior(many, sigma)
        if derivative:
            torch.autograd.grad(out, many, torch.ones_like(out))
    return int(living.peak)


class _Living(TorchDispatchMode):
    """Adds up the memory of all tensors made inside it, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(s) for s in _storages(args)} | {id(s) for s in _storages(kwargs)}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if id(storage) not in before and storage not in self._known:
                self._known.add(storage)
                self._count(storage.nbytes())
                weakref.finalize(storage, self._count, -storage.nbytes())
        return out

    def _count(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def free_memory(device: torch.device) -> int:
    """The bytes that can still be allocated on a device.

    Raises ValueError where the system does not tell.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    table = Path("/proc/meminfo")
    if device.type == "cpu" and table.exists():
        (line,) = (x for x in table.read_text().splitlines() if x.startswith("MemAvailable"))
        return 1024 * int(line.split()[1])
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    raise ValueError(
        f"How much memory is free on {device} cannot be found out. Give memory= in bytes."
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an allocation that failed."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
