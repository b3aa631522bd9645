"""Schedules and parametrisations against closed forms: exact, continuous, invertible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from invdiff.priors.loading import (
    EDM,
    DiscreteSchedule,
    LinearPath,
    NumericSchedule,
    Predicts,
    Target,
    VarianceExploding,
    VariancePreserving,
    from_function,
)
from invdiff.priors.loading.model_prior import ModelPrior
from invdiff.priors.preconditioning import Scalings

MEAN, VARIANCE = 0.3, 0.2


def levels_of(sigma) -> torch.Tensor:
    return torch.as_tensor(sigma, dtype=torch.float64)


def linear_bars(steps: int = 1000) -> np.ndarray:
    return np.cumprod(1 - np.linspace(1e-4, 0.02, steps))


SCHEDULES = {
    "ddpm": DiscreteSchedule.linear(),
    "cosine": DiscreteSchedule.cosine(),
    "latent": DiscreteSchedule.scaled_linear(),
    "vp": VariancePreserving(),
    "ve": VarianceExploding(0.01, 100.0),
    "path": LinearPath(),
    "path-reversed": LinearPath(time_scale=1000.0, reverse=True),
    "numeric": NumericSchedule(lambda t: (1 - 0.9 * t, 0.01 + t**2)),
}


def gaussian_denoiser(x, sigma):
    """E[x0 | x0 + sigma n = x] for x0 ~ N(MEAN, VARIANCE)."""
    return (VARIANCE * x + sigma**2 * MEAN) / (VARIANCE + sigma**2)


def ideal_network(target: Target, schedule):
    """What a perfect network returns for x_t, written from the definitions of the targets."""

    def network(x_t, sigma):
        alpha = schedule.alpha(levels_of(sigma))
        std = alpha * sigma
        x0 = gaussian_denoiser(x_t / alpha, sigma)
        noise = (x_t - alpha * x0) / std
        score = -(x_t - alpha * MEAN) / (alpha**2 * VARIANCE + std**2)
        reverse = -1.0 if getattr(schedule, "reverse", False) else 1.0
        return {
            Target.EPSILON: noise,
            Target.V: alpha * noise - std * x0,
            Target.X0: x0,
            Target.SCORE: score,
            Target.VELOCITY: reverse * (noise - x0),
        }[target]

    return network


CASES = [
    (target, name)
    for target in Target
    for name in SCHEDULES
    if target is not Target.VELOCITY or name.startswith("path")
]


@pytest.mark.parametrize(
    ("target", "name"), CASES, ids=[f"{target.value}-{name}" for target, name in CASES]
)
def test_every_target_on_every_schedule_gives_the_denoiser(target, name):
    schedule = SCHEDULES[name]
    ideal = ideal_network(target, schedule)
    factors = Predicts(target, schedule)
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)
    for sigma in (0.02, 0.5, 3.0, 40.0):
        s = factors(levels_of(sigma))
        assert isinstance(s, Scalings)
        found = s.skip * x + s.out * ideal(s.into * x, sigma)
        # Scores are squared by sigma: rounding grows to 1e-12 there.
        torch.testing.assert_close(found, gaussian_denoiser(x, sigma), rtol=1e-11, atol=1e-11)


def test_edm_is_the_published_preconditioning():
    sigma = levels_of([0.002, 0.1, 0.5, 7.0])
    s = EDM(0.5)(sigma)
    torch.testing.assert_close(s.skip, 0.25 / (sigma**2 + 0.25))
    torch.testing.assert_close(s.out, sigma * 0.5 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(s.into, 1 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(s.noise, sigma.log() / 4)


def test_steps_are_exact():
    bars = linear_bars()
    levels = levels_of(np.sqrt((1 - bars) / bars))
    schedule = DiscreteSchedule.linear()
    torch.testing.assert_close(levels_of(schedule.levels), levels, rtol=1e-11, atol=0)
    expected = torch.arange(1000.0, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(levels), expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(schedule.alpha(levels), levels_of(np.sqrt(bars)))


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "path-reversed"])
def test_time_is_continuous_and_increasing(name):
    schedule = SCHEDULES[name]
    ends = math.log(schedule.sigma_min), math.log(schedule.sigma_max)
    sigma = torch.linspace(*ends, 20001, dtype=torch.float64).exp()
    step = schedule.time(sigma).diff()
    span = float(schedule.time(sigma[-1]) - schedule.time(sigma[0]))
    assert (step > 0).all()
    # Continuous: no step of 1/20000 in log sigma moves time by a jump.
    assert step.max() < 0.02 * span


def test_between_steps_time_is_linear_in_log_sigma():
    schedule = DiscreteSchedule.linear()
    low, high = schedule.levels[400:402]
    for share in (0.25, 0.5, 0.9):
        sigma = levels_of(math.exp((1 - share) * math.log(low) + share * math.log(high)))
        assert float(schedule.time(sigma)) == pytest.approx(400 + share, abs=1e-9)


def test_outside_the_range_the_nearer_end_is_told():
    for schedule in SCHEDULES.values():
        low, high = schedule.sigma_min, schedule.sigma_max
        below, above = schedule.time(levels_of([0.0, low * 0.5])), levels_of([high * 2, 1e9])
        torch.testing.assert_close(below, schedule.time(levels_of([low, low])))
        torch.testing.assert_close(schedule.time(above), schedule.time(levels_of([high, high])))


def test_rounded_times_are_whole():
    exact = DiscreteSchedule.linear()
    rounded = DiscreteSchedule.linear(rounded=True)
    sigma = torch.linspace(-4, 5, 400, dtype=torch.float64).exp()
    whole = rounded.time(sigma)
    assert torch.equal(whole, whole.round())
    assert (whole - exact.time(sigma)).abs().max() <= 0.5


def test_vp_time_solves_its_integral():
    schedule = VariancePreserving(time_scale=1.0)
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    integral = 0.1 * t + 19.9 * t**2 / 2
    sigma = (integral.exp() - 1).sqrt()
    torch.testing.assert_close(schedule.time(sigma), t, rtol=1e-10, atol=1e-12)


def test_vp_and_its_discretisation_agree():
    """DDPM's steps are the VP-SDE at t = step / 1000, up to beta / 2, at most 1 %, of the time."""
    discrete, continuous = DiscreteSchedule.linear(), VariancePreserving(time_scale=1000.0)
    sigma = levels_of([0.1, 1.0, 10.0, 100.0])
    gap = continuous.time(sigma) - discrete.time(sigma)
    assert gap.abs().max() < 5.0


def test_paths_and_their_reverse():
    sigma = levels_of([0.01, 1.0, 9.0])
    torch.testing.assert_close(LinearPath().time(sigma), sigma / (1 + sigma))
    both = LinearPath().time(sigma) + LinearPath(reverse=True).time(sigma)
    torch.testing.assert_close(both, torch.ones_like(sigma))
    with pytest.raises(ValueError, match="LinearPath"):
        Predicts(Target.VELOCITY, VariancePreserving())


def test_numeric_schedules_invert_to_rounding():
    schedule = NumericSchedule(lambda t: (torch.cos(1.5 * t), 1e-3 + torch.sin(1.5 * t)))
    t = torch.linspace(0, 1, 30, dtype=torch.float64)
    sigma = (1e-3 + torch.sin(1.5 * t)) / torch.cos(1.5 * t)
    torch.testing.assert_close(schedule.time(sigma), t, rtol=0, atol=1e-13)
    torch.testing.assert_close(schedule.alpha(sigma), torch.cos(1.5 * t), rtol=0, atol=1e-12)


def test_zero_terminal_signal_is_left_out():
    full = DiscreteSchedule.from_betas([0.1, 0.2, 0.5, 1.0])
    assert full.levels == DiscreteSchedule.from_betas([0.1, 0.2, 0.5]).levels
    assert math.isfinite(full.sigma_max)


@pytest.mark.parametrize("betas", [[0.1, 1.0, 0.2], [0.1, -0.2, 0.3], [0.1], []])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match=r"levels|betas"):
        DiscreteSchedule.from_betas(betas)


@pytest.mark.parametrize("steps", [2, 7, 25, 100, 250, 1000])
def test_respacing_is_that_of_guided_diffusion(steps):
    """Its loop: start at 0, add (T - 1) / (steps - 1), round."""
    schedule = DiscreteSchedule.linear()
    stride = 999 / (steps - 1) if steps > 1 else 1
    at, kept = 0.0, []
    for _ in range(steps):
        kept.append(round(at))
        at += stride
    ladder = schedule.respaced(steps)
    expected = levels_of([schedule.levels[i] for i in reversed(kept)] + [0.0])
    assert torch.equal(ladder, expected)
    told = schedule.time(ladder[:-1]).flip(0)
    torch.testing.assert_close(told, levels_of(kept), rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="2 to 1000"):
        schedule.respaced(1001)


def test_rescaled_timesteps():
    short = DiscreteSchedule.from_betas(np.linspace(1e-3, 0.2, 100).tolist(), time_scale=10.0)
    assert float(short.time(levels_of(short.levels[30]))) == pytest.approx(300.0)


def test_ranges_must_make_sense():
    for make in (
        lambda: VarianceExploding(1.0, 0.5),
        lambda: VariancePreserving(beta_min=30.0),
        lambda: LinearPath(sigma_min=0.0),
        lambda: EDM(sigma_data=0.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()


def test_objects_rebuild_from_their_repr():
    for one in (
        Predicts(Target.SCORE, VarianceExploding(0.01, 50.0)),
        Predicts(Target.VELOCITY, LinearPath(1000.0, True)),
        Predicts(Target.EPSILON, VariancePreserving()),
        EDM(0.4),
    ):
        assert eval(repr(one)) == one


def test_the_scales_use_the_true_level_even_when_time_is_rounded():
    """A Gaussian prior through a network that ignores time: exact between the steps."""
    schedule = DiscreteSchedule.linear(rounded=True)
    sigma = 0.777
    ideal = ideal_network(Target.EPSILON, schedule)
    prior = from_function(
        lambda x_t, time: ideal(x_t, sigma),
        Predicts(Target.EPSILON, schedule),
        channels=1,
        value_range=(-1, 1),
    )
    assert isinstance(prior, ModelPrior)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = prior(x, levels_of(sigma))
    torch.testing.assert_close(found, gaussian_denoiser(x, sigma), rtol=1e-12, atol=1e-12)
