"""Measures how the errors of the exact samplers fall with particles and with steps.

    python scripts/measure_convergence.py

Writes the tables of docs/convergence.md, between its markers, and docs/images/convergence.png.
Against particles by many independent filters; against steps without sampling: the law of
infinitely many particles is computed from the samplers' own steps (limit_laws.py, line_laws.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from convergence_page import Steps, draw, particle_table, step_table, write_page
from limit_laws import affine_law, errors, stationary_law, weighted_law
from line_laws import line_law
from particle_filters import Slope, Task, filters, slope

from invdiff import Gaussian, Problem, Rng, karras
from invdiff.certify.gaussian import anisotropic
from invdiff.information import split_levels
from invdiff.operators import Matrix
from invdiff.priors.exact import ExactPosterior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.provenance import versions
from invdiff.samplers import (
    AFDPS,
    FKC,
    FPSSMC,
    MMPS,
    TDS,
    ConjugateTDS,
    FKSteering,
    MCGDiff,
    PnPDM,
    SplitSMC,
)
from invdiff.samplers.afdps import Diffusion

DOCS = Path(__file__).parents[1] / "docs"
F64 = torch.float64
PARTICLES, STEPS = (4, 16, 64, 256), (10, 20, 40, 80, 160)
LEVELS = (0.4, 0.2, 0.1, 0.05, 0.025)
FULL, WIDER = AFDPS(form=Diffusion()), AFDPS(form=Diffusion(), annealing=4.0)
WEIGHTED: dict[str, Any] = {
    "ConjugateTDS": ConjugateTDS(),
    "TDS": TDS(cg_tolerance=1e-10),
    "AFDPS": AFDPS(),
    "AFDPS, full guidance": FULL,
    "AFDPS, full, annealing 4": WIDER,
    "FKC": FKC(),
    "MCGDiff": MCGDiff(),
    "FKSteering": FKSteering(),
    "FPSSMC": FPSSMC(),
    "SplitSMC": SplitSMC(denoising_steps=30, last_steps=60),
}


def one_number() -> Task:
    """Three modes on a line, seen with a noise that leaves all of them some weight."""
    weights = torch.tensor([0.4, 0.35, 0.25], dtype=F64)
    means = torch.tensor([[-1.5], [0.2], [2.0]], dtype=F64)
    variances = torch.tensor([0.3, 0.15, 0.5], dtype=F64)
    prior = GaussianMixturePrior(weights, means, variances[:, None, None])
    operator = Matrix(torch.ones(1, 1, 1, dtype=F64))
    problem = Problem(torch.tensor([[0.7]], dtype=F64), operator, Gaussian(0.8))
    return Task("one number", problem, prior, prior.posterior(problem), karras(20, 0.02, 4.0))


def three_modes(items: int = 8) -> Task:
    """Four numbers with three modes apart, two combinations measured."""
    source = torch.Generator().manual_seed(3)
    means = [[-1.5, 1, 0, 0.5], [1.5, 0.5, -1, 0], [0, -1.5, 1, -0.5]]
    roots = torch.randn(3, 4, 4, generator=source, dtype=F64)
    covariances = 0.1 * roots @ roots.mT + 0.05 * torch.eye(4, dtype=F64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    prior = GaussianMixturePrior(weights, torch.tensor(means, dtype=F64), covariances)
    operator = Matrix(torch.randn(1, 2, 4, generator=source, dtype=F64) / 2)
    rng = Rng(0, [f"three modes/{k}" for k in range(items)], 1)
    clean = operator(prior.draw(rng))
    problem = Problem(clean + 0.3 * rng.at(1).normal(clean), operator, Gaussian(0.3))
    return Task("three modes", problem, prior, prior.posterior(problem), karras(60, 0.002, 80.0))


def sixteen(items: int = 8) -> Task:
    """The certificate's anisotropic Gaussian, in double precision."""
    case = anisotropic("anisotropic", items, draws=2)
    problem = Problem(case.problem.y.double(), case.problem.operator, case.problem.noise)
    truth = case.prior.posterior(problem)
    return Task("anisotropic", problem, case.prior, truth, case.ladder(60))


def at_its_limit(sampler: Any, task: Task, size: tuple[int, int] = (101, 15)) -> Task:
    """The same, with the law of infinitely many particles for the truth."""
    law = line_law(sampler, task.problem, task.prior, task.ladder, size)
    parts = ([[1.0]], [[[law.mean]]], [[[[law.variance]]]], [law.log_evidence])
    return task._replace(truth=ExactPosterior(*(torch.tensor(p, dtype=F64) for p in parts), (1,)))


def against_particles() -> Iterator[tuple[tuple[str, str], tuple[Slope, Slope]]]:
    for task, rows in ((one_number(), 32768), (three_modes(), 8192), (sixteen(), 8192)):
        for name, sampler in WEIGHTED.items():
            if name == "ConjugateTDS" and task.name == "anisotropic":
                continue  # every weight is the evidence: exact with one particle
            known = task.name == "one number" and name not in ("FPSSMC", "SplitSMC")
            goal = at_its_limit(sampler, task) if known else task
            if name == "SplitSMC":
                top = float(task.ladder[0])
                goal = task._replace(
                    ladder=split_levels(task.problem, task.prior, 16, sigma_max=top)
                )
            found = [filters(sampler, goal, size, rows, seed=size) for size in PARTICLES]
            pair = (
                slope(PARTICLES, [one.mean for one in found], first=1),
                slope(PARTICLES, [one.evidence for one in found], first=1),
            )
            print(task.name, name, *(f"{p.value:.2f} +- {p.error:.2f}" for p in pair), flush=True)
            yield (task.name, name), pair


def against_steps() -> Iterator[tuple[tuple[str, str], Steps]]:
    task = sixteen()
    problem, prior = task.problem.rows(torch.tensor([0])), task.prior
    truth = prior.posterior(problem)

    def measured(law: Callable[..., Any], sampler: Any, declared: str) -> Steps:
        found = [
            errors(law(sampler, problem, prior, karras(n, 0.002, 80.0)), truth) for n in STEPS
        ]
        return Steps(declared, STEPS, tuple(found))

    yield ("anisotropic", "MMPS"), measured(affine_law, MMPS(cg_tolerance=1e-9), "-2")
    for name in ("ConjugateTDS", "TDS", "AFDPS, full guidance", "MCGDiff", "FKSteering"):
        declared = "exact" if name == "ConjugateTDS" else "-2"
        yield ("anisotropic", name), measured(weighted_law, WEIGHTED[name], declared)
    sampler = PnPDM(last_sweeps=1, denoising_steps=320, cg_tolerance=1e-12, cg_iterations=300)
    laws = [
        stationary_law(sampler, problem, prior, torch.tensor(rho, dtype=F64))[0] for rho in LEVELS
    ]
    found = tuple(errors(law, truth) for law in laws)
    yield ("anisotropic", "PnPDM, in its last level"), Steps("2", LEVELS, found)
    task = one_number()
    for name, declared in (("ConjugateTDS", "-2"), ("TDS", "-2"), ("MCGDiff", "-2"),
                           ("AFDPS", "none"), ("FKC", "none")):  # fmt: skip
        rows = []
        for count in STEPS:
            law = line_law(WEIGHTED[name], task.problem, task.prior, karras(count, 0.002, 20.0))
            mean, std = float(task.truth.mean), float(task.truth.std)
            gap = law.log_evidence - float(task.truth.log_evidence)
            rows.append(((law.mean - mean) / std, law.variance / std**2 - 1, gap))
        yield ("one number", name), Steps(declared, STEPS, tuple(rows))


def main() -> None:
    started = time.perf_counter()
    steps = {}
    for key, one in against_steps():
        steps[key] = one
        print(*key, one.declared, *(f"{total:.2e}" for total in one.totals), flush=True)
    particles = dict(against_particles())
    about = ", ".join(f"{name} {version}" for name, version in versions().items())
    parts = [
        f"Versions: {about}. `python scripts/measure_convergence.py`.",
        "## Against particles",
        particle_table(particles),
        "## Against steps",
        step_table(steps),
        "![Errors against particles and levels](images/convergence.png)",
    ]
    draw(DOCS / "images" / "convergence.png", particles, steps)
    write_page(DOCS / "convergence.md", "\n\n".join(parts))
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
