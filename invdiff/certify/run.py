"""One row of the certificate: a sampler on a problem."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from invdiff.certify.case import Case
from invdiff.certify.cases import Benchmark
from invdiff.certify.entries import Contender, Entry
from invdiff.certify.grade import grade
from invdiff.certify.score import Scores, measure
from invdiff.posterior import Posterior

__all__ = ["certify", "certify_all"]


def certify(
    cases: Sequence[Case], entry: Contender, samples: int, seed: int = 0, name: str = ""
) -> dict[str, Any]:
    """How far a sampler is from the exact posterior, over all items of the cases.

    A sampler that cannot run gets a row without figures, whose ``reason`` says why; one whose
    samples diverge gets the grade F.

    Arguments:
        cases: Of one problem.
        entry: The sampler and its effort.
        samples: Per item.
        seed: Of the sampler.
        name: Of the problem, the first case's if empty.
    """
    row: dict[str, Any] = {
        "sampler": entry.name,
        "library": entry.library,
        "problem": name or cases[0].name,
        "steps": entry.steps,
        "particles": entry.particles,
        "items": sum(len(case.problem) for case in cases),
        "samples": samples,
    }
    empty = dict.fromkeys(_KEYS) | row
    reasons = [entry.obstacle(case) for case in cases]
    if any(reasons):
        return empty | {"reason": next(filter(None, reasons)), "grade": None}
    started = time.perf_counter()
    runs = []
    for case in cases:
        try:
            runs.append(entry.run(case, samples, seed))
        except (
            TypeError
        ) as error:  # how a sampler says that an operator or a noise is not its kind
            return empty | {"reason": str(error), "grade": None}
    row["seconds"] = round(time.perf_counter() - started, 3)
    row |= _costs([posterior for posterior, _ in runs])
    broken = sum(int((~posterior.ok).sum()) for posterior, _ in runs)
    if broken:
        reason = f"{broken} of {row['items']} items diverged"
        return empty | row | {"reason": reason, "grade": "F"}
    parts = [
        measure(posterior, case, groups, seed)
        for case, (posterior, groups) in zip(cases, runs, strict=True)
    ]
    scores = Scores.join(parts)
    row |= scores.row() | {"samples": scores.samples}
    return empty | row | {"grade": grade(row)}


def certify_all(
    problems: Sequence[Benchmark],
    contenders: Sequence[Contender],
    *,
    quick: bool = True,
    steps: int | None = None,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Every sampler on every problem, problem by problem, row by row as they are finished."""
    for problem in problems:
        items, samples = problem.size(quick)
        cases = problem.build(items)
        for entry in contenders:
            if steps is not None and isinstance(entry, Entry):
                entry = dataclasses.replace(entry, steps=steps)
            yield certify(cases, entry, samples, seed, problem.name)


def _costs(posteriors: Sequence[Posterior]) -> dict[str, float]:
    """Evaluations per returned sample, mean over the cases."""

    def mean(name: str) -> float:
        return sum(post.counts.get(name, 0.0) for post in posteriors) / len(posteriors)

    return {"network_evaluations": mean("prior"), "network_derivatives": mean("vjp")}


_KEYS = (
    "mean_error_sd",
    "variance_ratio",
    "sliced_wasserstein",
    "sliced_wasserstein_floor",
    "mode_weight_error",
    "coverage_90",
    "log_evidence_error",
    "network_evaluations",
    "seconds",
    "grade",
    "reason",
)
