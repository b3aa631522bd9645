"""Reading and writing npz files of plain arrays, for input that is not trusted.

Nothing is ever unpickled, sizes are checked before anything is read, and files appear whole or
not at all.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from invdiff.datasets.untrusted import file_size
from invdiff.files import written_whole

__all__ = ["read_npz", "write_npz"]

# What a damaged archive makes the library raise, its strange encodings and places included.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError),
    *(UnicodeDecodeError, RuntimeError),
)


def read_npz(
    path: str | Path, required: tuple[str, ...], optional: tuple[str, ...] = (), *, limit: int
) -> dict[str, np.ndarray]:
    """The named arrays of the file; other arrays in it are not read.

    Raises:
        ValueError: If the file is not a readable npz file, an array is missing, or they unpack
            to more than ``limit`` bytes.
        FileNotFoundError, PermissionError: If there is no such file, or it may not be read.
    """
    path = Path(path)
    file_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {item.filename: item.file_size for item in archive.infolist()}
        missing = [name for name in required if f"{name}.npy" not in sizes]
        if missing:
            raise ValueError(
                f"It lacks the arrays {missing}, and has {len(sizes)} in all. "
                f"Write it with all of {list(required)}."
            )
        present = [name for name in (*required, *optional) if f"{name}.npy" in sizes]
        total = sum(sizes[f"{name}.npy"] for name in present)
        if total > limit:
            raise ValueError(
                f"It unpacks to {total} bytes, expected at most {limit}. "
                "Check where it comes from; split it if it is what it says."
            )
        with zipfile.ZipFile(path) as archive:
            return {name: _read(archive, name, sizes[f"{name}.npy"]) for name in present}
    except DAMAGED as error:
        raise ValueError(
            f"It is not a readable npz file ({type(error).__name__}). It may be truncated: copy "
            "or write it again."
        ) from None


def _read(archive: zipfile.ZipFile, name: str, size: int) -> np.ndarray:
    """One array, after checking that its header promises no more than the file holds."""
    with _plain_array(name):
        with archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise TypeError("Another version.")
            shape, _, dtype = HEADERS[version](file)
            declared = file.tell() + math.prod(shape) * dtype.itemsize
        if dtype.hasobject or dtype.names or min(shape, default=0) < 0:
            raise TypeError("Objects, records and negative sizes are not read.")
        if declared != size:
            raise _Contradiction(
                f"{name} is damaged: its header declares shape {shape} of {dtype}, which does not "
                f"fit its {size} bytes. Copy or write the file again."
            )
        with archive.open(f"{name}.npy") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


@contextmanager
def _plain_array(name: str) -> Iterator[None]:
    """Inside, whatever numpy's parser raises is refused; what it says may quote the file."""
    try:
        yield
    except (_Contradiction, *DAMAGED):
        raise
    except Exception:
        raise ValueError(
            f"{name} is no plain array in version 1 or 2 of the npy format. It may be damaged: "
            "copy or write the file again."
        ) from None


class _Contradiction(ValueError):
    """A clear reason, not to be replaced."""


HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays to a temporary file beside ``path``, then renames it."""
    with written_whole(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(arrays))
