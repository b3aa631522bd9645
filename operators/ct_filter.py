"""The ramp filter along the cells of a detector."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.operators.ct_windows import Window

__all__ = ["ramp_filter"]


def ramp_filter(y: Tensor, spacing: float, window: Window, radius: float = math.inf) -> Tensor:
    r"""The convolution of the last axis with the ramp, in 1/mm, same shape.

    .. math:: h(0) = \frac{1}{4 s^2}, \quad
        h(n) = -\Big(\pi R \sin \frac{n s}{R}\Big)^{-2} \text{ for odd } n,
        \quad 0 \text{ for even } n,

    from its samples in space, and zero-padded: a ramp sampled in frequency would lose its zero
    mean to the finite detector (cupping).

    Arguments:
        y: Line integrals (..., cells).
        spacing: The width s of a cell in mm.
        window: The factor for every frequency (1 at Nyquist).
        radius: The radius R in mm of an arc of cells about the source; straight lines: infinite.
    """
    cells = y.shape[-1]
    size = 2 ** math.ceil(math.log2(2 * cells))
    n = torch.arange(size, dtype=torch.float64)
    n = torch.minimum(n, size - n).clamp_max(cells)  # further lags meet the padding alone
    distance = n * spacing if math.isinf(radius) else radius * torch.sin(n * spacing / radius)
    ramp = torch.where(n % 2 == 1, -1 / (math.pi * distance) ** 2, 0.0)
    ramp[0] = 1 / (2 * spacing) ** 2
    response = spacing * torch.fft.rfft(ramp).real
    response = response * window(torch.linspace(0, 1, len(response), dtype=torch.float64))
    spectrum = torch.fft.rfft(y, n=size) * response.to(y)
    filtered: Tensor = torch.fft.irfft(spectrum, n=size)[..., :cells]
    return filtered
