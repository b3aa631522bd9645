"""`invdiff recon PATH`: from a folder or file to images, DICOM, a page and figures."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from runs import QUICK, discs, invdiff, start, write_discs

from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.measurement_file import write_measurement
from invdiff.datasets.result_file import ResultFile


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated CT folder and its result."""
    place = tmp_path_factory.mktemp("ct")
    options = ["--slices", "2", "--size", "32", "--views", "24"]
    done = invdiff("simulate", "ct", "--out", place / "in", *options)
    assert done.returncode == 0, done.stderr
    done = invdiff("recon", place / "in", "--out", place / "out", *QUICK[:-1])
    assert done.returncode in (0, 4), done.stderr
    assert "detected ct" in done.stderr
    return place


def test_a_ct_folder_gives_dicom_a_page_and_figures(ct: Path) -> None:
    names = {path.name for path in (ct / "out").iterdir()}
    assert {"dicom", "report.html", "result.json", "posterior.h5", "config.yaml"} <= names
    found = json.loads((ct / "out/result.json").read_text())
    assert (found["modality"], found["done"], found["failed"]) == ("ct", 2, 0)
    assert found["report"]["simulated"] is True
    assert found["dicom"]["agreement"] > 0.5
    assert all(len(item["prior_sha256"]) == 64 for item in found["items"])


def test_the_series_lie_where_their_source_lies(ct: Path) -> None:
    source = read_series(ct / "in/dicom")
    mean, deviation = (read_series(ct / "out/dicom" / name) for name in ("mean", "deviation"))
    assert np.array_equal(mean.affine, source.affine)
    assert np.array_equal(deviation.affine, source.affine)
    with ResultFile(ct / "out/posterior.h5") as file:
        means = np.concatenate([file.read(k) for k in range(2)])
    assert np.abs(mean.pixels - means).max() <= 0.5  # HU, rounding to the slope of 1
    one = dcmread(ct / "out/dicom/mean/00001.dcm")
    assert list(one.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert "not for diagnostic use" in one.DerivationDescription


def test_a_rerun_computes_nothing_and_gives_the_same_bytes(ct: Path) -> None:
    before = {p: p.read_bytes() for p in (ct / "out").rglob("*.npz")}
    result = (ct / "out/result.json").read_bytes()
    done = invdiff("recon", ct / "in", "--out", ct / "out", *QUICK[:-1])
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


def test_an_mri_folder(tmp_path: Path) -> None:
    options = ["--slices", "2", "--size", "48", "--coils", "4", "--acceleration", "2"]
    assert invdiff("simulate", "mri", "--out", tmp_path / "in", *options).returncode == 0
    arguments = ["--samples", "2", "--steps", "10", "split=false", "--slice", "1", "--json"]
    done = invdiff("recon", tmp_path / "in", "--out", tmp_path / "out", *arguments)
    assert done.returncode in (0, 4), done.stderr
    found = json.loads(done.stdout)
    assert found["modality"] == "mri" and found["items"][0]["label"] == "item-0002"
    assert found["dicom"]["images"] == 1 and found["dicom"]["agreement"] > 0.9
    assert read_series(tmp_path / "out/dicom/mean").modality == "MR"


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
    first, second = (_numbers(tmp_path / name) for name in ("stopped", "straight"))
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


def _numbers(folder: Path) -> dict[str, bytes]:
    """Everything but what tells the time."""
    files = (*folder.rglob("*.images.npz"), folder / "posterior.h5", folder / "result.json")
    return {path.name: path.read_bytes() for path in files}


def _wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
