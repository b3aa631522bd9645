"""Resampling and effective sample size."""

import pytest
import torch
from helpers import generator

from invdiff.smc import effective_sample_size, systematic_resampling

LOG_W = 2 * torch.randn(7, 16, generator=generator(0), dtype=torch.float64)


def test_effective_sample_size():
    weights = LOG_W.softmax(1)
    assert torch.allclose(effective_sample_size(LOG_W), 1 / weights.square().sum(1))
    assert torch.allclose(effective_sample_size(LOG_W - 1e5), effective_sample_size(LOG_W))
    equal = effective_sample_size(torch.zeros(2, 8))
    assert equal.dtype == torch.float64
    assert torch.allclose(equal, torch.full((2,), 8.0, dtype=torch.float64))
    one = torch.full((1, 8), -float("inf"), dtype=torch.float64)
    one[0, 3] = -2000.0
    assert float(effective_sample_size(one)) == pytest.approx(1)


def counts(ancestors):
    return torch.nn.functional.one_hot(ancestors, ancestors.shape[1]).sum(1).double()


@pytest.mark.parametrize("seed", range(10))
def test_every_particle_is_chosen_floor_or_one_more(seed):
    source = generator(seed)
    log_w = 3 * torch.randn(20, 16, generator=source, dtype=torch.float64)
    uniform = torch.rand(20, generator=source, dtype=torch.float64)
    ancestors = systematic_resampling(log_w, uniform)
    expected = 16 * log_w.softmax(1)
    chosen = counts(ancestors)
    assert ((chosen - expected).abs() < 1 + 1e-9).all()
    assert (chosen.sum(1) == 16).all()
    assert (ancestors.diff() >= 0).all()


def test_unbiased():
    """The mean over a fine grid of the uniform number is an integral, with error below 1/grid."""
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    ancestors = systematic_resampling(LOG_W[:1].expand(4000, -1), grid)
    expected = 16 * LOG_W[0].softmax(0)
    assert torch.allclose(counts(ancestors).mean(0), expected, rtol=0, atol=1 / 2000)


def test_extremes_stay_in_range():
    top = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    for log_w in (torch.zeros(2, 1000), LOG_W[:2], LOG_W[:2] * 1e4):
        ancestors = systematic_resampling(log_w, top)
        assert 0 <= int(ancestors.min()) <= int(ancestors.max()) < log_w.shape[1]
    assert torch.equal(
        systematic_resampling(torch.zeros(1, 9), torch.zeros(1))[0], torch.arange(9)
    )


def test_items_do_not_see_each_other():
    uniform = torch.rand(7, generator=generator(1), dtype=torch.float64)
    together = systematic_resampling(LOG_W, uniform)
    alone = [systematic_resampling(LOG_W[i : i + 1], uniform[i : i + 1]) for i in range(7)]
    assert torch.equal(together, torch.cat(alone))
    sick = LOG_W.clone()
    sick[2] = float("nan")
    kept = [0, 1, 3, 4, 5, 6]
    assert torch.equal(systematic_resampling(sick, uniform)[kept], together[kept])
