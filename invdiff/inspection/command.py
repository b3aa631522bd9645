"""``invdiff check-prior``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check_prior"]


def check_prior(
    prior: Annotated[str, typer.Argument(help="A name, as 'photo', or a file or folder.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write what was found.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for report.json and figure.png.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="The side of the images, in pixels.")
    ] = None,
    span: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", help="The range of images, instead of what the prior declares."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Another seed gives other noise.")] = 0,
) -> None:
    """Let a prior denoise known images, and name what is wrong with how it is declared.

    Exit status 1 means that something has to be mended.
    """
    from invdiff.files import save_json
    from invdiff.inspection.report import draw_inspection, inspection_text
    from invdiff.inspection.run import inspect_prior
    from invdiff.priors import load_prior

    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out needs a folder. Give another name.")
    found = inspect_prior(
        load_prior(prior, device), size=size, value_range=span, seed=seed, device=device
    )
    typer.echo(inspection_text(found))
    content = json.loads(json.dumps(found.to_json()))
    for path in filter(None, (json_file, out and out / "report.json")):
        save_json(path, content)
    if out is not None:
        draw_inspection(out / "figure.png", found)
        typer.echo(f"\nwritten to {out}: report.json, figure.png")
    if not found.ok:
        raise typer.Exit(1)
