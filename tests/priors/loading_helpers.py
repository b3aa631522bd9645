"""What the tests of loading share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SIGMAS = (0.02, 0.3, 2.0, 30.0)


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fill(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere, also where initialisation puts zeros; then frozen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            width = math.sqrt(max(1, value[0].numel())) if value.ndim > 1 else 4.0
            value.copy_(torch.randn(value.shape, generator=generator) / width)
    return network.eval().requires_grad_(False)


def level(sigma: float) -> Tensor:
    return torch.tensor(sigma, dtype=torch.float64)


def close(found: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value: float32 sums of other orders differ by some 1e-6."""
    gap = (found - expected).abs().max() / expected.abs().max()
    assert gap < 1e-5, f"differs by {float(gap):.2e}"
