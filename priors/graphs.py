"""A network recorded once as a CUDA graph, then replayed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from invdiff.errors import PriorError

__all__ = ["Graphed"]

KEPT = 4  # graphs, each with the memory of its activations
WARM_UP = 3  # calls before recording, in which libraries choose their kernels


class Graphed(nn.Module):
    """A network whose calls without derivatives are replayed from a graph per shape.

    Arguments:
        network: A network on a GPU that takes tensors and gives one. Its weights must not be
            replaced afterwards.

    Raises:
        PriorError: The network is not on a GPU.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        devices = {str(parameter.device) for parameter in network.parameters()}
        if not all(device.startswith("cuda") for device in devices):
            raise PriorError(
                f"CUDA graphs need a network on a GPU, and this one is on {sorted(devices)}. "
                "Load the prior with device='cuda' first."
            )
        self.network = network
        self._recorded: dict[Any, _Recording] = {}

    def forward(self, *inputs: Tensor) -> Any:
        """The network's own answer."""
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return self.network(*inputs)
        half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = half, *((t.shape, t.stride(), t.dtype, t.device) for t in inputs)
        recording = self._recorded.pop(key, None) or _Recording(self.network, inputs)
        self._recorded[key] = recording  # the last used is the last to go
        if len(self._recorded) > KEPT:
            del self._recorded[next(iter(self._recorded))]
        return recording.replay(inputs)


class _Recording:
    """One graph, with the places of its inputs and its answer."""

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(tensor.detach().clone() for tensor in inputs)
        side = torch.cuda.Stream(inputs[0].device)
        side.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.no_grad(), torch.cuda.stream(side):
            for _ in range(WARM_UP):
                network(*self.inputs)
        torch.cuda.current_stream(inputs[0].device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.answer: Tensor = network(*self.inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Copies the inputs in, replays, and copies the answer out."""
        for place, value in zip(self.inputs, inputs, strict=True):
            place.copy_(value)
        self.graph.replay()
        return self.answer.clone()
