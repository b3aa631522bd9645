"""The command line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.commands.calibrate import calibrate
from invdiff.commands.check import check
from invdiff.commands.evaluate import evaluate
from invdiff.commands.recon import recon
from invdiff.commands.simulate import simulate
from invdiff.errors import NotFinite
from invdiff.inspection.command import check_prior

if TYPE_CHECKING:
    from invdiff.demos.case import Case

__all__ = ["app", "main"]

app = typer.Typer(
    name="invdiff",
    help="Reconstruct images from incomplete, noisy measurements, with uncertainty.",
    epilog="Start with: invdiff demo ct",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Task(StrEnum):
    """The demonstrations."""

    ct = "ct"
    mri = "mri"
    inpaint = "inpaint"
    sr = "sr"


Out = Annotated[Path | None, typer.Option("--out", help="The folder to write to.")]
Samples = Annotated[int, typer.Option(min=1, help="Posterior samples; 2 or more give std maps.")]
Steps = Annotated[int, typer.Option(min=2, help="Noise levels from pure noise to the image.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Rows = Annotated[
    int | None, typer.Option(min=1, help="The most samples in memory of the network at once.")
]
Resume = Annotated[
    Path | None, typer.Option("--checkpoint", help="A folder in which a killed run is continued.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead.")]


@app.command()
def demo(
    task: Annotated[Task, typer.Argument(help="What to reconstruct.")],
    out: Out = None,
    samples: Samples = 8,
    steps: Steps = 50,
    seed: Seed = 0,
    rows: Rows = None,
    checkpoint: Resume = None,
    as_json: Json = False,
) -> None:
    """Reconstruct a real image from simulated measurements, and compare with classical methods.

    Nothing is downloaded. Writes report.json, figure.png, images.npz and posterior.npz.
    """
    started = time.perf_counter()
    make = _demos()[task]
    folder = out or Path(f"invdiff-demo-{task.value}")
    _check_folder(folder)
    _run(make(seed, steps), folder, samples, seed, rows, checkpoint, as_json, started)


@app.command()
def certify(
    sampler: Annotated[list[str] | None, typer.Option(help="One or more; all if omitted.")] = None,
    problem: Annotated[list[str] | None, typer.Option(help="One or more; see --full.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Instead of each sampler's own.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="A few problems in minutes, or all in hours.")
    ] = True,
    seed: Seed = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write rows.")] = None,
) -> None:
    """Measure how far samplers are from exactly known posteriors; docs/certificate.md explains."""
    from invdiff.certify.cases import find_benchmarks
    from invdiff.certify.entries import find_entries
    from invdiff.certify.run import certify_all
    from invdiff.certify.table import heading, line
    from invdiff.files import save_json

    problems, contenders = find_benchmarks(problem or [], quick), find_entries(sampler or [])
    rows: list[dict[str, Any]] = []
    shown = ""
    for row in certify_all(problems, contenders, quick=quick, steps=steps, seed=seed):
        if row["problem"] != shown:
            shown = row["problem"]
            typer.echo(heading(shown))
        typer.echo(line(row))
        rows.append(row)
        if json_file is not None:
            save_json(json_file, rows)


@app.command()
def info(as_json: Json = False) -> None:
    """Show versions, devices, samplers and the priors that come with the package."""
    from invdiff.about import about, about_text

    facts = about()
    typer.echo(json.dumps(facts, indent=2) if as_json else about_text(facts))


app.command()(recon)
app.command()(check)
app.command("eval")(evaluate)
app.command()(calibrate)
app.add_typer(simulate)
app.command()(check_prior)


def _demos() -> dict[Task, Callable[[int, int], Case]]:
    from invdiff.demos.ct import ct_demo
    from invdiff.demos.mri import mri_demo
    from invdiff.demos.photo import inpaint_demo, sr_demo

    return {Task.ct: ct_demo, Task.mri: mri_demo, Task.inpaint: inpaint_demo, Task.sr: sr_demo}


def _run(
    case: Case,
    folder: Path,
    samples: int,
    seed: int,
    rows: int | None,
    checkpoint: Path | None,
    as_json: bool,
    started: float,
) -> None:
    from invdiff.demos.run import run_case, table

    report = run_case(
        case,
        folder,
        samples=samples,
        seed=seed,
        rows=rows,
        checkpoint=checkpoint,
        progress=not as_json,
        started=started,
    )
    typer.echo(json.dumps(report, indent=2) if as_json else table(report))
    if not as_json:
        typer.echo(f"written to {folder}: report.json, figure.png, images.npz, posterior.npz")


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out needs a folder. Give another name.")


def main() -> None:
    """Run the command line: errors become one clear message and exit status 1."""
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, NotFinite, KeyError) as error:
        sys.stderr.write(f"invdiff: error: {error}\n")
        sys.exit(1)
