"""The verb: walk the ladder, item by item, and come back with a posterior."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from invdiff.checkpoint import Checkpoint
from invdiff.choice import resolve
from invdiff.errors import NotFinite
from invdiff.ladder import check_ladder
from invdiff.metering import MeteredOperator, MeteredPrior
from invdiff.posterior import Posterior
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.provenance import describe, peak_memory_gb
from invdiff.rng import ItemId, Rng
from invdiff.samplers.base import Sampler
from invdiff.validation import check_run

__all__ = ["sample"]


def sample(
    problem: Problem,
    prior: Prior,
    sampler: Sampler | str,
    sigmas: Tensor,
    *,
    samples: int = 1,
    seed: int = 0,
    ids: Sequence[ItemId] | None = None,
    chunk: int | None = None,
    rows: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 10,
    progress: bool = True,
    throw: bool = True,
) -> Posterior:
    r"""Draws ``samples`` samples from p(x | y) for every item of a problem.

    The result does not depend on ``chunk``, ``rows``, the order of the items, or on where a run
    was interrupted: randomness belongs to (seed, item, particle, step). Chunks differ only by the
    rounding of differently shaped kernels.

    Arguments:
        problem: n measurements, their operator and noise. The run uses y's device and precision.
        prior: Images of the shape ``problem.operator.domain``.
        sampler: One of ``invdiff.samplers``, or any object with the same two methods. "auto"
            takes ``choice.choose(problem)`` and prints what that is.
        sigmas: The ladder, on the range of the prior's images, from ``karras`` or its like.
        samples: The samples, or particles, k, of every item.
        seed: Another seed gives other samples.
        ids: The items' identities, 0..n-1 if None. Randomness follows the identity.
        chunk: Items per pass, all if None; nothing crosses a chunk.
        rows: The most rows (item x sample) that the prior sees at once, no limit if None.
        checkpoint: A folder in which an interrupted run is continued by the same call.
        checkpoint_every: The steps between two writes.
        progress: Whether to show a bar, on terminals only.
        throw: Whether to raise NotFinite when a sample diverged; the finished result is its
            attribute ``posterior``. Otherwise read ``Posterior.ok``.

    Raises:
        ShapeError, ValueError, TypeError: The parts do not fit; before any expensive work.
        NotFinite: A sample has NaN or infinite entries (see ``throw``).
    """
    started = time.perf_counter()
    ladder = check_ladder(sigmas)
    sampler = resolve(sampler, problem)
    names = tuple(ids) if ids is not None else tuple(range(len(problem)))
    check_run(problem, prior, sampler, ladder, names, samples, chunk, rows, checkpoint_every)
    provenance = describe(problem, prior, sampler, ladder, samples, seed, names)
    size = chunk or len(problem)
    store = Checkpoint.open(checkpoint, provenance | {"chunk": size})
    starts = range(0, len(problem), size)
    total = len(starts) * (len(ladder) - 1)
    parts = []
    with tqdm(total=total, unit="step", disable=None if progress else True) as bar:
        for first in starts:
            members = torch.arange(first, min(first + size, len(problem)))
            rng = Rng(seed, [names[i] for i in members.tolist()], samples)
            run = _Chunk(problem, prior, sampler, ladder, members, rng, rows)
            parts.append(run.finish(store, checkpoint_every, bar))
    posterior = _gather(parts, names, sampler, samples, provenance)
    posterior.provenance["seconds"] = round(time.perf_counter() - started, 3)
    posterior.provenance["peak_memory_gb"] = peak_memory_gb(problem.y.device)
    if throw and not bool(posterior.ok.all()):
        raise _diverged(posterior)
    return posterior


class _Chunk:
    """A few items on their way down the ladder: their state, trace and costs."""

    def __init__(
        self,
        problem: Problem,
        prior: Prior,
        sampler: Sampler,
        ladder: Tensor,
        members: Tensor,
        rng: Rng,
        limit: int | None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        index = members.repeat_interleave(rng.particles)
        part = problem.rows(index)
        self.plain = part
        metered = MeteredOperator(part.operator, self.counts)
        self.problem = Problem._checked(part.y, metered, part.noise)
        self.prior = MeteredPrior(prior, self.counts, limit)
        self.sampler, self.ladder, self.rng = sampler, ladder, rng
        self.first = int(members[0])
        self.trace: dict[str, list[Tensor]] = {}
        self.recent: dict[str, list[Tensor]] = {}  # not yet on the host: fetching them waits

    def finish(self, store: Checkpoint, every: int, bar: Any) -> dict[str, Any]:
        start = self.sampler.init(self.problem, self.prior, self.ladder[0], self.rng.at(0))
        step, state = 0, start
        saved = store.read(self.first)
        if saved is not None:
            step, fields, self.trace, counts = saved
            state = type(start)(
                *(value.to(field.device) for value, field in zip(fields, start, strict=True))
            )
            self.counts.clear()
            self.counts.update(counts)
            bar.update(step)
        last = len(self.ladder) - 1
        while step < last:
            levels = self.ladder[step], self.ladder[step + 1]
            state, info = self.sampler.step(
                state, *levels, self.problem, self.prior, self.rng.at(step + 1)
            )
            for name, value in info.items():
                self.recent.setdefault(name, []).append(value.detach())
            step += 1
            bar.update(1)
            if step == last or (step % every == 0 and store.folder is not None):
                self._fetch_trace()
                store.write(self.first, step, state, self.trace, self.counts)
        return self._result(state)

    def _fetch_trace(self) -> None:
        for name, values in self.recent.items():
            self.trace.setdefault(name, []).extend(torch.stack(values).cpu())
        self.recent.clear()

    def _result(self, state: Any) -> dict[str, Any]:
        items, k = len(self.rng.ids), self.rng.particles
        x = state.x.detach()
        weights = getattr(state, "log_w", None)
        log_w = torch.zeros(items * k) if weights is None else weights.detach().cpu()
        trace = {name: torch.stack(values) for name, values in self.trace.items()}
        return {
            "x": x.reshape(items, k, *x.shape[1:]),
            "log_w": log_w.double().reshape(items, k),
            "chi2": self.plain.chi2(x).detach().cpu().double().reshape(items, k),
            "measured": self.plain.measured.cpu().double().reshape(items, k)[:, 0],
            "trace": {
                name: value.reshape(len(value), items, k) if value.shape[1] == items * k else value
                for name, value in trace.items()
            },
            "counts": self.counts,
        }


def _gather(
    parts: list[dict[str, Any]],
    names: tuple[ItemId, ...],
    sampler: Sampler,
    samples: int,
    provenance: dict[str, Any],
) -> Posterior:
    whole = {key: torch.cat([part[key] for part in parts]) for key in ("x", "log_w", "chi2")}
    finite = torch.isfinite(whole["x"]).flatten(1).all(1).cpu()
    # Weights may vanish, but not all of an item's.
    finite = finite & torch.isfinite(whole["log_w"].logsumexp(1))
    measured = torch.cat([part["measured"] for part in parts])
    # Five standard deviations of a chi-square mean, and half of 1 for what models leave out.
    margin = 0.5 + 5 * (2 / measured).sqrt()
    chi2 = (torch.softmax(whole["log_w"], 1) * whole["chi2"]).sum(1)
    low = (chi2 < 1 - margin) & (sampler.kind != "point")
    counts: Counter[str] = sum((part["counts"] for part in parts), Counter())
    return Posterior(
        **whole,
        ids=names,
        ok=finite,
        suspect=(chi2 > 1 + margin) | low | ~finite,
        kind=sampler.kind,
        trace={
            name: torch.cat([part["trace"][name] for part in parts], 1)
            for name in parts[0]["trace"]
        },
        counts={name: count / (len(names) * samples) for name, count in sorted(counts.items())},
        provenance=provenance,
    )


def _diverged(posterior: Posterior) -> NotFinite:
    bad = ~torch.isfinite(posterior.x).flatten(2).all(2)
    places = [f"item {posterior.ids[i]!r} sample {k}" for i, k in bad.nonzero().tolist()]
    told = next(iter(posterior.trace.values()), None)
    when = ""
    if told is not None and bool((~torch.isfinite(told)).any()):
        step = int((~torch.isfinite(told)).flatten(1).any(1).nonzero()[0])
        when = f", first seen at step {step}"
    error = NotFinite(
        f"{', '.join(places[:5]) or 'the weights'}{' and more' if len(places) > 5 else ''} "
        f"diverged to NaN or infinity{when}. The others are intact: catch this and read "
        "its attribute 'posterior', or pass throw=False. Try more steps or a smaller step size."
    )
    error.posterior = posterior  # type: ignore[attr-defined]
    return error
