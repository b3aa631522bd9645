"""Holds every sampler to exact posteriors, and deepinv's samplers to the same ones.

    python scripts/certify_gaussian.py --markdown docs/certificate.md \
        --figure docs/images/certificate.png

Three Gaussian problems and a Gaussian mixture have exact denoisers and exact posteriors: a
sampler's error is all its own. The tables go between the markers of an existing Markdown file, or
into a new one. What the columns mean: docs/certificate.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from invdiff import DDS, DPS, STSL, TDS, Gaussian, Posterior, Problem, REDDiff, Rng, karras, sample
from invdiff.covariance import IsotropicCovariance
from invdiff.files import save_json, written_whole
from invdiff.operators import Inpainting, MeanPooling, Operator, ParallelBeamCT
from invdiff.priors.exact import ExactPosterior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.provenance import versions
from invdiff.samplers import Sampler

SIGMA = 0.05
BEGIN, END = "<!-- certificate: begin -->", "<!-- certificate: end -->"


@dataclass(frozen=True)
class Case:
    """A problem with its prior and its exact posterior."""

    name: str
    title: str
    problem: Problem
    prior: GaussianPrior | GaussianMixturePrior
    exact: ExactPosterior


def exponential(size: int, std: float = 0.15, length: float = 3.0) -> Tensor:
    """The covariance std^2 exp(-d / length) of the pixels of a square image, d in pixels."""
    ticks = torch.arange(size, dtype=torch.float64)
    place = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    return std**2 * torch.exp(-torch.cdist(place, place) / length)


def gaussian_case(name: str, title: str, operator: Operator, items: int) -> Case:
    """``items`` different images of the prior, measured once each."""
    prior = GaussianPrior.dense(torch.full((1, 10, 10), 0.5).double(), exponential(10))
    ids = tuple(range(items))
    clean = operator(prior.draw(Rng(0, ids, 1)))
    y = clean + SIGMA * Rng(0, ids, 1, step=1).normal(clean)
    if operator.observed is not None:
        y = y * operator.observed
    problem = Problem(y.float(), operator, Gaussian(SIGMA))
    return Case(name, title, problem, prior, prior.posterior(problem))


def mixture_case(repeats: int, seed: int = 124) -> Case:
    """One measurement of a two-component mixture, ``repeats`` times, each with its own chance.

    The means are 0.5 + s and 0.5 - s with a random pattern s of -0.04 and 0.04. The seed is one of
    300 that were tried, that whose first mode has an exact weight nearest to 0.926.
    """
    pattern = np.random.Generator(np.random.Philox(seed)).choice([-1.0, 1.0], (1, 8, 8))
    means = 0.5 + 0.04 * torch.from_numpy(np.stack([pattern, -pattern]))
    covariances = exponential(8).expand(2, 64, 64)
    prior = GaussianMixturePrior(torch.full((2,), 0.5).double(), means, covariances)
    operator = Inpainting.random((1, 8, 8), 12 / 64, seed)
    image = prior.draw(Rng(seed, [0], 1))
    y = operator(image + SIGMA * Rng(seed, ["noise"], 1).normal(image))
    problem = Problem(y.float().repeat(repeats, 1, 1, 1), operator, Gaussian(SIGMA))
    exact = prior.posterior(problem)
    title = f"Two modes, 12 of 64 pixels; exact weight of the first {exact.weights[0, 0]:.4f}"
    return Case("mixture", title, problem, prior, exact)


def cases(items: int) -> list[Case]:
    # Rays ten pixels long. In units of 0.3 the operator's norm is 2.6; in units of 1 it is 8.8,
    # the noise is three times smaller beside the data, and the problem stiff.
    ct, stiff = (ParallelBeamCT((10, 10), views=8, pixel_size=size) for size in (0.3, 1.0))
    return [
        gaussian_case(
            "inpainting", "Inpainting, 50 %", Inpainting.random((1, 10, 10), 0.5, 0), items
        ),
        gaussian_case(
            "super-resolution", "Super-resolution x2", MeanPooling((1, 10, 10), 2), items
        ),
        gaussian_case("ct", "CT, 8 views", ct, items),
        gaussian_case("ct-stiff", "CT, 8 views, stiff: pixels of 1 instead of 0.3", stiff, items),
        mixture_case(items),
    ]


@dataclass(frozen=True)
class Method:
    """Something that gives a posterior: ``run(case, samples, seed)``."""

    library: str
    name: str
    steps: int
    run: Callable[[Case, int, int], Posterior]


def method(
    sampler: Sampler,
    steps: int,
    name: str = "",
    particles: int | None = None,
    levels: tuple[float, float] | None = None,
) -> Method:
    """A sampler of invdiff on the ladder ``karras``; ``particles`` per filter.

    The ladder ends at ``levels``, at the prior's own range of noise if None. Fewer particles than
    samples make several independent filters, more make a larger one.
    """

    def run(case: Case, samples: int, seed: int) -> Posterior:
        filters = max(1, samples // particles) if particles else 1
        index = torch.arange(len(case.problem)).repeat_interleave(filters)
        post = sample(
            case.problem.rows(index),
            case.prior,
            sampler,
            karras(steps, *(levels or (case.prior.sigma_min, case.prior.sigma_max))),
            samples=particles or samples,
            seed=seed,
            progress=False,
        )
        return pooled(post, filters)

    return Method("invdiff", name or type(sampler).__name__, steps, run)


def pooled(post: Posterior, filters: int) -> Posterior:
    """The particles of ``filters`` independent filters of an item, each filter equally heavy."""
    items = len(post) // filters
    weights = torch.log_softmax(post.log_w, 1).reshape(items, -1) - math.log(filters)
    return dataclasses.replace(
        post,
        x=post.x.reshape(items, -1, *post.x.shape[2:]),
        log_w=weights,
        chi2=post.chi2.reshape(items, -1),
        ids=post.ids[::filters],
        ok=post.ok.reshape(items, -1).all(1),
        suspect=post.suspect.reshape(items, -1).any(1),
    )


def unweighted(case: Case, x: Tensor) -> Posterior:
    """Independent draws (items, samples, *shape) as a posterior."""
    items, samples = x.shape[:2]
    rows = case.problem.rows(torch.arange(items).repeat_interleave(samples))
    chi2 = rows.chi2(x.flatten(0, 1)).reshape(items, samples)
    whole = torch.ones(items, dtype=torch.bool)
    ids = tuple(range(items))
    return Posterior(x, torch.zeros_like(chi2), chi2, ids, whole, ~whole, "exact")


def exact_draws(case: Case, samples: int, seed: int) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    return unweighted(case, case.exact.draw(samples, generator))


def prior_draws(case: Case, samples: int, seed: int) -> Posterior:
    x = case.prior.draw(Rng(seed, tuple(range(len(case.problem))), samples))
    return unweighted(case, x.reshape(len(case.problem), samples, *x.shape[1:]))


def methods(case: Case, quick: bool, peers: bool) -> Iterator[Method]:
    yield Method("reference", "exact draws", 0, exact_draws)
    if not quick:
        yield Method(
            "reference", "1000 exact draws", 0, lambda c, _, seed: exact_draws(c, 1000, seed)
        )
    yield Method("reference", "prior draws (y ignored)", 0, prior_draws)
    counts = (50,) if quick else (50, 100, 300)
    for sampler in (DPS(), DDS(), STSL(), REDDiff(), TDS()):
        yield from (method(sampler, steps) for steps in counts)
    if not quick:
        yield method(TDS(), 100, "TDS, 8 particles", particles=8)
        yield method(TDS(), 60, "TDS, 1000 particles", particles=1000, levels=(0.005, 10.0))
        yield method(TDS(covariance=IsotropicCovariance()), 100, "TDS, isotropic")
    if peers:
        from certify_peers import PEERS, run_peer, suits

        for peer in PEERS:
            if suits(peer, case.problem) and not (quick and peer.steps > 300):
                yield Method(
                    "deepinv",
                    peer.name,
                    peer.steps,
                    lambda case, samples, seed, peer=peer: run_peer(
                        peer, case.problem, case.prior, samples, seed
                    ),
                )


def certify(case: Case, method: Method, samples: int, seed: int = 0) -> dict[str, Any]:
    """One row of the table: how far ``samples`` samples per item are from the exact posterior."""
    started = time.perf_counter()
    post = method.run(case, samples, seed)
    row = {
        "case": case.name,
        "library": method.library,
        "method": method.name,
        "steps": method.steps,
        "kind": post.kind,
        "samples": post.x.shape[1],
        "calls": post.counts.get("prior", 0.0),
        "derivatives": post.counts.get("vjp", 0.0),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return row | score(dataclasses.replace(post, x=post.x.double()), case.exact)


def score(post: Posterior, exact: ExactPosterior, share: float = 0.2) -> dict[str, float | None]:
    """The distances between weighted samples and an exact posterior, over all items."""
    error = (post.mean - exact.mean) / exact.std
    values, vectors = torch.linalg.eigh(exact.covariance)  # ascending, (items, pixels)
    centred = (post.x - post.mean[:, None]).flatten(2) @ vectors
    left = (1 - post.weights.square().sum(1)).clamp(min=1e-12)
    spread = (post.weights[..., None] * centred.square()).sum(1) / left[:, None]
    few = round(share * values.shape[1])

    def ratio(part: slice) -> float:
        return float(spread[:, part].sum() / values[:, part].sum())

    result: dict[str, float | None] = {
        "e": float(error.square().mean().sqrt()),
        "variance": ratio(slice(None)),
        "tight": ratio(slice(few)),
        "loose": ratio(slice(-few, None)),
        "coverage": None if post.kind == "point" else coverage(post, exact),
        "chi2": float((post.weights * post.chi2).sum(1).mean()),
        "mode": None,
        "mode_error": None,
        "ess": None,
        "evidence_error": None,
    }
    if exact.weights.shape[1] > 1:
        mode = mode_weight(post, exact)
        result["mode"] = float(mode.mean())
        result["mode_error"] = float(mode.std() / len(mode) ** 0.5) if len(mode) > 1 else None
    if "ess" in post.trace:
        filters = post.trace["ess"].shape[1] // len(post)
        gap = post.log_evidence - exact.log_evidence.repeat_interleave(filters)
        particles = post.x.shape[1] // filters
        result["ess"] = float(post.trace["ess"].min() / particles)
        result["evidence_error"] = float(gap.square().mean().sqrt())
    return result


def coverage(post: Posterior, exact: ExactPosterior, level: float = 0.9) -> float:
    """The exact posterior probability of the samples' central intervals, mean over pixels."""
    ends = (post.quantile((1 + sign * level) / 2).flatten(1)[:, None] for sign in (-1, 1))
    stds = exact.covariances.diagonal(dim1=-2, dim2=-1).sqrt()  # (items, components, pixels)
    low, high = (torch.special.ndtr((end - exact.means) / stds) for end in ends)
    return float((exact.weights[..., None] * (high - low)).sum(1).mean())


def mode_weight(post: Posterior, exact: ExactPosterior) -> Tensor:
    """The weighted mean of the first component's responsibility, (items,)."""
    modes = torch.distributions.MultivariateNormal(exact.means, exact.covariances)
    samples = post.x.flatten(2).transpose(0, 1)[:, :, None]  # (samples, items, 1, pixels)
    joint = modes.log_prob(samples) + exact.weights.log()
    return (post.weights * joint.softmax(-1)[..., 0].T).sum(1)


COLUMNS = (
    ("e", "e", "{:.2f}"),
    ("variance", "variance", "{:.2f}"),
    ("tight", "tight", "{:.2f}"),
    ("loose", "loose", "{:.2f}"),
    ("coverage", "coverage", "{:.0%}"),
    ("chi2", "chi2", "{:.2f}"),
    ("D", "calls", "{:.0f}"),
    ("J", "derivatives", "{:.0f}"),
)


def markdown(rows: Sequence[dict[str, Any]], titles: dict[str, str]) -> str:
    """A table for every problem, and one for the particles."""
    parts = []
    for name, title in titles.items():
        here = [row for row in rows if row["case"] == name]
        columns = [(head, key, form) for head, key, form in COLUMNS]
        if here[0]["mode"] is not None:
            columns.insert(0, ("mode 1", "mode", "{:.3f}"))
            columns.insert(1, ("±", "mode_error", "{:.3f}"))
        body = [
            [_label(row), str(row["steps"] or "–"), row["kind"] if row["steps"] else "–"]
            + [_shown(row[key], form) for _, key, form in columns]
            for row in here
        ]
        heads = ["method", "steps", "kind", *(head for head, _, _ in columns)]
        parts.append(f"#### {title}\n\n{_table(heads, body)}")
    weighted = [row for row in rows if row["ess"] is not None]
    if weighted:
        parts.append(f"#### Particles: evidence and effective sample size\n\n{_weights(weighted)}")
    return "\n\n".join(parts)


def _weights(rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(row["case"] for row in rows))
    lines: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        cell = f"{row['evidence_error']:.3f}, {row['ess']:.0%}"
        lines.setdefault((row["method"], row["steps"]), []).append(cell)
    body = [[name, str(steps), *cells] for (name, steps), cells in lines.items()]
    return _table(["method", "steps", *names], body)


def _label(row: dict[str, Any]) -> str:
    name = f"{row['library']} {row['method']}"
    return f"**{row['method']}**" if row["library"] == "reference" else name


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_markdown(path: Path, text: str) -> None:
    """Puts the text between the markers of the file, or makes the file."""
    whole = f"{BEGIN}\n\n{text}\n\n{END}\n"
    if path.exists():
        before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise ValueError(f"{path} exists and lacks the markers {BEGIN} and {END}: add them.")
        whole = before + whole.rstrip("\n") + after
    with written_whole(path) as temporary:
        temporary.write_text(whole, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples and steps")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True,
                        help="whether to run deepinv's samplers, too")  # fmt: skip
    parser.add_argument("--json", type=Path, help="where to write every number")
    parser.add_argument("--markdown", type=Path, help="where to write the tables")
    parser.add_argument("--figure", type=Path, help="where to draw them, a PNG")
    arguments = parser.parse_args()
    items, samples = (2, 64) if arguments.quick else (4, 128)
    started = time.perf_counter()
    problems = cases(items)
    rows = []
    for case in problems:
        for each in methods(case, arguments.quick, arguments.peers):
            row = certify(case, each, samples)
            rows.append(row)
            print(
                f"{row['case']:17}{_label(row):34}{row['steps']:5}  e {row['e']:5.2f}  "
                f"variance {row['variance']:5.2f}  {row['seconds']:6.1f} s",
                flush=True,
            )
    used = versions()
    if arguments.peers:
        import certify_peers

        used["deepinv"] = certify_peers.version
    about = ", ".join(f"{name} {version}" for name, version in used.items())
    text = f"{items} items, {samples} samples each. Versions: {about}.\n\n"
    text += markdown(rows, {case.name: case.title for case in problems})
    if arguments.markdown:
        write_markdown(arguments.markdown, text)
    if arguments.json:
        save_json(arguments.json, {"versions": used, "items": items, "rows": rows})
    if arguments.figure:
        from certify_figure import draw_certificate

        draw_certificate(arguments.figure, rows, {case.name: case.title for case in problems})
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
