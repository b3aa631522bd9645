"""Measures how wide the samples of every integrator are, with few evaluations and no data.

    python scripts/measure_integrators.py --markdown docs/integrators.md

The denoisers are exact, so that all error is the integrator's. For a Gaussian, variances are
propagated without sampling; for a mixture, and for deepinv's solvers, they are measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from invdiff import Rng, integrators
from invdiff.files import written_whole
from invdiff.integrators import Estimate, Integrator, Walk
from invdiff.ladder import spanning
from invdiff.priors import Prior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.provenance import versions

BEGIN, END = "<!-- integrators: begin -->", "<!-- integrators: end -->"
F64 = torch.float64
COUNTS = (10, 20, 50)
INTEGRATORS: dict[str, tuple[Integrator, str]] = {
    "Ancestral": (integrators.Ancestral(), "1"),
    "DDIM(0)": (integrators.DDIM(0.0), "1"),
    "DDIM(1), DDPM": (integrators.DDIM(1.0), "1"),
    "Renoise(0.85)": (integrators.Renoise(0.85), "none"),
    "Renoise(1)": (integrators.Renoise(1.0), "none"),
    "Heun": (integrators.Heun(), "2"),
    "DPM-Solver++(2M)": (integrators.dpm_solver_2m(), "2"),
    "SDE-DPM-Solver++(2M)": (integrators.sde_dpm_solver_2m(), "2"),
    "DEIS(2)": (integrators.DEIS(2), "2"),
    "UniPC(1)": (integrators.unipc(1), "2"),
    "UniPC(2)": (integrators.unipc(2), "3"),
    "DPM-Solver++(3M)": (integrators.dpm_solver_3m(), "3"),
    "DEIS(3)": (integrators.DEIS(3), "3"),
    "UniPC(3)": (integrators.unipc(3), "4"),
}


class Slots:
    """Random numbers that are not drawn: each gets a place of its own, with coefficient 1.

    x (1, places, n) is then the linear map from independent standard normal numbers to n
    directions, which the integrator's own arithmetic carries along.
    """

    def __init__(self) -> None:
        self.used = 0

    def normal(self, like: Tensor) -> Tensor:
        unit = torch.zeros_like(like)
        self.used += 1
        unit[:, self.used] = 1
        return unit


class Diagonal:
    """A centred Gaussian in the directions where its covariance is diagonal."""

    def __init__(self, variances: Tensor) -> None:
        self.variances = variances

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.variances / (self.variances + sigma**2) * x

    def error_variance(self, sigma: Tensor) -> Tensor:
        noise = sigma[..., None] ** 2
        return (self.variances * noise / (self.variances + noise)).mean(-1)


def walk_down(integrator: Integrator, prior: Any, ladder: Tensor, x: Tensor, rng: Any) -> Tensor:
    """x of the first level, taken to the last by the integrator alone."""
    walk = Walk.begin(x, integrator.kept)
    for now, then in pairwise(ladder):
        walk, _ = integrator.step(
            lambda x, sigma: Estimate(prior(x, sigma), {}),
            walk,
            now,
            then,
            prior,
            rng,
        )
    return walk.x


def gaussian_variances(
    integrator: Integrator, variances: Tensor, ladder: Tensor, start: Tensor | None = None
) -> Tensor:
    """The exact variance of what comes out, per direction, from pure noise if not ``start``."""
    x = torch.zeros(1, len(ladder) + 1, len(variances), dtype=F64)
    x[0, 0] = ladder[0] if start is None else start.sqrt()
    x = walk_down(integrator, Diagonal(variances), ladder, x, Slots())
    return x[0].square().sum(0)


def exponential_covariance(size: int) -> Tensor:
    """0.15^2 exp(-distance / 3) between the pixels of a square image."""
    line = torch.arange(size, dtype=F64)
    points = torch.cartesian_prod(line, line)
    return 0.15**2 * torch.exp(-torch.cdist(points, points) / 3)


def gaussian() -> GaussianPrior:
    return GaussianPrior.dense(torch.full((1, 10, 10), 0.5, dtype=F64), exponential_covariance(10))


def mixture() -> GaussianMixturePrior:
    """Two modes, 0.12 above and below 0.5 in every second pixel."""
    pattern = 0.12 * (1 - 2 * (torch.arange(64, dtype=F64) % 2)).reshape(1, 8, 8)
    means = 0.5 + torch.stack([pattern, -pattern])
    weights = torch.tensor([0.7, 0.3], dtype=F64)
    return GaussianMixturePrior(weights, means, exponential_covariance(8).expand(2, 64, 64))


def sampled_ratio(x: Tensor, prior: GaussianPrior | GaussianMixturePrior) -> float:
    """The total variance of samples (b, *shape) over the prior's."""
    total = prior._total_variances if isinstance(prior, GaussianMixturePrior) else prior.variances
    return float(x.flatten(1).double().var(0).sum() / total.sum())


def levels(name: str, prior: Prior, count: int) -> Tensor:
    """The recommended ladder with at most ``count`` evaluations."""
    return spanning(prior, (count + 1) // 2 if name == "Heun" else count)


def ours(samples: int) -> Iterator[list[str]]:
    flat, modes = gaussian(), mixture()
    rng = Rng(0, range(samples), 1)
    for name, (integrator, order) in INTEGRATORS.items():
        cells = []
        for count in COUNTS:
            ladder = levels(name, flat, count)
            ratio = gaussian_variances(integrator, flat.variances, ladder) / flat.variances
            share = flat.variances / flat.variances.sum()
            cells.append(float(ratio @ share))
            if count == 20:
                ends = [float(ratio[:20].mean()), float(ratio[-1])]
        for count in COUNTS:
            ladder = levels(name, modes, count)
            x = ladder[0] * rng.at(0).normal(torch.empty(samples, 1, 8, 8, dtype=F64))
            draws = walk_down(integrator, modes, ladder, x, rng.at(1))
            cells.append(sampled_ratio(draws, modes))
        shown = [f"{value:.3f}" for value in (*cells[:3], *ends, *cells[3:])]
        print(name, *shown, flush=True)
        yield [name, order, *shown]


def deepinv_denoiser(prior: Any) -> Any:
    """A prior in deepinv's convention: D(x, sigma), both on the scale of the images."""
    import deepinv

    class Denoiser(deepinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Any, *args: Any, **kwargs: Any) -> Tensor:
            levels = torch.as_tensor(sigma, dtype=x.dtype).flatten()
            return prior(x, levels[0] if len(levels) == 1 else levels)

    return Denoiser()


def theirs(samples: int) -> Iterator[list[str]]:
    """deepinv's solvers, by default on its variance-preserving process and linear times."""
    from deepinv.sampling import (
        DDIMSolver,
        DDPMSolver,
        EulerSolver,
        HeunSolver,
        PosteriorDiffusion,
        VariancePreservingDiffusion,
    )

    for make in (DDPMSolver, DDIMSolver, EulerSolver, HeunSolver):
        cells = []
        for prior in (gaussian(), mixture()):
            for count in COUNTS:
                points = (count + 1) // 2 if make is HeunSolver else count
                times = torch.linspace(1, 0.001, points, dtype=F64)
                solver = make(timesteps=times, rng=torch.Generator().manual_seed(0))
                model = PosteriorDiffusion(
                    denoiser=deepinv_denoiser(prior),
                    sde=VariancePreservingDiffusion(),
                    solver=solver,
                )
                size = 10 if isinstance(prior, GaussianPrior) else 8
                draws = model(None, None, x_init=(samples, 1, size, size), seed=0)
                cells.append(sampled_ratio(draws, prior))
        shown = [f"{value:.2f}" for value in cells]
        print(make.__name__, *shown, flush=True)
        yield [f"deepinv {make.__name__}", "–", *shown[:3], "–", "–", *shown[3:]]


def table(rows: Sequence[Sequence[str]]) -> str:
    heads = ["integrator", "order", *(f"{count}" for count in COUNTS), "tight, 20", "loose, 20"]
    heads += [f"mixture, {count}" for count in COUNTS]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_between_markers(path: Path, text: str) -> None:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} lacks the markers {BEGIN} and {END}: add them.")
    with written_whole(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4000, help="where variances are sampled")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True,
                        help="whether to run deepinv's solvers, too")  # fmt: skip
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    arguments = parser.parse_args()
    started, used = time.perf_counter(), versions()
    rows = list(ours(arguments.samples))
    if arguments.peers:
        import deepinv

        rows += theirs(arguments.samples)
        used["deepinv"] = deepinv.__version__
    about = ", ".join(f"{name} {version}" for name, version in used.items())
    text = f"Versions: {about}. {arguments.samples} samples where sampled.\n\n{table(rows)}"
    if arguments.markdown:
        write_between_markers(arguments.markdown, text)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
