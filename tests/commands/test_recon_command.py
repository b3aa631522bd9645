"""`invdiff recon PATH`: what is done again and what is not, failures, signals, and company."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from runs import QUICK, discs, invdiff, numbers, start, write_discs

from invdiff.datasets.measurement_file import write_measurement


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated CT folder and its result."""
    place = tmp_path_factory.mktemp("ct")
    options = ["--slices", "2", "--size", "32", "--views", "24"]
    assert invdiff("simulate", "ct", "--out", place / "in", *options).returncode == 0
    assert invdiff("recon", place / "in", "--out", place / "out", *QUICK).returncode in (0, 4)
    return place


def test_a_rerun_computes_nothing_and_gives_the_same_bytes(ct: Path) -> None:
    before = {p: p.read_bytes() for p in (ct / "out").rglob("*.npz")}
    result = (ct / "out/result.json").read_bytes()
    done = invdiff("recon", ct / "in", "--out", ct / "out", *QUICK)
    assert done.stderr.count("was done before") == 2
    assert {p: p.read_bytes() for p in (ct / "out").rglob("*.npz")} == before
    assert (ct / "out/result.json").read_bytes() == result


def test_another_run_is_not_mixed_in(ct: Path) -> None:
    done = invdiff("recon", ct / "in", "--out", ct / "out", *QUICK, "--seed", "5")
    assert done.returncode == 1 and "seed differ" in done.stderr
    (ct / "mine").mkdir()
    (ct / "mine/letter.txt").write_text("mine")
    done = invdiff("recon", ct / "in", "--out", ct / "mine", *QUICK)
    assert done.returncode == 1 and "Nothing is ever overwritten" in done.stderr


def test_a_series_that_does_not_fit_is_refused(ct: Path) -> None:
    write_discs(ct / "other/measurement.h5", 3)
    (ct / "other/dicom").symlink_to(ct / "in/dicom")
    copied = ct / "other/copied"
    copied.mkdir()
    for image in (ct / "in/dicom").iterdir():
        (copied / image.name).write_bytes(image.read_bytes())
    done = invdiff("recon", ct / "other", "--out", ct / "no", *QUICK)
    assert done.returncode == 1 and "dicom=false" in done.stderr
    assert not (ct / "no").exists()


def test_a_failed_item_stops_no_other_and_is_tried_again(tmp_path: Path) -> None:
    write_discs(tmp_path / "in/a.h5", 1)
    (tmp_path / "in/b.h5").write_bytes(b"\x89HDF\r\n\x1a\n and then nothing")
    arguments = ["recon", tmp_path / "in", "--out", tmp_path / "out", *QUICK]
    done = invdiff(*arguments)
    assert done.returncode == 3, done.stderr
    found = json.loads((tmp_path / "out/result.json").read_text())
    assert [item["status"] for item in found["items"]] == ["done", "failed"]
    write_measurement(tmp_path / "in/b.h5", discs(2))
    done = invdiff(*arguments)
    assert done.returncode in (0, 4), done.stderr
    # Items 1 and 2 hold the same numbers: they are one cell.
    assert done.stderr.count("was done before") == 2
    assert json.loads((tmp_path / "out/result.json").read_text())["failed"] == 0


def test_sigterm_keeps_a_checkpoint_and_the_rerun_ends_the_same(tmp_path: Path) -> None:
    write_discs(tmp_path / "a.h5", 2)
    options = ["--samples", "2", "--steps", "60", "split=false", "--out"]
    arguments = ["recon", tmp_path / "a.h5", *options]
    running = start(*arguments, tmp_path / "stopped")
    _wait_for(tmp_path / "stopped/cells", "*.checkpoint/*.npz")
    running.send_signal(signal.SIGTERM)
    _, error = running.communicate(timeout=300)
    assert running.returncode == 75 and "again" in error
    assert not (tmp_path / "stopped/result.json").exists()
    assert not list((tmp_path / "stopped").rglob("*.part*"))
    assert invdiff(*arguments, tmp_path / "stopped").returncode in (0, 4)
    assert invdiff(*arguments, tmp_path / "straight").returncode in (0, 4)
    first, second = (numbers(tmp_path / name) for name in ("stopped", "straight"))
    assert first == second
    assert not list((tmp_path / "stopped").rglob("*.checkpoint"))


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    write_discs(tmp_path / "a.h5", 3)
    arguments = ["recon", tmp_path / "a.h5", "--out", tmp_path / "out", *QUICK]
    both = [start(*arguments) for _ in range(2)]
    ends = [one.communicate(timeout=300) for one in both]
    assert all(one.returncode in (0, 4) for one in both), ends
    computed = sum(error.count("done in") for _, error in ends)
    assert computed == 3
    assert not list((tmp_path / "out").rglob("*.lock"))


def _wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
