"""The system matrices of CT geometries on disk, one file per geometry.

The folder is ``$INVDIFF_CACHE``, or else the user's cache folder of the platform. Files are
written under a temporary name and renamed, so any number of processes may share it; a file that
cannot be read is built again. The oldest files go when the folder outgrows its limit
(``$INVDIFF_CACHE_BYTES``, default 2 GiB).
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy import sparse

from invdiff.datasets.npz import read_npz, write_npz

__all__ = ["cache_folder", "cache_limit", "load", "store"]


def cache_folder() -> Path:
    """Where the matrices lie; it may not exist yet."""
    chosen = os.environ.get("INVDIFF_CACHE")
    if chosen:
        return Path(chosen) / "ct"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "invdiff" / "ct"


def cache_limit() -> int:
    """How many bytes the folder may hold."""
    return int(os.environ.get("INVDIFF_CACHE_BYTES", 2 * 1024**3))


def load(key: str, shape: tuple[int, int]) -> sparse.csr_matrix | None:
    """The matrix stored under ``key``, or None; a damaged file is reported and forgotten."""
    path = cache_folder() / f"{key}.npz"
    if not path.exists():
        return None
    try:
        arrays = read_npz(path, ("data", "indices", "indptr"), limit=64 * 1024**3)
        matrix = sparse.csr_matrix(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape
        )
        # Indices out of bounds would be memory errors in the products.
        matrix.check_format(full_check=True)
        if matrix.dtype != np.float32 or not np.isfinite(matrix.data).all():
            raise ValueError("the entries are not finite float32 numbers")
        path.touch()
    except (OSError, ValueError) as error:
        warnings.warn(
            f"The cached CT matrix {path.name} cannot be used ({error}); building it again.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return matrix


def store(key: str, matrix: sparse.csr_matrix) -> None:
    """Writes the matrix; a folder that cannot be written to is reported and left alone."""
    arrays = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    if sum(array.nbytes for array in arrays.values()) > cache_limit():
        return
    path = cache_folder() / f"{key}.npz"
    try:
        write_npz(path, arrays)
        _remove_oldest(keep=path)
    except OSError as error:
        warnings.warn(
            f"The CT matrix could not be cached in {path.parent} ({error}). Set INVDIFF_CACHE to "
            "a folder that can be written to, to save building it again.",
            RuntimeWarning,
            stacklevel=2,
        )


def _remove_oldest(keep: Path) -> None:
    files = []
    for path in keep.parent.glob("[!.]*.npz"):  # names with a dot are being written
        try:
            status = path.stat()
        except FileNotFoundError:  # another process has removed it
            continue
        files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= cache_limit():
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size
