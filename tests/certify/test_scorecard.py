"""The scorecard's scripts: other libraries see the same problem, and pages are written whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import scorecard_peers as peers
import scorecard_tables as tables

from invdiff.certify.gaussian import gaussian_images
from invdiff.certify.mixtures import lattice
from invdiff.certify.run import certify


@pytest.mark.parametrize("operator", ["inpainting", "mri"])
def test_a_flat_problem_is_the_same_problem(operator: str) -> None:
    """In other units and without what was not measured; single precision."""
    case = gaussian_images("test", operator, 8, 0.05, items=2, draws=4)
    flat = peers.dense(case, spread=0.5, center=0.25)
    z = (case.images.float() - flat.offset) / flat.scale
    assert float(z.std()) == pytest.approx(0.5, rel=1e-3)
    assert float(z.mean()) == pytest.approx(0.25, rel=1e-3)
    chi2 = ((flat.y - flat.forward(z)) / flat.sigma).square().sum(1)
    assert torch.allclose(chi2, case.problem.misfit(case.images.float()), rtol=1e-3)
    level = torch.tensor(0.3)
    clean = flat.scale * flat.denoise(z.requires_grad_(), level) + flat.offset
    exact = case.prior(case.images.float(), flat.scale * level)
    assert torch.allclose(clean, exact, atol=1e-5)
    clean.sum().backward()
    assert flat.counts == {"prior": 2, "vjp": 2}


@pytest.mark.parametrize(("library", "name"), [("deepinv", "PiGDM"), ("azula", "PGDM")])
def test_peers_land_near_the_exact_mean(library: str, name: str) -> None:
    """Within 0.8 standard deviations: biased, but on the right scale and of the right image."""
    case = gaussian_images("test", "inpainting", 8, 0.05, items=4, draws=80)
    peer = next(p for p in peers.peers(30) if (p.library, p.name) == (library, name))
    row = certify([case], peer, 20)
    assert row["mean_error_sd"] < 0.8
    assert row["network_evaluations"] == 30 and row["samples"] == 20


def test_what_a_peer_cannot_do_is_said() -> None:
    case = lattice("test", 8, 2, seed=0, draws=80)
    ddrm = next(p for p in peers.peers(30) if p.name == "DDRM")
    assert "singular vectors" in certify([case], ddrm, 20)["reason"]


def test_pages_keep_what_is_around_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n", "utf-8")
    tables.write_between(page, "new")
    assert page.read_text("utf-8") == f"before\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nafter\n"
    page.write_text("no markers", "utf-8")
    with pytest.raises(ValueError, match="add them"):
        tables.write_between(page, "new")


def test_single_draws_are_compared_with_their_floor_and_many_samples_with_the_covariance() -> None:
    """Relative errors 3 and 4 % make 5 % of the ratio 2; rows without figures have dashes."""
    empty = dict.fromkeys(key for _, key, _ in (*tables.COLUMNS, *tables._DIVERGENCE))
    row = empty | {
        "library": "invdiff", "sampler": "TDS, one of 8", "problem": "p", "grade": "A",
        "items": 3, "samples": 1000, "reason": None, "kl": 0.1234, "kl_floor": 0.01,
        "eigen_min": 0.9, "eigen_max": 1.1, "sliced_wasserstein": 2.0,
        "sliced_wasserstein_se": 0.06, "sliced_wasserstein_floor": 1.0,
        "sliced_wasserstein_floor_se": 0.04,
    }  # fmt: skip
    failed = row | {"sampler": "other", "grade": "F", "sliced_wasserstein": None}
    text = tables.field_tables("title", [row, failed])
    figures = [line for line in text.splitlines() if line.count("|") > 10]
    first, second = (
        next(line for line in figures if line.startswith(f"| {name} |"))
        for name in ("TDS, one of 8", "other")
    )
    assert first.endswith("| 0.123 | 0.010 | 0.90 | 1.10 | 2.00 ± 0.10 |")
    assert second.endswith("| - |")
    few = tables.field_tables("title", [row | {"samples": 999, "sampler": "TDS"}])
    assert "KL" not in few
    assert "SW2 / floor" not in few
