"""What a run leaves when its items are done: arrays, DICOM, the report, and the figures."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from invdiff.commands.batch import Outcome
from invdiff.commands.dicom_results import write_dicom
from invdiff.commands.exit_codes import ExitCode
from invdiff.commands.finished import Finished
from invdiff.commands.intervals import Factor
from invdiff.commands.ledger import remove_parts
from invdiff.commands.report_page import write_page
from invdiff.commands.sources import Item
from invdiff.datasets.result_file import new_result
from invdiff.files import save_arrays, save_json
from invdiff.provenance import versions

__all__ = ["exit_code", "write_results"]

FORMAT, VERSION = "invdiff recon", 1
WRITTEN = ("dicom.", "intervals.", "posterior.", "report.", "result.", "timings.")
TIMINGS = ("seconds", "peak_memory_gb", "rows")  # what differs from run to run


def write_results(run: Finished) -> dict[str, Any]:
    """Writes them all and returns the figures; one process at a time does.

    Raises OSError if the disk is full or the folder cannot be written.
    """
    while True:
        with run.ledger.lock("result") as mine:
            if mine:
                remove_parts(run.folder, *WRITTEN)
                return _write(run)
        time.sleep(0.05)


def exit_code(outcomes: Sequence[Outcome]) -> ExitCode:
    """What the items together mean."""
    if any(each["status"] == "failed" for each in outcomes):
        return ExitCode.SOME_FAILED
    return ExitCode.SUSPECT if any(each["suspect"] for each in outcomes) else ExitCode.DONE


def _write(run: Finished) -> dict[str, Any]:
    figures = _figures(run)
    done = run.done()
    if done:
        figures["arrays"] = _arrays(run, done)
        figures["dicom"] = _dicom(run, done)
        if run.factor is not None:
            figures["calibration"] = _intervals(run, done, run.factor)
        figures["report"] = write_page(run, figures)
    timings = [{name: o.get(name) for name in TIMINGS} for o in run.outcomes]
    save_json(run.folder / "timings.json", timings)
    save_json(run.folder / "result.json", figures)
    return figures


def _figures(run: Finished) -> dict[str, Any]:
    failed = sum(each["status"] == "failed" for each in run.outcomes)
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "diagnostic_use": False,
        "modality": run.source.modality,
        "source": run.source.kind,
        "items": [
            {"label": item.label, "file": item.file + 1}
            | {name: value for name, value in outcome.items() if name not in TIMINGS}
            for item, outcome in zip(run.items, run.outcomes, strict=True)
        ],
        "done": len(run.outcomes) - failed,
        "failed": failed,
        "suspect": sum(bool(each.get("suspect")) for each in run.outcomes),
        "calibrated": run.factor is not None,
        "settings": run.settings.to_dict(),
        "versions": versions(),
        "exit_code": int(exit_code(run.outcomes)),
    }


def _arrays(run: Finished, done: list[tuple[Item, Outcome]]) -> dict[str, Any]:
    """posterior.h5, in the unit of the display, if all items have one shape and unit."""
    if importlib.util.find_spec("h5py") is None:
        return {"written": False, "reason": "h5py is not installed: pip install invdiff[mri]"}
    kinds = {(tuple(o["shape"]), o["unit"], o["samples"]) for _, o in done}
    if len(kinds) > 1:
        return {"written": False, "reason": "the items have several shapes or units"}
    ((shape, unit, samples),) = kinds
    about = {
        "settings": run.settings.to_dict(),
        "cells": [o["cell"] for _, o in done],
        "calibrated": run.factor is not None,
    }
    kept = samples if run.settings.keep_samples else 0
    labels = [item.label for item, _ in done]
    with new_result(run.folder / "posterior.h5", labels, shape, kept, unit, about) as writer:
        for index, (item, outcome) in enumerate(done):
            shown = run.pictures(outcome)
            std = shown.get("std", np.zeros_like(shown["mean"]))
            writer.put(index, shown["mean"], std, run.samples(item, outcome) if kept else None)
    return {"written": True, "file": "posterior.h5", "unit": unit, "has_std": _has_std(run, done)}


def _has_std(run: Finished, done: list[tuple[Item, Outcome]]) -> bool:
    return all("std" in run.pictures(outcome) for _, outcome in done)


def _dicom(run: Finished, done: list[tuple[Item, Outcome]]) -> dict[str, Any]:
    if run.volume is None:
        return {"written": False, "reason": "there is no DICOM series beside the measurement"}
    if len(done) < len(run.items):
        return {"written": False, "reason": "items failed; a series is written when all are done"}
    shown = [run.pictures(outcome) for _, outcome in done]
    mean = np.concatenate([each["mean"] for each in shown])
    std = np.concatenate([each["std"] for each in shown]) if "std" in shown[0] else None
    folder = run.folder / "dicom"
    outcomes = [outcome for _, outcome in done]
    about = write_dicom(folder, run.volume, mean, std, outcomes, run.settings, run.factor)
    return {"written": True} | about


def _intervals(run: Finished, done: list[tuple[Item, Outcome]], factor: Factor) -> dict[str, Any]:
    """intervals.npz: what each pixel lies between, for every item."""
    arrays: dict[str, np.ndarray] = {}
    for item, outcome in done:
        shown = run.pictures(outcome)
        low, high = factor.interval(shown["mean"], shown["std"])
        arrays |= {f"{item.label}.low": low, f"{item.label}.high": high}
    save_arrays(run.folder / "intervals.npz", arrays, {"calibration": factor.to_dict()})
    return {"file": "intervals.npz"} | factor.to_dict()
