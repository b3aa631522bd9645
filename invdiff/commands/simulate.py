"""``invdiff simulate``: a scan that never was, as the files that a scanner leaves."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from invdiff.commands.privacy import guarded

__all__ = ["Body", "simulate"]


class Body(StrEnum):
    """What a simulated CT scanner sees."""

    head = "head"
    torso = "torso"


simulate = typer.Typer(
    name="simulate",
    help="Write simulated scans: a DICOM series and its measurement, for trying everything.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option("--out", help="A new folder.")]
Slices = Annotated[int, typer.Option(min=1, help="How many.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the phantom and the noise.")]
Truth = Annotated[bool, typer.Option("--truth/--no-truth", help="Store the true images too.")]
Json = Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")]


@simulate.command("ct")
def simulate_ct_command(
    out: Out,
    body: Annotated[Body, typer.Option(help="Which phantom.")] = Body.torso,
    slices: Slices = 4,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Rows and columns.")] = 128,
    views: Annotated[int, typer.Option(min=1, help="Directions over half a turn.")] = 30,
    photons: Annotated[float, typer.Option(min=1.0, help="Per ray, before the body.")] = 1e5,
    seed: Seed = 0,
    truth: Truth = True,
    as_json: Json = False,
) -> None:
    """A DICOM CT series of a phantom, and its sinograms in a measurement file."""
    from invdiff.commands.simulated_ct import CTScan, write_ct

    with guarded(out):
        scan = CTScan(body.value, slices, size, views, photons, seed)
        _tell(out, write_ct(out, scan, truth), as_json)


@simulate.command("mri")
def simulate_mri_command(
    out: Out,
    slices: Slices = 4,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Rows and columns.")] = 128,
    coils: Annotated[int, typer.Option(min=1, max=128, help="Receiver coils.")] = 8,
    acceleration: Annotated[
        float, typer.Option(min=1.0, help="Of all columns over those measured.")
    ] = 3.0,
    noise: Annotated[
        float, typer.Option(min=1e-6, help="Of the brightest pixel, each real component.")
    ] = 0.005,
    seed: Seed = 0,
    truth: Truth = True,
    as_json: Json = False,
) -> None:
    """A raw multi-coil HDF5 file in fastMRI's layout, and a DICOM MR series of the phantom."""
    from invdiff.commands.simulated_mri import MRIScan, write_mri

    with guarded(out):
        scan = MRIScan(slices, size, coils, acceleration, noise, seed)
        _tell(out, write_mri(out, scan, truth), as_json)


def _tell(out: Path, about: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(about, indent=2))
    else:
        names = ", ".join(str(name) for name in _listed(about["files"]))
        typer.echo(f"simulated {about['modality']}, written to {out}: {names}")
        typer.echo(f"next: invdiff recon {out} --out RESULT")


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []
