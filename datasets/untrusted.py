"""Opening files whose names may name a patient: no error quotes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["file_size", "nameless"]


def file_size(path: Path) -> int:
    """The bytes of a plain file that may be read.

    Raises:
        FileNotFoundError: If there is no such file, or it is a folder, a pipe or a device.
        PermissionError: If it may not be read.
    """
    if not path.is_file():
        raise FileNotFoundError("There is no such file. Check the path.")
    if not os.access(path, os.R_OK):
        raise PermissionError("The file may not be read. Check its permissions.")
    with nameless():
        return path.stat().st_size


@contextmanager
def nameless() -> Iterator[None]:
    """Inside, errors of the system lose the file name that they quote, not their kind."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "the system says no more"
        raise type(error)(f"The file cannot be read: {reason}. Check it and the disk.") from None
