"""A run whose items have all been tried."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invdiff.commands.batch import Outcome
from invdiff.commands.cases import LoadedPriors, make_case
from invdiff.commands.intervals import Factor
from invdiff.commands.ledger import Ledger
from invdiff.commands.settings import Settings
from invdiff.commands.sources import Item, Source
from invdiff.datasets.dicom_volume import DicomVolume
from invdiff.files import load_arrays
from invdiff.posterior import Posterior

__all__ = ["Finished"]


@dataclass(frozen=True, eq=False)
class Finished:
    """A run whose items have all been tried.

    Arguments:
        folder: Of the run.
        ledger: Its cells.
        settings, priors: Of all of them.
        source: What was measured.
        items, outcomes: The chosen items, and what became of each.
        volume: The DICOM series of the chosen items, if there is one to go with.
        factor: A calibration to apply.
    """

    folder: Path
    ledger: Ledger
    settings: Settings
    priors: LoadedPriors
    source: Source
    items: tuple[Item, ...]
    outcomes: tuple[Outcome, ...]
    volume: DicomVolume | None
    factor: Factor | None

    def done(self) -> list[tuple[Item, Outcome]]:
        """Those that succeeded."""
        pairs = zip(self.items, self.outcomes, strict=True)
        return [(item, outcome) for item, outcome in pairs if outcome["status"] == "done"]

    def pictures(self, outcome: Outcome) -> dict[str, np.ndarray]:
        """What is displayed of an item."""
        return load_arrays(self.ledger.path(outcome["cell"], ".images.npz"), "cell")[0]

    def samples(self, item: Item, outcome: Outcome) -> np.ndarray:
        """The samples of an item as they are displayed, (k, channels, rows, columns)."""
        case = make_case(item.read(), self.settings, self.priors)
        posterior = Posterior.load(self.ledger.path(outcome["cell"], ".posterior"))
        shown: np.ndarray = case.show(posterior.x[0]).double().cpu().numpy()
        return shown
