"""Which cells of a run are done: one small JSON file each, written whole, after its results.

A cell is one item with all settings. Its key is a digest of both, so that whatever is found under
a key is right for it: a rerun does only what is missing, and two processes share the work. While a
process works on a cell it holds a lock of the operating system on the cell's file ``.lock``; the
system gives it free when the process ends in whatever way, and the next one takes over.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invdiff.files import save_json

__all__ = ["Ledger", "remove_parts"]


@dataclass(frozen=True)
class Ledger:
    """The cells in a folder.

    Arguments:
        folder: Made when the first cell is begun.
    """

    folder: Path = field(repr=False)

    def path(self, key: str, ending: str) -> Path:
        """One of a cell's files."""
        return self.folder / f"{key}{ending}"

    def read(self, key: str) -> dict[str, Any] | None:
        """What was recorded of a cell; None if nothing, or it cannot be understood."""
        try:
            found = json.loads(self.path(key, ".json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and "status" in found else None

    def done(self, key: str) -> dict[str, Any] | None:
        """The record of a cell that is done and whose results are there, else None."""
        found = self.read(key)
        whole = found is not None and found["status"] == "done"
        files = found.get("files", []) if found is not None and whole else []
        return found if whole and all((self.folder / name).is_file() for name in files) else None

    def write(self, key: str, record: Mapping[str, Any]) -> None:
        """Records a cell, after its results were written. Raises OSError."""
        save_json(self.path(key, ".json"), record)

    @contextmanager
    def lock(self, key: str) -> Iterator[bool]:
        """Whether this process has the cell, inside. Raises OSError if there can be no locks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(key, ".lock")
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                yield False
                return
            if _same(path, handle):
                break
            os.close(handle)  # its last owner has removed it meanwhile
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)


def remove_parts(folder: Path, *names: str) -> None:
    """Removes what a killed process was writing under these beginnings of names.

    Only for who holds the lock on them: nobody else is writing them then.
    """
    for path in (p for name in names for p in folder.glob(f".{name}*.part*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
