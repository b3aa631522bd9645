"""What `scripts/measure_reconstruction.py` says: coverage against known laws, and its tables."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import measure_reconstruction
from measure_reconstruction import coverage, measure
from reconstruction_tables import tables
from reconstruction_trials import PHOTOS, TUNING_PHOTOS, photo_trial

COUNT, SIDE = 19, 100
LEVELS = [(COUNT + 1 - 2 * j) / (COUNT + 1) for j in range(1, COUNT // 2 + 1)]
EVERYWHERE = torch.ones(SIDE, SIDE, dtype=torch.bool)
# Pixels are independent: the standard error of a share is at most 0.5 / 100. Five of them, over
# nine levels, are exceeded by chance with probability 5e-6.
TOLERANCE = 5 * 0.5 / SIDE


def draws(seed: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    centre = torch.randn(1, SIDE, SIDE, generator=rng)
    noise = torch.randn(COUNT + 1, 1, SIDE, SIDE, generator=rng)
    return centre + spread * noise[1:], centre + noise[0]


def test_samples_of_the_right_law_cover_at_exactly_the_level_of_their_order_statistics():
    samples, truth = draws(0)
    found = coverage(samples, truth, EVERYWHERE)
    assert LEVELS[0] == 0.9
    assert np.abs(np.array(found) - LEVELS).max() < TOLERANCE


@pytest.mark.parametrize("spread", [0.8, 1.25])
def test_samples_too_narrow_or_too_wide_are_seen(spread):
    samples, truth = draws(1, spread)
    found = coverage(samples, truth, EVERYWHERE)
    assert (found[2] - LEVELS[2]) * (spread - 1) > TOLERANCE * abs(spread - 1)


def test_only_the_pixels_inside_count():
    samples, truth = draws(2)
    inside = EVERYWHERE.clone()
    inside[:, : SIDE // 2] = False
    truth[:, :, : SIDE // 2] = 100.0  # outside of every interval
    assert abs(coverage(samples, truth, inside)[0] - 0.9) < TOLERANCE * 2**0.5
    assert abs(coverage(samples, truth, EVERYWHERE)[0] - 0.45) < TOLERANCE


def test_a_row_is_measured_once_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure_reconstruction, "RESULTS", tmp_path / "rows.json")
    image = np.clip(np.random.default_rng(0).normal(0, 0.3, (16, 16)), -1, 1)
    trial = photo_trial("sr", "made up", image, 0)
    results = {"rows": [], "weights": {}}
    for _ in range(2):
        measure(results, trial, "bicubic", 0)
    assert len(results["rows"]) == 1
    assert measure_reconstruction.read() == results
    row = results["rows"][0]
    error = torch.nn.functional.interpolate(trial.problem.y, scale_factor=4, mode="bicubic")[0]
    error = (error.double() + 1) / 2 - trial.truth
    assert row["psnr"] == pytest.approx(-10 * float(error.square().mean().log10()), abs=1e-3)


def test_tables_give_means_without_what_is_apart():
    def row(image, method, psnr, apart=False, **more):
        return {
            "task": "ct60", "image": image, "method": method, "seed": 0, "apart": apart,
            "psnr": psnr, "psnr_inside": psnr, "ssim": 0.5, "chi2": 1.0,
        } | more  # fmt: skip

    sampled = {"coverage": [0.8, 0.7], "coverage_all": [0.9, 0.7], "samples": 5,
               "sample_psnr": 1.0, "sample_ssim": 0.1, "sample_chi2": 1.0,
               "evaluations": 10.0, "derivatives": 0.0}  # fmt: skip
    rows = [
        row("a", "total variation", 30.0),
        row("a", "DDS", 32.0, **sampled),
        row("b", "total variation", 20.0, True),
        row("b", "DDS", 29.0, True, **sampled),
    ]
    weights = {"ct60": {"total variation": {"weight": 5, "psnr": {"10": 2.0, "5": 3.0}}}}
    text = tables({"rows": rows, "weights": weights})
    assert "| CT, 60 views | **80.0** (80 to 80, n = 1); 90.0 |" in text
    assert "| CT, 60 views, over total variation | +1.5 | **+2.00** dB, +0.000, n = 1 |" in text
    assert (
        "| CT, 60 views, body, over total variation | +1.5 | **+9.00** dB, +0.000, n = 1 |" in text
    )
    assert "| total variation | 30.00 / 0.500 | 20.00 / 0.500 | 30.00 / 0.500 |" in text
    assert "**5: 3.00**, 10: 2.00" in text


def test_classical_weights_are_tuned_on_other_photographs():
    assert not set(PHOTOS) & set(TUNING_PHOTOS)
