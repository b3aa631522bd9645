"""New HDF5 files that a full disk cannot harm.

When a write fails, the HDF5 library prints the file's name, leaves the file open, and crashes the
process at its end. So it never learns of it: what failed is remembered, and raised afterwards.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invdiff.datasets.hdf5 import h5py_module
from invdiff.files import written_whole

__all__ = ["written_hdf5"]


@contextmanager
def written_hdf5(path: Path, **options: Any) -> Iterator[Any]:
    """A new file of h5py that takes its place only if the block succeeds and the disk had room.

    Arguments:
        path: Where to.
        options: Of ``h5py.File``.

    Raises:
        ImportError: Without h5py.
        OSError: If the disk is full or the folder cannot be written.
    """
    h5py = h5py_module()
    with written_whole(path) as temporary, temporary.open("w+b", buffering=0) as raw:
        disk = _Disk(raw)
        with h5py.File(disk, "w", **options) as file:
            yield file
        disk.check()


class _Disk(io.RawIOBase):
    """A file whose writes never fail; ``check`` raises what failed first."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return int(self._raw.seek(place, whence))

    def tell(self) -> int:
        return int(self._raw.tell())

    def readinto(self, buffer: Any) -> int:
        """What could not be written is read as zeros."""
        view = memoryview(buffer).cast("B")
        read = self._raw.readinto(view) or 0
        view[read:] = bytes(len(view) - read)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self._error is None and done < len(view):
                done += self._raw.write(view[done:])
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return int(self._raw.truncate(size))
        except OSError as error:
            self._error = self._error or error
            return self.tell() if size is None else size
