"""CT projections by ASTRA on a CUDA device: volumes, and what is too large for a matrix.

Tensors are passed without a copy. What ASTRA's calls need, and do not ask for themselves:

* A usable driver: without one a call in 3-D ends the process.
* A current stream that has finished: ASTRA reads on streams of its own.
* One call at a time: its kernels keep the geometry in memory that all calls share.
* Room for one more copy of what is read, outside torch's pool: batches are cut to fit.
* A look at the result: failures are silent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.operators.ct_astra import AstraProjector, check_filled, plane_geometries, unfilled
from invdiff.operators.ct_backend import Backend
from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_kernel import Projection

__all__ = ["AstraCUDA", "check_device", "rows_that_fit"]

_CALLING = threading.Lock()  # for all devices: which one ASTRA uses is also one global number
TEXTURE = 16384  # cells along any axis


@dataclass(frozen=True)
class AstraCUDA(Backend):
    """ASTRA's CUDA projectors, for data on a CUDA device.

    Its back-projection interpolates sinograms instead of spreading what the projection gathers:
    it is not the adjoint (14 % off on noise, 1 % on smooth sinograms), and ``exact`` says so. A
    batch of images with parallel rays is one call, as the slices of a volume; fans, and the
    volumes of a batch, are one call each. Everything is computed in float32, rays with 8 bits of
    the position between two pixels.
    """

    @property
    def exact(self) -> bool:
        return False

    def refuses(self, geometry: Geometry, kernel: Projection) -> str | None:
        if kernel is not Projection.LINEAR:
            return "ASTRA has no strips on CUDA. Use SystemMatrix(), or Projection.LINEAR."
        if geometry.dimensions == 2 and geometry.arc:
            return "ASTRA's fans have flat detectors. Use SystemMatrix()."
        if geometry.dimensions == 2 and not geometry.square_pixels:
            return (
                f"ASTRA's rays through images need square pixels, not {geometry.pixel_size} mm. "
                "Use SystemMatrix()."
            )
        if max(*geometry.image_shape, *geometry.sinogram_shape) > TEXTURE:
            return (
                f"CUDA reads at most {TEXTURE} cells along an axis, not {geometry.image_shape} "
                f"pixels and {geometry.sinogram_shape} rays. Split the volume or the views."
            )
        return None

    def project(self, geometry: Geometry, kernel: Projection, x: Tensor) -> Tensor:
        return _products(geometry, x, geometry.sinogram_shape, "direct_FP")

    def backproject(self, geometry: Geometry, kernel: Projection, y: Tensor) -> Tensor:
        return _products(geometry, y, geometry.image_shape, "direct_BP")


def check_device(device: torch.device) -> None:
    """Raises RuntimeError or TypeError unless ASTRA may be called with data on this device."""
    import astra

    if not (torch.cuda.is_available() and astra.use_cuda()):
        raise RuntimeError(
            f"AstraCUDA() needs a CUDA device; torch sees {torch.cuda.device_count()}, and ASTRA "
            f"says use_cuda() = {astra.use_cuda()}. Use a machine with a GPU and its driver, or "
            "SystemMatrix() (fewer views or larger pixels, where it is too large)."
        )
    if device.type != "cuda":
        raise TypeError(
            f"AstraCUDA() takes data on a CUDA device, but got {device}. Move them there: "
            "problem.to('cuda')."
        )


def rows_that_fit(rows: int, bytes_per_row: int, free: int) -> int:
    """How many rows ASTRA may copy at once; raises MemoryError if not one fits."""
    fitting = min(rows, TEXTURE, int(0.9 * free) // bytes_per_row)
    if fitting < 1 <= rows:
        raise MemoryError(
            f"ASTRA needs {bytes_per_row / 1e9:.3g} GB on the device for one row, but "
            f"{free / 1e9:.3g} GB are free. Free memory, or use a smaller volume."
        )
    return fitting


def _products(geometry: Geometry, x: Tensor, shape: tuple[int, ...], product: str) -> Tensor:
    import astra

    check_device(x.device)
    stacked = geometry.dimensions == 2 and geometry.beam is Beam.PARALLEL
    flat = geometry.dimensions == 2 and not stacked
    call: Callable[..., Any] = getattr(astra.projector if flat else astra.projector3d, product)
    with torch.cuda.device(x.device), _CALLING:
        astra.set_gpu_index(torch.cuda.current_device())
        source = x.to(torch.float32).contiguous()
        result = unfilled((len(x), *shape), x.device)
        rows = _rows_at_once(source if stacked else source[:1])
        torch.cuda.current_stream().synchronize()
        for first in range(0, len(x), rows):
            index = slice(first, first + rows) if stacked else first
            if stacked:
                projector = _stack(geometry, len(source[index]))
            else:
                projector = _plane(geometry) if flat else _space(geometry)
            call(projector.number, source[index], out=result[index])
        return check_filled(result, source)


def _rows_at_once(source: Tensor) -> int:
    """How many ASTRA can copy; makes torch give back what it only keeps, if that is short."""
    size = max(1, source[:1].nbytes)
    free, _ = torch.cuda.mem_get_info()
    if len(source) * size > 0.9 * free:
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
    return max(1, rows_that_fit(len(source), size, free))


@lru_cache(maxsize=8)
def _plane(geometry: Geometry) -> AstraProjector:
    """One image."""
    return AstraProjector("cuda", *plane_geometries(geometry))


@lru_cache(maxsize=16)
def _stack(geometry: Geometry, rows: int) -> AstraProjector:
    """Images as the slices of a volume, and a detector with a row for each: nothing mixes.

    Voxels are cubes, and rows as far apart as slices: so the weights are those of one image.
    """
    import astra

    pitch = geometry.pixel_size[0]
    planar = geometry.array.reshape(geometry.views, 3, 2)
    vectors = np.zeros((geometry.views, 4, 3))
    vectors[:, :3, :2] = planar
    vectors[:, 3, 2] = pitch
    rays = astra.create_proj_geom(
        "parallel3d_vec", rows, geometry.detectors[0], _mirrored(vectors)
    )
    size = (pitch, *geometry.pixel_size)
    return AstraProjector("cuda3d", rays, _voxels((rows, *geometry.image_shape), size))


@lru_cache(maxsize=8)
def _space(geometry: Geometry) -> AstraProjector:
    """One volume."""
    import astra

    vectors = geometry.array.reshape(geometry.views, 4, 3)
    mirrored = _mirrored(vectors)
    if geometry.beam is Beam.PARALLEL:
        kind = "parallel3d_vec"
    elif geometry.arc:
        kind = "cyl_cone_vec"
        level = vectors[:, 1] - vectors[:, 0]
        axis = vectors[:, 3] / np.linalg.norm(vectors[:, 3], axis=1, keepdims=True)
        level = level - (level * axis).sum(axis=1, keepdims=True) * axis
        radius = np.linalg.norm(level, axis=1, keepdims=True)
        mirrored = np.concatenate([mirrored, radius], axis=1)
    else:
        kind = "cone_vec"
    rays = astra.create_proj_geom(kind, *geometry.detectors, mirrored)
    return AstraProjector("cuda3d", rays, _voxels(geometry.image_shape, geometry.pixel_size))


def _mirrored(vectors: np.ndarray) -> np.ndarray:
    """ASTRA's volumes have their first row at the bottom, ours at the top: y changes its sign."""
    flat: np.ndarray = (vectors * [1.0, -1.0, 1.0]).reshape(len(vectors), -1)
    return flat


def _voxels(shape: tuple[int, ...], size: tuple[float, ...]) -> dict[str, Any]:
    import astra

    slices, rows, columns = shape
    z, y, x = (count * pitch / 2 for count, pitch in zip(shape, size, strict=True))
    volume: dict[str, Any] = astra.create_vol_geom(rows, columns, slices, -x, x, -y, y, -z, z)
    return volume
