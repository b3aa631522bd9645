"""Parsing and decoding in a process of its own, which may crash, hang or grow without harm.

The process reads requests, one JSON object a line, and answers each with one or more lines of
JSON; a line that announces bytes is followed by them. Nothing is unpickled, and its standard error
output, which may quote header values, is thrown away.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import numpy as np

from invdiff.datasets.dicom_answers import array_of, description_of
from invdiff.datasets.dicom_file import Description, describe, frame_bytes, frames
from invdiff.datasets.dicom_limits import DicomError, DicomLimits

__all__ = ["Worker", "serve"]

# Importing invdiff would load torch; an empty stand-in of the package finds the same modules.
START = (
    "import sys, types; package = types.ModuleType('invdiff'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['invdiff'] = package; "
    "from invdiff.datasets.dicom_worker import serve; serve()"
)
T = TypeVar("T")
LONGEST = 64 * 1024**2  # bytes of an answer's line
NONSENSE = (  # what a process that has ended, or says what was not asked, makes of the code here
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    *(RecursionError, MemoryError, OverflowError),
)
PACKAGE = Path(sys.modules["invdiff"].__path__[0]).absolute()


class Worker:
    """The process, seen from outside; a context manager that starts and ends it."""

    def __init__(self, limits: DicomLimits) -> None:
        self.limits = limits

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(PACKAGE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def describe(self, path: Path, file: int) -> Description:
        """See ``dicom_file.describe``. Raises DicomError, also for a crash."""
        self._ask("describe", path, file)
        return self._answer(lambda answer, _: description_of(answer, file))

    def frames(self, path: Path, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """See ``dicom_file.frames``. Raises DicomError, also for a crash."""
        self._ask("frames", path, list(wanted))
        for _ in wanted:
            yield self._answer(array_of)

    def _ask(self, task: str, path: Path, about: object) -> None:
        line = json.dumps([task, str(path.absolute()), about, asdict(self.limits)])
        try:
            assert self.process.stdin
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise DicomError("could not be read: the reading process has ended.") from None

    def _answer(self, meaning: Callable[[dict[str, Any], bytes], T]) -> T:
        """What the next answer means; a process that says nonsense counts as crashed."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(self.limits.seconds, stop)
        timer.start()
        try:
            answer, content = self._read()
            meant = None if "error" in answer else meaning(answer, content)
        except NONSENSE:
            if late.is_set():
                raise DicomError(
                    f"takes longer than {self.limits.seconds:g} s to read. Refused."
                ) from None
            raise DicomError(
                "crashed its decoder, or needed too much memory. It is damaged."
            ) from None
        finally:
            timer.cancel()
        if meant is None:
            raise DicomError(str(answer["error"]))
        return meant

    def _read(self) -> tuple[dict[str, Any], bytes]:
        """A line of JSON, and the bytes that it announces."""
        assert self.process.stdout
        line = self.process.stdout.readline(LONGEST)
        answer = json.loads(line)
        size = answer.get("bytes", 0)
        if not line.endswith(b"\n") or not 0 <= size <= self.limits.frame_bytes:
            raise ValueError("The process has ended.")
        content = self.process.stdout.read(size)
        if len(content) < size:
            raise ValueError("The process has ended.")
        return answer, content


def serve() -> None:
    """The process, seen from inside: answers until its input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # decoders print
    _limit("RLIMIT_CORE", 0)  # a dump would hold the image
    for line in sys.stdin.buffer:
        task, path, about, limits = json.loads(line)
        try:
            _serve(out, task, Path(path), about, DicomLimits(**limits))
        except DicomError as error:
            _send(out, {"error": str(error)})


def _serve(out: IO[bytes], task: str, path: Path, about: Any, limits: DicomLimits) -> None:
    size = _size(path)
    _limit("RLIMIT_AS", limits.memory(min(size, limits.file_bytes), 0))
    if task == "describe":
        found = describe(path, about, limits)
        header = base64.b64encode(found.header).decode()
        _send(out, asdict(found) | {"header": header})
        return
    _limit("RLIMIT_AS", limits.memory(size, frame_bytes(path, limits)))
    for array in frames(path, about, limits):
        content = np.ascontiguousarray(array)
        about = {"shape": array.shape, "dtype": content.dtype.str, "bytes": content.nbytes}
        _send(out, about, content)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DicomError(
            f"cannot be read ({type(error).__name__}). Check that it is there."
        ) from None


def _send(out: IO[bytes], answer: dict[str, Any], content: np.ndarray | None = None) -> None:
    out.write(json.dumps(answer).encode() + b"\n")
    if content is not None:
        out.write(content.data)
    out.flush()


def _limit(name: str, value: int) -> None:
    """Only Linux keeps such a limit."""
    if sys.platform == "linux":
        import resource

        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (soft, hard))
