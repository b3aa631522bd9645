"""The certificate's own test: it passes exact draws and finds out what is broken."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import certify_gaussian as certificate

from invdiff import DDS
from invdiff.operators import MeanPooling
from invdiff.samplers.base import Image, Kind

SAMPLES = 64


@pytest.fixture(scope="module")
def case() -> certificate.Case:
    return certificate.gaussian_case("small", "Small", MeanPooling((1, 10, 10), 2), 2)


@pytest.fixture(scope="module")
def mixture() -> certificate.Case:
    return certificate.mixture_case(2)


@dataclasses.dataclass(frozen=True)
class Zero:
    """Answers every problem with an empty image."""

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    def init(self, problem, prior, sigma, rng):
        return Image(torch.zeros(len(problem), *problem.operator.domain))

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        return state, {}


def of(case, name):
    return next(each for each in certificate.methods(case, True, False) if each.name == name)


def test_exact_draws_pass(case):
    """Bounds are five standard errors of 64 draws and a few independent directions."""
    row = certificate.certify(case, of(case, "exact draws"), SAMPLES)
    assert row["e"] < 0.25
    for name in ("variance", "tight", "loose"):
        assert row[name] == pytest.approx(1, abs=0.3)
    assert row["coverage"] == pytest.approx(0.9, abs=0.05)


def test_a_sampler_is_between_the_exact_and_the_ignorant(case):
    row = certificate.certify(case, certificate.method(DDS(), 20), SAMPLES)
    ignorant = certificate.certify(case, of(case, "prior draws (y ignored)"), SAMPLES)
    assert row["e"] < 0.5 < 1 < ignorant["e"]
    assert 0.3 < row["variance"] < 1 < 2 < ignorant["variance"]
    assert row["calls"] == 20
    assert row["derivatives"] == 0


def test_the_zero_estimator_is_found_out(case):
    row = certificate.certify(case, certificate.method(Zero(), 5), SAMPLES)
    assert row["e"] > 3
    assert row["variance"] == 0
    assert row["coverage"] < 0.01
    assert row["chi2"] > 10


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda x, mean: mean + 0.5 * (x - mean), "variance"),
        (lambda x, mean: mean + 1.5 * (x - mean), "variance"),
        (lambda x, mean: x + 0.05, "e"),
    ],
    ids=("narrow", "wide", "shifted"),
)
def test_spoilt_draws_are_found_out(case, change, column):
    """Exact draws made too narrow, too wide or shifted leave the band of the test above."""
    post = certificate.exact_draws(case, SAMPLES, 0)
    mean = case.exact.mean[:, None]
    row = certificate.score(dataclasses.replace(post, x=change(post.x, mean)), case.exact)
    assert row["e"] > 0.3 if column == "e" else abs(row["variance"] - 1) > 0.5


def test_mode_weights(mixture):
    """The exact weight, within five standard errors; draws of the prior are far from it."""
    exact = float(mixture.exact.weights[0, 0])
    assert exact == pytest.approx(0.9259, abs=1e-4)
    row = certificate.certify(mixture, of(mixture, "exact draws"), SAMPLES)
    assert row["mode"] == pytest.approx(
        exact, abs=5 * (exact * (1 - exact) / (2 * SAMPLES)) ** 0.5
    )
    ignorant = certificate.certify(mixture, of(mixture, "prior draws (y ignored)"), SAMPLES)
    assert ignorant["mode"] < 0.75


def test_filters_are_pooled_with_equal_weight(case):
    """Eight filters of 8 particles: weights sum to 1/8 in each, whatever their evidence."""
    small = certificate.method(certificate.TDS(), 10, particles=8)
    post = small.run(case, SAMPLES, 0)
    assert post.x.shape[:2] == (2, SAMPLES)
    assert torch.allclose(post.weights.reshape(2, 8, 8).sum(2), torch.full((2, 8), 0.125).double())
    row = certificate.certify(case, small, SAMPLES)
    assert 0 < row["ess"] <= 1
    assert row["evidence_error"] is not None


def test_markdown_goes_between_the_markers(case, tmp_path):
    rows = [certificate.certify(case, of(case, "exact draws"), SAMPLES)]
    text = certificate.markdown(rows, {case.name: case.title})
    assert "| **exact draws** | – | – |" in text
    page = tmp_path / "page.md"
    page.write_text(f"before\n{certificate.BEGIN}\nold\n{certificate.END}\nafter\n", "utf-8")
    certificate.write_markdown(page, text)
    written = page.read_text("utf-8")
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert text in written
    assert "old" not in written
    page.write_text("no markers", "utf-8")
    with pytest.raises(ValueError, match="add them"):
        certificate.write_markdown(page, text)


def test_a_peer_sees_the_same_problem(case):
    """deepinv's DiffPIR, on [-1, 1] inside, lands near our exact mean; every call is counted."""
    peers = pytest.importorskip("certify_peers")
    peer = next(each for each in peers.PEERS if each.name.startswith("DiffPIR"))
    post = peers.run_peer(peer, case.problem, case.prior, SAMPLES, 0)
    row = certificate.score(dataclasses.replace(post, x=post.x.double()), case.exact)
    assert row["e"] < 0.6
    assert post.counts["prior"] == peer.steps
    denoiser, x = peers.Denoiser(case.prior), case.problem.operator.adjoint(case.problem.y)
    x = x.requires_grad_()
    level = torch.tensor(0.2)
    assert torch.equal(denoiser(x, 0.2), case.prior(x, level))
    denoiser(x, torch.full((2, 1, 1, 1), 0.2)).sum().backward()
    assert denoiser.counts == {"prior": 4, "vjp": 2}
