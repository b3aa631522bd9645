"""Line integrals of one image without a matrix, for simulation on fine grids."""

from __future__ import annotations

import numpy as np
import torch

from invdiff.errors import ShapeError
from invdiff.operators.ct_astra_cpu import AstraCPU
from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_kernel import Projection
from invdiff.operators.ct_matrix import matrix_blocks

__all__ = ["project_once"]


def project_once(
    geometry: Geometry, image: np.ndarray, kernel: Projection = Projection.STRIP
) -> np.ndarray:
    """Line integrals (sinogram_shape) of one image (image_shape) in 1/mm, float32.

    For grids so fine that their matrix would be large, and is used only once: ``geometry.finer``.

    Raises:
        ShapeError: If the image does not fit.
        ValueError: If the image is not finite; or for strips through a volume.
    """
    if np.shape(image) != geometry.image_shape:
        raise ShapeError(
            f"The image has shape {np.shape(image)}, but the geometry {geometry.image_shape}. "
            "Pass the image on the geometry's own grid."
        )
    if not np.isfinite(image).all():
        raise ValueError("The image holds NaN or infinite values, expected none.")
    if kernel is Projection.STRIP and geometry.dimensions == 3:
        raise ValueError("There are no strips for volumes. Use Projection.LINEAR.")
    if AstraCPU().refuses(geometry, kernel) is None:
        rows = torch.from_numpy(np.asarray(image, dtype=np.float32))[None]
        return AstraCPU().project(geometry, kernel, rows)[0].numpy()
    pixels = np.asarray(image, dtype=np.float64).ravel()
    parts = [block @ pixels for block in matrix_blocks(geometry, kernel)]
    return np.concatenate(parts).reshape(geometry.sinogram_shape).astype(np.float32)
