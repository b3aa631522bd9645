"""Coil sensitivity maps and a low-resolution image, estimated together (JSENSE).

References:
    | Joint image reconstruction and sensitivity estimation in SENSE (JSENSE) (Ying and Sheng,
      2007)
    | https://doi.org/10.1002/mrm.21245
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.operators.cartesian_mri import fft2c, ifft2c
from invdiff.operators.coil_maps import (
    calibration_block,
    central_block,
    centre,
    embed,
    relative_to_virtual_coil,
    virtual_coil,
)

__all__ = ["jsense_maps"]


def jsense_maps(
    kspace: Tensor, width: int, kernel: int = 8, rounds: int = 10, iterations: int = 10
) -> Tensor:
    r"""Maps from the central ``width`` x ``width`` samples, some of which may be missing.

    The maps are :math:`F^* k_c` with kernels of ``kernel`` x ``kernel`` frequencies; with the
    image x, sampled as finely as these can shift its frequencies into the centre,

    .. math:: \min_{x, k} \sum_c \| m\, (F (x \cdot F^* k_c) - y_c) \|^2

    is solved for the kernels and for the image in turn, by a few steps of conjugate gradients:
    to stop early is the regularisation. Samples that are zero in every coil count as missing
    (:math:`m = 0`). So this serves small calibration blocks, and random patterns that thin out
    from a small block; at regular undersampling it fails. From 16 x 16 complete samples on,
    ``espirit_maps`` is as good or better, and knows where the object is.

    The sum of squares over the coils is one everywhere, also far from the object. The phase is
    relative to the virtual coil (``maps_from_calibration``). Every row is estimated by itself.
    Gives complex (b, coils, height, width).

    Arguments:
        kspace: Complex (b, coils, height, width), of any scale, zero where nothing was measured.
        width: The side of the centre that is used.
        kernel: The side of the kernels: a larger one follows coils nearby, and noise.
        rounds: How often both are solved for.
        iterations: Steps of conjugate gradients each time.

    Raises:
        ShapeError, TypeError, NotFinite: As ``maps_from_calibration``.
        ValueError: The centre of ``kernel`` x ``kernel`` samples is incomplete, or wider than
            ``width``, or there are no rounds or iterations.
    """
    if not 2 <= kernel <= width or min(rounds, iterations) < 1:
        raise ValueError(
            f"kernel is {kernel}, width {width}, rounds {rounds} and iterations {iterations}; "
            "expected 2 <= kernel <= width, and at least 1 of each of the others."
        )
    block = central_block(kspace, width)
    calibration_block(kspace, kernel)
    block = block / block.abs().amax(dim=(1, 2, 3), keepdim=True)
    weights = virtual_coil(block)
    # On this grid the wrapped product of an image and maps is right in the centre.
    y = embed(block, width + kernel - 1, width + kernel - 1)
    measured = (y != 0).any(1, keepdim=True)
    images = ifft2c(y)
    virtual = (weights.conj()[:, :, None, None] * images).sum(1, keepdim=True)
    rss = images.abs().square().sum(1, keepdim=True).sqrt()
    image = rss * torch.exp(1j * virtual.angle())
    kernels = block.new_zeros(*block.shape[:2], kernel, kernel)
    for _ in range(rounds):
        kernels = _solve_kernels(kernels, image, y, measured, iterations)
        image = _solve_image(image, kernels, y, measured, iterations)
    maps = ifft2c(embed(kernels, *kspace.shape[2:]))
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    return relative_to_virtual_coil(maps, weights)


def _solve_kernels(
    kernels: Tensor, image: Tensor, y: Tensor, measured: Tensor, iterations: int
) -> Tensor:
    from invdiff.linalg import cg  # which imports operators itself

    size = y.shape[-1]

    def adjoint(residual: Tensor) -> Tensor:
        return centre(fft2c(image.conj() * ifft2c(measured * residual)), kernels.shape[-1])

    def normal(k: Tensor) -> Tensor:
        return adjoint(fft2c(image * ifft2c(embed(k, size, size))))

    return cg(normal, adjoint(y), kernels, tolerance=1e-6, iterations=iterations).x


def _solve_image(
    image: Tensor, kernels: Tensor, y: Tensor, measured: Tensor, iterations: int
) -> Tensor:
    from invdiff.linalg import cg

    maps = ifft2c(embed(kernels, y.shape[-1], y.shape[-1]))

    def adjoint(residual: Tensor) -> Tensor:
        return (maps.conj() * ifft2c(measured * residual)).sum(1, keepdim=True)

    return cg(
        lambda x: adjoint(fft2c(maps * x)),
        adjoint(y),
        image,
        tolerance=1e-6,
        iterations=iterations,
    ).x
