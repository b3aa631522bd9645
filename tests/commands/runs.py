"""Commands as a user starts them, and the smallest scans."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from invdiff.cli import main
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.measurement_file import write_measurement
from invdiff.operators.ct_geometry import Geometry

COMMAND = [sys.executable, "-P", "-c", "from invdiff.cli import main; main()"]
QUICK = ["--samples", "2", "--steps", "3", "split=false"]
QUIET = os.environ | {"OMP_NUM_THREADS": "1"}


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def invdiff(*arguments: str | Path) -> Done:
    """Runs a command to its end, as the program does, in this process: it saves the start."""
    out, err = io.StringIO(), io.StringIO()
    words = ["invdiff", *map(str, arguments)]
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", words):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Starts a command as a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=QUIET,
    )


def discs(items: int, size: int = 24, name: str = "disc") -> CTMeasurement:
    """Water discs of growing radius, 16 views each, with little noise."""
    geometry = Geometry.parallel((size, size), 16, pixel_size=2.0)
    cells = geometry.detectors[0]
    offset = 2.0 * (np.arange(cells) - (cells - 1) / 2)
    rng = np.random.default_rng(0)
    axis = 2.0 * (np.arange(size) - (size - 1) / 2)
    radii = [0.3 * size + 2 * k for k in range(items)]
    chords = [2 * np.sqrt(np.maximum(r**2 - offset**2, 0)) for r in radii]
    clean = 0.02 * np.stack([np.tile(chord, (16, 1)) for chord in chords])
    truth = np.stack([0.02 * (np.hypot(axis[:, None], axis) < r) for r in radii])
    data = (clean + 0.01 * rng.normal(size=clean.shape)).astype(np.float32)
    return CTMeasurement(
        tuple(f"{name}-{k}" for k in range(items)),
        data,
        np.full((1, 1, 1), 0.01, np.float32),
        geometry,
        0.02,
        truth.astype(np.float32),
    )


def write_discs(path: Path, items: int, name: str = "disc") -> Path:
    """The discs in a measurement file."""
    write_measurement(path, discs(items, name=name))
    return path


def numbers(folder: Path) -> dict[str, bytes]:
    """Everything but what tells the time."""
    files = (*folder.rglob("*.images.npz"), folder / "posterior.h5", folder / "result.json")
    return {path.name: path.read_bytes() for path in files}
