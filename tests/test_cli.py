"""The command line as a user meets it: real commands, bad input, a kill and a resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from invdiff.datasets.sinogram import Sinogram

SMALL = ["--samples", "2", "--steps", "3"]


def invdiff(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from invdiff.cli import main; main()", *arguments]
    return subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def disc() -> Sinogram:
    """A water disc of 30 mm in 12 views."""
    offset = np.arange(48) - 23.5
    chord = 2 * np.sqrt(np.maximum(15.0**2 - offset**2, 0))
    noise = 0.01 * np.random.default_rng(0).normal(size=(12, 48))
    angles = np.pi * np.arange(12) / 12
    return Sinogram(0.02 * chord + noise, np.array(0.01), angles, 1.0, (32, 32), 1.0, 0.02)


def test_demo_ct_writes_everything_it_promises(tmp_path: Path) -> None:
    done = invdiff("demo", "ct", *SMALL, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["task"] == "ct" and report["seed"] == 0
    assert set(report["methods"]) == {"fbp", "tv", "posterior_mean", "sample"}
    for scores in report["methods"].values():
        assert set(scores) == {"psnr", "ssim", "chi2"}
    assert report["network_evaluations"] == 2 * 3
    for key in ("seconds", "peak_memory_gb", "std_error_correlation", "provenance"):
        assert key in report
    assert (tmp_path / "out/figure.png").read_bytes()[:4] == b"\x89PNG"
    with np.load(tmp_path / "out/images.npz") as images:
        assert images["truth"].shape == images["posterior_mean"].shape == (1, 128, 128)
        assert images["truth"].min() >= -1024 and images["truth"].max() > 300  # HU
    for name in ("filtered backprojection", "total variation", "posterior mean", "one sample"):
        assert name in done.stdout


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for out in ("a", "b"):
        done = invdiff("demo", "sr", *SMALL, "--seed", "3", "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / out / "images.npz").read_bytes() for out in "ab")
    assert first == second


@pytest.mark.parametrize("task", ["mri", "inpaint"])
def test_other_demos_run(task: str, tmp_path: Path) -> None:
    done = invdiff("demo", task, "--samples", "2", "--steps", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["task"] == task and report["methods"]["posterior_mean"]["psnr"] > 0
    assert (tmp_path / f"invdiff-demo-{task}" / "figure.png").exists()


def test_recon_needs_no_truth(tmp_path: Path, disc: Sinogram) -> None:
    disc.save(tmp_path / "disc.npz")
    done = invdiff("recon", "ct", "disc.npz", "--samples", "2", "--steps", "12", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "invdiff-recon-ct/images.npz") as images:
        centre = images["posterior_mean"][0, 12:20, 12:20]
    # Water is 0 HU and air -1000: a wrong unit, scale or orientation is far outside of 100.
    assert abs(centre.mean()) < 100
    report = json.loads((tmp_path / "invdiff-recon-ct/report.json").read_text())
    assert "psnr" not in report["methods"]["posterior_mean"]


def test_recon_resumes_after_sigkill(tmp_path: Path, disc: Sinogram) -> None:
    disc.save(tmp_path / "disc.npz")
    options = ["--samples", "2", "--steps", "300", "--checkpoint", "saved", "--out"]
    arguments = ["recon", "ct", "disc.npz", *options]
    command = [sys.executable, "-P", "-c", "from invdiff.cli import main; main()", *arguments]
    running = subprocess.Popen([*command, "killed"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    saved = tmp_path / "saved/items-000000.npz"
    deadline = time.monotonic() + 300
    while not saved.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "killed").exists()
    resumed = invdiff(*arguments, "resumed", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    straight = invdiff(*arguments[:-3], "--out", "straight", cwd=tmp_path)
    assert straight.returncode == 0, straight.stderr
    first, second = (
        (tmp_path / out / "images.npz").read_bytes() for out in ("resumed", "straight")
    )
    assert first == second


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sinogram": np.full((12, 48), np.nan)}, "NaN or infinite"),
        ({"sinogram": np.ones((12, 48), np.int16)}, "int16"),
        ({"sinogram": 900 * np.ones((12, 48))}, "line integrals range from 900"),
        ({"sinogram": np.ones((1, 12, 48))}, "(views, detectors)"),
        ({"sigma": np.zeros(())}, "sigma"),
        ({"sigma": None}, "sigma"),
        ({"angles": np.ones(5)}, "one per view"),
        ({"angles": np.linspace(0, 180, 12)}, "radians"),
        ({"pixel_size": np.array(-1.0)}, "pixel_size"),
    ],
)
def test_bad_sinograms_are_refused(
    change: dict[str, np.ndarray | None], said: str, tmp_path: Path, disc: Sinogram
) -> None:
    disc.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as good:
        arrays = dict(good) | change
    np.savez(tmp_path / "bad.npz", **{k: v for k, v in arrays.items() if v is not None})
    done = invdiff("recon", "ct", "bad.npz", cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "invdiff-recon-ct").exists()


def test_truncated_missing_and_foreign_files_are_refused(tmp_path: Path, disc: Sinogram) -> None:
    disc.save(tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.npz").write_text("no arrays here")
    for name in ("cut.npz", "text.npz", "absent.npz"):
        done = invdiff("recon", "ct", name, cwd=tmp_path)
        assert done.returncode == 1, name
        assert done.stderr.startswith("invdiff: error: ") and "Traceback" not in done.stderr
        assert name not in done.stderr  # it may name a patient


def test_a_file_in_the_way_of_the_output_is_kept(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    done = invdiff("demo", "ct", *SMALL, "--out", "taken", cwd=tmp_path)
    assert done.returncode == 1 and "folder" in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_wrong_words_exit_with_usage(tmp_path: Path) -> None:
    assert invdiff("demo", "ultrasound", cwd=tmp_path).returncode == 2
    assert invdiff("demo", "ct", "--samples", "0", cwd=tmp_path).returncode == 2


def test_info_names_the_priors(tmp_path: Path) -> None:
    done = invdiff("info", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert {"ct", "photo"} <= {prior["name"] for prior in facts["priors"]}
    assert all(len(prior["sha256"]) == 64 for prior in facts["priors"])
    kinds = {s["name"]: s["kind"] for s in facts["samplers"]}
    assert kinds["REDDiff"] == "point" and kinds["TDS"] == "exact"
