"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["load_arrays", "save_arrays", "save_json", "written_whole"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{os.getpid()}-{threading.get_ident()}.part{path.suffix}"
    )
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes JSON with sorted keys. Raises ValueError for NaN or infinity."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Writes arrays without loss, and a description, as one npz; same content, same bytes."""
    whole: dict[str, Any] = dict(sorted(arrays.items()))
    whole["about"] = np.array(json.dumps(about, sort_keys=True))
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **whole)


def load_arrays(path: Path, what: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what ``save_arrays`` wrote. Raises FileNotFoundError, ValueError if damaged."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {what} at {path}. Check the path.")
    try:
        # Opened here: numpy would leave a damaged file open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as cause:
        raise ValueError(
            f"{path} is not a readable {what}: it is truncated, damaged or of another kind "
            f"({type(cause).__name__}). Write it again."
        ) from None
    return arrays, about
