"""CT projections by a pair of sparse matrices, A and its transpose.

A precomputed pair is exact (the transpose is the transpose), differentiable any number of times,
the same for every batch size, runs wherever torch does, and is faster than projecting on the fly.
It is built once (``ct_joseph``, ``ct_strip``), and kept in memory and on disk (``ct_cache``).
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from invdiff.operators import ct_cache
from invdiff.operators.ct_backend import Backend
from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_joseph import joseph_blocks, joseph_entries
from invdiff.operators.ct_kernel import Projection
from invdiff.operators.ct_strip import strip_blocks, strip_entries

__all__ = ["MatrixPair", "SystemMatrix", "matrix_blocks", "matrix_bytes", "system_matrix"]

_BUILDING = threading.Lock()  # two threads must not build (and write) the same matrix
_CPU_COLUMNS = 8
FORMAT = 2  # of the cached files: raise it when the same geometry gives other numbers


@dataclass(frozen=True)
class SystemMatrix(Backend):
    """Sparse matrices in memory, up to ``$INVDIFF_MATRIX_BYTES`` (default 4 GiB) per operator.

    Computes in float32 or float64 as the data are (the matrix has the numbers of float32), on
    their device. The rows of a batch are bitwise what they are alone.
    """

    @property
    def exact(self) -> bool:
        return True

    def refuses(self, geometry: Geometry, kernel: Projection) -> str | None:
        if kernel is Projection.STRIP and geometry.dimensions == 3:
            return "There are no strips for volumes. Use Projection.LINEAR."
        limit = int(os.environ.get("INVDIFF_MATRIX_BYTES", 4 * 1024**3))
        needed = matrix_bytes(geometry, kernel)
        if needed <= limit:
            return None
        return (
            f"The system matrix of {geometry.sinogram_shape} rays x {geometry.image_shape} pixels "
            f"would take about {needed / 1e9:.3g} GB, expected at most {limit / 1e9:.3g} GB. Use "
            "fewer views or larger pixels, or raise INVDIFF_MATRIX_BYTES (bytes) if the memory "
            "is there."
        )

    def project(self, geometry: Geometry, kernel: Projection, x: Tensor) -> Tensor:
        matrix = _pair(geometry, kernel, x).matrix
        return _multiply(matrix, x).reshape(-1, *geometry.sinogram_shape)

    def backproject(self, geometry: Geometry, kernel: Projection, y: Tensor) -> Tensor:
        transpose = _pair(geometry, kernel, y).transpose
        return _multiply(transpose, y).reshape(-1, *geometry.image_shape)


class MatrixPair(NamedTuple):
    """A matrix (m, n) and its transpose, both sparse rows: either one alone multiplies fast."""

    matrix: Tensor
    transpose: Tensor


@lru_cache(maxsize=8)
def system_matrix(
    geometry: Geometry, kernel: Projection, dtype: torch.dtype, device: torch.device
) -> MatrixPair:
    """The pair of ``geometry``, (entries of the sinogram, pixels), both flattened.

    The numbers are those of float32 in every dtype. Held for the last 8 geometries; operators
    refer to it by their geometry, so they stay small and can be pickled.

    Raises:
        ValueError: If the pair would take too much memory; see ``SystemMatrix``.
    """
    reason = SystemMatrix().refuses(geometry, kernel)
    if reason is not None:
        raise ValueError(reason)
    with _BUILDING:
        matrix = _load_or_build(geometry, kernel)
    transpose = matrix.T.tocsr()
    return MatrixPair(_to_torch(matrix, dtype, device), _to_torch(transpose, dtype, device))


def matrix_blocks(geometry: Geometry, kernel: Projection) -> Iterator[sparse.csr_matrix]:
    """The matrix, some rows at a time, for who multiplies with it only once."""
    return (joseph_blocks if kernel is Projection.LINEAR else strip_blocks)(geometry)


@lru_cache(maxsize=64)
def matrix_bytes(geometry: Geometry, kernel: Projection) -> int:
    """About (to a few %) how much memory the pair of float32 matrices takes."""
    entries = (joseph_entries if kernel is Projection.LINEAR else strip_entries)(geometry)
    rows = math.prod(geometry.sinogram_shape) + math.prod(geometry.image_shape)
    return 16 * entries + 4 * rows


def _pair(geometry: Geometry, kernel: Projection, like: Tensor) -> MatrixPair:
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return system_matrix(geometry, kernel, dtype, like.device)


def _multiply(matrix: Tensor, x: Tensor) -> Tensor:
    """The products with the rows of x, flattened: (b, m)."""
    columns = x.flatten(1).to(matrix.dtype)
    if x.device.type == "cpu":  # more no longer fit its caches: 32 at once take four times as long
        parts = [(matrix @ part.T).T for part in columns.split(_CPU_COLUMNS)]
        return torch.cat(parts)
    return (matrix @ columns.T).T.contiguous()


def _load_or_build(geometry: Geometry, kernel: Projection) -> sparse.csr_matrix:
    name = f"{FORMAT} {kernel.value} {geometry.key}"
    key = hashlib.sha256(name.encode()).hexdigest()
    shape = math.prod(geometry.sinogram_shape), math.prod(geometry.image_shape)
    matrix = ct_cache.load(key, shape)
    if matrix is None:
        matrix = _build(geometry, kernel)
        ct_cache.store(key, matrix)
    return matrix


def _build(geometry: Geometry, kernel: Projection) -> sparse.csr_matrix:
    blocks = list(matrix_blocks(geometry, kernel))
    indptr = np.concatenate([[0], *(np.diff(block.indptr) for block in blocks)]).cumsum()
    data = np.concatenate([block.data for block in blocks])
    indices = np.concatenate([block.indices for block in blocks])
    shape = len(indptr) - 1, math.prod(geometry.image_shape)
    return sparse.csr_matrix((data, indices, indptr), shape=shape)


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
