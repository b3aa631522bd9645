"""Filtered backprojection, the classical reconstruction of complete scans.

References:
    | Principles of Computerized Tomographic Imaging, chapter 3 (Kak and Slaney, 1988)
    | https://engineering.purdue.edu/~malcolm/pct/
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.operators.parallel_beam_ct import ParallelBeamCT

__all__ = ["fbp", "hann", "ram_lak"]


def ram_lak(frequency: Tensor) -> Tensor:
    """No window: the plain ramp, sharp and noisy. ``frequency`` is 1 at Nyquist."""
    return torch.ones_like(frequency)


def hann(frequency: Tensor) -> Tensor:
    """The Hann window, zero at Nyquist (``frequency`` 1): smoother and less noisy."""
    return 0.5 * (1 + torch.cos(math.pi * frequency))


def fbp(
    operator: ParallelBeamCT, y: Tensor, window: Callable[[Tensor], Tensor] = ram_lak
) -> Tensor:
    r"""Attenuations in 1/mm, (b, 1, rows, columns), from line integrals (b, 1, views, detectors).

    .. math:: x = \frac{\pi}{\text{views}} \frac{s}{p^2} A^* (h * y)

    with the ramp h, the detector spacing s and the pixel size p: the columns of A sum to p^2 / s
    per view, so :math:`s / p^2 A^*` interpolates. Views must cover a half turn (or whole turns)
    evenly: the weight of every view is the same. Raises ShapeError if y does not fit.
    """
    geometry = operator.geometry
    operator._check(y, operator.range, False, "measurement")
    filtered = _filter(y, geometry.detector_spacing, window)
    scale = math.pi / len(geometry.angles) * geometry.detector_spacing / geometry.pixel_size**2
    return scale * operator.adjoint(filtered)


def _filter(y: Tensor, spacing: float, window: Callable[[Tensor], Tensor]) -> Tensor:
    """The ramp along the last axis, from its samples in space and zero-padded.

    A ramp sampled in frequency would lose its zero mean to the finite detector (cupping).
    """
    detectors = y.shape[-1]
    size = 2 ** math.ceil(math.log2(2 * detectors))
    n = torch.arange(size, dtype=torch.float64, device=y.device)
    n = torch.minimum(n, size - n)
    ramp = torch.where(n % 2 == 1, -1 / (math.pi * n.clamp_min(1) * spacing) ** 2, 0.0)
    ramp[0] = 1 / (2 * spacing) ** 2
    response = spacing * torch.fft.rfft(ramp).real
    response = response * window(torch.linspace(0, 1, len(response), dtype=torch.float64).to(n))
    spectrum = torch.fft.rfft(y, n=size) * response.to(y.dtype)
    filtered: Tensor = torch.fft.irfft(spectrum, n=size)[..., :detectors]
    return filtered
