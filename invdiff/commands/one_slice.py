"""``invdiff recon ct FILE`` and ``invdiff recon mri FILE``: one slice, with a figure."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import torch
import typer

from invdiff.choice import resolve
from invdiff.commands.raw_kspace import measurement_of_raw
from invdiff.commands.settings import Settings
from invdiff.datasets.fastmri import FastMRIFile, is_hdf5
from invdiff.datasets.kspace import KSpace
from invdiff.demos.case import Case
from invdiff.demos.run import run_case, table

__all__ = ["recon_one_slice"]


def recon_one_slice(
    modality: str,
    file: Path,
    settings: Settings,
    out: Path | None,
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    """Writes posterior, images, figure and report of one slice to a folder.

    Raises OSError, ImportError, TypeError or ValueError: What cannot be done, with the reason.
    """
    started = time.perf_counter()
    folder = out or Path(f"invdiff-recon-{modality}")  # a file name may name a patient
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out needs a folder. Give another name.")
    if settings.prior is not None or settings.device != "cpu":
        raise ValueError(
            "Another prior or device needs 'recon PATH', without the modality, which also writes "
            "a report in HTML."
        )
    case = _read(modality, file, settings)
    case = replace(case, sampler=resolve(settings.make_sampler(), case.problem))
    report = run_case(
        case,
        folder,
        samples=settings.samples,
        seed=settings.seed,
        rows=settings.rows,
        checkpoint=checkpoint,
        progress=not as_json,
        started=started,
    )
    typer.echo(json.dumps(report, indent=2) if as_json else table(report))
    if not as_json:
        typer.echo(f"written to {folder}: report.json, figure.png, images.npz, posterior.npz")


def _read(modality: str, file: Path, settings: Settings) -> Case:
    index = None if settings.items == "all" else _number(settings.items)
    if modality == "ct":
        if index is not None:
            raise ValueError("--slice belongs to raw MRI files. A sinogram is one slice.")
        from invdiff.datasets.sinogram import Sinogram
        from invdiff.demos.ct import ct_case

        return ct_case(Sinogram.load(file), settings.steps, "CT reconstruction")
    from invdiff.demos.mri import mri_case, read_kspace

    if not is_hdf5(file):
        kspace, notes = read_kspace(file, index)
        return mri_case(kspace, settings.steps, "MRI reconstruction", notes=notes)
    raw = FastMRIFile.open(file)
    chosen = raw.middle if index is None else index
    measurement = measurement_of_raw(raw, chosen)
    return mri_case(
        KSpace(measurement.data[0], 1.0, measurement.mask[0]),
        settings.steps,
        "MRI reconstruction",
        None if measurement.truth is None else torch.from_numpy(measurement.truth),
        {"slice": chosen, "slices": raw.shape[0], "unit_of_signal": measurement.scale},
    )


def _number(text: str) -> int:
    if not str(text).isdigit():
        raise ValueError(
            f"--slice is {text!r}, expected one number with 'recon mri FILE'. For several slices "
            "leave out the modality."
        )
    return int(text)
