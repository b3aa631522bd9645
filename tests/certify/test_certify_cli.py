"""``invdiff certify``, the rows that it writes, and the samplers that it runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from typer.testing import CliRunner

from invdiff import TDS
from invdiff.certify import cases, run
from invdiff.certify.case import Case
from invdiff.certify.cases import Benchmark
from invdiff.certify.entries import Entry, ExactDraws, entries, find_entries
from invdiff.certify.gaussian import anisotropic
from invdiff.certify.run import certify
from invdiff.cli import app
from invdiff.samplers.base import Image, Kind, prior_noise

KEYS = (
    "sampler problem mean_error_sd variance_ratio sliced_wasserstein sliced_wasserstein_floor "
    "mode_weight_error coverage_90 log_evidence_error network_evaluations seconds grade"
).split()


@pytest.fixture(scope="module")
def case() -> Case:
    return anisotropic("small", 3, draws=300)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    """One problem of three items, instead of all."""
    known = {"small": Benchmark("small", lambda items: [case], 3, 40, (3, 40))}
    monkeypatch.setattr(cases, "benchmarks", lambda: known)


def invoke(*arguments: str | Path) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(app, ["certify", *map(str, arguments)])
    return done.output, done.exception


def test_rows_are_written_and_shown(small: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    output, error = invoke("--sampler", "DDS", "--sampler", "TDS", "--steps", 6, "--json", path)
    assert error is None
    rows = json.loads(path.read_text())
    assert [row["sampler"] for row in rows] == ["DDS", "TDS"]
    assert all(key in row for row in rows for key in KEYS)
    dds, tds = rows
    assert dds["network_evaluations"] == dds["steps"] == 6
    assert dds["log_evidence_error"] is None and tds["log_evidence_error"] > 0
    assert (dds["samples"], tds["samples"]) == (40, 96)
    for name in ("mean_error_sd", "variance_ratio", "coverage_90", "sliced_wasserstein"):
        assert dds[f"{name}_se"] > 0
    assert "small" in output and "grade" in output and "TDS" in output


def test_unknown_names_are_told_what_is_known(small: None) -> None:
    assert "no sampler 'nope'. Known: exact draws, DPS" in str(invoke("--sampler", "nope")[1])
    assert "no problem 'nope'. Known: small" in str(invoke("--problem", "nope")[1])


def test_the_same_seed_gives_the_same_row(case: Case) -> None:
    entry = dataclasses.replace(find_entries(["DPS"])[0], steps=5)
    first, second, other = (certify([case], entry, 40, seed) for seed in (1, 1, 2))
    first["seconds"] = second["seconds"] = 0
    assert first == second
    assert other["mean_error_sd"] != first["mean_error_sd"]


@dataclasses.dataclass(frozen=True)
class Broken:
    """Diverges for some rows, or refuses."""

    refuses: bool

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = True

    def init(self, problem, prior, sigma, rng):
        if self.refuses:
            raise TypeError("no singular vectors are known")
        return Image(prior_noise(problem, sigma, rng))

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        return Image(torch.where(state.x > 100, torch.nan, state.x)), {}


def test_what_cannot_run_says_why(case: Case) -> None:
    diverged = certify([case], Entry("x", Broken(False), 3), 40)
    assert diverged["grade"] == "F" and "3 of 3 items diverged" in diverged["reason"]
    refused = certify([case], Entry("x", Broken(True), 3), 40)
    assert refused["grade"] is None and "singular vectors" in refused["reason"]
    assert set(KEYS) <= set(refused) and refused["mean_error_sd"] is None
    json.dumps([diverged, refused], allow_nan=False)


def test_filters_are_pooled_with_equal_weight(case: Case) -> None:
    """Whatever their evidence: the weights of each sum to 1/5."""
    posterior, groups = Entry("x", TDS(), 8, particles=8, filters=5).run(case, 40, 0)
    assert groups == 5 and posterior.x.shape == (3, 40, 16)
    shares = posterior.weights.reshape(3, 5, 8).sum(2)
    assert torch.allclose(shares, torch.full((3, 5), 0.2, dtype=torch.float64))
    assert posterior.log_evidence.shape == (15,)


def test_one_each_draws_by_weight_and_costs_all_particles(case: Case) -> None:
    pooled, _ = Entry("x", TDS(), 8, particles=4, filters=1).run(case, 40, 0)
    single, groups = Entry("x", TDS(), 8, particles=4, one_each=True).run(case, 10, 0)
    assert groups == 10 and single.x.shape == (3, 10, 16)
    assert single.counts["prior"] == 4 * pooled.counts["prior"] == 32
    assert torch.allclose(single.weights, torch.full((3, 10), 0.1, dtype=torch.float64))
    # Same filters, same identities: every sample is one of its filter's particles.
    near = (pooled.x.reshape(3, 10, 4, 16) == single.x[:, :, None]).all(3)
    assert bool(near.any(2).all())
    weights = 10 * pooled.weights.reshape(3, 10, 4)
    assert float((weights * near).sum(2).mean()) > 0.25  # heavier ones more often than not


def test_all_entries_have_names_and_exact_draws_come_first() -> None:
    known = entries()
    assert isinstance(next(iter(known.values())), ExactDraws)
    assert find_entries([]) == list(known.values())


def test_steps_change_samplers_and_not_the_reference(small: None) -> None:
    problems = cases.find_benchmarks([], quick=True)
    rows = list(run.certify_all(problems, find_entries(["exact draws", "DDS"]), steps=4))
    assert [row["steps"] for row in rows] == [0, 4]
