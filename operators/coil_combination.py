"""One image from the images of all coils.

Reference:
    | The NMR phased array (Roemer et al., 1990), https://doi.org/10.1002/mrm.1910160203
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["combine_coils", "root_sum_of_squares"]


def root_sum_of_squares(images: Tensor) -> Tensor:
    r"""The magnitude :math:`\sqrt{\sum_c |x_c|^2}`, real, (b, coils, *space) -> (b, 1, *space)."""
    magnitude: Tensor = torch.linalg.vector_norm(images, dim=1, keepdim=True)
    return magnitude


def combine_coils(images: Tensor, maps: Tensor) -> Tensor:
    r"""The complex image of best signal to noise ratio, for white noise, (b, 1, *space).

    .. math:: x = \frac{\sum_c \bar s_c x_c}{\sum_c |s_c|^2}

    the least-squares solution of a full scan (SENSE without undersampling), zero where all maps
    are. With maps estimated from the images themselves it is the adaptive combination.

    Arguments:
        images: Complex (b, coils, *space), whitened.
        maps: Coil sensitivities (1 or b, coils, *space).

    Raises:
        ShapeError: If the two do not fit.
    """
    if images.shape[1:] != maps.shape[1:] or len(maps) not in (1, len(images)):
        raise ShapeError(
            f"The images have shape {tuple(images.shape)} and the maps {tuple(maps.shape)}; "
            "expected (b, coils, *space) and (1 or b, coils, *space)."
        )
    energy = maps.abs().square().sum(1, keepdim=True)
    matched = (maps.conj() * images).sum(1, keepdim=True)
    return torch.where(energy > 0, matched / torch.where(energy > 0, energy, 1), 0)
