"""Split conformal factors: the rank, the promise by simulation, and that it can be broken."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from invdiff.commands.calibration import Cases, calibrated
from invdiff.commands.intervals import Factor, conformal_factor, read_factor, score
from invdiff.files import load_arrays, save_arrays, save_json


def test_the_score_is_the_smallest_factor_that_covers() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=1000), rng.uniform(1, 2, 1000)
    truth = mean + std * rng.normal(size=1000)
    found = score(mean, std, truth, 0.9)
    ratio = np.abs(truth - mean) / std
    assert (ratio <= found).mean() >= 0.9 > (ratio <= found * (1 - 1e-9)).mean()
    assert score(mean, 0 * std, truth, 0.9) == math.inf
    assert score(mean, 0 * std, mean, 0.9) == 0.0


def test_the_rank_and_too_few_patients() -> None:
    assert conformal_factor([3.0, 1.0, 2.0], 0.5) == 2.0  # ceil(4 x 0.5) = 2nd
    assert conformal_factor(list(range(1, 10)), 0.9) == 9.0
    with pytest.raises(ValueError, match="at least 9"):
        conformal_factor(list(range(1, 9)), 0.9)
    with pytest.raises(ValueError, match="spread"):
        conformal_factor([math.inf, math.inf], 0.5)


def kept(rank_shift: int) -> int:
    """In how many of 2000 trials of 19 patients a 20th keeps the promise of 80 %."""
    rng = np.random.default_rng(1)
    scores = rng.standard_gamma(1.5, size=(2000, 20))
    confidence = 0.8 + rank_shift / 20
    return sum(new <= conformal_factor(list(old), confidence) for *old, new in scores.tolist())


def test_the_promise_holds_as_often_as_promised() -> None:
    # Exactly 80 % here, since (n + 1) 0.8 = 16: binomial, 1e-6 on both sides.
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], 2000, 0.8)
    assert low <= kept(0) <= high
    assert kept(-2) < low  # two ranks lower, and the test would see it


def promises_kept(broken: bool) -> int:
    """Of the whole way from pixels: for how many of 600 new patients 90 % of them are covered.

    Deviations are far too small, and by another factor for every patient; errors have heavy tails
    and are correlated. ``broken`` takes every pixel of the calibration set for a case of its own,
    which is what a split by slice or by pixel amounts to.
    """
    rng = np.random.default_rng(3)
    kept = 0
    for _ in range(600):
        own = 3 * rng.standard_gamma(2.0, (15, 1))  # 14 patients, and a new one
        shared = rng.standard_t(3, (15, 1))
        truth = own * (shared + rng.standard_t(3, (15, 60)))
        mean, std = np.zeros_like(truth), np.ones_like(truth)
        if broken:
            scores = np.abs(truth[:14]).ravel().tolist()  # each the score of its one pixel
        else:
            scores = [score(*patient, 0.9) for patient in zip(mean, std, truth[:14], strict=False)]
        factor = conformal_factor(scores, 0.8)
        low, high = Factor(factor, 0.9, 0.8, 14, "ct").interval(mean[14], std[14])
        kept += ((low <= truth[14]) & (truth[14] <= high)).mean() >= 0.9
    return kept


def test_the_promise_holds_from_pixels_to_intervals() -> None:
    # (14 + 1) 0.8 = 12: exactly 80 % of new patients; binomial, 1e-6 on both sides.
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], 600, 0.8)
    kept = promises_kept(broken=False)
    assert low <= kept <= high
    kept = promises_kept(broken=True)
    assert kept < low  # pixels are not patients, and the test would see it


def test_a_calibration_splits_by_patient_and_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    patients = []
    for patient in range(12):
        own = rng.standard_gamma(4) / 4  # how far off a patient's deviations are
        files = []
        for k in range(2):
            file = tmp_path / f"{patient}-{k}.npz"
            std = np.ones((1, 20, 20))
            truth = own * rng.normal(size=std.shape)
            save_arrays(file, {"mean": 0 * std, "std": std, "truth": truth}, {})
            files.append(file)
        patients.append(tuple(files))
    cases = Cases(tuple(patients), "ct", {"samples": 4}, 4)
    factor = calibrated(cases, 0.9, 0.8, 0.25, 0)
    assert (factor.patients, factor.tested) == (9, 3) and 0 <= factor.kept <= 3
    assert len(factor.coverage) == len(factor.calibrated) == 4
    # At the level of the promise both curves are of the same intervals.
    whole = [truth_of(files) for files in patients]
    order = np.random.Generator(np.random.Philox(0)).permutation(12)[:3]
    shares = [(np.abs(whole[k]) <= factor.factor).mean() for k in order]
    assert dict(factor.calibrated)[0.9] == pytest.approx(np.mean(shares), abs=1e-6)
    assert factor.kept == sum(share >= 0.9 for share in shares)
    assert [nominal for nominal, _ in factor.coverage] == [0.5, 0.8, 0.9, 0.95]
    save_json(tmp_path / "c.json", factor.to_dict())
    assert read_factor(tmp_path / "c.json") == factor
    assert "at least 90%" in factor.guarantee and "finite sample" in factor.guarantee


def truth_of(files: tuple[Path, ...]) -> np.ndarray:
    return np.concatenate([load_arrays(file, "cell")[0]["truth"] for file in files])


def test_a_calibration_of_another_run_is_refused() -> None:
    factor = Factor(1.2, 0.9, 0.9, 10, "ct", {"steps": 50, "samples": 8})
    factor.check_run("ct", {"steps": 50, "samples": 8, "seed": 3, "device": "cuda"})
    with pytest.raises(ValueError, match="steps differ"):
        factor.check_run("ct", {"steps": 20, "samples": 8})
    with pytest.raises(ValueError, match="modality"):
        factor.check_run("mri", {"steps": 50, "samples": 8})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "invdiff calibration"}', "\x00"])
def test_files_that_are_no_calibration(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match="calibration file"):
        read_factor(tmp_path / "c.json")
