"""The program that opens HDF5 files for ``invdiff.datasets.hdf5``, in a process of its own.

The HDF5 library can crash, loop or take all memory on a damaged file; here that harms nobody. A
request is a line of JSON. The answer is a line of JSON, followed by the bytes of the arrays that
it announces. Reasons of a refusal are words from a fixed list: no content is ever quoted.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["Refusal", "flatten", "serve"]

OBJECTS = 10_000  # in one file
DEPTH = 16  # of groups
EXPANSION = 1100  # deflate cannot do more
SMALL = 2**20  # bytes that need no such check
FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf


class Refusal(Exception):
    """A reason from the fixed list, which the parent process turns into a sentence."""


def serve(requests: BinaryIO, answers: BinaryIO, limit: int, reserve: int = 0) -> None:
    """Answers requests about one file at a time, none with more than ``limit`` bytes.

    Memory is limited to ``reserve`` bytes, if that is not 0, and three times what the file can
    hold, or an answer may.
    """
    import h5py

    file: Any = None
    for line in requests:
        arrays: list[np.ndarray] = []
        try:
            request = json.loads(line)
            content: dict[str, Any] = {}
            if request["do"] in ("open", "close") and file is not None:
                file.close()
                file = None
            if request["do"] == "open":
                size = min(limit, EXPANSION * Path(request["path"]).stat().st_size)
                if reserve:  # a damaged length is allocated before it is found to be none
                    _limit_memory(reserve + 3 * size)
                file = _opened(h5py, request["path"])
                content = {"entries": _entries(h5py, file)}
            elif request["do"] == "attributes":
                content = {"attributes": _attributes(file)}
            elif request["do"] == "read":
                fields = _read(file[request["name"]], request, min(limit, request["limit"]))
                arrays = list(fields.values())
                content = {"arrays": [[n, a.dtype.str, a.shape] for n, a in fields.items()]}
        except Refusal as reason:
            content = {"refused": str(reason)}
        except MemoryError:
            content = {"refused": "memory"}
        except Exception:  # whatever a damaged file makes the library raise
            content = {"refused": "damaged"}
        answers.write(json.dumps(content).encode() + b"\n")
        for array in arrays:
            answers.write(array.tobytes())
        answers.flush()


def flatten(array: np.ndarray, name: str = "") -> dict[str, np.ndarray]:
    """An array as plain ones: fields of a record by their dotted names, ragged ones as two.

    A ragged array of n parts, texts among them, becomes ``.lengths`` (n,) and ``.values``.
    """
    if array.dtype.names:
        flat: dict[str, np.ndarray] = {}
        for field in array.dtype.names:
            flat |= flatten(array[field], f"{name}.{field}" if name else field)
        return flat
    if array.dtype.kind == "O":
        parts = [
            np.frombuffer(part, np.uint8) if isinstance(part, bytes) else np.asarray(part)
            for part in array.ravel()
        ]
        if len({part.dtype for part in parts}) > 1 or any(part.ndim != 1 for part in parts):
            raise Refusal("type")
        values = np.concatenate(parts) if parts else np.empty(0, np.uint8)
        flat = {f"{name}.lengths": np.array([len(part) for part in parts], np.int64)}
        return flat | flatten(values, f"{name}.values")
    if array.dtype.kind not in "biufcS" or (array.dtype.kind != "S" and array.itemsize > 16):
        raise Refusal("type")
    return {name: array}


def _opened(h5py: Any, path: str) -> Any:
    if not h5py.is_hdf5(path):
        raise Refusal("format")
    return h5py.File(path, "r", locking=False)  # so that read-only disks will do


def _entries(h5py: Any, group: Any, depth: int = 0, above: str = "") -> dict[str, Any]:
    """All below a group, by path: shape, kind and bytes of an array, None for a group."""
    if depth > DEPTH:
        raise Refusal("depth")
    found: dict[str, Any] = {}
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):  # it may lead out of this file
            raise Refusal("link")
        full, entry = f"{above}{name}", group[name]
        if isinstance(entry, h5py.Group):
            found[full] = None
            found |= _entries(h5py, entry, depth + 1, f"{full}/")
        elif isinstance(entry, h5py.Dataset):
            kind = "fields" if entry.dtype.names else entry.dtype.kind
            size = _size(entry)
            found[full] = [list(entry.shape or ()), kind, size]
        if len(found) > OBJECTS:
            raise Refusal("objects")
    return found


def _attributes(file: Any) -> dict[str, Any]:
    """The root's attributes that are one text or number; others appear as None."""
    found: dict[str, Any] = {}
    for name in list(file.attrs)[:1000]:
        value = file.attrs[name]
        plain = value.item() if isinstance(value, np.generic) else value
        short = not isinstance(plain, str) or len(plain) <= 4096
        found[name] = plain if isinstance(plain, str | int | float) and short else None
    return found


def _read(data: Any, request: dict[str, Any], limit: int) -> dict[str, np.ndarray]:
    """The entries from ``start`` to ``stop`` along the first axis, or all of a scalar."""
    _check_storage(data, limit)
    if data.shape == ():
        return flatten(np.asarray(data[()]))
    start, stop = request["start"], request["stop"]
    stop = data.shape[0] if stop is None else stop
    part = (stop - start) * math.prod(data.shape[1:]) * data.dtype.itemsize
    if part > limit:
        raise Refusal("limit")
    flat = flatten(data[start:stop])
    if sum(array.nbytes for array in flat.values()) > limit:
        raise Refusal("limit")
    return flat


def _check_storage(data: Any, limit: int) -> None:
    """Whether what is declared can be in the file, before memory is taken for it."""
    if data.is_virtual or data.external:
        raise Refusal("link")
    properties = data.id.get_create_plist()
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    if not filters <= FILTERS:
        raise Refusal("filter")
    if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > limit:
        raise Refusal("limit")
    declared, stored = _size(data), data.id.get_storage_size()
    if declared > SMALL and declared > EXPANSION * stored:
        raise Refusal("bomb")


def _size(data: Any) -> int:
    """Bytes of a whole array; h5py's own number of entries overflows."""
    size = 0 if data.shape is None else math.prod(data.shape) * data.dtype.itemsize
    if size >= 2**63:
        raise Refusal("limit")
    return size


def _limit_memory(size: int) -> None:
    """Only Linux keeps such a limit. No core dump: it would hold the data."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), int(sys.argv[2]))
