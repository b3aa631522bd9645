"""Multi-coil magnetic resonance imaging along any trajectory: radial, spiral, or other.

References:
    | Advances in sensitivity encoding with arbitrary k-space trajectories (Pruessmann et al.,
      2001)
    | https://doi.org/10.1002/mrm.1241
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators.base import Operator
from invdiff.operators.nufft import nufft, nufft_adjoint

__all__ = ["NonCartesianMRI"]


@dataclass(frozen=True, eq=False, repr=False)
class NonCartesianMRI(Operator):
    r"""Coil maps and samples of the continuous Fourier transform of the pixels.

    .. math:: (A x)_c(k) = N^{-1/2} \sum_r s_c(r)\, x(r)\, e^{-2 \pi i k \cdot r}

    for the N pixels at r = index - size // 2 along each axis. Images are complex (1, *shape) with
    two or three axes, measurements complex (coils, *sampling). On the grid of frequencies
    (index - size // 2) / size this is ``CartesianMRI`` with a full mask, in the same scale. The
    adjoint is exact, without density compensation (``density_compensation.py``).

    Arguments:
        maps: Coil sensitivities, complex (1 or b, coils, *shape).
        trajectory: Frequencies in cycles per pixel, in [-1/2, 1/2], (1 or b, *sampling, 2 or 3),
            such as (1, spokes, samples, 2); the last axis is in the order of the image's axes.
            Kept in float64.

    Raises:
        ShapeError: The two do not fit each other.
        TypeError: The maps are not complex, or the trajectory is not floating point.
        NotFinite: The maps or the trajectory have NaN or infinite entries.
        ValueError: A frequency is out of range, or a derivative by the trajectory is asked for.
        ModuleNotFoundError: On the first call, without FINUFFT (or cuFINUFFT, on CUDA).
    """

    maps: Tensor
    trajectory: Tensor

    def __post_init__(self) -> None:
        maps, trajectory = tuple(self.maps.shape), tuple(self.trajectory.shape)
        axes = trajectory[-1] if trajectory else 0
        fits = axes in (2, 3) and len(maps) == axes + 2 and len(trajectory) >= 3
        if not fits or (maps[0] != trajectory[0] and 1 not in (maps[0], trajectory[0])):
            raise ShapeError(
                f"The maps have shape {maps} and the trajectory {trajectory}; expected (1 or "
                "items, coils, height, width) and (1 or items, ..., 2), or one axis more and 3."
            )
        if not self.maps.is_complex() or not self.trajectory.is_floating_point():
            raise TypeError(
                f"The maps have dtype {self.maps.dtype} and the trajectory "
                f"{self.trajectory.dtype}; expected complex maps and a real trajectory."
            )
        if self.trajectory.requires_grad:
            raise ValueError(
                "The trajectory requires a gradient, but the operator is differentiable in the "
                "image only. Pass trajectory.detach()."
            )
        if not bool(self.maps.isfinite().all() and self.trajectory.isfinite().all()):
            raise NotFinite("The maps or the trajectory have NaN or infinite entries.")
        check_range(self.trajectory)
        object.__setattr__(self, "trajectory", self.trajectory.to(torch.float64))

    @property
    def domain(self) -> tuple[int, ...]:
        return (1, *self.maps.shape[2:])

    @property
    def range(self) -> tuple[int, ...]:
        return (self.maps.shape[1], *self.trajectory.shape[1:-1])

    @property
    def complex_domain(self) -> bool:
        return True

    @property
    def complex_range(self) -> bool:
        return True

    def _forward(self, x: Tensor) -> Tensor:
        samples = nufft(self.maps.to(x) * x, self.trajectory.flatten(1, -2), self.domain[1:])
        return samples.reshape(-1, *self.range)

    def _adjoint(self, y: Tensor) -> Tensor:
        coils = nufft_adjoint(y.flatten(2), self.trajectory.flatten(1, -2), self.domain[1:])
        return (self.maps.to(y).conj() * coils).sum(1, keepdim=True)


def check_range(trajectory: Tensor) -> None:
    """Raises ValueError unless all frequencies are in [-1/2, 1/2] cycles per pixel."""
    largest = float(trajectory.abs().max()) if trajectory.numel() else 0.0
    if largest > 0.5 * (1 + 1e-6):  # the rounding of float32
        raise ValueError(
            f"The trajectory reaches {largest:g} cycles per pixel, expected at most 1/2: higher "
            "frequencies fold. Divide cycles per field of view by the size of the image in "
            "pixels, radians per pixel by 2 pi, and 1/mm by the number of pixels per mm."
        )
