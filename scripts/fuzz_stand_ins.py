"""What takes the place of the processes that read HDF5 and DICOM, for ``fuzz_coverage``.

Either the process's own program runs here (``OwnProgram``), so that its coverage is seen, or its
answers are replaced (``Told``), so that what interprets them meets all sorts of answers.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

__all__ = ["OwnProgram", "Told", "dicom_answers", "tell_dicom", "tell_hdf5"]

LIMIT = 2**26  # bytes of an answer


class Told:
    """A process that says what it was told to say, whatever it is asked."""

    pid = returncode = 0

    def __init__(self, answers: io.BytesIO) -> None:
        self.stdout: Any = answers
        self.stdin: Any = self

    def write(self, line: bytes) -> None:
        """A request, which goes nowhere."""

    def flush(self) -> None:
        """Nothing is kept back."""

    def kill(self) -> None:
        """Nothing runs."""

    def communicate(self) -> None:
        """Nothing is left."""


class OwnProgram(Told):
    """``hdf5_worker.serve`` in this process; ``said`` is all that it answered."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self._open, self.said = b"", b""

    def write(self, line: bytes) -> None:
        """Answers at once. The program knows one file at a time, so that is opened again."""
        from invdiff.datasets.hdf5_worker import serve

        first = json.loads(line)["do"] in ("open", "close")
        out = io.BytesIO()
        serve(io.BytesIO(line if first else self._open + line), out, LIMIT)
        out.seek(0)
        if first:
            self._open = line
        else:
            out.readline()  # that it was opened
        self.said += out.getvalue()[out.tell() :]
        self.stdout = out


def tell_hdf5(process: Told) -> None:
    """From now on HDF5 files are read by this process."""
    from invdiff.datasets import hdf5, hdf5_process

    hdf5_process._started = lambda limit: process  # type: ignore[assignment,return-value]
    shared = hdf5.Process(LIMIT)
    hdf5._shared.set(shared)


def tell_dicom(process: Told) -> None:
    """From now on DICOM files are read by this process."""
    from types import SimpleNamespace

    from invdiff.datasets import dicom_worker

    known = SimpleNamespace(Popen=lambda *_, **__: process, PIPE=None, DEVNULL=None)
    dicom_worker.subprocess = known  # type: ignore[assignment]


def dicom_answers(path: Path) -> bytes:
    """What the process says of one file and its first frame."""
    from invdiff.datasets import dicom_worker
    from invdiff.datasets.dicom_limits import DicomLimits

    dicom_worker._limit = lambda name, value: None  # this process goes on
    out = io.BytesIO()
    for task, about in (("describe", 0), ("frames", [0])):
        dicom_worker._serve(out, task, path, about, DicomLimits())
    return out.getvalue()
