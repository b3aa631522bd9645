"""The other side of ``hdf5_worker.py``: starts that program, asks it, and ends it in time."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["REASONS", "Process"]

RESERVE = 1024**3  # bytes for the worker itself, address space
PATIENCE = 30.0  # seconds for an answer, and
RATE = 10e6  # bytes in each second more
ANSWER = 64 * 1024**2  # bytes of an answer's first line

FAILURES = (  # of a process, and what answers that are none make of the code below
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    *(RecursionError, MemoryError, OverflowError),
)
CONTENT = {"open": "entries", "attributes": "attributes", "read": "arrays", "close": None}

REASONS = {
    "format": "It is not an HDF5 file. It may be truncated: copy or write it again.",
    "damaged": "It cannot be read as HDF5: it is damaged or truncated. Copy or write it again.",
    "time": "Reading it did not end in the time allowed. It is damaged: copy or write it again.",
    "crash": "The HDF5 library failed on it. It is damaged: copy or write it again.",
    "memory": "Reading it needs more memory than allowed. Check where it comes from.",
    "limit": "It holds an array that is larger than allowed. Read fewer slices, or split it.",
    "bomb": "It declares an array far larger than what it stores. Check where it comes from.",
    "link": "It refers to other files or places. Write a file that holds its data itself.",
    "filter": "It is compressed in a way that is not read here. Use none, gzip or lzf.",
    "depth": "Its groups are nested too deeply. Check where it comes from.",
    "objects": "It holds more than ten thousand arrays. Check where it comes from.",
    "type": "It holds an array that is neither of numbers nor of texts. Convert it.",
}


class Process:
    """A process that reads HDF5 files, one at a time; started when it is first asked.

    Arguments:
        limit: The most bytes of one answer. Its memory is limited to 1 GiB and three times that,
            or three times 1100 times the file's size if that is less.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any], size: int = 0) -> dict[str, Any]:
        """The answer to a request, about ``size`` bytes of arrays.

        Raises ValueError with the reason if the request is refused, or the process failed or took
        too long; the next request then gets a new process, without a file.
        """
        if self._process is None:
            self._process = _started(self._limit)
        late = threading.Event()

        def end(process: subprocess.Popen[bytes] = self._process) -> None:
            late.set()
            process.kill()

        timer = threading.Timer(PATIENCE + size / RATE, end)
        timer.start()
        try:
            answer = _answer(self._process, request, self._limit)
        except BaseException as error:
            self.stop()
            if not isinstance(error, FAILURES):
                raise
            raise ValueError(REASONS["time" if late.is_set() else "crash"]) from None
        finally:
            timer.cancel()
        if "refused" in answer:
            raise ValueError(REASONS.get(answer["refused"], REASONS["damaged"]))
        return answer

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _started(limit: int) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("hdf5_worker.py")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),  # where this process found h5py
        "OPENBLAS_NUM_THREADS": "1",  # each thread reserves memory
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-P", str(program), str(limit), str(RESERVE)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
    )


def _answer(
    process: subprocess.Popen[bytes], request: dict[str, Any], limit: int
) -> dict[str, Any]:
    """Sends a request and reads the answer. What comes back is not trusted either."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline(ANSWER)
    if not line.endswith(b"\n"):
        raise ValueError("The process ended.")
    answer = _announced(json.loads(line), CONTENT[request["do"]])
    if "arrays" in answer:
        answer["arrays"] = _arrays(process.stdout, answer["arrays"], limit)
    return answer


def _announced(answer: Any, content: str | None) -> dict[str, Any]:
    """An answer's line: a refusal, or the content that was asked for."""
    if not isinstance(answer, dict):
        raise TypeError("An answer that is no object.")
    if "refused" in answer:
        return {"refused": str(answer["refused"])}
    if content is None:
        return {}
    found = answer[content]
    if content == "entries":
        found = {name: None if about is None else _entry(*about) for name, about in found.items()}
    elif content == "attributes":
        plain = (str, int, float)
        found = {name: v if isinstance(v, plain) else None for name, v in found.items()}
    return {content: found}


def _entry(shape: list[int], kind: str, size: int) -> tuple[tuple[int, ...], str, int]:
    whole = [*shape, size]
    if not all(type(n) is int and 0 <= n < 2**63 for n in whole) or not isinstance(kind, str):
        raise TypeError("An array of no size.")
    return tuple(shape), kind, size


def _arrays(stream: Any, announced: Any, limit: int) -> list[tuple[str, np.ndarray]]:
    found: list[tuple[str, np.ndarray]] = []
    for name, dtype, shape in announced:
        array = _array(stream, dtype, shape, limit)
        limit -= array.nbytes
        found.append((str(name), array))
    return found


def _array(stream: Any, dtype: str, shape: list[int], limit: int) -> np.ndarray:
    if not re.fullmatch(r"[<>|][biufcS]\d{1,9}", dtype):
        raise ValueError("A dtype that was not asked for.")
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if not all(0 <= n < 2**63 for n in shape) or not 0 <= size <= limit:
        raise ValueError("More than was asked for.")
    buffer = bytearray(size)
    if size and stream.readinto(buffer) != size:
        raise ValueError("The process ended.")
    return np.frombuffer(buffer, kind).reshape(shape)
