"""``invdiff eval``: scores of reconstructions that were made by anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from invdiff.commands.exit_codes import ExitCode
from invdiff.commands.privacy import guarded

__all__ = ["evaluate"]


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Reconstructions, or one DICOM series.")],
    truth: Annotated[Path, typer.Option("--truth", help="The truth, under the same names.")],
    data_range: Annotated[
        float, typer.Option(min=1e-30, help="R of PSNR and SSIM, in the images' unit.")
    ],
    array: Annotated[
        str | None, typer.Option(help="Which array of npz files, if they have several.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A JSON file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Show files' names. They may name patients.")
    ] = False,
) -> None:
    """Score images against a truth: npz, npy, PNG, TIFF, NIfTI, DICOM, or invdiff's own.

    Nothing is clipped, stretched or aligned. Exit status 3 if some could not be scored.
    """
    with guarded(folder, truth, out):
        from invdiff.commands.scores import score_folders, table
        from invdiff.files import save_json

        found = score_folders(folder, truth, data_range, array, names)
        if out is not None:
            save_json(out, found)
    typer.echo(json.dumps(found, indent=2) if as_json else table(found))
    raise typer.Exit(ExitCode.SOME_FAILED if found["failed"] else ExitCode.DONE)
