"""The single checks of a measurement with its settings, each a row of what was found."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from invdiff.commands.cases import LoadedPriors, make_case
from invdiff.commands.privacy import EXPECTED, reason
from invdiff.commands.settings import Settings
from invdiff.commands.sources import Item, Measurement, Source
from invdiff.commands.stated_noise import noise_ratio
from invdiff.demos.case import Case
from invdiff.ladder import karras
from invdiff.priors.memory import footprint, free_memory
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.sample import sample
from invdiff.validation import check_run

__all__ = ["check_source"]

ADJOINT = {torch.float32: 1e-5, torch.float64: 1e-11}  # of the product of the norms
ITERATIONS = 30  # of the power method
LOW, HIGH = 0.4, 2.5  # of the noise in the data over the noise that is stated
TRIAL, TOGETHER = 2, 4  # steps, and samples at most

Row = dict[str, Any]


def check_source(source: Source, settings: Settings) -> dict[str, Any]:
    """Checks the first item of each file, and estimates the memory and time of all items.

    Raises what reading the first file, or loading its prior, raises.
    """
    priors = LoadedPriors(settings)
    first: dict[int, Item] = {}
    for item in source.items:
        first.setdefault(item.file, item)
    items: list[dict[str, Any]] = []
    estimate: dict[str, Any] | None = None
    for item in first.values():
        try:
            measurement = item.read()
            case = make_case(measurement, settings, priors)
            rows = _rows(measurement, case, settings)
            estimate = estimate or _estimate(case, settings, len(source.items))
        except EXPECTED as error:
            rows = [_row("readable", False, reason(error, (item.path,)))]
        items.append({"label": item.label, "modality": item.modality, "checks": rows})
    estimate = estimate or {"says": "no estimate: no item could be read"}
    ok = all(row["ok"] for item in items for row in item["checks"])
    ok = ok and bool(estimate.get("fits", False))
    return {"ok": ok, "items": items, "estimate": estimate, "settings": settings.to_dict()}


def _rows(measurement: Measurement, case: Case, settings: Settings) -> list[Row]:
    return [
        _adjoint(case.problem),
        _norm(case.problem),
        _range(case, settings),
        _noise(measurement),
    ]


def _row(name: str, ok: bool, says: str, **numbers: float) -> Row:
    return {"name": name, "ok": ok, "says": says} | numbers


def _adjoint(problem: Problem) -> Row:
    """<A u, v> = <u, A* v> for random u and v, over the product of their norms."""
    x, y = _random(problem, 0)
    forward, back = problem.operator(x), problem.operator.adjoint(y)
    left = torch.vdot(y.flatten(), forward.flatten().to(y.dtype)).real
    right = torch.vdot(back.flatten(), x.flatten()).real
    size = float(forward.norm() * y.norm())
    gap = abs(float(left - right)) / size if size > 0 else 0.0
    limit = ADJOINT[x.dtype]
    exact = problem.operator.adjoint_exact
    says = f"relative gap {gap:.1e}, at most {limit:.0e}"
    if not exact:
        says += "; the operator says that its adjoint is approximate"
    return _row("adjoint", gap <= limit, says, gap=gap)


def _norm(problem: Problem) -> Row:
    """The largest singular value by the power method, a lower bound."""
    x, _ = _random(problem, 1)
    value = 0.0
    for _ in range(ITERATIONS):
        x = x / x.norm()
        x = problem.operator.adjoint(problem.operator(x))
        value = float(x.norm())
    ok = 0 < value < float("inf")
    return _row("norm", ok, f"largest singular value {value**0.5:.4g}", norm=value**0.5)


def _range(case: Case, settings: Settings) -> Row:
    """What a run would refuse, and where the data lie."""
    y = case.problem.y.abs() if case.problem.y.is_complex() else case.problem.y
    low, high = float(y.min()), float(y.max())
    says = f"data in [{low:.4g}, {high:.4g}]"
    try:
        check_run(
            case.problem,
            case.prior,
            case.sampler,
            case.ladder,
            [0],
            settings.samples,
            None,
            settings.rows,
            1,
        )
    except (ValueError, TypeError) as error:
        return _row("range", False, f"{says}; {error}", low=low, high=high)
    return _row("range", True, f"{says}, within what the prior's images can give")


def _noise(measurement: Measurement) -> Row:
    """The noise that is in the data against the noise that is stated."""
    ratio = noise_ratio(measurement)
    ok = LOW <= ratio <= HIGH
    says = f"in the data {ratio:.2f} times what sigma states"
    if not ok:
        says += ": check its unit, and whether it is that of one real number"
    return _row("noise", ok, says, ratio=ratio)


def _estimate(case: Case, settings: Settings, items: int) -> dict[str, Any]:
    """Memory at the peak, and the time of the sampling, from a short trial with few samples."""
    levels = karras(TRIAL, case.prior.sigma_min, case.prior.sigma_max)
    arguments = (case.problem, case.prior, case.sampler, levels)
    sample(*arguments, progress=False, throw=False)  # which builds what is built once
    together = min(TOGETHER, settings.samples, settings.rows or settings.samples)
    started = time.perf_counter()
    tried = sample(*arguments, samples=together, progress=False, throw=False)
    each = (time.perf_counter() - started) / TRIAL / together
    seconds = each * settings.steps * settings.samples * items
    derivative = tried.counts.get("vjp", 0) > 0
    x = tried.x[0, :1]
    print_size = footprint(case.prior, x, case.ladder[0].to(x.device), derivative)
    rows = min(settings.rows or settings.samples, settings.samples)
    needed = print_size.fixed + print_size.row * rows + 8.0 * x.nbytes * settings.samples
    free = free_memory(x.device)
    gigabytes, there = needed / 1e9, free / 1e9
    says = (
        f"about {gigabytes:.2f} GB ({there:.1f} GB free) and {_span(seconds)} for {items} items, "
        f"{settings.samples} samples, {settings.steps} steps on {x.device}"
    )
    fits = needed < free
    says += "" if fits else "; LOOK: too much memory, lower rows"
    return {
        "memory_gb": round(gigabytes, 4),
        "free_gb": round(there, 3),
        "seconds": round(seconds, 1),
        "fits": fits,
        "says": says,
    }


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _random(problem: Problem, seed: int) -> tuple[Tensor, Tensor]:
    """An image and a measurement of standard normal numbers."""
    rng = Rng(seed, ["check"], 1)
    x = torch.zeros(1, *problem.operator.domain, dtype=problem.y.real.dtype)
    return (
        rng.normal(x).to(problem.y.device),
        rng.normal(problem.y.cpu()).to(problem.y.device),
    )
