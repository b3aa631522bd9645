"""``invdiff calibrate``: how often intervals hold the truth, and the factor that makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from invdiff.commands.privacy import guarded

__all__ = ["calibrate"]


def calibrate(
    results: Annotated[
        list[Path], typer.Argument(help="Folders that recon wrote, of scans with known truth.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    pixels: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="The share of pixels to cover.")
    ] = 0.9,
    confidence: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="For a new patient.")
    ] = 0.9,
    held_out: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="The share of patients that only test.")
    ] = 0.25,
    groups: Annotated[
        Path | None,
        typer.Option(help="YAML: item-0001: patient; by default every file is a patient."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split of the patients.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the file's content.")] = False,
) -> None:
    """Find the factor on standard deviations that keeps a promise on new patients.

    recon --calibration FILE applies it. The split is by patient, never by slice.
    """
    with guarded(*results, out, groups):
        from invdiff.commands.calibration import calibrated, read_cases
        from invdiff.files import save_json

        cases = read_cases(results, groups)
        factor = calibrated(cases, pixels, confidence, held_out, seed)
        save_json(out, factor.to_dict())
    if as_json:
        typer.echo(json.dumps(factor.to_dict(), indent=2))
        return
    typer.echo(f"on {factor.tested} held-out patients, the share of pixels within the interval:")
    typer.echo(f"{'nominal':>8}{'before':>10}{'after':>10}")
    for (nominal, before), (_, after) in zip(factor.coverage, factor.calibrated, strict=True):
        typer.echo(f"{nominal:8.0%}{before:10.1%}{after:10.1%}")
    typer.echo(
        f"factor {factor.factor:.4f} from {factor.patients} patients; it covers {pixels:.0%} of "
        f"the pixels of {factor.kept} of the {factor.tested} held-out patients"
    )
    typer.echo(factor.guarantee)
