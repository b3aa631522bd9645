"""Coil sensitivity maps as eigenvectors of the calibration data (ESPIRiT).

References:
    | ESPIRiT: an eigenvalue approach to autocalibrating parallel MRI (Uecker et al., 2014)
    | https://doi.org/10.1002/mrm.24751
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.operators.coil_maps import calibration_block, virtual_coil

__all__ = ["EspiritMaps", "espirit_maps"]

CHUNK = 2**21  # complex numbers in one batch of matrices (coils, coils)


class EspiritMaps(NamedTuple):
    """Sets of coil maps, the likeliest first.

    Attributes:
        sets: Complex (b, sets, coils, height, width). The sets are orthonormal over the coils in
            every pixel, and zero where their eigenvalue is below the crop level.
        eigenvalues: Real (b, sets, height, width), in [0, 1], descending, never cropped: one
            where the data are exactly an image times this set, less where there is only noise.
    """

    sets: Tensor
    eigenvalues: Tensor

    @property
    def maps(self) -> Tensor:
        """The first set (b, coils, height, width): the maps of SENSE."""
        return self.sets[:, 0]


def espirit_maps(
    kspace: Tensor,
    calibration_width: int,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.8,
    sets: int = 1,
) -> EspiritMaps:
    r"""Maps from the central ``calibration_width`` x ``calibration_width`` samples of k-space.

    All patches of ``kernel`` x ``kernel`` samples of all coils, written as vectors :math:`p_j`,
    lie in a space of low dimension with the basis :math:`V`: the singular vectors of the
    calibration matrix. An image :math:`x` has such patches if its maps :math:`s(r)` fulfil

    .. math:: G(r)\, s(r) = s(r), \quad
              G(r)_{cc'} = \frac{1}{k^2} \sum_{a, b}
              (V V^*)_{ca, c'b}\, e^{-2 \pi i (b - a) \cdot r}

    in every pixel r. :math:`G` is summed over equal differences b - a first, so that memory does
    not grow with the rank, and decomposed for a block of pixels at a time.

    A phase per pixel stays free. It is fixed relative to the virtual coil, as in
    ``maps_from_calibration``: the combination of coils with the most energy has a real and
    positive map. A second set is needed only where one pixel has two signals (an image folded
    by a small field of view). In 3-D, transform along the fully sampled readout and pass its
    positions as items.

    Arguments:
        kspace: Complex (b, coils, height, width), of any scale; frequency zero at
            (height // 2, width // 2). Every row is estimated by itself.
        calibration_width: The side of the fully measured centre, in samples.
        kernel: The side of a patch, in samples.
        threshold: Singular values below this part of the largest belong to the noise.
        crop: Maps are zero where the eigenvalue is below it, in [0, 1]; 0 keeps all pixels.
        sets: How many sets, 1 to coils.

    Raises:
        ShapeError: k-space has not four axes, or is narrower than the calibration block.
        TypeError: k-space is not complex.
        NotFinite: The calibration block has NaN or infinite samples.
        ValueError: The block has samples that were not measured, is narrower than two kernels,
            or a parameter is out of range.
    """
    _check(calibration_width, kernel, threshold, crop)
    block = calibration_block(kspace, calibration_width)
    coils, height, width = kspace.shape[1:]
    if not 1 <= sets <= coils:
        raise ValueError(f"sets is {sets}, expected 1 to {coils}, the number of coils.")
    differences = _kernel_gram(_projection(block, kernel, threshold)).to(kspace.dtype)
    weights = virtual_coil(block).to(kspace.dtype)
    rows, columns = (_waves(n, kernel).to(kspace) for n in (height, width))
    step = max(1, CHUNK // (kspace.shape[0] * width * coils**2))
    parts = [
        _decompose(differences, weights, some, columns, sets, crop) for some in rows.split(step)
    ]
    return EspiritMaps(
        torch.cat([maps for maps, _ in parts], 3), torch.cat([values for _, values in parts], 2)
    )


def _check(calibration_width: int, kernel: int, threshold: float, crop: float) -> None:
    if kernel < 2 or calibration_width < 2 * kernel:
        raise ValueError(
            f"The calibration width is {calibration_width} for a kernel of {kernel}; expected a "
            "kernel of at least 2 and a block of at least two kernels, or its patches do not "
            "span the signal. Measure more central samples, or use maps_from_calibration."
        )
    if not 0 < threshold < 1 or not 0 <= crop <= 1:
        raise ValueError(
            f"threshold is {threshold} and crop is {crop}; expected 0 < threshold < 1 (of the "
            "largest singular value) and 0 <= crop <= 1 (an eigenvalue)."
        )


def _projection(block: Tensor, kernel: int, threshold: float) -> Tensor:
    """V V* of the patches of (b, coils, w, w), as (b, coils, k, k, coils, k, k), complex128."""
    rows, coils = block.shape[:2]
    # In double precision the Gram matrix has the singular values to 1e-8 of the largest.
    patches = block.to(torch.complex128).unfold(2, kernel, 1).unfold(3, kernel, 1)
    vectors = patches.permute(0, 1, 4, 5, 2, 3).reshape(rows, coils * kernel**2, -1)
    energies, basis = torch.linalg.eigh(vectors @ vectors.mH)
    signal = energies >= threshold**2 * energies[:, -1:]
    projection: Tensor = (basis * signal[:, None]) @ basis.mH
    return projection.reshape(rows, coils, kernel, kernel, coils, kernel, kernel)


def _kernel_gram(projection: Tensor) -> Tensor:
    """Sums over equal differences b - a: (b, coils, coils, 2 k - 1, 2 k - 1)."""
    kernel = projection.shape[2]
    shifts = range(1 - kernel, kernel)
    down = [projection.diagonal(shift, 2, 5).sum(-1) for shift in shifts]
    both = [
        torch.stack([part.diagonal(shift, 2, 4).sum(-1) for shift in shifts], -1) for part in down
    ]
    return torch.stack(both, -2) / kernel**2


def _waves(size: int, kernel: int) -> Tensor:
    """exp(-2 pi i d r) for the pixels r and the differences d, (size, 2 k - 1), complex128."""
    pixels = (torch.arange(size, dtype=torch.float64) - size // 2) / size
    shifts = torch.arange(1 - kernel, kernel, dtype=torch.float64)
    return torch.polar(torch.ones(()).double(), -2 * math.pi * pixels[:, None] * shifts)


def _decompose(
    differences: Tensor, weights: Tensor, rows: Tensor, columns: Tensor, sets: int, crop: float
) -> tuple[Tensor, Tensor]:
    """The maps (b, sets, coils, rows, width) and eigenvalues (b, sets, rows, width) of rows."""
    gram = torch.einsum("bcdij,yi,xj->byxcd", differences, rows, columns)
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = (part[..., -sets:].flip(-1) for part in (values, vectors))
    phase = torch.einsum("bc,byxcs->byxs", weights.conj(), vectors).angle()
    maps = vectors * torch.polar((values >= crop).to(phase), -phase)[..., None, :]
    return maps.permute(0, 4, 3, 1, 2), values.permute(0, 3, 1, 2)
