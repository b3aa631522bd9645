"""Fewer, virtual coils that hold nearly all of the signal.

Reference:
    | Array compression for MRI with large coil arrays (Buehrer et al., 2007)
    | https://doi.org/10.1002/mrm.21237
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["CompressedCoils", "compress_coils"]


class CompressedCoils(NamedTuple):
    """k-space of virtual coils, the strongest first.

    Attributes:
        kspace: Complex (b, virtual, *space).
        matrix: Complex (b, virtual, coils) with orthonormal rows: virtual = matrix @ coils, for
            coil maps as well.
        energy: The part of the signal's energy that is kept, (b,) in [0, 1].
    """

    kspace: Tensor
    matrix: Tensor
    energy: Tensor


def compress_coils(kspace: Tensor, coils: int) -> CompressedCoils:
    """The ``coils`` leading left singular vectors of k-space as virtual coils.

    To be done after whitening only: then it keeps the noise white, of the same sigma. The phase of
    every virtual coil is fixed: its weight of the first coil is real and not negative.

    Arguments:
        kspace: Complex (b, coils, *space), zero where nothing was measured.
        coils: How many to keep.

    Raises:
        ShapeError: If there are no coils and space.
        ValueError: If there are fewer coils than asked for, or an item is all zero.
    """
    if kspace.ndim < 3:
        raise ShapeError(f"k-space has shape {tuple(kspace.shape)}; expected (b, coils, *space).")
    if not 1 <= coils <= kspace.shape[1]:
        raise ValueError(f"{coils} virtual coils were asked for, of {kspace.shape[1]} coils.")
    flat = kspace.flatten(2).to(torch.complex128)
    energies, vectors = torch.linalg.eigh(flat @ flat.mH)
    total = energies.sum(1)
    if not bool((total > 0).all()):
        raise ValueError("An item of k-space is all zero: there is nothing to compress.")
    matrix = vectors[:, :, -coils:].flip(-1).mH
    matrix = matrix * torch.exp(-1j * matrix[:, :, :1].angle())
    kept = energies[:, -coils:].sum(1) / total
    virtual = (matrix @ flat).to(kspace.dtype)
    return CompressedCoils(
        virtual.reshape(len(kspace), coils, *kspace.shape[2:]), matrix.to(kspace.dtype), kept
    )
