"""The samplers of the certificate. To add one, add a line to ``entries``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from invdiff.certify.case import Case
from invdiff.covariance import IsotropicCovariance
from invdiff.information import split_levels
from invdiff.posterior import Posterior
from invdiff.rng import Rng
from invdiff.sample import sample
from invdiff.samplers import (
    AFDPS,
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DPS,
    FKC,
    FPSSMC,
    LGD,
    MMPS,
    MPGD,
    STSL,
    SVDD,
    TDS,
    TMPD,
    ConjugateTDS,
    DDNMPlus,
    DiffPIR,
    FKSteering,
    MCGDiff,
    PiGDM,
    PnPDM,
    REDDiff,
    Sampler,
    Skeleton,
    SplitSMC,
)
from invdiff.samplers.afdps import Diffusion, Flow

__all__ = ["Contender", "Entry", "ExactDraws", "entries", "find_entries", "informed", "pooled"]


class Contender(Protocol):
    """Whatever gives a posterior for a case: an ``Entry``, or a sampler of another library."""

    @property
    def name(self) -> str: ...

    @property
    def library(self) -> str: ...

    @property
    def steps(self) -> int: ...

    @property
    def particles(self) -> int | None: ...

    def obstacle(self, case: Case) -> str | None:
        """Why it cannot run on the case, if so."""
        ...

    def run(self, case: Case, samples: int, seed: int) -> tuple[Posterior, int]:
        """About ``samples`` samples per item, and in how many independent groups they come."""
        ...


@dataclass(frozen=True)
class Entry:
    """A sampler of this package, with its effort.

    Arguments:
        name: Of the row.
        sampler: With its hyper-parameters.
        steps: Noise levels.
        particles: For samplers with weights: how many interact, in each of the independent filters
            that an item's samples are split into.
        filters: The fewest of them, since particles are worth less than independent samples.
        one_each: Whether each filter gives one sample, drawn by weight, rather than all particles;
            the samples are independent then, and cost ``particles`` times as much.
        ladder: Makes the levels of a case; its own if None.
    """

    name: str
    sampler: Sampler
    steps: int = 50
    particles: int | None = None
    filters: int = 12
    one_each: bool = False
    ladder: Callable[[Case, int], Tensor] | None = None
    library: str = "invdiff"

    def obstacle(self, case: Case) -> str | None:
        if self.sampler.needs_linear and not case.problem.operator.linear:
            return "needs a linear operator"
        return None

    def run(self, case: Case, samples: int, seed: int) -> tuple[Posterior, int]:
        size = self.particles or 1
        filters = samples if self.one_each else max(self.filters, math.ceil(samples / size))
        levels = self.ladder(case, self.steps) if self.ladder else case.ladder(self.steps)
        items = len(case.problem)
        # A sampler without weights gets its samples as particles, which then do not interact.
        count, repeats = (size, filters) if self.particles else (samples, 1)
        index = torch.arange(items).repeat_interleave(repeats)
        posterior = sample(
            case.problem.rows(index),
            case.prior,
            self.sampler,
            levels,
            samples=count,
            seed=seed,
            ids=[f"{case.name}/{item}/{k}" for item in range(items) for k in range(repeats)],
            progress=False,
            throw=False,
        )
        if not self.particles:
            return posterior, samples
        if self.one_each:
            posterior = _one_each(posterior, seed)
        return pooled(posterior, filters), filters


@dataclass(frozen=True)
class ExactDraws:
    """A perfect sampler: what its row shows is Monte-Carlo noise."""

    name: str = "exact draws"
    library: str = "reference"
    steps: int = 0
    particles: int | None = None

    def obstacle(self, case: Case) -> str | None:
        return None

    def run(self, case: Case, samples: int, seed: int) -> tuple[Posterior, int]:
        """Those of the case that the reference leaves; ``seed`` chooses none of them."""
        x = case.truth.spare[:, :samples]
        items = len(x)
        x = x.reshape(items, samples, *case.images.shape[1:])
        rows = case.problem.rows(torch.arange(items).repeat_interleave(samples))
        chi2 = rows.chi2(x.flatten(0, 1).to(case.problem.y.real.dtype)).reshape(items, samples)
        whole = torch.ones(items, dtype=torch.bool)
        weights = torch.zeros(items, samples, dtype=torch.float64)
        ids = tuple(range(items))
        return Posterior(x, weights, chi2.double(), ids, whole, ~whole, "exact"), samples


_INDEPENDENT: tuple[Sampler, ...] = (
    DPS(), PiGDM(), MMPS(), TMPD(), STSL(), LGD(), MPGD(),
    DDS(), DDNM(), DDNMPlus(), DDRM(), DiffPIR(), DAPS(), PnPDM(), REDDiff(), SVDD(), Skeleton(),
)  # fmt: skip
_WEIGHTED: tuple[Sampler, ...] = (
    ConjugateTDS(), TDS(), AFDPS(), FKC(), MCGDiff(), FPSSMC(), FKSteering(),
)  # fmt: skip


def informed(case: Case, steps: int) -> Tensor:
    """The levels of ``SplitSMC``, from the case's highest."""
    top = float(case.ladder(steps)[0])
    return split_levels(case.problem, case.prior, steps, sigma_max=top)


def entries() -> dict[str, Contender]:
    """All of them, in the order of the tables."""
    found: tuple[Contender, ...] = (
        ExactDraws(),
        *(Entry(type(one).__name__, one) for one in _INDEPENDENT),
        *(Entry(type(one).__name__, one, particles=8) for one in _WEIGHTED),
        Entry("AFDPS diffusion", AFDPS(form=Diffusion()), particles=8),
        Entry("AFDPS flow", AFDPS(form=Flow()), particles=8),
        Entry("SplitSMC", SplitSMC(), particles=128, filters=2, ladder=informed),
        Entry("TDS isotropic", TDS(covariance=IsotropicCovariance()), particles=8),
    )
    return {each.name: each for each in found}


def find_entries(names: Sequence[str]) -> list[Contender]:
    """The named ones, all if none is named. Raises ValueError for a name that is none."""
    known = entries()
    for name in names:
        if name not in known:
            raise ValueError(f"There is no sampler {name!r}. Known: {', '.join(known)}.")
    return [known[name] for name in names or known]


def pooled(posterior: Posterior, filters: int) -> Posterior:
    """The rows of ``filters`` independent filters as one item, each filter equally heavy."""
    items = len(posterior) // filters
    weights = torch.log_softmax(posterior.log_w, 1) - math.log(filters)
    return dataclasses.replace(
        posterior,
        x=posterior.x.reshape(items, -1, *posterior.x.shape[2:]),
        log_w=weights.reshape(items, -1),
        chi2=posterior.chi2.reshape(items, -1),
        ids=posterior.ids[::filters],
        ok=posterior.ok.reshape(items, -1).all(1),
        suspect=posterior.suspect.reshape(items, -1).any(1),
    )


def _one_each(posterior: Posterior, seed: int) -> Posterior:
    """One particle of every filter, drawn by its weight; the others' evaluations are its cost."""
    filters, particles = posterior.log_w.shape
    start = Rng(seed, posterior.ids, 1, step=_LAST_STEP).uniform()[:, None]
    pick = torch.searchsorted(posterior.weights.cumsum(1), start).clamp(max=particles - 1)[:, 0]
    rows = torch.arange(filters)
    return dataclasses.replace(
        posterior,
        x=posterior.x[rows, pick][:, None],
        log_w=torch.zeros(filters, 1, dtype=torch.float64),
        chi2=posterior.chi2[rows, pick][:, None],
        counts={name: count * particles for name, count in posterior.counts.items()},
    )


_LAST_STEP = 2**32 - 1  # no run has as many steps, so its numbers are not used again
