"""Integrators against exact flows and exact Gaussian laws. No Monte Carlo anywhere.

Orders: slopes of the error over a doubling of the steps, within 0.15 of what is declared. Laws:
an integrator is linear on a Gaussian, so that it carries coefficients of independent noises.
"""

import math
import sys
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers import generator
from scipy.integrate import solve_ivp

from invdiff.exponential import exponential_weights
from invdiff.integrators import (
    DDIM,
    DEIS,
    Ancestral,
    DPMSolver2M,
    Estimate,
    Heun,
    Multistep,
    Renoise,
    UniPC,
    Walk,
    dpm_solver_2m,
    dpm_solver_3m,
    sde_dpm_solver_2m,
    unipc,
)
from invdiff.ladder import geometric, karras, ramped
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.walk import Known

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))


from measure_integrators import INTEGRATORS, Slots, gaussian, gaussian_variances, levels

F64 = torch.float64


class Silent:
    """Fails where a deterministic integrator asks for random numbers."""

    def normal(self, like):
        raise AssertionError("a deterministic walk drew random numbers")


class Zero:
    def normal(self, like):
        return torch.zeros_like(like)


def walk_down(integrator, denoise, ladder, x, rng=None):
    walk = Walk.begin(x, integrator.kept)
    for now, then in pairwise(ladder):
        walk, _ = integrator.step(
            lambda x, s: Estimate(denoise(x, s), {}), walk, now, then, None, rng or Silent()
        )
    return walk.x


# Deterministic orders, on the flow of a mixture of three Gaussians from sigma 10 to 0.1.


@cache
def mixture() -> GaussianMixturePrior:
    source = generator(0)
    means = torch.randn(3, 3, generator=source, dtype=F64)
    root = torch.randn(3, 3, 3, generator=source, dtype=F64)
    covariances = root @ root.mT / 6 + 0.05 * torch.eye(3, dtype=F64)
    return GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2], dtype=F64), means, covariances)


@cache
def flow() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight starts and where they go, by an eighth-order Runge-Kutta method; error below 1e-11."""
    start = 10 * torch.randn(8, 3, generator=generator(1), dtype=F64)

    def velocity(level, flat):
        x = torch.from_numpy(flat).reshape(8, 3)
        return (mixture()(x, torch.tensor(math.exp(-level), dtype=F64)) - x).flatten().numpy()

    span = -math.log(10), -math.log(0.1)
    solved = solve_ivp(velocity, span, start.flatten().numpy(), "DOP853", rtol=1e-13, atol=1e-13)
    return start, torch.from_numpy(solved.y[:, -1].copy()).reshape(8, 3)


def flow_error(integrator, steps: int, order: int) -> float:
    start, end = flow()
    ladder = geometric(steps + 1, 0.1, 10.0)
    if order > 2:  # the first step, of order 1, must shrink as fast as the rest of the error
        ladder = ramped(ladder, math.ceil((order - 1) / 2 * math.log2(steps)))
    return float((walk_down(integrator, mixture(), ladder[:-1], start) - end).norm())


def flow_slope(integrator, order: int) -> float:
    errors = [flow_error(integrator, steps, order) for steps in (64, 128, 256)]
    return math.log2(errors[0] / errors[2]) / 2


ORDERS = [
    (DDIM(0.0), 1),
    (Heun(), 2),
    (dpm_solver_2m(), 2),
    (dpm_solver_3m(), 3),
    (Multistep(1), 1),
    (Multistep(2), 2),
    (Multistep(4), 4),
    (DEIS(1), 1),
    (DEIS(2), 2),
    (DEIS(3), 3),
    (DEIS(4), 4),
    (unipc(1), 2),
    (unipc(2), 3),
    (unipc(3), 4),
]


@pytest.mark.parametrize(("integrator", "order"), ORDERS, ids=repr)
def test_declared_order(integrator, order):
    assert flow_slope(integrator, order) == pytest.approx(order, abs=0.15)


def test_a_plain_start_caps_the_order():
    """Why ramped exists: without it, 3M ends at order 2. With a corrector it does not."""
    start, end = flow()

    def error(integrator, steps):
        ladder = geometric(steps + 1, 0.1, 10.0)[:-1]
        return float((walk_down(integrator, mixture(), ladder, start) - end).norm())

    assert math.log2(error(Multistep(3), 128) / error(Multistep(3), 256)) < 2.3
    assert math.log2(error(unipc(2), 128) / error(unipc(2), 256)) > 2.85


class Forgetful(Multistep):
    """Loses its history: order 1."""

    def step(self, field, walk, *rest):
        return super().step(field, Walk.begin(walk.x, self.kept), *rest)


class WrongLevels(DPMSolver2M):
    """Takes the step before for as long as this one, on a ladder where it is not."""

    def step(self, field, walk, sigma, sigma_next, *rest):
        here = -math.log(float(sigma))
        if torch.isfinite(walk.levels).all():
            last = torch.full_like(walk.levels, here - math.log(float(sigma / sigma_next)))
            walk = walk._replace(levels=last)
        return super().step(field, walk, sigma, sigma_next, *rest)


class OneSided(Heun):
    """Forgets to evaluate at the end of its step: order 1."""

    def step(self, field, walk, sigma, *rest):
        first = field(walk.x, sigma)
        return super().step(lambda x, s: first, walk, sigma, *rest)


def test_broken_integrators_are_seen():
    assert flow_slope(Forgetful(3), 3) < 1.5
    assert flow_slope(OneSided(), 2) < 1.5
    start, end = flow()

    def error(integrator, pairs):
        """Over steps that are long and short in turn."""
        lengths = torch.tensor([2.0, 1.0], dtype=F64).repeat(pairs).cumsum(0) / (3 * pairs)
        ladder = torch.cat([torch.tensor([10.0], dtype=F64), 10.0 * 0.01**lengths])
        return float((walk_down(integrator, mixture(), ladder, start) - end).norm())

    assert math.log2(error(dpm_solver_2m(), 60) / error(dpm_solver_2m(), 120)) > 1.8
    assert math.log2(error(WrongLevels(), 60) / error(WrongLevels(), 120)) < 1.5


def test_weights_of_polynomials():
    """Exact wherever D is a polynomial in lambda: the weights' own definition, by other means."""
    nodes, length = (0.0, -0.3, -0.9), 0.7
    for rate in (1.0, -1.0):
        weights = exponential_weights(nodes, length, rate)
        total = -math.expm1(-rate * length)  # of the constant, then of t and t^2 by parts
        first = length - total / rate
        second = length**2 - 2 * first / rate
        for power, moment in enumerate((total, first, second)):
            given = sum(w * node**power for w, node in zip(weights, nodes, strict=True))
            assert given == pytest.approx(moment, abs=1e-14)


DETERMINISTIC = [integrator for integrator, _ in ORDERS]


@pytest.mark.parametrize("integrator", DETERMINISTIC, ids=repr)
def test_a_constant_estimate_is_followed_exactly(integrator):
    """x' = D + (sigma'/sigma)(x - D), over uneven steps: the prior of a single image."""
    x, image = torch.tensor([[3.0, -2.0]], dtype=F64), torch.tensor([[0.5, 0.25]], dtype=F64)
    ladder = karras(9, 0.01, 2.0)[:-1]
    exact = image + 0.005 * (x - image)
    gap = (walk_down(integrator, lambda x, s: image.clone(), ladder, x) - exact).abs().max()
    assert float(gap) <= 1e-14


@pytest.mark.parametrize("integrator", [Multistep(2), Multistep(3), Multistep(4)], ids=repr)
def test_estimates_linear_in_lambda_are_followed_exactly(integrator):
    """D = a + b lambda makes x = D - b + C exp(-lambda), given earlier points to know it by."""
    a, b = 0.3, 0.7
    ladder = geometric(12, 0.1, 4.0)[:-1]
    level = -ladder.log()
    start = torch.tensor([[1.0]], dtype=F64)
    before = [float(level[0]) - 0.2 * (i + 1) for i in range(integrator.kept)]
    known = [Known(each, torch.full_like(start, a + b * each)) for each in before]
    walk = Walk.begin(start, integrator.kept).moved(start, known)
    for now, then in pairwise(ladder):
        walk, _ = integrator.step(
            lambda x, s: Estimate((a - b * s.log()).expand_as(x), {}),
            walk, now, then, None, Silent(),
        )  # fmt: skip
    rest = start - (a + b * level[0] - b)
    exact = a + b * level[-1] - b + rest * torch.exp(level[0] - level[-1])
    assert float((walk.x - exact).abs()) < 1e-13


# Gaussian priors: the flow is x' = sqrt((c + s'^2) / (c + s^2)) x, and laws are known.

VARIANCES = torch.tensor([0.04, 1.0, 2.5], dtype=F64)


@pytest.mark.parametrize("integrator", DETERMINISTIC, ids=repr)
def test_the_flow_of_a_gaussian(integrator):
    """One direction of each variance, 400 steps: as close as the order promises."""
    ladder = ramped(geometric(401, 0.02, 20.0), 8)[:-1]
    x = torch.ones(1, 3, dtype=F64)
    exact = ((VARIANCES + ladder[-1] ** 2) / (VARIANCES + ladder[0] ** 2)).sqrt()
    moved = walk_down(integrator, lambda x, s: VARIANCES / (VARIANCES + s**2) * x, ladder, x)
    order = dict((repr(i), o) for i, o in ORDERS)[repr(integrator)]
    assert float((moved / exact - 1).abs().max()) < {1: 2e-2, 2: 3e-4, 3: 1e-5, 4: 1e-5}[order]


def test_one_step_on_a_gaussian_in_closed_form():
    """x' = (g + r (1 - g)) x with g = c / (c + s^2); and Ancestral's mean and variance."""
    now, then = torch.tensor(2.0, dtype=F64), torch.tensor(0.5, dtype=F64)
    gain = VARIANCES / (VARIANCES + 4)
    x = torch.ones(1, 3, dtype=F64)
    moved = walk_down(DDIM(0.0), lambda x, s: gain * x, torch.stack([now, then]), x)
    assert torch.allclose(moved, gain + 0.25 * (1 - gain), rtol=1e-15)
    one = VARIANCES[1:2]
    start = one + 4
    out = gaussian_variances(Ancestral(), one, torch.stack([now, then]), start)
    # By conditioning: x at sigma' given x at sigma, when x0 is Gaussian.
    between = (one + 0.25) / (one + 4)
    assert torch.allclose(out, between**2 * start + (one + 0.25) * (1 - between), rtol=1e-14)


@pytest.mark.parametrize("steps", [2, 5, 40])
def test_ancestral_with_the_spread_is_exact_on_white_gaussians(steps):
    ladder = karras(steps, 0.05, 8.0)[:-1]
    one = torch.tensor([0.7], dtype=F64)
    out = gaussian_variances(Ancestral(), one, ladder, one + ladder[0] ** 2)
    assert float(out / (one + ladder[-1] ** 2) - 1) == pytest.approx(0, abs=1e-12)


class Certain:
    def error_variance(self, sigma):
        return torch.zeros_like(sigma)


class Spreadless(Ancestral):
    """Without the spread of x0 given x, which makes it DDIM(1)."""

    def step(self, field, walk, sigma, sigma_next, prior, rng):
        return super().step(field, walk, sigma, sigma_next, Certain(), rng)


class HalfNoise(DPMSolver2M):
    def step(self, *arguments):
        rng = arguments[-1]

        class Half:
            def normal(self, like):
                return 0.5**0.5 * rng.normal(like)

        return super().step(*arguments[:-1], Half())


def law_error(integrator, steps: int) -> float:
    """The error of the variance at the last level above 0, from an exact first law."""
    ladder = geometric(steps + 1, 0.05, 10.0)[:-1]
    out = gaussian_variances(integrator, VARIANCES, ladder, VARIANCES + ladder[0] ** 2)
    return float((out / (VARIANCES + ladder[-1] ** 2) - 1).abs().max())


def law_slope(integrator) -> float:
    return math.log2(law_error(integrator, 160) / law_error(integrator, 640)) / 2


@pytest.mark.parametrize(
    ("integrator", "order"),
    [
        (Ancestral(), 1),  # one variance for directions that have different ones
        (Spreadless(), 1),
        (DDIM(1.0), 1),
        (DDIM(0.5), 1),
        (sde_dpm_solver_2m(), 2),
        (DPMSolver2M(eta=0.5), 2),
        (dpm_solver_2m(), 2),
        (Heun(), 2),
        (unipc(1), 2),
    ],
    ids=repr,
)
def test_weak_order(integrator, order):
    assert law_slope(integrator) == pytest.approx(order, abs=0.15)


def test_what_does_not_converge():
    assert law_error(Renoise(1.0), 640) > 0.4  # the spread of x0 is lost at every level
    assert law_error(Renoise(0.85), 640) > 0.2
    assert law_slope(HalfNoise(eta=1.0)) < 0.3
    assert law_error(DDIM(1.0), 160) == pytest.approx(law_error(Spreadless(), 160), rel=1e-9)


# The two etas.


def one_step(integrator, x, x0, now, then):
    """The mean and the variance of one step towards a fixed estimate."""
    state = torch.zeros(1, 3, 1, dtype=F64)
    state[0, 0] = x
    walk = Walk.begin(state, integrator.kept)
    estimate = torch.zeros_like(state)
    estimate[0, 0] = x0
    walk, _ = integrator.step(
        lambda x, s: Estimate(estimate, {}),
        walk,
        torch.tensor(now, dtype=F64),
        torch.tensor(then, dtype=F64),
        None,
        Slots(),
    )
    return float(walk.x[0, 0]), float(walk.x[0, 1:].square().sum())


def test_the_two_etas():
    x, x0, now, then, eta = 1.7, 0.4, 2.0, 1.5, 0.85
    noise, ratio = (x - x0) / now, then / now
    fresh = eta**2 * (1 - ratio**2)
    mean, variance = one_step(DDIM(eta), x, x0, now, then)
    assert mean == pytest.approx(x0 + then * math.sqrt(1 - fresh) * noise, rel=1e-14)
    assert variance == pytest.approx(then**2 * fresh, rel=1e-14)
    mean, variance = one_step(Renoise(eta), x, x0, now, then)
    assert mean == pytest.approx(x0 + then * math.sqrt(1 - eta**2) * noise, rel=1e-14)
    assert variance == pytest.approx(then**2 * eta**2, rel=1e-14)
    same = one_step(DDIM(0.0), x, x0, now, then)
    assert one_step(Renoise(0.0), x, x0, now, then) == pytest.approx(same, rel=1e-14)
    # Renoise's eta is DDIM's where DDIM's, times the square root of 1 - r^2, is the same.
    matched = one_step(DDIM(0.5 / math.sqrt(1 - ratio**2)), x, x0, now, then)
    assert one_step(Renoise(0.5), x, x0, now, then) == pytest.approx(matched, rel=1e-13)
    swapped = one_step(Renoise(0.5 / math.sqrt(1 - ratio**2)), x, x0, now, then)
    assert swapped != pytest.approx(matched, rel=0.05)


def test_noise_that_a_sampler_keeps():
    """DDS: the old noise is the prior's, not that left by the data's correction."""
    x = torch.tensor([[2.0]], dtype=F64)
    estimate = Estimate(torch.tensor([[0.5]], dtype=F64), {}, torch.tensor([[10.0]], dtype=F64))
    walk, _ = Renoise(0.0).step(
        lambda x, s: estimate,
        Walk.begin(x, 0),
        torch.tensor(2.0, dtype=F64),
        torch.tensor(1.0, dtype=F64),
        None,
        Zero(),
    )
    assert float(walk.x) == pytest.approx(10.5)


@pytest.mark.parametrize(
    "integrator",
    [Ancestral(), DDIM(0.3), DPMSolver2M(0.6), *DETERMINISTIC, Renoise(0.5)],
    ids=repr,
)
def test_reach_is_the_share_of_the_way(integrator):
    """From x to a fixed estimate, in one step; and all the way at the last."""
    prior = gaussian()
    for then in (0.7, 0.0):
        walk, info = integrator.step(
            lambda x, s: Estimate(torch.zeros_like(x), {"told": s}),
            Walk.begin(torch.ones(1, 1, dtype=F64), integrator.kept),
            torch.tensor(2.0, dtype=F64),
            torch.tensor(then, dtype=F64),
            prior,
            Zero(),
        )
        assert float(walk.x) == pytest.approx(1 - integrator.reach(2.0, then), abs=1e-14)
        assert float(info["told"]) == 2.0  # the info of the first estimate
    assert eval(repr(integrator)) == integrator


# What few evaluations leave of the variance: docs/integrators.md.


HIGHER = [name for name, (_, order) in INTEGRATORS.items() if order in "234"]


@pytest.mark.parametrize("name", HIGHER)
def test_twenty_evaluations_keep_the_variance(name):
    """Within 5 % of the truth for all of second order or more, on the recommended ladder."""
    integrator, _ = INTEGRATORS[name]
    prior = gaussian()
    out = gaussian_variances(integrator, prior.variances, levels(name, prior, 20))
    assert float(out.sum() / prior.variances.sum()) == pytest.approx(1, abs=0.05)


def test_first_order_loses_it():
    prior = gaussian()
    for integrator in (DDIM(0.0), DDIM(1.0), Renoise(0.85), DEIS(1)):
        out = gaussian_variances(integrator, prior.variances, levels("", prior, 20))
        assert float(out.sum() / prior.variances.sum()) < 0.9


# The walk, and what is refused.


def test_known():
    x = torch.ones(2, 3)
    walk = Walk.begin(x, 2)
    assert walk.known() == []
    first = Multistep(3)
    levels_down = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=F64)
    seen = []
    for now, then in pairwise(levels_down):
        walk, _ = first.step(
            lambda x, s: Estimate(s.to(x).expand_as(x), {}), walk, now, then, None, Silent()
        )
        seen.append([round(math.exp(-each.level), 6) for each in walk.known()])
        for each in walk.known():
            assert torch.allclose(each.image, torch.tensor(math.exp(-each.level)).to(x))
    assert seen == [[4.0], [2.0, 4.0], [1.0, 2.0]]
    assert walk.past.shape == (2, 2, 3)
    assert walk.levels.dtype == F64
    assert Walk.begin(x, 0).moved(x).past.shape == (2, 0, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DDIM(1.1),
        lambda: DDIM(-0.1),
        lambda: Renoise(2.0),
        lambda: DPMSolver2M(float("nan")),
        lambda: Multistep(0),
        lambda: Multistep(5),
        lambda: DEIS(0),
        lambda: UniPC(5),
        lambda: replace(DEIS(2), order=9),
    ],
)
def test_refuses(make):
    with pytest.raises(ValueError, match="expected"):
        make()


@dataclass
class Counted:
    calls: int = 0

    def __call__(self, x, sigma):
        self.calls += 1
        return Estimate(0.5 * x, {})


@pytest.mark.parametrize("integrator", [Ancestral(), *DETERMINISTIC, Renoise(0.5)], ids=repr)
def test_evaluations(integrator):
    """One a step, and two for Heun but for its last."""
    field, prior, walk = Counted(), gaussian(), Walk.begin(torch.ones(1, 2), integrator.kept)
    ladder = karras(6, 0.1, 3.0)
    for now, then in pairwise(ladder):
        walk, _ = integrator.step(field, walk, now, then, prior, Zero())
    assert field.calls == (11 if isinstance(integrator, Heun) else 6)
