"""The projector of a CT geometry as a pair of sparse matrices, A and its transpose.

A precomputed pair is exact (the transpose is the transpose), differentiable any number of times,
the same for every batch size, and, from a few images on, faster than projecting on the fly. It is
built once by ASTRA, kept in memory and on disk (``ct_cache``).

References:
    | An improved algorithm for reprojecting rays through pixel images (Joseph, 1982)
    | The ASTRA Toolbox: a platform for advanced algorithm development (van Aarle et al., 2015)
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from invdiff.operators import ct_cache
from invdiff.operators.ct_geometry import ParallelBeamGeometry

__all__ = ["MatrixPair", "project_once", "system_matrix"]

_BUILDING = threading.Lock()  # two threads must not build (and write) the same matrix
FORMAT = 1  # of the cached files: raise it when the same geometry gives other numbers


@dataclass(frozen=True, eq=False)
class MatrixPair:
    """A matrix (m, n) and its transpose, both sparse rows: either one alone multiplies fast."""

    matrix: Tensor
    transpose: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The products A x_i of the rows of x (b, n), as (b, m); differentiable."""
        result: Tensor = _Product.apply(x, self)
        return result

    @property
    def T(self) -> MatrixPair:
        """The same pair, the other way round."""
        return MatrixPair(self.transpose, self.matrix)


class _Product(torch.autograd.Function):
    """Torch's own derivative of a sparse product converts the layout every time: 30 x slower."""

    @staticmethod
    def forward(x: Tensor, pair: MatrixPair) -> Tensor:
        return (pair.matrix @ x.T).T.contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.pair = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.pair.T(gradient), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        result: Tensor = ctx.pair(tangent)
        return result

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], x: Tensor, pair: MatrixPair
    ) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0], 0)
        return pair(x.flatten(0, 1)).reshape(*x.shape[:2], -1), 0


@lru_cache(maxsize=8)
def system_matrix(
    geometry: ParallelBeamGeometry, dtype: torch.dtype, device: torch.device
) -> MatrixPair:
    """The pair of ``geometry``, (views * detectors, rows * columns), views outermost.

    The numbers are those of float32 in every dtype. Held for the last 8 geometries; operators
    refer to it by their geometry, so they stay small and can be pickled.

    Raises:
        ValueError: If the pair would take more than ``$INVDIFF_MATRIX_BYTES`` (default 4 GiB).
    """
    limit = int(os.environ.get("INVDIFF_MATRIX_BYTES", 4 * 1024**3))
    if geometry.matrix_bytes > limit:
        raise ValueError(
            f"The system matrix of {len(geometry.angles)} views x {geometry.detectors} detectors "
            f"x {geometry.image_shape} pixels would take about {geometry.matrix_bytes / 1e9:.1f} "
            f"GB, expected at most {limit / 1e9:.1f} GB. Use fewer views or larger pixels, or "
            "raise INVDIFF_MATRIX_BYTES (bytes) if the memory is there."
        )
    with _BUILDING:
        matrix = _load_or_build(geometry)
    transpose = matrix.T.tocsr()
    return MatrixPair(_to_torch(matrix, dtype, device), _to_torch(transpose, dtype, device))


def project_once(geometry: ParallelBeamGeometry, image: np.ndarray) -> np.ndarray:
    """Line integrals (views, detectors) of one image (rows, columns), without a matrix, float32.

    For simulation on fine grids, whose matrix would be large and is used only once.
    """
    import astra

    result = np.full((len(geometry.angles), geometry.detectors), np.nan, dtype=np.float32)
    projector = _astra_projector(geometry)
    try:
        pixels = np.ascontiguousarray(image, dtype=np.float32)
        astra.projector.direct_FP(projector, pixels, out=result)
    finally:
        astra.projector.delete(projector)
    if np.isnan(result).any():  # ASTRA can fail without saying so
        raise RuntimeError("ASTRA did not fill the projection. Check the image for NaN values.")
    return result


def _load_or_build(geometry: ParallelBeamGeometry) -> sparse.csr_matrix:
    shape = (
        len(geometry.angles) * geometry.detectors,
        geometry.image_shape[0] * geometry.image_shape[1],
    )
    name = f"{FORMAT} {version('astra-toolbox')} {geometry!r}"
    key = hashlib.sha256(name.encode()).hexdigest()
    matrix = ct_cache.load(key, shape)
    if matrix is None:
        matrix = _build(geometry)
        ct_cache.store(key, matrix)
    return matrix


def _build(geometry: ParallelBeamGeometry) -> sparse.csr_matrix:
    import astra

    projector = _astra_projector(geometry)
    identifier = astra.projector.matrix(projector)
    try:
        matrix = sparse.csr_matrix(astra.matrix.get(identifier), dtype=np.float32)
    finally:
        astra.matrix.delete(identifier)
        astra.projector.delete(projector)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _astra_projector(geometry: ParallelBeamGeometry) -> int:
    import astra

    rows, columns = geometry.image_shape
    x, y = columns * geometry.pixel_size / 2, rows * geometry.pixel_size / 2
    volume = astra.create_vol_geom(rows, columns, -x, x, -y, y)
    rays = astra.create_proj_geom(
        "parallel", geometry.detector_spacing, geometry.detectors, np.array(geometry.angles)
    )
    identifier: int = astra.create_projector(geometry.kernel.value, rays, volume)
    return identifier


def _to_torch(matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
            device=device,
            check_invariants=True,
        )
