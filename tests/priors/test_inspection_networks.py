"""The embedded networks declared wrongly, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_inspection import Wrong, misread
from typer.testing import CliRunner

from invdiff.cli import app
from invdiff.inspection import inspect_prior
from invdiff.priors import load_prior


@pytest.mark.parametrize(("name", "kind"), [("photo", "photograph"), ("ct", "ct"), ("mr", "mr")])
def test_the_embedded_priors_pass(name, kind):
    found = inspect_prior(load_prior(name), size=32)
    assert found.ok and f"on {kind} images" in found.verdict


@pytest.mark.parametrize(
    ("name", "declared", "actual"),
    [
        ("photo", (0.0, 1.0), "[-1, 1]"),
        ("photo", (0.0, 255.0), "[-1, 1]"),
        ("ct", (0.0, 1.0), "[-1.024, 3.071] (HU / 1000)"),
        ("ct", (-1024.0, 3071.0), "[-1.024, 3.071] (HU / 1000)"),
    ],
)
def test_wrong_ranges_of_networks_are_named(name, declared, actual):
    prior = load_prior(name)
    wrong = Wrong(prior, declared, (prior.card.channels,))
    found = inspect_prior(wrong, size=48)  # 32 pixels a side leave too little to tell
    assert f"data given to a {actual} model" in found.verdict


def test_a_network_of_reversed_channels_is_named():
    prior = load_prior("photo")
    found = inspect_prior(Wrong(lambda x, s: prior(x.flip(1), s).flip(1)), size=32)
    assert found.verdict == "Looks like RGB images given to a BGR model."


@pytest.mark.parametrize(("declared", "actual"), [("x0", "epsilon"), ("epsilon", "v")])
def test_forms_of_networks_are_named(declared, actual):
    found = inspect_prior(misread(load_prior("photo"), declared, actual), size=32)
    assert f"{actual} model declared as {declared}" in found.verdict


def test_the_command_line(tmp_path: Path):
    run = CliRunner().invoke(
        app, ["check-prior", "photo", "--size", "32", "--json", str(tmp_path / "a.json"),
              "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert "Denoises as declared" in run.output
    assert json.loads((tmp_path / "a.json").read_text())["ok"] is True
    assert (tmp_path / "out/figure.png").exists() and (tmp_path / "out/report.json").exists()


def test_the_command_line_fails_on_a_mistake():
    run = CliRunner().invoke(app, ["check-prior", "photo", "--size", "32", "--range", "0", "255"])
    assert run.exit_code == 1
    assert "Looks like [0, 255] data given to a [-1, 1] model." in run.output


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_networks_on_a_gpu_are_inspected_there():
    assert inspect_prior(load_prior("photo", "cuda"), size=64, device="cuda").ok
