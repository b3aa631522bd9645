"""The page of a run, item by item from the results of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from invdiff.commands.batch import Outcome
from invdiff.commands.cases import make_case
from invdiff.commands.finished import Finished
from invdiff.commands.sources import Item
from invdiff.demos.case import Case
from invdiff.files import load_arrays, save_arrays
from invdiff.posterior import Posterior
from invdiff.report import (
    Calibration,
    Display,
    Report,
    Split,
    clipped_notice,
    from_posterior,
    joined,
    range_null_split,
    write_report,
)

__all__ = ["write_page"]

TITLES = {"fbp": "Filtered backprojection", "sense": "SENSE", "zero_filled": "Zero-filled"}
PRESETS = {"ct": {"soft tissue": (-160.0, 240.0), "bone": (-500.0, 1500.0)}}
PROBES = 16  # random vectors that tell the share of the data in each pixel


def write_page(run: Finished, figures: dict[str, Any]) -> dict[str, Any]:
    """Writes report.html of the items that are done; returns the figures of the report.

    Raises OSError if it cannot be written.
    """
    done = run.done()
    report = joined((_report(run, item, outcome, figures) for item, outcome in done), len(done))
    write_report(run.folder / "report.html", report)
    return dict(report.result)


def _report(run: Finished, item: Item, outcome: Outcome, figures: dict[str, Any]) -> Report:
    measurement = item.read()
    case = make_case(measurement, run.settings, run.priors)
    posterior = Posterior.load(run.ledger.path(outcome["cell"], ".posterior"))
    clipped = int(figures["dicom"].get("clipped", 0))
    pixels = len(run.items) * int(np.prod(outcome["shape"]))
    return from_posterior(
        posterior,
        case.problem.to("cpu"),
        Display(
            lambda images: case.show(images),
            lambda images: case.show_std(images),
            case.unit,
            case.limits,
            case.data_range,
            PRESETS.get(case.task, {}),
        ),
        title="Reconstruction",
        caption=case.caption,
        simulated=measurement.provenance.get("simulated") is True,
        baselines={TITLES[name]: image.cpu() for name, image in case.baselines.items()},
        truth=None if case.truth is None else case.truth[None],
        split=_split(run, outcome, case, posterior) if run.settings.split else None,
        calibration=_calibration(run),
        notices=clipped_notice(clipped, pixels),
    )


def _calibration(run: Finished) -> Calibration | None:
    if run.factor is None:
        return None
    factor = run.factor
    return Calibration(factor.coverage, factor.guarantee, factor.factor, factor.patients)


def _split(run: Finished, outcome: Outcome, case: Case, posterior: Posterior) -> Split:
    """What the data say and what the prior, kept beside the cell's other results."""
    path = run.ledger.path(outcome["cell"], ".split.npz")
    if not path.is_file():
        variance = float(case.prior.error_variance(case.ladder[0]))
        mean = posterior.mean.to(case.problem.y.device)
        found = range_null_split(case.problem, mean, variance, probes=PROBES)
        _save_split(path, found)
    arrays, about = load_arrays(path, "split")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Split(**tensors, probes=int(about["probes"]))


def _save_split(path: Path, split: Split) -> None:
    names = ("data", "prior", "share", "fraction", "residual")
    arrays = {name: getattr(split, name).cpu().numpy() for name in names}
    save_arrays(path, arrays, {"probes": split.probes})
