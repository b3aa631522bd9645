"""The page of a run, item by item from the results of its cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from invdiff.commands.batch import Outcome
from invdiff.commands.cases import make_case
from invdiff.commands.finished import Finished
from invdiff.commands.sources import Item
from invdiff.commands.splits import SPLIT, find_split, load_split, save_split
from invdiff.demos.case import Case
from invdiff.posterior import Posterior
from invdiff.report import (
    Calibration,
    Display,
    Report,
    Split,
    clipped_notice,
    from_posterior,
    joined,
    write_report,
)

__all__ = ["write_page"]

TITLES = {"fbp": "Filtered backprojection", "sense": "SENSE", "zero_filled": "Zero-filled"}
PRESETS = {"ct": {"soft tissue": (-160.0, 240.0), "bone": (-500.0, 1500.0)}}


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
            lambda values: case.show_map(values),
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
        split=_split(run, outcome, case, posterior),
        calibration=_calibration(run),
        notices=clipped_notice(clipped, pixels),
    )


def _calibration(run: Finished) -> Calibration | None:
    if run.factor is None:
        return None
    factor = run.factor
    return Calibration(
        factor.coverage, factor.guarantee, factor.factor, factor.patients, factor.calibrated
    )


def _split(run: Finished, outcome: Outcome, case: Case, posterior: Posterior) -> Split | None:
    """That of the cell; made here if the cell was done by a run without splits."""
    if not run.settings.split:
        return None
    path = run.ledger.path(outcome["cell"], SPLIT)
    if not path.is_file():
        save_split(path, find_split(case, posterior))
    return load_split(path)
