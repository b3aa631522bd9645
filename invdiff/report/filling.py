"""From a posterior and its problem to everything a report shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.metrics import psnr, ssim
from invdiff.posterior import Posterior
from invdiff.problem import Problem
from invdiff.report.content import Notice, Picture, Report, evenly
from invdiff.report.coverage import Calibration, Points, interval_coverage
from invdiff.report.display import Display, pictures_of, shown
from invdiff.report.notices import adjoint_notice
from invdiff.report.range_null import Split
from invdiff.report.result import items_of, joined_results, picture_facts, plain, run_of

__all__ = ["from_posterior", "joined"]

TIMINGS = ("seconds", "peak_memory_gb")
MEAN = "Posterior mean"


def from_posterior(
    posterior: Posterior,
    problem: Problem,
    display: Display,
    *,
    title: str,
    caption: str,
    simulated: bool,
    baselines: Mapping[str, Tensor] | None = None,
    truth: Tensor | None = None,
    split: Split | None = None,
    calibration: Calibration | None = None,
    notices: tuple[Notice, ...] = (),
    timings: Mapping[str, float] | None = None,
) -> Report:
    """A report of all items of a posterior.

    Identities of items, and what the provenance holds beyond the known entries, are left out:
    they may name a patient. What is passed as text here must not.

    Arguments:
        posterior: What was drawn.
        problem: What it was drawn for.
        display: How its images are shown.
        title, caption: Of the page; what was measured, in one line.
        simulated: Whether the measurement was simulated.
        baselines: Other reconstructions (n, *domain) by the titles they are shown with.
        truth: What is shown of the truth, (slices, channels, rows, columns), if it is known.
        split: That of the posterior mean, from ``range_null_split``.
        calibration: What was found on held-out images of this kind.
        notices: More warnings, such as of clipped values.
        timings: More of what differs from run to run, such as the seconds of a baseline.

    Raises:
        ShapeError: If the truth does not fit what is shown of the images.
    """
    images = dict(baselines or {}) | {MEAN: posterior.mean}
    stacks = {name: shown(display.show, image) for name, image in images.items()}
    known = None if truth is None else truth.detach().cpu().double().numpy()
    if known is not None and known.shape != stacks[MEAN].shape:
        raise ShapeError(
            f"The truth has shape {known.shape}, but images are shown as {stacks[MEAN].shape}. "
            "Expected the same."
        )
    pictures = pictures_of(posterior, display, stacks, known, split, calibration)
    inexact = problem.operator.linear and not problem.operator.adjoint_exact
    given = (*notices, adjoint_notice()) if inexact else notices
    result = {
        "diagnostic_use": False,
        "simulated": simulated,
        "kind": posterior.kind,
        "items": items_of(posterior, problem, split),
        "runs": [run_of(posterior)],
        "evaluations_per_sample": plain(posterior.counts),
        "methods": _scores(problem, display, images, stacks, known),
        "coverage": plain(_coverage(posterior, display, known)),
        "calibration": plain(asdict(calibration)) if calibration else None,
        "pictures": picture_facts(pictures),
        "notices": [asdict(notice) for notice in given],
    }
    told = {name: posterior.provenance[name] for name in TIMINGS if name in posterior.provenance}
    return Report(
        title=title,
        caption=caption,
        pictures=pictures,
        result=joined_results([result]),
        timings=told | dict(timings or {}),
        presets={"default": display.window} | dict(display.presets),
    )


def joined(reports: Iterable[Report], count: int, most: int = 16) -> Report:
    """One report of many runs, such as of the slices of a series, in their order.

    Figures are those of all; pictures are kept of at most ``most`` of the ``count`` reports,
    evenly spaced, so that memory stays small when the reports come from an iterator.

    Raises:
        ValueError: If there are other than ``count`` reports, or none.
        ShapeError: If their images are of different sizes.
    """
    kept, results, timings, slices, before = [], [], [], [], 0
    chosen = set(evenly(count, most))
    for number, report in enumerate(reports):
        results.append(report.result)
        timings.append(report.timings)
        if number in chosen:
            kept.append(report)
            slices += [before + i for i in report.slices]
        before += report.slices[-1] + 1
    if len(results) != count or not kept:
        raise ValueError(f"{len(results)} reports were joined, expected {count}, and at least 1.")
    result = joined_results(results)
    observed = [dict(map(tuple, r["coverage"])) for r in results]
    shared = [p for p in observed[0] if all(p in one for one in observed)]
    result["coverage"] = plain([(p, np.mean([one[p] for one in observed])) for p in shared])
    return replace(
        kept[0],
        pictures=_stacked([report.pictures for report in kept]),
        result=result,
        timings=_total(timings),
        slices=tuple(slices),
    )


def _stacked(parts: list[tuple[Picture, ...]]) -> tuple[Picture, ...]:
    """Pictures that all parts have, by their titles; their windows hold all of theirs."""
    sizes = sorted({part[0].values.shape[-2:] for part in parts})
    if len(sizes) > 1:
        raise ShapeError(
            f"The reports show images of {sizes} pixels, expected one size. Write a report for "
            "the items of each size."
        )
    found = []
    for first in parts[0]:
        same = [p for part in parts for p in part if p.title == first.title]
        if len(same) == len(parts):
            window = min(p.window[0] for p in same), max(p.window[1] for p in same)
            values = np.concatenate([p.values for p in same])
            found.append(replace(first, values=values, window=window))
    return tuple(found)


def _total(timings: list[Mapping[str, float]]) -> dict[str, float]:
    """Seconds add up; of memory the largest counts."""
    names = sorted({name for one in timings for name in one})
    combine = {name: sum if "seconds" in name else max for name in names}
    return {name: combine[name](one.get(name, 0.0) for one in timings) for name in names}


def _scores(
    problem: Problem,
    display: Display,
    images: Mapping[str, Tensor],
    stacks: Mapping[str, np.ndarray],
    truth: np.ndarray | None,
) -> dict[str, Any]:
    """The misfit of every item, and PSNR and SSIM of every slice, by method."""
    found: dict[str, Any] = {}
    for name, image in images.items():
        scores: dict[str, Any] = {"chi2": problem.chi2(image.to(problem.y.device)).tolist()}
        if truth is not None:
            pairs = list(zip(stacks[name], truth, strict=True))
            scores["psnr"] = [psnr(a, b, display.data_range) for a, b in pairs]
            scores["ssim"] = [ssim(a, b, display.data_range) for a, b in pairs]
        found[name] = plain(scores)
    return found


def _coverage(posterior: Posterior, display: Display, truth: np.ndarray | None) -> Points:
    """Empty where ranks mean nothing: no truth, a point estimate, few or weighted samples."""
    k = posterior.x.shape[1]
    equal = math.isclose(float(posterior.ess.min()), k, rel_tol=1e-9)
    if truth is None or posterior.kind == "point" or k < 2 or not equal:
        return ()
    samples = np.stack([shown(display.show, posterior.x[:, i]) for i in range(k)])
    return interval_coverage(samples, truth)
