"""Kills `invdiff recon` at random moments, many times, and compares the end with a straight run.

    python scripts/kill_at_random.py --kills 50 --modality ct

Only kills of a process that was still at work are counted. After every kill -9 the same command is
started again on the same folder. Nothing half-written may lie there, and the arrays, DICOM pixels
and figures at the end must be those of a run that was never killed, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import dcmread

COMMAND = [sys.executable, "-P", "-c", "from invdiff.cli import main; main()"]
SCANS = {"ct": ["--size", "32", "--views", "24"], "mri": ["--size", "64"]}  # the smallest
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def main() -> None:
    """Does it; exit status 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--modality", choices=list(SCANS), default="ct")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        scan = [given.modality, "--slices", str(given.slices), *SCANS[given.modality]]
        subprocess.run([*COMMAND, "simulate", *scan, "--out", str(place / "in")], check=True)
        recon = [*COMMAND, "recon", str(place / "in"), "--samples", "2"]
        recon += ["--steps", str(given.steps), "--out"]
        started = time.monotonic()
        finish([*recon, str(place / "straight")])
        whole = time.monotonic() - started
        expected = contents(place / "straight")
        ends = kill([*recon, str(place / "killed")], given.kills, whole, given.seed, expected)
        finish([*recon, str(place / "killed")])
        same = ends.same and contents(place / "killed") == expected
        left = [p for p in (place / "killed").rglob("*") if ".part" in p.name]
    print(f"{given.modality}: a run takes {whole:.0f} s", end="; ")
    print(f"{given.kills} real kills, {ends.finished + 1} finished runs")
    print(f"the results are {'the same' if same else 'DIFFERENT'}; {len(left)} files half-written")
    sys.exit(0 if same and not left else 1)


class Ends(NamedTuple):
    """How often a run came to its end between kills, and whether always to the same."""

    finished: int
    same: bool


def kill(
    command: list[str], times: int, whole: float, seed: int, expected: dict[str, bytes]
) -> Ends:
    """Starts and kills; the moments are uniform over the time of a whole run."""
    generator, killed, finished, same = random.Random(seed), 0, 0, True
    folder = Path(command[-1])
    while killed < times:
        running = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_THREAD
        )
        try:
            running.wait(timeout=generator.uniform(0, whole))
            # It came to its end in spite of all kills: compare, and begin again.
            same = same and contents(folder) == expected
            finished += 1
            shutil.rmtree(folder)
        except subprocess.TimeoutExpired:
            running.kill()
            if running.wait() == -signal.SIGKILL:  # else it ended by itself in the meantime
                killed += 1
                print(f"kill {killed} of {times}", flush=True)
        valid(folder)
    return Ends(finished, same)


def valid(folder: Path) -> None:
    """Everything that bears its final name can be read whole."""
    for path in folder.rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())
    for path in folder.rglob("*.npz"):
        if not path.name.startswith("."):
            with np.load(path) as arrays:
                for name in arrays.files:
                    _ = arrays[name]


def finish(command: list[str]) -> None:
    """Runs to the end; 4 means that misfits are suspect, which tiny runs may be."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=ONE_THREAD, check=False)
    if done.returncode not in (0, 4):
        sys.exit(f"exit status {done.returncode}")


def contents(folder: Path) -> dict[str, bytes]:
    """What must be the same, by relative names."""
    files = [*folder.glob("cells/*.images.npz"), folder / "posterior.h5", folder / "result.json"]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    for path in folder.glob("dicom/*/*.dcm"):
        found[str(path.relative_to(folder))] = dcmread(path).PixelData
    return found


if __name__ == "__main__":
    main()
