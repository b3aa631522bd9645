"""Windows of the ramp filter: how much of which frequency an analytic reconstruction keeps.

Reference:
    Principles of Computerized Tomographic Imaging, section 3.3 (Kak and Slaney, 1988)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Window", "cosine", "hann", "ram_lak", "shepp_logan"]

Window = Callable[[Tensor], Tensor]


def ram_lak(frequency: Tensor) -> Tensor:
    """No window: the plain ramp, sharp and noisy. ``frequency`` is 1 at Nyquist."""
    return torch.ones_like(frequency)


def shepp_logan(frequency: Tensor) -> Tensor:
    r"""The window :math:`\sin(\pi f / 2) / (\pi f / 2)`, 0.64 at Nyquist (``frequency`` 1)."""
    return torch.sinc(frequency / 2)


def cosine(frequency: Tensor) -> Tensor:
    r"""The window :math:`\cos(\pi f / 2)`, zero at Nyquist (``frequency`` 1)."""
    return torch.cos(math.pi / 2 * frequency)


def hann(frequency: Tensor) -> Tensor:
    """The Hann window, zero at Nyquist (``frequency`` 1): smoother and less noisy."""
    return 0.5 * (1 + torch.cos(math.pi * frequency))
