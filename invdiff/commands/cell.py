"""One cell: an item is read, reconstructed and stored, or why not is recorded."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from invdiff.commands.cases import LoadedPriors, make_case
from invdiff.commands.ledger import Ledger
from invdiff.commands.privacy import reason
from invdiff.commands.settings import Settings
from invdiff.commands.sources import Item, Measurement, content_digest
from invdiff.commands.splits import SPLIT, find_split, save_split
from invdiff.commands.watched import Watched
from invdiff.demos.case import Case
from invdiff.files import save_arrays
from invdiff.posterior import Posterior
from invdiff.priors.memory import out_of_memory
from invdiff.provenance import versions
from invdiff.report.display import shown_deviation
from invdiff.sample import sample
from invdiff.samplers.base import Sampler

__all__ = ["Cells", "identity_of"]

FORMAT = 2
EVERY = {"cpu": 1}  # steps between checkpoints
EVERY_ELSEWHERE = 10  # where a step is short


@dataclass(frozen=True)
class Cells:
    """What does the cells of a run.

    Arguments:
        settings: Of all of them.
        priors: Loaded once.
        ledger: Where they are recorded.
        step: Called after every step.
    """

    settings: Settings
    priors: LoadedPriors
    ledger: Ledger
    step: Callable[[], None]

    def key(self, item: Item, measurement: Measurement) -> str:
        """Of an item with these settings."""
        identity = identity_of(self.settings, self.priors, item.modality)
        text = json.dumps(identity, sort_keys=True) + content_digest(measurement)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def compute(self, key: str, item: Item, measurement: Measurement) -> dict[str, Any]:
        """Reconstructs and stores a cell that this process has locked; returns its record.

        Raises OSError if it cannot be stored, and then records nothing.
        """
        started = time.perf_counter()
        try:
            case = make_case(measurement, self.settings, self.priors)
            posterior, rows = self._sample(case, key, content_digest(measurement)[:16])
            shown = pictures(case, posterior)
            split = find_split(case, posterior) if self.settings.split else None
        except OSError:  # a checkpoint that cannot be written is no fault of the item
            raise
        except Exception as error:
            return self.fail(key, item, error)
        posterior.save(self.ledger.path(key, ".posterior"))
        images = self.ledger.path(key, ".images.npz")
        save_arrays(images, shown, {"unit": case.unit, "task": case.task})
        if split is not None:
            save_split(self.ledger.path(key, SPLIT), split)
        record = facts(case, posterior) | {
            "status": "done",
            "prior": self.priors.get(item.modality).name,
            "files": [images.name, f"{key}.posterior.npz"],
            "rows": rows,
            "seconds": round(time.perf_counter() - started, 3),
        }
        self.ledger.write(key, record)
        shutil.rmtree(self.ledger.path(key, ".checkpoint"), ignore_errors=True)
        return record

    def fail(self, key: str, item: Item, error: Exception) -> dict[str, Any]:
        """Records that an item failed, and why. Raises OSError if that cannot be written."""
        record = {
            "status": "failed",
            "modality": item.modality,
            "error": type(error).__name__,
            "reason": reason(error, (item.path,)),
        }
        self.ledger.write(key, record)
        return record

    def _sample(self, case: Case, key: str, name: str) -> tuple[Posterior, int | None]:
        """The posterior, and the rows that fitted into memory."""
        rows, device = self.settings.rows, torch.device(self.settings.device)
        while True:
            try:
                posterior = sample(
                    case.problem,
                    case.prior,
                    # What a sampler has of its class, this has of its instance.
                    cast("Sampler", Watched(case.sampler, self.step)),
                    case.ladder,
                    samples=self.settings.samples,
                    seed=self.settings.seed,
                    ids=[name],
                    rows=rows,
                    checkpoint=self.ledger.path(key, ".checkpoint"),
                    checkpoint_every=EVERY.get(device.type, EVERY_ELSEWHERE),
                    progress=False,
                )
                return posterior, rows
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or (rows or self.settings.samples) == 1:
                    raise
            # The same numbers but for rounding, from fewer rows at once.
            rows = (rows or self.settings.samples) // 2


def identity_of(settings: Settings, priors: LoadedPriors, modality: str) -> dict[str, Any]:
    """Everything besides the measurement that decides the numbers of a cell."""
    return settings.identity() | {
        "format": FORMAT,
        "device": torch.device(settings.device).type,
        "prior_sha256": priors.get(modality).sha256,
        "versions": versions(),
    }


def pictures(case: Case, posterior: Posterior) -> dict[str, np.ndarray]:
    """What is displayed, (channels, rows, columns) each, float32, in the case's unit.

    The deviation is that of what is displayed: of magnitudes in MRI.
    """
    images = {name: image[0] for name, image in case.baselines.items()}
    images |= {"mean": posterior.mean[0], "sample": posterior.x[0, 0]}
    shown = {name: case.picture(image).numpy() for name, image in images.items()}
    if posterior.kind != "point" and posterior.x.shape[1] > 1:
        shown["std"] = shown_deviation(case.show, posterior)[0]
    if case.truth is not None:
        shown["truth"] = case.truth.double().cpu().numpy()
    return {name: np.asarray(image, np.float32) for name, image in shown.items()}


def facts(case: Case, posterior: Posterior) -> dict[str, Any]:
    """What a cell's record says of its result."""
    return {
        "modality": case.task,
        "caption": case.caption,
        "unit": case.unit,
        "limits": list(case.limits),
        "shape": list(case.picture(posterior.mean[0]).shape),
        "kind": posterior.kind,
        "samples": posterior.x.shape[1],
        "chi2": round(float((posterior.weights[0] * posterior.chi2[0]).sum()), 6),
        "chi2_of_samples": [round(value, 6) for value in posterior.chi2[0].tolist()],
        "suspect": bool(posterior.suspect[0]),
        "ess": round(float(posterior.ess[0]), 3),
        "evaluations": posterior.counts,
        "sampler": repr(case.sampler),
        "prior_sha256": case.prior.sha256,
        "notes": dict(case.notes),
        "peak_memory_gb": posterior.provenance["peak_memory_gb"],
    }
