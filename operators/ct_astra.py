"""What both ASTRA backends share: geometries, projectors, and the check of what ASTRA wrote.

ASTRA is imported when one of them is used first.

Reference:
    The ASTRA Toolbox: a platform for advanced algorithm development (van Aarle et al., 2015)
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from invdiff.operators.ct_geometry import Beam, Geometry

__all__ = ["AstraProjector", "check_filled", "plane_geometries", "unfilled"]


class AstraProjector:
    """ASTRA's number of a projector, given back to ASTRA when nobody holds this any more."""

    def __init__(self, kind: str, rays: dict[str, Any], volume: dict[str, Any]) -> None:
        import astra

        self.number: int = astra.create_projector(kind, rays, volume)
        # Ends at exit, too, and before the modules it needs are gone.
        module = astra.projector3d if kind == "cuda3d" else astra.projector
        weakref.finalize(self, module.delete, self.number)


def plane_geometries(geometry: Geometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rays and the pixels of an image, as ASTRA describes them."""
    import astra

    rows, columns = geometry.image_shape
    y, x = rows * geometry.pixel_size[0] / 2, columns * geometry.pixel_size[1] / 2
    volume = astra.create_vol_geom(rows, columns, -x, x, -y, y)
    kind = "parallel_vec" if geometry.beam is Beam.PARALLEL else "fanflat_vec"
    return astra.create_proj_geom(kind, geometry.detectors[0], geometry.array), volume


def unfilled(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory to write to, in which nothing that ASTRA leaves out goes unnoticed."""
    return torch.full(shape, torch.nan, dtype=torch.float32, device=device)


def check_filled(result: Tensor, source: Tensor) -> Tensor:
    """The result, after a look at one number per row: ASTRA can fail without saying so.

    A row that is NaN because its source is not finite passes. Raises RuntimeError.
    """
    missing = result.flatten(1)[:, :1].isnan().any(dim=1)
    if missing.any():
        untouched = missing & source.flatten(1).isfinite().all(dim=1)
        if untouched.any():
            raise RuntimeError(
                f"ASTRA left {int(untouched.sum())} of {len(result)} results unwritten, without "
                "an error of its own; most often the device is out of memory. Pass fewer rows at "
                "a time, or use backend=SystemMatrix()."
            )
    return result
