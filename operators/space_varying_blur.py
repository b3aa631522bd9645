"""A blur that changes across the image, as that of a lens does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.blur import Boundary
from invdiff.operators.deepinv import FromDeepinv

__all__ = ["interpolation_weights", "space_varying_blur"]


def space_varying_blur(
    shape: tuple[int, int, int], kernels: Tensor, boundary: Boundary
) -> FromDeepinv:
    r"""The blur :math:`A x = \sum_k h_k * (w_k \odot x)` by deepinv's ``SpaceVaryingBlur``.

    A point of light spreads as the kernels around it do, interpolated between them: the kernels
    are those at the nodes of a regular grid over the image (its corners included), the weights
    the bilinear ones, which sum to 1 everywhere.

    Arguments:
        shape: The shape (channels, height, width) of the image.
        kernels: The kernel at every node, (grid rows, grid columns, rows, columns), odd sizes.
        boundary: What lies beyond the border; all but ZERO, which deepinv has not.

    Raises:
        ShapeError: The kernels have not four axes or no centre.
        ValueError: The boundary is ZERO.

    (Nagy and O'Leary, Restoring images degraded by spatially variant blur, 1998.)
    """
    from deepinv.physics import SpaceVaryingBlur

    if kernels.ndim != 4 or kernels.shape[2] % 2 == 0 or kernels.shape[3] % 2 == 0:
        raise ShapeError(
            f"The kernels have shape {tuple(kernels.shape)}, expected (grid rows, grid columns, "
            "rows, columns) with odd numbers of rows and columns."
        )
    if boundary is Boundary.ZERO:
        raise ValueError("The boundary is ZERO, expected CIRCULAR, REFLECT or VALID.")
    weights = interpolation_weights((kernels.shape[0], kernels.shape[1]), shape[1:])
    physics = SpaceVaryingBlur(
        filters=kernels.flatten(0, 1)[None, None],
        multipliers=weights.to(kernels)[None, None],
        padding=boundary.value,
        use_fft=True,
    )
    return FromDeepinv(physics, shape)


def interpolation_weights(grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The bilinear weight of every node of a grid at every pixel, (nodes, *size), float64."""
    rows, columns = (_hats(nodes, pixels) for nodes, pixels in zip(grid, size, strict=True))
    weights = np.einsum("ah,bw->abhw", rows, columns)
    return torch.from_numpy(weights.reshape(-1, *size))


def _hats(nodes: int, pixels: int) -> np.ndarray:
    """Linear interpolation between nodes, of which the first and last are the outer pixels."""
    place = np.linspace(0, nodes - 1, pixels)
    hats: np.ndarray = np.maximum(1 - np.abs(place - np.arange(nodes)[:, None]), 0)
    return hats
