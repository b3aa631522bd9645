"""HDF5 files that are not trusted, read by a process with limits of time and memory.

A damaged or hostile file can make the HDF5 library crash or loop. It does so in
``hdf5_worker.py``, and becomes a ValueError here. No message quotes a name, an attribute or a
value: each may name a patient. Needs h5py: ``pip install invdiff[mri]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from invdiff.datasets.hdf5_process import REASONS, Process
from invdiff.datasets.untrusted import file_size

__all__ = ["Entry", "HDF5File", "h5py_module", "one_worker"]

LIMIT = 2 * 1024**3  # bytes of one answer


@dataclass(frozen=True)
class Entry:
    """An array in a file; ``kind`` is numpy's letter, O for texts and ragged ones, or fields."""

    shape: tuple[int, ...]
    kind: str
    bytes: int


class HDF5File:
    """An open file. ``entries`` has its arrays by path, and None for its groups.

    Arguments:
        path: Where it is.
        limit: The most bytes that one answer may have.

    Raises:
        FileNotFoundError, PermissionError: If there is no such file, or it may not be read.
        ImportError: If h5py is not installed.
        ValueError: If it cannot be read; with the reason.
    """

    def __init__(self, path: str | Path, limit: int = LIMIT) -> None:
        h5py_module()
        file_size(Path(path))
        shared = _shared.get()
        self._own = shared is None
        self._worker = Process(limit) if shared is None else shared
        try:
            place = str(Path(path).absolute())
            answer = self._worker.ask({"do": "open", "path": place})
            self.entries: dict[str, Entry | None] = {
                name: None if about is None else Entry(*about)
                for name, about in answer["entries"].items()
            }
        except BaseException:
            self.close()
            raise
        self._limit = limit

    def attributes(self) -> dict[str, str | float | None]:
        """Those of the file itself; None for what is neither a text nor a number."""
        return dict(self._worker.ask({"do": "attributes"})["attributes"])

    def fields(self, name: str, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray]:
        """The entries from ``start`` to ``stop`` of an array, as plain arrays by field.

        A plain array has the one field "". Ragged fields become ``.lengths`` and ``.values``.
        Raises KeyError if there is no such array, ValueError if it cannot be read.
        """
        entry = self.entries[name]
        if entry is None:
            raise KeyError(name)
        request = {"do": "read", "name": name, "start": start, "stop": stop, "limit": self._limit}
        return dict(self._worker.ask(request, min(entry.bytes, self._limit))["arrays"])

    def array(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A plain array; raises KeyError if there is none, ValueError if it is not plain."""
        fields = self.fields(name, start, stop)
        if list(fields) != [""]:
            raise ValueError(f"{REASONS['type']} Expected plain numbers.")
        return fields[""]

    def texts(self, name: str) -> list[str]:
        """An array of texts, flat; raises KeyError if there is none, ValueError if not texts."""
        fields = self.fields(name)
        if set(fields) == {".lengths", ".values"} and fields[".values"].dtype == np.uint8:
            ends = np.cumsum(fields[".lengths"]).tolist()
            whole = fields[".values"].tobytes()
            parts = [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        elif list(fields) == [""] and fields[""].dtype.kind == "S":
            parts = fields[""].ravel().tolist()
        else:
            raise ValueError(f"{REASONS['type']} Expected texts.")
        try:
            return [part.decode() for part in parts]
        except UnicodeDecodeError:
            raise ValueError("It holds a text that is not UTF-8. Write it again.") from None

    def close(self) -> None:
        """Closes the file, by ending the process that reads it unless it is shared."""
        if self._own:
            self._worker.stop()
        else:
            self._worker.ask({"do": "close"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def one_worker(limit: int = LIMIT) -> Iterator[None]:
    """Inside, files of this thread are read by one process, one file at a time.

    That saves starting one per file. A file that corrupts the process may spoil the next ones:
    only for files of one's own, and for tests.
    """
    worker = Process(limit)
    token = _shared.set(worker)
    try:
        yield
    finally:
        _shared.reset(token)
        worker.stop()


def h5py_module() -> Any:
    """The module h5py; raises ImportError that says how to install it."""
    try:
        import h5py
    except ImportError:
        raise ImportError(
            "Reading and writing HDF5 files needs h5py. Install it with: pip install invdiff[mri]"
        ) from None
    return h5py


_shared: ContextVar[Process | None] = ContextVar("shared", default=None)
