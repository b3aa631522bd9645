"""`check`, `eval` and `simulate`: what they find, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import discs, invdiff
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from invdiff.commands.checks import check_source
from invdiff.commands.scores import score_folders
from invdiff.commands.settings import read_settings
from invdiff.commands.simulated_ct import CTScan
from invdiff.commands.simulated_mri import MRIScan, write_mri
from invdiff.commands.sources import find_source
from invdiff.commands.stated_noise import noise_ratio
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.measurement_file import write_measurement
from invdiff.datasets.nifti import NiftiVolume, write_nifti
from invdiff.datasets.pictures import write_picture


def test_a_good_measurement_passes_and_a_wrong_noise_level_does_not(tmp_path: Path) -> None:
    settings = read_settings(None, ["samples=2", "steps=3"], {})
    write_measurement(tmp_path / "good.h5", discs(1, 48))
    good = check_source(find_source(tmp_path / "good.h5"), settings)
    assert good["ok"], good
    assert [row["name"] for row in good["items"][0]["checks"]] == [
        "adjoint",
        "norm",
        "range",
        "noise",
    ]
    assert good["estimate"]["seconds"] > 0 and good["estimate"]["memory_gb"] > 0
    wrong = replace(discs(1, 48), sigma=np.full((1, 1, 1), 0.1, np.float32))
    write_measurement(tmp_path / "wrong.h5", wrong)
    found = check_source(find_source(tmp_path / "wrong.h5"), settings)
    assert [row["ok"] for row in found["items"][0]["checks"]] == [True, True, True, False]


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.3])
def test_the_noise_is_measured(factor: float) -> None:
    scan = replace(discs(4, 64), sigma=np.full((1, 1, 1), 0.01 * factor, np.float32))
    # 6000 differences: 2 % one standard deviation of the median; discs add their edges.
    assert 0.95 < noise_ratio(scan) * factor < 1.25


def test_the_norm_is_that_of_the_matrix(tmp_path: Path) -> None:
    from invdiff.commands.checks import _norm
    from invdiff.linalg import as_matrix

    problem = discs(1, 16).problem()
    dense = np.linalg.norm(as_matrix(problem.operator)[0].numpy(), 2)
    # Thirty steps of the power method, from below.
    assert 0.99 * dense <= _norm(problem)["norm"] <= dense * (1 + 1e-5)


def test_simulated_ct_says_so_and_its_series_is_its_truth() -> None:
    scan = CTScan("torso", 2, 32, 16, 1e5, 3)
    hu, spacing = scan.volume()
    first, second = (scan.measure(hu, spacing[1], True) for _ in range(2))
    assert np.array_equal(first.data, second.data)
    assert first.provenance["simulated"] is True
    assert not np.array_equal(scan.measure(hu, spacing[1], False).data[0], first.data[1])


def test_simulated_mri_is_what_its_series_shows(tmp_path: Path) -> None:
    """A full scan, prepared as for recon, has the series' magnitudes and orientation."""
    write_mri(tmp_path / "in", MRIScan(1, 64, 6, 1.0, 1e-4, 0), truth=True)
    measurement = find_source(tmp_path / "in").items[0].read()
    problem = measurement.problem()
    image = measurement.scale * problem.operator.adjoint(problem.y)[0].numpy()
    found, shown = np.hypot(*image), read_series(tmp_path / "in/dicom").pixels[0]
    # Maps are fitted to 16 x 16 samples: 1 % of the brightest pixel, 1000.
    assert np.sqrt(((found - shown) ** 2).mean()) < 10
    assert np.sqrt(((found[::-1] - shown) ** 2).mean()) > 30
    truth = measurement.scale * np.abs(measurement.truth[0])
    assert np.abs(truth - shown).max() <= 0.5 + 1e-3  # the series holds whole numbers


def test_simulated_mri_without_truth(tmp_path: Path) -> None:
    write_mri(tmp_path / "in", MRIScan(1, 32, 4, 2.0, 0.01, 0), truth=False)
    assert find_source(tmp_path / "in").items[0].read().truth is None


def test_scores_are_those_of_scikit_image_in_every_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, 24, 20)).astype(np.float64) / 255
    image = np.clip(np.rint(255 * (truth + 0.1 * rng.normal(size=truth.shape))), 0, 255) / 255
    for folder, values in (("truth", truth), ("image", image)):
        (tmp_path / folder / "deep").mkdir(parents=True)
        np.save(tmp_path / folder / "a.npy", values)
        volume = NiftiVolume(values, np.eye(4))
        write_nifti(tmp_path / folder / "deep/b.nii.gz", volume)
        write_picture(tmp_path / folder / "c.png", values[:1], 8)
    np.savez(tmp_path / "truth/d.npz", mean=truth)
    np.savez(tmp_path / "image/d.npz", mean=image, std=image)
    np.save(tmp_path / "image/e.npy", image)
    found = score_folders(tmp_path / "image", tmp_path / "truth", 1.0, None, True)
    assert [item["label"] for item in found["items"]] == ["a", "c", "d", "deep/b"]
    assert found["without_truth"] == 1 and found["failed"] == 0
    pairs = list(zip(truth, image, strict=True))
    psnr = [peak_signal_noise_ratio(t, x, data_range=1.0) for t, x in pairs]
    ssim = [structural_similarity(t, x, data_range=1.0) for t, x in pairs]
    for k in (0, 2, 3):
        item = found["items"][k]
        assert abs(item["psnr"] - np.mean(psnr)) < 1e-5  # six digits are kept
        assert abs(item["ssim"] - np.mean(ssim)) < 1e-5
        whole = peak_signal_noise_ratio(truth, image, data_range=1.0)
        assert abs(item["psnr_volume"] - whole) < 1e-5
    assert abs(found["items"][1]["psnr"] - psnr[0]) < 1e-5
    mean = np.mean([item["psnr"] for item in found["items"]])
    assert abs(found["mean"]["psnr"]["mean"] - mean) < 1e-5


def test_eval_names_items_by_numbers_and_goes_on_after_failures(tmp_path: Path) -> None:
    for folder in ("truth", "image"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", np.ones((8, 8)))
    np.save(tmp_path / "truth/b.npy", np.ones((8, 8)))
    np.save(tmp_path / "image/b.npy", np.ones((9, 8)))
    arguments = ["--truth", tmp_path / "truth", "--data-range", "1", "--json"]
    done = invdiff("eval", tmp_path / "image", *arguments)
    assert done.returncode == 3, done.stderr
    one, two = json.loads(done.stdout)["items"]
    assert one == {
        "label": "item-0001",
        "status": "done",
        "slices": 1,
        "psnr": None,  # there is no error at all
        "psnr_volume": None,
        "ssim": 1.0,
        "nmse": 0.0,
    }
    assert two["status"] == "failed" and "(1, 1, 9, 8)" in two["reason"]
    assert invdiff("eval", tmp_path / "image", "--truth", tmp_path / "truth").returncode == 2
