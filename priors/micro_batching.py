"""As many rows at once as fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from invdiff.errors import PriorError
from invdiff.priors.memory import footprint, free_memory, out_of_memory
from invdiff.priors.wrapping import AroundPrior

__all__ = ["MicroBatched"]

SHARE = 0.8  # of the free memory: the rest is for workspaces and fragments


@dataclass(frozen=True)
class MicroBatched(AroundPrior):
    """A prior whose rows are split so that the network's activations fit into memory.

    The memory of a row is measured at the first call of each shape, precision and device, with
    derivatives apart. If an allocation fails all the same, parts are halved until they fit, and
    stay small from then on. Results are the same but for the rounding of differently shaped
    kernels. In parts, derivatives compute each part again, and can be taken once.

    Put it outside of the other wrappers: ``MicroBatched(Autocast(prior))``.

    Arguments:
        prior: Any prior.
        memory: What a call may take, in bytes; 80 % of what is free at the first call if None.

    Raises:
        ValueError: memory is not positive.
    """

    memory: int | None = None
    _limits: dict[Any, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory <= 0:
            raise ValueError(f"memory is {self.memory}; give a positive number of bytes, or None.")

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        r""":math:`E[x_0 \mid x_0 + \sigma n = x]` for x (b, *shape), sigma () or (b,).

        Raises PriorError if not even one row fits.
        """
        tracked = torch.is_grad_enabled() and x.requires_grad
        key = (x.shape[1:], x.dtype, x.device, tracked, _autocast(x.device.type))
        if len(x) > 1 and key not in self._limits:
            self._limits[key] = self._fitting(x, sigma, tracked)
        if not tracked:
            return self._in_parts(lambda rows: self.prior(x[rows], _of(sigma, rows)), len(x), key)
        if len(x) <= self._limits.get(key, 1):
            whole = _attempt(lambda rows: self.prior(x, sigma), slice(None))
            if whole is not None:
                return whole
            self._limits[key] = max(1, len(x) // 2)
        split: Tensor = _InParts.apply(x, sigma, self, key)
        return split

    def rows(self, x: Tensor, sigma: Tensor, derivative: bool = False) -> int:
        """How many rows like those of x (b, *shape) are expected to fit at once, at least 1."""
        return self._fitting(x, sigma, derivative)

    def _fitting(self, x: Tensor, sigma: Tensor, derivative: bool) -> int:
        try:
            taken = footprint(self.prior, x, sigma.reshape(-1)[0], derivative)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return 1
        budget = self.memory or SHARE * free_memory(x.device)
        return max(1, int((budget - taken.fixed) / taken.row))

    def _in_parts(self, run: Callable[[slice], Tensor], count: int, key: Any) -> Tensor:
        """Runs all rows, in parts of equal size, smaller ones after a failure."""
        done: list[Tensor] = []
        start = 0
        while start < count:
            parts = -(-(count - start) // self._limits.get(key, count))
            size = -(-(count - start) // parts)
            result = _attempt(run, slice(start, start + size))
            if result is not None:
                done.append(result)
                start += size
                continue
            # Outside of the handler, whose traceback would keep the failed call's tensors.
            torch.cuda.empty_cache()
            if size == 1:
                raise PriorError(
                    f"Not even one image of shape {tuple(key[0])} fits into memory with the "
                    f"prior {self.prior.name!r}. Use Tiled, Autocast, or a larger device."
                )
            self._limits[key] = size // 2
        return torch.cat(done) if len(done) > 1 else done[0]


class _InParts(torch.autograd.Function):
    """All rows in parts, forward and backward, with the memory of one part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: Tensor, owner: MicroBatched, key: Any) -> Tensor:
        ctx.save_for_backward(x, sigma)
        ctx.owner, ctx.key = owner, key
        return owner._in_parts(lambda rows: owner.prior(x[rows], _of(sigma, rows)), len(x), key)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        x, sigma = ctx.saved_tensors

        def run(rows: slice) -> Tensor:
            with torch.enable_grad(), _like_forward(x.device.type, ctx.key[-1]):
                leaf = x[rows].detach().requires_grad_()
                out = ctx.owner.prior(leaf, _of(sigma, rows))
            slope: Tensor = torch.autograd.grad(out, leaf, gradient[rows])[0]
            return slope

        return ctx.owner._in_parts(run, len(x), ctx.key), None, None, None


def _attempt(run: Callable[[slice], Tensor], rows: slice) -> Tensor | None:
    """None if memory did not suffice."""
    try:
        return run(rows)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None


def _of(sigma: Tensor, rows: slice) -> Tensor:
    return sigma[rows] if sigma.ndim else sigma


def _autocast(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _like_forward(device: str, half: torch.dtype | None) -> AbstractContextManager[Any]:
    return torch.autocast(device, half) if half is not None else nullcontext()
