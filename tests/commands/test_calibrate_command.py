"""`calibrate` on finished runs, and `recon --calibration` with what it wrote: CT and MRI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from runs import QUICK, discs, invdiff

from invdiff.commands.simulated_mri import MRIScan, write_mri
from invdiff.datasets.measurement_file import write_measurement

PROMISE = ["--confidence", "0.7", "--pixels", "0.8"]


def patients(modality: str, folder: Path) -> None:
    """Four files of one slice."""
    whole = discs(4)
    for k in range(4):
        if modality == "mri":
            write_mri(folder / str(k), MRIScan(1, 32, 4, 2.0, 0.01, k), truth=True)
        else:
            one = replace(
                whole,
                items=whole.items[k : k + 1],
                data=whole.data[k : k + 1],
                truth=whole.truth[k : k + 1],
            )
            write_measurement(folder / f"{k}.h5", one)


@pytest.fixture(scope="module", params=["ct", "mri"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients, ``in``, and their reconstructions, ``known``."""
    folder = tmp_path_factory.mktemp(request.param) / request.param
    patients(request.param, folder / "in")
    done = invdiff("recon", folder / "in", "--out", folder / "known", *QUICK)
    assert done.returncode in (0, 4), done.stderr
    return folder


def test_from_runs_to_intervals(place: Path, tmp_path: Path) -> None:
    known, file, modality = place / "known", tmp_path / "c.json", place.name
    done = invdiff("calibrate", known, *PROMISE, "--out", file)
    assert done.returncode == 0 and "with probability at least 0.7" in done.stdout, done.stderr
    assert "of the 1 held-out patients" in done.stdout
    factor = json.loads(file.read_text())
    assert factor["patients"] == 3 and factor["factor"] > 0 and factor["tested"] == 1
    # Of new patients: a folder with a series.
    options = ["--slices", "1", "--size", "32", "--seed", "9"]
    options += ["--acceleration", "2"] if modality == "mri" else []
    new, out = tmp_path / "new", tmp_path / "out"
    assert invdiff("simulate", modality, "--out", new, *options).returncode == 0
    done = invdiff("recon", new, "--out", out, *QUICK, "--calibration", file)
    assert done.returncode in (0, 4) and "not calibrated" not in done.stdout, done.stderr
    found = json.loads((out / "result.json").read_text())
    assert found["calibrated"] and found["calibration"]["factor"] == factor["factor"]
    assert found["report"]["calibration"]["guarantee"] == factor["guarantee"]
    assert factor["guarantee"] in (out / "report.html").read_text()
    with np.load(out / "intervals.npz") as arrays:
        wide = arrays["item-0001.high"] - arrays["item-0001.low"]
    with np.load(out / f"cells/{found['items'][0]['cell']}.images.npz") as arrays:
        half = factor["factor"] * arrays["std"]
    assert np.allclose(wide, 2 * half, atol=1e-5 * np.abs(half).max() + 1e-3)
    header = dcmread(out / "dicom/deviation/00001.dcm")
    assert f"80% in +-{factor['factor']:.2f} SD" in header.SeriesDescription
    assert factor["guarantee"].rstrip(".") in header.DerivationDescription


def test_what_no_calibration_can_promise(place: Path, tmp_path: Path) -> None:
    known, file = place / "known", tmp_path / "c.json"
    arguments = ["recon", place / "in", "--out", known, *QUICK]
    too_much = invdiff("calibrate", known, "--out", file)
    assert too_much.returncode == 1 and "at least 9" in too_much.stderr
    assert invdiff("calibrate", known, *PROMISE, "--out", file).returncode == 0
    again = invdiff(*arguments, "--calibration", file)
    assert again.returncode in (0, 4) and again.stderr.count("was done before") == 4
    other = ["recon", place / "in", "--out", tmp_path / "other", *QUICK, "--samples", "3"]
    refused = invdiff(*other, "--calibration", file)
    assert refused.returncode == 1 and "samples differ" in refused.stderr
