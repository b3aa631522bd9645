"""The figures of a run as plain values: the same for the same seed, and nobody's name in them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.posterior import Posterior
from invdiff.problem import Problem
from invdiff.report.content import Picture
from invdiff.report.range_null import Split
from invdiff.report.residuals import residual_statistics
from invdiff.transmission import Transmission

__all__ = ["FORMAT", "VERSION", "items_of", "joined_results", "picture_facts", "plain", "run_of"]

FORMAT, VERSION = "invdiff report", 1
OWN = "measurement_sha256"  # what every run has of its own
# What is copied from the provenance of a run; identities are not, since they may name a patient.
KNOWN = (
    OWN,
    "device",
    "dtype",
    "ladder",
    "noise",
    "operator",
    "prior",
    "prior_repr",
    "prior_sha256",
    "sampler",
    "samples",
    "seed",
    "versions",
)
LISTS = ("items", "pictures", "runs")


def run_of(posterior: Posterior) -> dict[str, Any]:
    """The provenance of a posterior, as far as it is known to name nobody."""
    return {name: posterior.provenance.get(name) for name in KNOWN}


def items_of(posterior: Posterior, problem: Problem, split: Split | None) -> list[dict[str, Any]]:
    """What is known of every item, by its number."""
    return [_item(posterior, problem, split, number) for number in range(len(posterior))]


def _item(
    posterior: Posterior, problem: Problem, split: Split | None, number: int
) -> dict[str, Any]:
    own = problem.rows(torch.tensor([number]))
    ok = bool(posterior.ok[number])
    residuals = asdict(residual_statistics(own, posterior.x[number])) if ok else None
    noise = own.noise
    starved = float(noise.starved(own.y)) if isinstance(noise, Transmission) else 0.0
    facts = {
        "number": number,
        "ok": ok,
        "suspect": bool(posterior.suspect[number]),
        "chi2": posterior.chi2[number],
        "weights": posterior.weights[number],
        "effective_samples": float(posterior.ess[number]),
        "distinct_samples": len(torch.unique(posterior.x[number].flatten(1), dim=0)),
        "identity": "position" if posterior.ids[number] == number else "withheld",
        "residuals": residuals,
        "starved_rays": starved,
        "split": None if split is None else _split(split, number),
        "trace": {name: value[:, number] for name, value in posterior.trace.items()},
    }
    found: dict[str, Any] = plain(facts)
    return found


def _split(split: Split, number: int) -> dict[str, Any]:
    data, prior = (float(part[number].abs().square().sum()) for part in (split.data, split.prior))
    return {
        "fraction": float(split.fraction[number]),
        "energy_data": data,
        "energy_prior": prior,
        "residual": float(split.residual[number]),
        "probes": split.probes,
    }


def picture_facts(pictures: tuple[Picture, ...]) -> list[dict[str, Any]]:
    """What the pictures are, with the SHA-256 of their numbers."""
    return [
        {
            "title": picture.title,
            "unit": picture.unit,
            "window": plain(picture.window),
            "shape": list(picture.values.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(picture.values).tobytes()).hexdigest(),
        }
        for picture in pictures
    ]


def joined_results(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One result of many: items are numbered anew, what the runs have in common is said once."""
    items: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for result in results:
        for item in result["items"]:
            run = len(runs) + item.get("run", 0)
            items.append({**item, "number": len(items), "run": run})
        runs += [{**result.get("provenance", {}), **run} for run in result["runs"]]
    same = {
        name for name in runs[0] if name != OWN and all(r[name] == runs[0][name] for r in runs)
    }
    found = {name: value for name, value in results[0].items() if name not in LISTS}
    found |= {
        "format": FORMAT,
        "format_version": VERSION,
        "items": items,
        "methods": _joined_lists([result["methods"] for result in results]),
        "notices": _unique([notice for result in results for notice in result["notices"]]),
        "pictures": [picture for result in results for picture in result["pictures"]],
        "provenance": {name: runs[0][name] for name in sorted(same)},
        "runs": [{name: run[name] for name in sorted(set(run) - same)} for run in runs],
        "simulated": any(result["simulated"] for result in results),
    }
    return found


def _joined_lists(all_methods: list[dict[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """The scores of methods that all results have, end to end."""
    shared = [name for name in all_methods[0] if all(name in one for one in all_methods)]
    return {
        name: {
            score: [value for one in all_methods for value in one[name].get(score, [])]
            for score in all_methods[0][name]
        }
        for name in shared
    }


def _unique(values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def plain(value: Any) -> Any:
    """Numbers with six digits, and null where they are not finite, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Tensor | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.6g}") if math.isfinite(number) else None
    return int(value) if isinstance(value, np.integer) else value
