"""The ladders against their formulas, and what is refused."""

import numpy as np
import pytest
import torch

from invdiff.ladder import check_ladder, ddpm, geometric, karras, ramped, spanning
from invdiff.priors.gaussian import GaussianPrior


@pytest.mark.parametrize("ladder", [karras(7, 0.01, 80.0), geometric(7, 0.01, 80.0), ddpm(7)])
def test_falls_to_zero(ladder):
    assert ladder.shape == (8,)
    assert ladder.dtype == torch.float64
    assert torch.equal(check_ladder(ladder), ladder)


def test_karras_formula():
    expected = [
        (80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)
    ]
    assert karras(5, 0.002, 80.0).tolist() == pytest.approx([*expected, 0.0], rel=1e-12)
    straight = karras(5, 1.0, 9.0, rho=1.0)
    assert straight.tolist() == pytest.approx([9.0, 7.0, 5.0, 3.0, 1.0, 0.0])


def test_geometric_ratios():
    ladder = geometric(6, 0.01, 10.0)
    assert np.allclose(ladder[1:-1] / ladder[:-2], 0.001**0.2)
    assert ladder[[0, -2]].tolist() == pytest.approx([10.0, 0.01])


def test_ddpm_levels():
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    expected = np.sqrt((1 - alpha_bar) / alpha_bar)
    whole = ddpm(1000)
    assert np.allclose(whole[:-1], expected[::-1], rtol=1e-10)
    assert set(ddpm(50)[:-1].tolist()) <= set(whole.tolist())
    assert ddpm(50)[0] == whole[0]
    assert ddpm(50)[-2] == whole[-2]
    assert float(whole[0]) == pytest.approx(157.4, abs=0.05)  # known to users of DDPM


@pytest.mark.parametrize(
    "make",
    [
        lambda: karras(1, 0.01, 1.0),
        lambda: karras(5, 1.0, 0.01),
        lambda: karras(5, 0.0, 1.0),
        lambda: karras(5, 0.01, float("inf")),
        lambda: karras(5, float("nan"), 1.0),
        lambda: geometric(5, -1.0, 1.0),
        lambda: ddpm(0),
        lambda: ddpm(1001),
    ],
)
def test_refuses_bad_ranges(make):
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize(
    "levels",
    [[1.0, 0.5], [0.5, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, float("nan"), 0.0], [0.0], [[1.0], [0.0]],
     [float("inf"), 1.0, 0.0]],
)  # fmt: skip
def test_refuses_what_is_no_ladder(levels):
    with pytest.raises(ValueError, match=r"The ladder (is|has)"):
        check_ladder(torch.tensor(levels))


def test_ramped_cuts_the_first_step():
    ladder = geometric(6, 0.01, 10.0)
    cut = ramped(ladder, 3)
    assert torch.equal(cut[4:], ladder[1:])
    lengths = -cut[:5].log().diff()
    assert torch.allclose(lengths[1:] / lengths[:-1], torch.full((3,), 2.0, dtype=torch.float64))
    assert float(lengths.sum()) == pytest.approx(float((ladder[0] / ladder[1]).log()))
    assert torch.equal(check_ladder(cut), cut)
    assert torch.equal(ramped(ladder, 0), ladder)
    even = -ramped(ladder, 1, ratio=1.0)[:3].log().diff()
    assert float(even[0]) == pytest.approx(float(even[1]))
    for wrong in (lambda: ramped(ladder, -1), lambda: ramped(torch.tensor([1.0, 0.0]), 2)):
        with pytest.raises(ValueError, match="expected"):
            wrong()


def test_spanning_ends_where_the_images_do():
    """N(0, c): v / c = s^2 / (c + s^2), solved for s. Found on a grid of 4096 levels: to 0.3 %."""
    c = 0.25
    prior = GaussianPrior.dense(torch.zeros(3), c * torch.eye(3))
    for loss in (0.005, 0.02):
        ladder = spanning(prior, 9, loss)
        for level, share in ((ladder[-2], loss), (ladder[0], 1 - loss)):
            share = share / (1 + 1e-4)  # v(sigma_max) = c / (1 + 1e-4)
            assert float(level) == pytest.approx((c * share / (1 - share)) ** 0.5, rel=3e-3)
        assert torch.allclose(ladder, geometric(9, float(ladder[-2]), float(ladder[0])))
    wide = spanning(prior, 9, 1e-9)
    assert prior.sigma_min <= float(wide[-2]) < float(wide[0]) <= prior.sigma_max * (1 + 1e-12)
    for loss in (0.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match="loss is"):
            spanning(prior, 9, loss)
    with pytest.raises(ValueError, match="steps=1"):
        spanning(prior, 1)
