"""Langevin dynamics with momentum: exact for Gaussians at any stable step."""

import math

import pytest
import torch

from invdiff.langevin import underdamped
from invdiff.rng import Rng

F64 = torch.float64
ROWS = 20_000
SCALES = torch.tensor([1.0, 1.5, 6.0], dtype=F64)  # standard deviations, the least sets the step


def walk(step, persistence=0.9, moves=60, rng=None, force=None):
    start = torch.full((ROWS, 3), 2.0, dtype=F64)
    force = force or (lambda x: -x / SCALES**2)
    return underdamped(start, force, step, persistence, moves, rng or Rng(0, [0], ROWS))


def variances(x: torch.Tensor) -> torch.Tensor:
    return x.var(0) / SCALES**2


@pytest.mark.parametrize("step", [0.3, 1.0, 1.8])
def test_gaussians_have_the_exact_law_at_any_stable_step(step):
    """Variances within 5 of their standard errors, sqrt(2 / rows); means within 5 of theirs."""
    x = walk(step, moves=round(400 / step))
    assert (variances(x) - 1).abs().max() < 5 * math.sqrt(2 / ROWS)
    assert (x.mean(0) / SCALES).abs().max() < 5 / math.sqrt(ROWS)


class Quiet(Rng):
    """Half of the noise."""

    def normal(self, like):
        return 0.5 * super().normal(like)


def test_it_fails_without_all_of_the_noise():
    x = walk(1.0, moves=400, rng=Quiet(0, [0], ROWS))
    assert (variances(x) - 1).abs().min() > 50 * math.sqrt(2 / ROWS)


def test_without_friction_and_noise_it_follows_newton():
    """x'' = -x: a quarter of a turn brings the velocity's place; the error is the step squared."""
    start = torch.ones(50, 3, dtype=F64)
    velocity = Rng(3, [0], 50).normal(start)

    def error(steps):
        step = math.pi / 2 / steps
        x = underdamped(start, lambda x: -x, step, 1.0, steps, Rng(3, [0], 50))
        return float((x - velocity).square().mean().sqrt())

    assert error(400) < 1e-5
    assert error(100) == pytest.approx(16 * error(400), rel=0.01)


def test_errors_for_other_laws_vanish_with_the_step():
    """Two modes, N(2, 1) and N(-2, 1) by halves: E x^2 = 5, within 5 standard errors at 0.8."""

    def error(step):
        x = walk(step, moves=round(60 / step), force=lambda x: 2 * (2 * x).tanh() - x)
        return float(x.square().mean()) - 5

    noise = 5 * 4.3 / math.sqrt(3 * ROWS)
    assert abs(error(0.8)) < noise
    assert error(1.6) > 10 * noise


def test_a_walk_crosses_what_a_diffusion_only_enters():
    """120 steps of 0.7 from 2 standard deviations off along the widest axis."""
    far = torch.tensor([0.0, 0.0, 12.0], dtype=F64).expand(ROWS, 3)
    start = [
        underdamped(far, lambda x: -x / SCALES**2, 0.7, p, 120, Rng(0, [0], ROWS))[:, 2].mean()
        for p in (0.97, 0.0)
    ]
    assert abs(start[0]) < 0.2 * abs(start[1])


def test_no_moves_leave_everything_alone():
    x = torch.ones(2, 3, dtype=F64)
    rng = Rng(0, [0], 2)
    assert underdamped(x, lambda x: -x, 0.5, 0.9, 0, rng) is x
