"""The ladders against their formulas, and what is refused."""

import numpy as np
import pytest
import torch

from invdiff.ladder import check_ladder, ddpm, geometric, karras


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
