"""Running a case: reconstruct, compare, and write report, figure and arrays."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from invdiff.demos.case import Case
from invdiff.figure import Panel, draw
from invdiff.files import save_arrays, save_json
from invdiff.metrics import correlation, psnr, ssim
from invdiff.posterior import Posterior
from invdiff.report.display import shown_deviation
from invdiff.sample import sample

__all__ = ["run_case", "table"]


def run_case(
    case: Case,
    out: Path,
    *,
    samples: int,
    seed: int,
    rows: int | None,
    checkpoint: Path | None,
    progress: bool,
    started: float,
) -> dict[str, Any]:
    """Draws the samples, writes everything to the folder ``out``, and returns the report."""
    posterior = sample(
        case.problem,
        case.prior,
        case.sampler,
        case.ladder,
        samples=samples,
        seed=seed,
        rows=rows,
        checkpoint=checkpoint,
        progress=progress,
    )
    images = {name: image[0] for name, image in case.baselines.items()}
    images |= {"posterior_mean": posterior.mean[0], "sample": posterior.x[0, 0]}
    pictures = {name: case.picture(image).numpy() for name, image in images.items()}
    std = shown_deviation(case.show, posterior)[0] if samples > 1 else None
    report = _report(case, posterior, images, pictures, std)
    report |= {"seed": seed, "seconds": round(time.perf_counter() - started, 2)}
    _write(case, out, posterior, pictures, std, report)
    return report


def _report(
    case: Case,
    posterior: Posterior,
    images: dict[str, Tensor],
    pictures: dict[str, np.ndarray],
    std: np.ndarray | None,
) -> dict[str, Any]:
    methods: dict[str, dict[str, float]] = {}
    for name, image in images.items():
        scores = {"chi2": round(float(case.problem.chi2(image[None])[0]), 4)}
        if case.truth is not None:
            truth = case.truth.double().numpy()
            scores["psnr"] = round(psnr(pictures[name], truth, case.data_range), 3)
            scores["ssim"] = round(ssim(pictures[name], truth, case.data_range), 4)
        methods[name] = scores
    report: dict[str, Any] = {
        "task": case.task,
        "caption": case.caption,
        "methods": methods,
        "samples": posterior.x.shape[1],
        "chi2_of_samples": [round(value, 4) for value in posterior.chi2[0].tolist()],
        "suspect": bool(posterior.suspect[0]),
        "network_evaluations": round(posterior.counts["prior"] * posterior.x.shape[1]),
        "peak_memory_gb": posterior.provenance["peak_memory_gb"],
        "data_range": case.data_range,
        "unit": case.unit,
        "notes": case.notes,
        "provenance": posterior.provenance,
    }
    if case.truth is not None and std is not None:
        error = np.abs(pictures["posterior_mean"] - case.truth.double().numpy())
        report["std_error_correlation"] = round(correlation(std, error), 4)
    return report


def _write(
    case: Case,
    out: Path,
    posterior: Posterior,
    pictures: dict[str, np.ndarray],
    std: np.ndarray | None,
    report: dict[str, Any],
) -> None:
    posterior.save(out / "posterior")
    truth = None if case.truth is None else case.truth.double().numpy()
    arrays = dict(pictures)
    arrays |= {} if std is None else {"posterior_std": std}
    arrays |= {} if truth is None else {"truth": truth}
    save_arrays(out / "images.npz", arrays, {"task": case.task, "unit": case.unit})
    draw(out / "figure.png", _panels(case, pictures, std, truth, report), case.caption)
    save_json(out / "report.json", report)


def _panels(
    case: Case,
    pictures: dict[str, np.ndarray],
    std: np.ndarray | None,
    truth: np.ndarray | None,
    report: dict[str, Any],
) -> list[Panel]:
    def titled(name: str) -> str:
        scores = report["methods"][name]
        label = TITLES.get(name, name)
        return f"{label}, {scores['psnr']:.1f} dB" if "psnr" in scores else label

    panels = [] if truth is None else [Panel("truth", truth, case.unit, case.limits)]
    for name in [*case.baselines, "posterior_mean"]:
        panels.append(Panel(titled(name), pictures[name], case.unit, case.limits))
    if std is not None:
        deviation = _flat(std)
        top = max(float(np.percentile(deviation, 99.5)), 1e-12)
        panels.append(
            Panel("standard deviation", deviation, case.unit, (0, top), colours="viridis")
        )
        if truth is not None:
            error = _flat(np.abs(pictures["posterior_mean"] - truth))
            limits = 0.0, max(top, float(np.percentile(error, 99.5)))
            panels.append(Panel("|mean - truth|", error, case.unit, limits, colours="magma"))
    if truth is None:
        panels.append(Panel(titled("sample"), pictures["sample"], case.unit, case.limits))
    return panels


def _flat(image: np.ndarray) -> np.ndarray:
    """Root mean square over the channels, (1, h, w)."""
    root: np.ndarray = np.sqrt((image**2).mean(0, keepdims=True))
    return root


TITLES = {
    "fbp": "filtered backprojection",
    "sense": "SENSE",
    "tv": "total variation",
    "posterior_mean": "posterior mean",
    "sample": "one sample",
    "zero_filled": "zero-filled",
    "biharmonic": "biharmonic",
    "bicubic": "bicubic",
}


def table(report: dict[str, Any]) -> str:
    """The report as a few lines of text."""
    lines = [report["caption"], f"{'':24}{'PSNR dB':>9}{'SSIM':>8}{'misfit chi2':>13}"]
    for name, scores in report["methods"].items():
        quality = (
            f"{scores['psnr']:9.2f}{scores['ssim']:8.3f}"
            if "psnr" in scores
            else f"{'-':>9}{'-':>8}"
        )
        lines.append(f"{TITLES.get(name, name):24}{quality}{scores['chi2']:13.3f}")
    lines.append(
        f"{report['samples']} samples, {report['network_evaluations']} network evaluations, "
        f"{report['seconds']:.1f} s, peak memory {report['peak_memory_gb']:.2f} GB"
    )
    if "projector" in report["notes"]:
        lines.append(f"projector: {report['notes']['projector']}")
    if "std_error_correlation" in report:
        lines.append(
            f"correlation of standard deviation and error: {report['std_error_correlation']:.2f}"
        )
    if report["suspect"]:
        lines.append("SUSPECT: the data misfit is far from 1. Check noise level and geometry.")
    return "\n".join(lines)
