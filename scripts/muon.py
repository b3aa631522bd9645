"""An optimizer that orthogonalises the updates of convolutions: more learnt per step than AdamW.

References:
    | Muon: an optimizer for hidden layers in neural networks (Jordan et al., 2024)
    | Muon is scalable for LLM training (Liu et al., 2025), https://arxiv.org/abs/2502.16982
    | Decoupled weight decay regularization (Loshchilov, Hutter, 2019), for all other weights
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steepest at 0, bounded on [0, 1]
_MOMENTUM = 0.95
_ADAM_RMS = 0.2  # of AdamW's updates, over the learning rate (Liu et al.): one rate serves both


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    r"""About :math:`U V^T` of the singular value decomposition :math:`U S V^T`, (m, n) float32.

    Newton and Schulz's iteration with a quintic: every singular value that is not tiny ends
    between 0.7 and 1.2, which is near enough for an update.
    """
    a, b, c = _QUINTIC
    x = matrix / (matrix.norm() + 1e-12)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.mT
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    r"""Muon for convolutions, AdamW for the rest.

    A convolution's weights are a matrix with a row per output channel. Its step is
    :math:`-0.2 \eta \sqrt{\max(m, n)}\, \mathrm{orthogonal}(g + \mu (M - g))`, with M the running
    mean of the gradients.

    Arguments:
        convolutions: Weights of four axes, between hidden layers.
        others: All other weights.
        rate: The learning rate of both.
        weight_decay: Of both, decoupled.
    """

    def __init__(
        self,
        convolutions: Iterable[Tensor],
        others: Iterable[Tensor],
        rate: float,
        weight_decay: float = 1e-4,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(convolutions), "matrices": True},
            {"params": list(others), "matrices": False},
        ]
        super().__init__(groups, {"lr": rate, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all weights that have a gradient; ``closure``, if any, is run before."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            update = self._orthogonal if group["matrices"] else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(group["lr"] * update(weight.grad, self.state[weight]))
        return value

    @staticmethod
    def _orthogonal(gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        mean = state.setdefault("mean", torch.zeros_like(gradient))
        mean.lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(mean, _MOMENTUM).flatten(1)
        size = _ADAM_RMS * max(ahead.shape) ** 0.5
        return size * orthogonal(ahead).view_as(gradient)

    @staticmethod
    def _adam(gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        if not state:
            state["count"] = torch.zeros((), dtype=torch.float32)
            state["mean"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
        state["count"] += 1
        count = float(state["count"])
        state["mean"].lerp_(gradient, 0.1)
        state["square"].lerp_(gradient.square(), 0.01)
        mean = state["mean"] / (1 - 0.9**count)
        square = state["square"] / (1 - 0.99**count)
        return mean / (square.sqrt() + 1e-8)
