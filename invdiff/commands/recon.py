"""``invdiff recon``: from measurements to images with uncertainty, for files and folders."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from invdiff.commands.exit_codes import ExitCode
from invdiff.commands.privacy import guarded

__all__ = ["recon"]

MODALITIES = ("ct", "mri")


def recon(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH [KEY=VALUE]...",
            help="A measurement file, or a folder of them; then settings as in the file of "
            "--config. 'ct FILE' and 'mri FILE' reconstruct one slice, with a figure.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write to.")] = None,
    sampler: Annotated[str | None, typer.Option(help="See invdiff info; or auto.")] = None,
    prior: Annotated[str | None, typer.Option(help="A name, or a file or folder.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Of every item [8].")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="Noise levels [50].")] = None,
    seed: Annotated[int | None, typer.Option(help="The same gives the same [0].")] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="The most samples in the network at once.")
    ] = None,
    index: Annotated[
        str | None, typer.Option("--slice", help="Which items, from 0 on: 3, or 0-9,20 [all].")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or cuda:1 [cpu].")] = None,
    devices: Annotated[
        str | None, typer.Option(help="Several, as cuda:0,cuda:1: a process for each.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings in YAML.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="From invdiff calibrate: adds intervals.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="With 'ct FILE' or 'mri FILE': where to continue.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Reconstruct measurements. No ground truth is needed; the modality is detected.

    Run again to go on after an interruption, or with what failed: what is done stays. Exit
    status: 0 done, 1 refused, 3 some items failed, 4 misfits are suspect, 75 stopped by a signal.
    """
    from invdiff.commands.one_slice import recon_one_slice
    from invdiff.commands.settings import read_settings
    from invdiff.commands.workers import parse_devices

    options = {
        "sampler": sampler,
        "prior": prior,
        "samples": samples,
        "steps": steps,
        "seed": seed,
        "rows": rows,
        "items": index,
        "device": device,
    }
    paths = [word for word in words if "=" not in word]
    pairs = [word for word in words if "=" in word]
    if words[0] in MODALITIES and len(paths) == 2:
        settings = read_settings(config, pairs, options)
        if calibration is not None or devices is not None:
            raise ValueError(
                "--calibration and --devices belong to 'recon PATH': leave out the modality."
            )
        recon_one_slice(paths[0], Path(paths[1]), settings, out, checkpoint, as_json)
        return
    if len(paths) != 1 or words[0] != paths[0]:
        raise typer.BadParameter("Give one path, and then settings such as sampler=DDS.")
    if device is not None and devices is not None:
        raise typer.BadParameter("Give --device or --devices, not both.")
    if checkpoint is not None:
        raise typer.BadParameter("--checkpoint is not needed: the output folder is continued.")
    path = Path(paths[0])
    with guarded(path, out, config, calibration):
        several = () if devices is None else parse_devices(devices)
        if several:
            options["device"] = several[0]
        settings = read_settings(config, pairs, options)
        _recon(path, settings, out or Path("invdiff-recon"), calibration, several, as_json)


def _recon(
    path: Path,
    settings: Any,
    folder: Path,
    calibration: Path | None,
    devices: tuple[str, ...],
    as_json: bool,
) -> None:
    from invdiff.commands.reconstruction import Reconstruction
    from invdiff.commands.stopping import Stopped, stoppable

    started = time.perf_counter()
    try:
        with stoppable():
            run = Reconstruction.prepare(path, settings, folder, calibration, devices)
            sys.stderr.write(run.found() + "\n")
            finished, figures = run.run(quiet=as_json)
    except Stopped as stopped:
        sys.stderr.write(
            f"invdiff: stopped by {stopped}. What was computed is kept: run the same command "
            "again to go on.\n"
        )
        raise typer.Exit(ExitCode.STOPPED) from None
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        typer.echo(_summary(figures, time.perf_counter() - started, finished))
    raise typer.Exit(figures["exit_code"])


def _summary(figures: dict[str, Any], seconds: float, names: Sequence[str]) -> str:
    lines = [
        f"{figures['done']} of {len(figures['items'])} items done, {figures['failed']} failed, "
        f"{figures['suspect']} suspect, {seconds:.1f} s"
    ]
    dicom = figures.get("dicom", {"written": True})
    if not dicom["written"]:
        lines.append(f"no DICOM: {dicom['reason']}")
    if figures["done"] and not figures["calibrated"]:
        lines.append("standard deviations are not calibrated: see invdiff calibrate")
    lines.append(f"written: {', '.join(names)}")
    return "\n".join(lines)
