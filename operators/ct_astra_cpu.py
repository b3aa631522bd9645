"""CT projections by ASTRA on the processor: exact, with no memory but the images."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from invdiff.operators.ct_astra import AstraProjector, check_filled, plane_geometries, unfilled
from invdiff.operators.ct_backend import Backend
from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_kernel import Projection

__all__ = ["AstraCPU"]


@dataclass(frozen=True)
class AstraCPU(Backend):
    """ASTRA's projectors of images, row by row in as many threads as torch has.

    The adjoint is exact to the rounding of float32, in which everything is computed. Parallel
    rays: Joseph's kernel, or strips. Fans with a flat detector: ASTRA has the lengths of thin
    rays in the pixels only, which agree with Joseph's kernel on smooth images. Data on another
    device travel to the processor and back.
    """

    @property
    def exact(self) -> bool:
        return True

    def refuses(self, geometry: Geometry, kernel: Projection) -> str | None:
        if geometry.dimensions == 3:
            return "ASTRA projects volumes on CUDA only. Use AstraCUDA() on a GPU."
        if geometry.arc:
            return "ASTRA knows flat detectors only. Use SystemMatrix()."
        if kernel is Projection.STRIP and geometry.beam is Beam.DIVERGENT:
            return "ASTRA's strips of a fan know no offsets. Use SystemMatrix()."
        if not geometry.square_pixels:
            # Its strips say so, its thin rays are silently wrong: 64 mm for 128 mm.
            return f"ASTRA's pixels are square, not {geometry.pixel_size} mm. Use SystemMatrix()."
        return None

    def project(self, geometry: Geometry, kernel: Projection, x: Tensor) -> Tensor:
        import astra

        return _each(astra.projector.direct_FP, geometry, kernel, x, geometry.sinogram_shape)

    def backproject(self, geometry: Geometry, kernel: Projection, y: Tensor) -> Tensor:
        import astra

        return _each(astra.projector.direct_BP, geometry, kernel, y, geometry.image_shape)


def _each(
    product: Callable[..., Any],
    geometry: Geometry,
    kernel: Projection,
    x: Tensor,
    shape: tuple[int, ...],
) -> Tensor:
    source = x.to("cpu", torch.float32).contiguous()
    result = unfilled((len(x), *shape), source.device)
    projector = _projector(geometry, kernel)

    def one(row: int) -> None:
        product(projector.number, source[row], out=result[row])

    threads = min(len(x), torch.get_num_threads())
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:  # ASTRA releases the interpreter's lock
            list(pool.map(one, range(len(x))))
    else:
        for row in range(len(x)):
            one(row)
    return check_filled(result, source).to(x.device)


@lru_cache(maxsize=8)
def _projector(geometry: Geometry, kernel: Projection) -> AstraProjector:
    fan = geometry.beam is Beam.DIVERGENT
    return AstraProjector("line_fanflat" if fan else kernel.value, *plane_geometries(geometry))
