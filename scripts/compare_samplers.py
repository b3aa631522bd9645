"""The demonstrations with other samplers: which default for a network prior?

    python scripts/compare_samplers.py --markdown docs/samplers.md

Each row is the demonstration's own problem, prior and ladder. The table goes between the markers
of the Markdown file.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from scorecard_tables import write_between

from invdiff.demos.case import Case
from invdiff.demos.ct import ct_demo
from invdiff.demos.photo import inpaint_demo
from invdiff.metrics import correlation, psnr, ssim
from invdiff.sample import sample
from invdiff.samplers import DAPS, DDS, DPS, MMPS, DiffPIR, PiGDM, Sampler

DEMOS: dict[str, Callable[[int, int], Case]] = {"ct": ct_demo, "inpaint": inpaint_demo}
SAMPLERS: tuple[Sampler, ...] = (
    DDS(), DiffPIR(), PiGDM(), DPS(), DAPS(flow_steps=3), MMPS(cg_iterations=3),
)  # fmt: skip
HEADS = ("demo", "sampler", "PSNR mean", "PSNR sample", "SSIM sample", "chi2 of samples",
         "error in 90 %", "std ~ error", "NFE", "VJP", "s")  # fmt: skip


def compare(name: str, case: Case, sampler: Sampler, samples: int) -> list[str]:
    """One row: quality of the mean and of a sample, and whether the spread tells the error."""
    started = time.perf_counter()
    post = sample(
        case.problem,
        case.prior,
        sampler,
        case.ladder,
        samples=samples,
        progress=False,
        throw=False,
    )
    seconds = time.perf_counter() - started
    truth = case.truth.double()
    mean, one = case.picture(post.mean[0]), case.picture(post.x[0, 0])
    low, high = (case.picture(post.quantile(q)[0]) for q in (0.05, 0.95))
    # Of k samples, the central interval between these quantiles holds less than 90 % of a new one.
    inside = float(((truth >= low) & (truth <= high)).double().mean())
    std = case.show_std(post.std)[0].double()
    return [
        name,
        type(sampler).__name__,
        f"{psnr(mean.numpy(), truth.numpy(), case.data_range):.2f}",
        f"{psnr(one.numpy(), truth.numpy(), case.data_range):.2f}",
        f"{ssim(one.numpy(), truth.numpy(), case.data_range):.3f}",
        f"{float(post.chi2.mean()):.2f}",
        f"{inside:.0%}",
        f"{correlation(std.flatten().numpy(), (mean - truth).abs().flatten().numpy()):.2f}",
        f"{post.counts['prior']:.0f}",
        f"{post.counts.get('vjp', 0):.0f}",
        f"{seconds:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--demo", choices=list(DEMOS), action="append", default=[])
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    lines = [HEADS, ("---", "---", *["---:"] * (len(HEADS) - 2))]
    for name in given.demo or DEMOS:
        case = DEMOS[name](0, given.steps)
        for sampler in SAMPLERS:
            lines.append(tuple(compare(name, dataclasses.replace(case), sampler, given.samples)))
            print(" | ".join(lines[-1]), flush=True)
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    if given.markdown:
        threads = torch.get_num_threads()
        about = f"{given.samples} samples, {given.steps} steps, {threads} CPU threads."
        write_between(given.markdown, f"{about}\n\n{text}")


if __name__ == "__main__":
    main()
