"""A run from its path to its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from invdiff.commands.batch import Outcome, run_items
from invdiff.commands.cases import LoadedPriors
from invdiff.commands.cell import Cells, identity_of
from invdiff.commands.dicom_results import source_volume
from invdiff.commands.finished import Finished
from invdiff.commands.intervals import Factor, read_factor
from invdiff.commands.ledger import Ledger
from invdiff.commands.progress import Progress
from invdiff.commands.results import write_results
from invdiff.commands.run_folder import claim
from invdiff.commands.settings import Settings
from invdiff.commands.sources import Item, Source, find_source
from invdiff.commands.workers import run_workers
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.dicom_volume import DicomVolume

__all__ = ["Reconstruction"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A run that may begin: everything that can be refused has been looked at.

    Arguments:
        source: What was measured.
        items: The chosen ones.
        settings, priors: Of all of them.
        folder: Of the results.
        ledger: Of the cells.
        volume: The DICOM series of the chosen items, if there is one to go with.
        factor: A calibration to apply.
        path: Of the measurements.
        devices: If more than one, a process works on each.
    """

    source: Source
    items: tuple[Item, ...]
    settings: Settings
    priors: LoadedPriors
    folder: Path
    ledger: Ledger
    volume: DicomVolume | None
    factor: Factor | None
    path: Path = field(repr=False)
    devices: tuple[str, ...]

    @classmethod
    def prepare(
        cls,
        path: Path,
        settings: Settings,
        folder: Path,
        calibration: Path | None,
        devices: tuple[str, ...] = (),
    ) -> Self:
        """Looks at the path, loads the priors, and claims the folder.

        Raises OSError, ImportError or ValueError: what cannot be done, with the reason.
        """
        source = find_source(path)
        chosen = settings.chosen(len(source.items))
        items = tuple(source.items[k] for k in chosen)
        priors = LoadedPriors(settings)
        modalities = sorted({item.modality for item in items} - {"unknown"})
        identities = {name: identity_of(settings, priors, name) for name in modalities}
        factor = None if calibration is None else read_factor(calibration)
        if factor is not None:
            for name, identity in identities.items():
                factor.check_run(name, identity)
        volume = None
        if source.series is not None and settings.dicom:
            shape = _image_shape(items[0])
            count = len(source.items)
            volume = source_volume(source.series, chosen, count, source.modality, shape)
        ledger = claim(folder, settings, identities)
        return cls(source, items, settings, priors, folder, ledger, volume, factor, path, devices)

    def found(self) -> str:
        """What was detected, in one line."""
        names = sorted({self.priors.get(item.modality).name for item in self._known()})
        return (
            f"detected {self.source.modality}: {self.source.kind}, {len(self.source.items)} "
            f"items; {len(self.items)} to reconstruct with prior {' and '.join(names)}"
        )

    def run(self, quiet: bool) -> tuple[list[str], dict[str, Any]]:
        """Does it; the names of what lies in the folder, and the figures.

        Raises OSError if results cannot be written.
        """
        with Progress(len(self.items), self.settings.steps, quiet) as progress:
            outcomes = self._outcomes(progress)
        figures = write_results(
            Finished(
                self.folder,
                self.ledger,
                self.settings,
                self.priors,
                self.source,
                self.items,
                outcomes,
                self.volume,
                self.factor,
            )
        )
        return sorted(each.name for each in self.folder.iterdir()), figures

    def _outcomes(self, progress: Progress) -> tuple[Outcome, ...]:
        """Of all items, by this process or by one for each of several devices."""
        found: dict[int, Outcome] = {}
        if len(self.devices) > 1 and len(self.items) > 1:
            several = self.devices[: len(self.items)]
            cells = self.ledger.folder
            found = run_workers(self.path, self.items, self.settings, cells, several, progress)
        left = [item for item in self.items if item.number not in found]
        own = Cells(self.settings, self.priors, self.ledger, progress.step)
        done = run_items(left, own, progress)
        found |= {item.number: outcome for item, outcome in zip(left, done, strict=True)}
        return tuple(found[item.number] for item in self.items)

    def _known(self) -> list[Item]:
        return [item for item in self.items if item.modality != "unknown"]


def _image_shape(item: Item) -> tuple[int, int]:
    """Rows and columns of an item's image."""
    measurement = item.read()
    if isinstance(measurement, CTMeasurement):
        rows, columns = measurement.geometry.image_shape[-2:]
    else:
        rows, columns = measurement.data.shape[-2:]
    return int(rows), int(columns)
