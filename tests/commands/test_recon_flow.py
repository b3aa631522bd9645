"""The whole way, for CT and for MRI: simulate, check, recon, eval; and what viewers get of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dicom_helpers import validate, validate_together
from pydicom import dcmread
from runs import invdiff

from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.result_file import ResultFile

OPTIONS = {
    "ct": ["--size", "32", "--views", "24"],
    "mri": ["--size", "48", "--coils", "4", "--acceleration", "2"],
}
SETTINGS = ["--samples", "2", "--steps", "8"]
RANGE = {"ct": 2000.0, "mri": 1000.0}
SERIES = ("mean", "deviation")


@pytest.fixture(scope="module", params=["ct", "mri"])
def modality(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def flow(modality: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated scan, ``in``, and its result, ``out``."""
    place = tmp_path_factory.mktemp(modality)
    options = ["--slices", "2", *OPTIONS[modality]]
    done = invdiff("simulate", modality, "--out", place / "in", *options)
    assert done.returncode == 0, done.stderr
    done = invdiff("recon", place / "in", "--out", place / "out", *SETTINGS)
    assert done.returncode in (0, 4), done.stderr
    assert f"detected {modality}: 1 file" in done.stderr
    assert "standard deviations are not calibrated" in done.stdout
    return place


def figures(flow: Path) -> dict:
    return json.loads((flow / "out/result.json").read_text())


def test_everything_is_there(flow: Path, modality: str) -> None:
    names = {path.name for path in (flow / "out").iterdir()}
    assert {"dicom", "report.html", "result.json", "posterior.h5", "config.yaml"} <= names
    found = figures(flow)
    assert (found["modality"], found["done"], found["failed"]) == (modality, 2, 0)
    assert found["report"]["simulated"] is True and found["calibrated"] is False
    assert found["dicom"]["agreement"] > 0.9 and found["dicom"]["images"] == 2
    name = {"ct": "ct", "mri": "mr"}[modality]
    assert all(
        item["prior"] == name and len(item["prior_sha256"]) == 64 for item in found["items"]
    )


def test_the_mean_is_better_than_the_classical_image(flow: Path) -> None:
    methods = figures(flow)["report"]["methods"]
    mean = np.mean(methods.pop("Posterior mean")["psnr"])
    assert mean > 2 + max(np.mean(other["psnr"]) for other in methods.values())


def test_the_series_lie_where_their_source_lies(flow: Path) -> None:
    source = read_series(flow / "in/dicom")
    series = [read_series(flow / "out/dicom" / name) for name in SERIES]
    assert all(np.array_equal(each.affine, source.affine) for each in series)
    with ResultFile(flow / "out/posterior.h5") as file:
        stored = [
            np.concatenate([file.read(k, name) for k in range(2)]) for name in ("mean", "std")
        ]
    for shown, values, name in zip(series, stored, SERIES, strict=True):
        slope = float(dcmread(flow / f"out/dicom/{name}/00001.dcm").RescaleSlope)
        rounding = 3e-7 * values.max()  # of single precision
        assert np.abs(shown.pixels - values).max() <= 0.5 * slope + rounding


def test_headers_say_what_the_images_are(flow: Path) -> None:
    mean, deviation = (dcmread(flow / f"out/dicom/{name}/00001.dcm") for name in SERIES)
    for one in (mean, deviation):
        assert list(one.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert "not for diagnostic use" in one.DerivationDescription
    whole = dcmread(flow / "out/dicom/deviation-map.dcm")
    assert "NOT calibrated" in deviation.DerivationDescription
    assert all("SD" in one.SeriesDescription for one in (deviation, whole))
    assert all("NOT calibrated" in one.SeriesDescription for one in (deviation, whole))
    assert "calibrated" not in mean.DerivationDescription


def test_the_standards_own_validator_finds_no_error(flow: Path) -> None:
    folders = [flow / "in/dicom", *(flow / "out/dicom" / name for name in SERIES)]
    for path in (each for folder in folders for each in folder.iterdir()):
        assert validate(path) == []
    assert validate(flow / "out/dicom/deviation-map.dcm") == []
    assert validate_together(folders) == []


def test_eval_scores_the_series(flow: Path, modality: str) -> None:
    """As the report does: both know the truth, in the same unit."""
    folders = [flow / "out/dicom/mean", "--truth", flow / "in/dicom"]
    done = invdiff("eval", *folders, "--data-range", RANGE[modality], "--json")
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["items"]
    known = figures(flow)["report"]["methods"]["Posterior mean"]["psnr"]
    # Both series are rounded to whole numbers.
    assert item["psnr"] == pytest.approx(np.mean(known), abs=0.05)


def test_check_finds_what_recon_needs(flow: Path, modality: str) -> None:
    done = invdiff("check", flow / "in", "samples=2", "steps=8", "--json")
    found = json.loads(done.stdout)
    rows = {row["name"]: row["ok"] for row in found["items"][0]["checks"]}
    rows.pop("noise")  # in so small a scan edges look like noise
    assert rows == {"adjoint": True, "norm": True, "range": True}
    assert found["estimate"]["seconds"] > 0 and found["estimate"]["fits"]


def test_deviations_are_those_of_what_is_shown(flow: Path) -> None:
    """Of magnitudes in MRI, not of complex numbers."""
    from invdiff.posterior import Posterior

    item = figures(flow)["items"][0]
    posterior = Posterior.load(flow / f"out/cells/{item['cell']}.posterior")
    samples = posterior.x[0].double()
    shown = samples.square().sum(1).sqrt() if samples.shape[1] == 2 else samples[:, 0]
    scale = item["notes"].get("unit_of_signal", 1000 / item["notes"].get("water", 1))
    with np.load(flow / f"out/cells/{item['cell']}.images.npz") as arrays:
        found = arrays["std"][0]
    assert np.allclose(found, scale * shown.std(0).numpy(), rtol=1e-4, atol=1e-5 * scale)
