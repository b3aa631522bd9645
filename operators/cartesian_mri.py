"""Multi-coil magnetic resonance imaging on a Cartesian grid, of slices and of volumes.

References:
    | SENSE: Sensitivity encoding for fast MRI (Pruessmann et al., 1999)
    | https://doi.org/10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S
    | ESPIRiT, for several sets of maps (Uecker et al., 2014), https://doi.org/10.1002/mrm.24751
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator
from invdiff.operators.fourier import centring_phase, fft2c, ifft2c

__all__ = ["CartesianMRI", "fft2c", "ifft2c"]

# Bytes of coil images at a time, unless told otherwise: near a processor's cache, which is twice
# as fast as all coils at once; a graphics card wants long kernels.
WORKSPACE = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}


@dataclass(frozen=True, eq=False, repr=False)
class CartesianMRI(Operator):
    r"""Coil maps, centred orthonormal Fourier transform, mask: :math:`(Ax)_c = m F (s_c x)`.

    Images are complex (1, *space), measurements complex (coils, *space), zero where nothing was
    measured, with the space (height, width) or (depth, height, width), all of which is
    transformed. Frequency zero is at index n // 2 of each axis. With several sets of maps images
    are (sets, *space) and :math:`(Ax)_c = m F \sum_e s_{ec} x_e`.

    Coils are taken a few at a time, so that beside the result only their images are in memory.

    Arguments:
        maps: Coil sensitivities, complex (1 or b, coils, *space) or (1 or b, sets, coils, *space).
        mask: Zeros and ones, real or bool (1 or b, 1, *space).
        coil_chunk: Coils at a time; None: as many as fit in 2 MiB, or in 256 MiB on a GPU.

    Raises:
        ShapeError: If the two do not fit each other.
        TypeError: If the maps are not complex or the mask is.
        ValueError: If the mask holds anything but zeros and ones, or no ones for an item, or
            ``coil_chunk`` is not positive.
    """

    maps: Tensor
    mask: Tensor
    coil_chunk: int | None = None

    def __post_init__(self) -> None:
        maps, mask = tuple(self.maps.shape), tuple(self.mask.shape)
        axes = len(mask) - 2
        fits = axes in (2, 3) and len(maps) - axes in (2, 3)
        fits = fits and mask[1:] == (1, *maps[-axes:])
        if not fits or (maps[0] != mask[0] and 1 not in (maps[0], mask[0])):
            raise ShapeError(
                f"The maps have shape {maps} and the mask {mask}; expected (1 or items, coils, "
                "height, width) and (1 or items, 1, height, width), with a depth before the "
                "height of volumes, and the sets before the coils if there are several."
            )
        if not self.maps.is_complex() or self.mask.is_complex():
            raise TypeError(
                f"The maps have dtype {self.maps.dtype} and the mask {self.mask.dtype}; expected "
                "complex maps and a real mask."
            )
        if not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ValueError("The mask must hold zeros and ones only. Threshold it first.")
        if not bool((self.mask == 1).flatten(1).any(1).all()):
            raise ValueError("The mask of an item is empty: nothing was measured. Check the mask.")
        if self.coil_chunk is not None and self.coil_chunk < 1:
            raise ValueError(f"coil_chunk is {self.coil_chunk}, expected at least 1, or None.")

    @property
    def space(self) -> tuple[int, ...]:
        """The shape of one slice or volume."""
        return tuple(self.mask.shape[2:])

    @property
    def domain(self) -> tuple[int, ...]:
        return (self._sets.shape[1], *self.space)

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self._sets.shape[2:])

    @property
    def complex_domain(self) -> bool:
        return True

    @property
    def complex_range(self) -> bool:
        return True

    @property
    def observed(self) -> Tensor:
        return self.mask.bool().expand(-1, *self.range)

    def normal(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        r"""The map :math:`x \mapsto A^* W A x`, for weights broadcasting to (b, *range).

        Along axes where both the mask and the weights are constant, as along a readout, the
        transform and its inverse cancel and are left out. No shifts are needed: a circular shift
        of the image turns phases of k-space, which cancel too.
        """
        weight = _constants_as_ones(weight * self.mask.to(weight))
        axes = tuple(a for a in range(-len(self.space), 0) if weight.shape[a] > 1)
        weight = (torch.fft.ifftshift(weight, dim=axes) if axes else weight) + 0j
        per_coil = weight.shape[1] > 1

        def apply(x: Tensor) -> Tensor:
            total = torch.zeros_like(x)
            local = weight.to(x)
            for chunk in self._chunks(x):
                images = self._see(x, chunk)
                factor = local[:, chunk] if per_coil else local
                images = torch.fft.fftn(images, dim=axes) if axes else images
                images = images.mul_(factor)
                images = torch.fft.ifftn(images, dim=axes) if axes else images
                total += self._combine(images, chunk)
            return total

        return apply

    def _forward(self, x: Tensor) -> Tensor:
        phase = centring_phase(self.space, x)
        factor, x = phase * self.mask.to(x), phase * x
        y = x.new_empty(len(x), *self.range)
        for chunk in self._chunks(x):
            kspace = torch.fft.fftn(self._see(x, chunk), dim=self._axes, norm="ortho")
            y[:, chunk] = kspace.mul_(factor)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        phase = centring_phase(self.space, y).conj().resolve_conj()
        factor = phase * self.mask.to(y)
        x = y.new_zeros(len(y), *self.domain)
        for chunk in self._chunks(y):
            images = torch.fft.ifftn(factor * y[:, chunk], dim=self._axes, norm="ortho")
            x += self._combine(images, chunk)
        return phase * x

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.space), 0))

    @property
    def _sets(self) -> Tensor:
        """The maps with their axis of sets, (1 or b, sets, coils, *space)."""
        return self.maps if self.maps.ndim == self.mask.ndim + 1 else self.maps[:, None]

    def _see(self, x: Tensor, chunk: slice) -> Tensor:
        """The images of some coils, (b, chunk, *space)."""
        maps = self._sets[:, :, chunk].to(x)
        images = maps[:, 0] * x[:, :1]
        for one in range(1, maps.shape[1]):
            images = images + maps[:, one] * x[:, one : one + 1]
        return images

    def _combine(self, images: Tensor, chunk: slice) -> Tensor:
        """The adjoint of ``_see``, (b, sets, *space)."""
        maps = self._sets[:, :, chunk].to(images).conj()
        found = []
        for one in maps.unbind(1):
            total = one[:, 0] * images[:, 0]
            for coil in range(1, images.shape[1]):
                total = total.addcmul(one[:, coil], images[:, coil])
            found.append(total)
        return torch.stack(found, 1)

    def _chunks(self, like: Tensor) -> Iterator[slice]:
        """Coils at a time, for rows such as those of ``like``."""
        coils = self.range[0]
        size = self.coil_chunk
        if size is None:
            bytes_of_one = len(like) * self.mask[0, 0].numel() * like.element_size()
            size = max(1, WORKSPACE.get(like.device.type, WORKSPACE["cpu"]) // bytes_of_one)
        return (slice(first, first + size) for first in range(0, coils, size))


def _constants_as_ones(weight: Tensor) -> Tensor:
    """The same weights with size 1 along every axis on which they do not change."""
    for axis, size in enumerate(weight.shape):
        first = weight.narrow(axis, 0, 1)
        if size > 1 and bool((weight == first).all()):
            weight = first
    return weight
