"""Every statistic is right on exact draws, and sees the kernels that are broken on purpose.

Bounds on exact draws are five standard errors of 120 items: with Student's t of 119 degrees of
freedom a false alarm has chance 2e-6 for each figure.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import generator
from scipy import stats
from torch import Tensor

from invdiff import Posterior
from invdiff.certify import statistics
from invdiff.certify.case import Case
from invdiff.certify.draws import Draws
from invdiff.certify.entries import Entry
from invdiff.certify.gaussian import anisotropic
from invdiff.certify.grade import THRESHOLDS, grade
from invdiff.certify.mixtures import image_mixture
from invdiff.certify.run import certify
from invdiff.certify.score import Scores, estimate, measure, uniformity
from invdiff.certify.statistics import coverage
from invdiff.certify.wasserstein import floors, sliced_wasserstein, wasserstein_squared
from invdiff.diffusion import ancestral, denoise_vjp
from invdiff.priors.gaussian import GaussianPrior
from invdiff.rng import Rng
from invdiff.samplers.base import Image, Kind, prior_noise

ITEMS, SAMPLES = 120, 60


@pytest.fixture(scope="module")
def case() -> Case:
    return anisotropic("test", ITEMS, draws=8 * SAMPLES)


@pytest.fixture(scope="module")
def modes() -> Case:
    return image_mixture("test", 4, 2, 0.1, ITEMS, draws=8 * SAMPLES)


def posterior(x: Tensor, log_w: Tensor | None = None, **more: object) -> Posterior:
    zero = torch.zeros(x.shape[:2], dtype=torch.float64)
    whole = torch.ones(len(x), dtype=torch.bool)
    weights = zero if log_w is None else log_w
    return Posterior(x, weights, zero, tuple(range(len(x))), whole, ~whole, "exact", **more)


def white(case: Case, samples: int = SAMPLES, seed: int = 7) -> Tensor:
    size = (len(case.problem), samples, case.images[0].numel())
    return torch.randn(size, generator=generator(seed), dtype=torch.float64)


def shaped(case: Case, noise: Tensor) -> Tensor:
    """Whitened coordinates along the posterior's axes, tightest first, as samples."""
    values, vectors = case.truth.axes
    flat = case.truth.mean.flatten(1)[:, None] + (noise * values.sqrt()[:, None]) @ vectors.mT
    return flat.reshape(*noise.shape[:2], *case.images.shape[1:])


def row(case: Case, x: Tensor, **more: object) -> dict:
    return measure(posterior(x, **more), case).row()


def off(figures: dict, name: str, expected: float) -> float:
    """How many standard errors a figure is off."""
    return abs(figures[name] - expected) / figures[f"{name}_se"]


def atoms(seed: int, samples: int) -> Tensor:
    """Numbers that are 0 with probability 0.1 to 0.95, normal around 0.3 otherwise."""
    source = generator(seed)
    size = ITEMS, samples, 16
    still = torch.rand(size, generator=source, dtype=torch.float64)
    moved = 0.3 + torch.randn(size, generator=source, dtype=torch.float64)
    return torch.where(still < torch.linspace(0.1, 0.95, 16, dtype=torch.float64), 0, moved)


def covered(x: Tensor, seed: int = 0) -> Tensor:
    """90 % intervals of x against exact draws with atoms: mean, and its error, over items."""
    found = coverage(Draws.equal(x), atoms(1, 480), (0.9,), Rng(seed, range(ITEMS), 1))[:, 0]
    return torch.stack([found.mean(), found.std() / ITEMS**0.5])


def test_intervals_around_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact draws have their level; a sampler may miss an atom by much less than its width."""
    exact = atoms(2, SAMPLES)
    noise = torch.randn(exact.shape, generator=generator(3), dtype=torch.float64)
    for x in (exact, exact + 0.002 * noise):
        mean, error = covered(x)
        assert abs(mean - 0.9) < 5 * error < 0.02
    for x in (0.8 * exact, exact + 0.3 * noise):
        mean, error = covered(x)
        assert abs(mean - 0.9) > 5 * error
    monkeypatch.setattr(statistics, "BLUR", 0.0)
    mean, error = covered(exact)
    assert abs(mean - 0.9) > 5 * error


def test_the_blur_is_no_news_to_continuous_marginals(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = shaped(case, white(case))
    blurred = row(case, x)
    monkeypatch.setattr(statistics, "BLUR", 0.0)
    plain = row(case, x)
    for level in (50, 80, 90, 95):
        name = f"coverage_{level}"
        assert abs(blurred[name] - plain[name]) < plain[f"{name}_se"]


UNBIASED = {"variance_ratio": 1, "tight": 1, "loose": 1} | {
    f"coverage_{level}": level / 100 for level in (50, 80, 90, 95)
}


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("which", ["case", "modes"])
def test_exact_draws_are_right(name: str, which: str, request: pytest.FixtureRequest) -> None:
    case = request.getfixturevalue(which)
    x = case.truth.spare[:, :SAMPLES].reshape(-1, SAMPLES, *case.images.shape[1:])
    assert off(row(case, x), name, UNBIASED[name]) < 5


def test_exact_draws_are_at_every_floor(case: Case) -> None:
    figures = row(case, shaped(case, white(case)))
    squared, error = figures["mean_error_sd"] ** 2, 2 * figures["mean_error_sd"]
    assert abs(squared - 1 / SAMPLES) < 5 * error * figures["mean_error_sd_se"]
    assert abs(figures["mean_bias_sd"]) < 0.03  # a twentieth of a quarter of the floor's square
    assert figures["mean_error_floor"] == SAMPLES**-0.5
    gap = figures["sliced_wasserstein"] - figures["sliced_wasserstein_floor"]
    assert abs(gap) < 5 * math.hypot(
        figures["sliced_wasserstein_se"], figures["sliced_wasserstein_floor_se"]
    )
    assert figures["worth"] == pytest.approx(SAMPLES)
    assert figures["sbc_p"] > 1e-5
    # The divergence of a Wishart matrix of 120 * 59 degrees of freedom: its standard deviation is
    # about 0.07 of its mean n (n + 1) / 4 dof, since it sums n (n + 1) / 2 = 136 squares over 2.
    assert figures["kl"] == pytest.approx(figures["kl_floor"], rel=0.4)
    edges = [(1 + sign * (16 / (ITEMS * (SAMPLES - 1))) ** 0.5) ** 2 for sign in (-1, 1)]
    assert edges[0] - 0.05 < figures["eigen_min"] < 1 < figures["eigen_max"] < edges[1] + 0.05
    assert grade(figures) == "A"


SPOILT = {
    "shifted": lambda z: z + 0.3,
    "narrow": lambda z: 0.8 * z,
    "wide": lambda z: 1.25 * z,
    "collapsed": lambda z: z * torch.where(torch.arange(16) < 3, 0.1, 1),
    "one for all": lambda z: z[:, :1].expand_as(z) + 0.01 * z,
}
SEEN = [
    ("mean_bias_sd", "shifted", 0),
    ("mean_bias_sd", "one for all", 0),
    ("variance_ratio", "narrow", 1),
    ("variance_ratio", "wide", 1),
    ("variance_ratio", "one for all", 1),
    ("tight", "collapsed", 1),
    ("loose", "wide", 1),
    ("eigen_min", "collapsed", 1),
    ("eigen_max", "wide", 1),
    ("kl", "collapsed", 0.02),
    ("kl", "shifted", 0.02),
    ("coverage_50", "narrow", 0.5),
    ("coverage_80", "wide", 0.8),
    ("coverage_90", "narrow", 0.9),
    ("coverage_95", "narrow", 0.95),
    ("wasserstein_excess_sd", "shifted", 0),
    ("wasserstein_excess_sd", "one for all", 0),
]


@pytest.mark.parametrize(("name", "kernel", "expected"), SEEN)
def test_spoilt_draws_are_seen(case: Case, name: str, kernel: str, expected: float) -> None:
    assert off(row(case, shaped(case, SPOILT[kernel](white(case)))), name, expected) > 5


@pytest.mark.parametrize("kernel", ["narrow", "shifted", "one for all"])
def test_ranks_see_what_is_off(case: Case, kernel: str) -> None:
    """Stronger than above: ranks of 120 images know less than their samples."""
    noise = white(case)
    change = {"narrow": 0.5 * noise, "shifted": noise + 3, "one for all": SPOILT[kernel](noise)}
    assert uniformity(_ranks(case, shaped(case, noise))) > 1e-5
    assert uniformity(_ranks(case, shaped(case, change[kernel]))) < 1e-5


def _ranks(case: Case, x: Tensor) -> Tensor:
    return measure(posterior(x), case).values["rank"]


def test_a_wrong_prior_variance_is_seen(case: Case) -> None:
    wide = GaussianPrior.dense(case.prior.mean, 1.5 * case.prior.covariance)
    x = wide.posterior(case.problem).draw(SAMPLES, generator(3))
    assert off(row(case, x), "loose", 1) > 5


def test_a_dropped_weight_is_seen(case: Case) -> None:
    """Draws of 1.3 times the covariance, with weights and without, in 4 filters of 60."""
    x = shaped(case, 1.3**0.5 * white(case, 240))
    values, vectors = case.truth.axes
    size = ((x - case.truth.mean[:, None]) @ (vectors / values.sqrt()[:, None])).square().sum(2)
    weights = (-0.5 * (1 - 1 / 1.3) * size).reshape(ITEMS, 4, 60).log_softmax(2).flatten(1)
    right = measure(posterior(x, weights), case, groups=4).row()
    assert right["variance_ratio"] == pytest.approx(1, abs=0.04)  # weights of 60 are not all of it
    assert right["worth"] < 240
    assert row(case, x)["variance_ratio"] == pytest.approx(1.3, abs=0.04)
    with pytest.raises(ValueError, match="equal groups"):
        measure(posterior(x, weights), case, groups=7)
    with pytest.raises(ValueError, match="equally heavy"):
        measure(posterior(x, weights), case)


def test_mode_weights(modes: Case) -> None:
    exact = modes.truth.spare[:, :SAMPLES].reshape(-1, SAMPLES, *modes.images.shape[1:])
    found = row(modes, exact)
    gap = found["mode_weight_error"] - found["mode_weight_floor"]
    assert abs(gap) < 5 * math.hypot(found["mode_weight_error_se"], found["mode_weight_floor_se"])
    # A third as many samples of the first mode, by dropping two of three.
    belongs = modes.truth.modes.responsibilities(exact).argmax(2)
    keep = (belongs == 1) | (torch.arange(SAMPLES) % 3 == 0)
    weights = torch.where(keep, 0.0, -torch.inf).double()
    spoilt = measure(posterior(exact, weights), modes, groups=1).row()
    assert off(spoilt, "mode_weight_error", spoilt["mode_weight_floor"]) > 5


def test_log_evidence(case: Case) -> None:
    x, exact = shaped(case, white(case)), case.truth.log_evidence
    for error, expected in ((0.0, 0), (1.0, 1), (-2.0, 2)):
        trace = {"log_evidence": (exact.repeat_interleave(3) + error)[None]}
        assert row(case, x, trace=trace)["log_evidence_error"] == pytest.approx(expected)
    assert row(case, x)["log_evidence_error"] is None


@dataclasses.dataclass(frozen=True)
class Guided:
    """DPS as published, with the residual's norm of each row, or of the batch."""

    batch_wide: bool

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    def init(self, problem, prior, sigma, rng):
        return Image(prior_noise(problem, sigma, rng))

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        x0, vjp = denoise_vjp(prior, state.x, sigma)
        residual = problem.residual(x0)
        norm = residual.norm() if self.batch_wide else residual.norm(dim=1, keepdim=True)
        shift = vjp(problem.operator.adjoint(residual)) / norm
        x = ancestral(state.x, x0, sigma, sigma_next).draw(rng.normal(x0)) + shift
        return Image(x), {}


@dataclasses.dataclass(frozen=True)
class Zero:
    """Answers every problem with nothing."""

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    def init(self, problem, prior, sigma, rng):
        return Image(torch.zeros(len(problem), *problem.operator.domain))

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        return state, {}


def test_a_batch_wide_norm_and_the_zero_estimator_are_seen() -> None:
    small = anisotropic("test", 20, draws=200)
    good, batch, zero = (
        certify([small], Entry("x", sampler, steps=30), 40)
        for sampler in (Guided(False), Guided(True), Zero())
    )
    assert good["mean_bias_sd"] < 0.7 < 1.2 < batch["mean_bias_sd"]
    assert zero["mean_bias_sd"] > 1.5 and zero["variance_ratio"] == 0
    assert zero["coverage_90"] < 0.02 and zero["grade"] == batch["grade"] == "F"


def test_wasserstein_in_one_dimension() -> None:
    """Against the closed form of two Gaussians' quantiles, and with integer weights as repeats."""
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    normal = torch.special.ndtri(u)
    even = torch.full_like(u, 1 / len(u))
    found = wasserstein_squared(0.5 + 2 * normal, even, normal)
    assert float(found) == pytest.approx(0.5**2 + 1, rel=1e-3)  # the tails of 20000 quantiles
    x = torch.randn(7, generator=generator(0), dtype=torch.float64)
    times = torch.tensor([1, 3, 2, 1, 4, 1, 2])
    other = torch.randn(31, generator=generator(1), dtype=torch.float64)
    repeated = x.repeat_interleave(times)
    plain = wasserstein_squared(repeated, torch.full_like(repeated, 1 / len(repeated)), other)
    weighted = wasserstein_squared(x, times.double() / times.sum(), other)
    assert torch.allclose(weighted, plain, rtol=1e-12, atol=0)
    same = wasserstein_squared(other, torch.full_like(other, 1 / 31), other.flip(0))
    assert float(same) < 1e-12


def test_sliced_wasserstein_of_a_shift() -> None:
    """Directions are uniform: E (d . s)^2 = |s|^2 / n, within five errors of 100 of them."""
    x = torch.randn(3, 50, 8, generator=generator(0), dtype=torch.float64)
    shift = torch.linspace(-1, 1, 8, dtype=torch.float64)
    found = sliced_wasserstein(Draws.equal(x + shift), x).square()
    expected = shift.square().sum() / 8
    spread = expected * (2 * 7 / 10 / 100) ** 0.5  # of a Beta(1/2, 7/2) share, 100 times
    assert torch.allclose(found, expected, atol=5 * float(spread))
    assert float(found.std()) < 1e-12


def test_standard_errors_are_those_of_a_mean() -> None:
    values = torch.randn(30, generator=generator(5), dtype=torch.float64)
    value, error = estimate(values, float)
    assert value == pytest.approx(float(values.mean()))
    assert error == pytest.approx(float(values.std() / 30**0.5))
    assert estimate(values[:1], float)[1] is None
    assert estimate(values, lambda mean: math.inf) == (None, None)


def test_uniformity_is_scipys_chi_square() -> None:
    places = torch.from_numpy(np.random.default_rng(0).random(100))
    counts = np.histogram(places.numpy(), 10, (0, 1))[0]
    assert uniformity(places) == pytest.approx(stats.chisquare(counts).pvalue)
    assert uniformity(places**3) < 1e-5
    assert uniformity(places[:10]) is None


def test_floors_need_draws(case: Case) -> None:
    with pytest.raises(ValueError, match="needs 2000"):
        floors(case, 1000)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_grades_fall_with_every_figure(name: str) -> None:
    target = {"coverage_90": 0.9}.get(name, 1.0 if name in ("tight", "loose") else 0.0)
    target = 1.0 if name == "variance_ratio" else target
    limits = THRESHOLDS[name]
    ratio = target == 1.0
    values = [limit * 1.01 if ratio else target - limit * 1.01 for limit in limits]
    assert grade({name: target}) == "A"
    assert "".join(grade({name: value}) for value in values) == "BCDF"
    assert grade({name: values[0], f"{name}_se": abs(values[0] - target) / 3}) == "A"
    assert grade({name: None}) == "A"


def test_scores_join_the_items_of_cases(case: Case) -> None:
    x = shaped(case, white(case))
    whole = measure(posterior(x), case)
    joined = Scores.join([whole, whole]).row()
    assert joined["variance_ratio"] == pytest.approx(whole.row()["variance_ratio"])
    # sqrt(119 / 239): twice the items, of which half are copies.
    assert joined["tight_se"] == pytest.approx(whole.row()["tight_se"] * (119 / 239) ** 0.5)
