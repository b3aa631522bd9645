"""``invdiff check``: what can be known before a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from invdiff.commands.exit_codes import ExitCode
from invdiff.commands.privacy import guarded

__all__ = ["check"]


def check(
    words: Annotated[
        list[str], typer.Argument(metavar="PATH [KEY=VALUE]...", help="As for recon.")
    ],
    config: Annotated[Path | None, typer.Option(help="Settings in YAML, as for recon.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Check a measurement before a run: adjoint, norm, range, noise, memory and time.

    Looks at one item of every file. Exit status 5 if something has to be looked at.
    """
    if "=" in words[0] or any("=" not in word for word in words[1:]):
        raise typer.BadParameter("Give one path, and then settings such as sampler=DDS.")
    path = Path(words[0])
    with guarded(path, config):
        from invdiff.commands.checks import check_source
        from invdiff.commands.settings import read_settings
        from invdiff.commands.sources import find_source

        source = find_source(path)
        found = check_source(source, read_settings(config, words[1:], {}))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(f"detected {source.modality}: {source.kind}, {len(source.items)} items")
        for item in found["items"]:
            typer.echo(item["label"])
            for row in item["checks"]:
                mark = "ok" if row["ok"] else "LOOK"
                typer.echo(f"  {mark:5}{row['name']:14}{row['says']}")
        typer.echo(found["estimate"]["says"])
    raise typer.Exit(ExitCode.DONE if found["ok"] else ExitCode.FAILED_CHECK)
