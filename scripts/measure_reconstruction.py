"""Posterior coverage and reconstruction error of the embedded priors on held-out real images.

    python scripts/measure_reconstruction.py --data DATA --packages DEBS
    python scripts/measure_reconstruction.py --data DATA --packages DEBS --only ct60 PiGDM
    python scripts/measure_reconstruction.py --draw

DATA is what `prepare_training_data.py` wrote (the held-out plane of Cranium is in it); DEBS the
folder that the MR slices are downloaded to. Weights of the classical methods are tuned first, on
other images. Every measurement is a row of docs/reconstruction.json; those that are there are not
made again, so a killed run goes on where it was. `--only` names tasks, images or methods. `--draw`
writes the tables of docs/reconstruction.md and the plots.

Coverage: with K samples and the truth exchangeable, the truth of a pixel lies between the j-th
and the (K + 1 - j)-th of the sorted samples with probability (K + 1 - 2 j) / (K + 1), exactly.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reconstruction_classics import FIXED, WEIGHTED, reconstruct, tuned
from reconstruction_figures import draw_coverage, draw_example
from reconstruction_tables import tables
from reconstruction_trials import IMAGES_TESTED, TASKS, Trial, test_trials, tuning_trials
from scorecard_tables import write_between
from torch import Tensor

from invdiff.files import save_json
from invdiff.ladder import geometric, karras
from invdiff.metrics import psnr, ssim
from invdiff.priors import Autocast
from invdiff.sample import sample
from invdiff.samplers import DDS, PiGDM
from invdiff.samplers.base import Sampler

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "reconstruction.json"
PAGE = ROOT / "docs" / "reconstruction.md"
IMAGES = ROOT / "docs" / "images"
SAMPLES = 19
FEWER = {"ct60": 30, "ct20": 30}  # levels of PiGDM, of 60: there DDS is the one to take


def usual(trial: Trial) -> Tensor:
    """The levels of the demonstrations."""
    return karras(50, trial.prior.sigma_min, trial.prior.sigma_max)


def high(trial: Trial) -> Tensor:
    """From where an image hardly shows in the noise: from lower, some samples go astray."""
    steps = FEWER.get(trial.task, 60)
    return geometric(steps, trial.prior.sigma_min, 0.5 * trial.prior.sigma_max)


SAMPLERS: dict[str, tuple[Sampler, Callable[[Trial], Tensor]]] = {
    "DDS": (DDS(), usual),
    "PiGDM": (PiGDM(), high),
}
PICTURED = "PiGDM"
Results = dict[str, Any]


def coverage(samples: Tensor, truth: Tensor, inside: Tensor) -> list[float]:
    """The share of pixels between symmetric order statistics, widest first.

    Arguments:
        samples: (k, channels, h, w).
        truth: (channels, h, w).
        inside: The pixels that count, (h, w).
    """
    ordered, count = samples.sort(0).values, len(samples)
    within = [(truth >= ordered[j]) & (truth <= ordered[count - 1 - j]) for j in range(count // 2)]
    return [round(float(hit[:, inside].double().mean()), 4) for hit in within]


def scores(trial: Trial, image: Tensor) -> dict[str, float]:
    """PSNR, SSIM and misfit of one image (1, *domain), and the PSNR where the object is."""
    shown, truth = trial.show(image)[0], trial.truth
    square = (shown - truth)[:, trial.inside].square().mean()
    return {
        "psnr": round(psnr(shown.numpy(), truth.numpy(), trial.data_range), 3),
        "psnr_inside": round(10 * float(np.log10(trial.data_range**2 / float(square))), 3),
        "ssim": round(ssim(shown.numpy(), truth.numpy(), trial.data_range), 4),
        "chi2": round(float(trial.problem.chi2(image)[0]), 3),
    }


def sampled(trial: Trial, name: str, seed: int) -> tuple[dict[str, Any], Tensor]:
    """A row's figures, and the samples (k, *domain)."""
    sampler, ladder = SAMPLERS[name]
    started = time.perf_counter()
    posterior = sample(
        trial.problem, Autocast(trial.prior), sampler, ladder(trial),
        samples=SAMPLES, seed=seed, progress=False,
    )  # fmt: skip
    x, shown = posterior.x[0], trial.show(posterior.x[0])
    everywhere = torch.ones_like(trial.inside)
    single = [scores(trial, image[None]) for image in x[:4]]
    row = scores(trial, posterior.mean) | {
        "samples": len(x),
        "coverage": coverage(shown, trial.truth, trial.inside),
        "coverage_all": coverage(shown, trial.truth, everywhere),
        "sample_psnr": round(float(np.mean([one["psnr"] for one in single])), 3),
        "sample_ssim": round(float(np.mean([one["ssim"] for one in single])), 4),
        "sample_chi2": round(float(posterior.chi2.mean()), 3),
        "evaluations": posterior.counts["prior"],
        "derivatives": posterior.counts.get("vjp", 0),
        "seconds": round(time.perf_counter() - started),
    }
    return row, x


def tune(results: Results, tasks: list[str]) -> None:
    """Fills in the weights that are missing."""
    for task in tasks:
        for method in WEIGHTED[task]:
            known = results["weights"].setdefault(task, {})
            if method in known:
                continue
            found = tuned(tuning_trials(task), method)
            best = max(found, key=lambda weight: found[weight])
            known[method] = {
                "weight": best,
                "psnr": {f"{weight:g}": round(value, 3) for weight, value in found.items()},
            }
            print(task, method, known[method], flush=True)
            save_json(RESULTS, results)


def measure(results: Results, trial: Trial, method: str, seed: int) -> None:
    """Adds a row, and keeps it."""
    place = {"task": trial.task, "image": trial.image, "method": method, "seed": seed}
    if any(place.items() <= row.items() for row in results["rows"]):
        return
    if method in SAMPLERS:
        row, x = sampled(trial, method, seed)
        if method == PICTURED and seed == 0:
            draw_example(IMAGES / f"reconstruction_{trial.task}.png", trial, x, place | row)
    else:
        weights = results["weights"].get(trial.task, {})
        weight = weights[method]["weight"] if method in weights else None
        row = scores(trial, reconstruct(trial, method, weight))
    results["rows"].append(place | {"apart": trial.apart} | row)
    save_json(RESULTS, results)
    print(*place.values(), {k: v for k, v in row.items() if "coverage" not in k}, flush=True)
    if "coverage" in row:
        print("   coverage", row["coverage"], row["coverage_all"], flush=True)


def read() -> Results:
    """The rows so far."""
    if RESULTS.exists():
        found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
        return found
    return {"rows": [], "weights": {}}


def draw(results: Results) -> None:
    """Tables and plots."""
    write_between(PAGE, tables(results))
    draw_coverage(IMAGES / "reconstruction_coverage.png", results["rows"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of prepare_training_data.py")
    parser.add_argument("--packages", type=Path, help="where the MR test slices are or go")
    parser.add_argument("--only", nargs="*", default=[], help="tasks, images or methods")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and of the samples")
    parser.add_argument("--draw", action="store_true", help="tables and plots, and end")
    options = parser.parse_args()
    results = read()
    if options.draw:
        draw(results)
        return
    torch.set_num_threads(1)
    if options.data is None or options.packages is None:
        parser.error("--data and --packages are needed to measure")
    methods = {*SAMPLERS, *(name for part in (FIXED, WEIGHTED) for t in TASKS for name in part[t])}
    unknown = set(options.only) - methods - {*TASKS, *IMAGES_TESTED}
    if unknown:
        parser.error(f"--only does not know {', '.join(sorted(unknown))}")

    def chosen(name: str, kind: Collection[str]) -> bool:
        """Whether it was named, or nothing of its kind was."""
        return name in options.only or not set(kind) & set(options.only)

    tasks = [task for task in TASKS if chosen(task, TASKS)]
    tune(results, tasks)
    for task in tasks:
        for trial in test_trials(task, options.data, options.packages, options.seed):
            for method in (*FIXED[task], *WEIGHTED[task], *SAMPLERS):
                if chosen(trial.image, IMAGES_TESTED) and chosen(method, methods):
                    measure(results, trial, method, options.seed)


if __name__ == "__main__":
    main()
