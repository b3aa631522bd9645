"""On a GPU, where there is one: the same samples as on the CPU, from the same seed."""

import pytest
import torch
from helpers import small_prior, small_problem

from invdiff import DDS, DPS, STSL, TDS, REDDiff, karras, sample
from invdiff.priors import load_prior

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("sampler", [DPS(), DDS(), REDDiff(), STSL(), TDS()], ids=str)
def test_samples_agree_across_devices(sampler: object) -> None:
    problem, prior, ladder = small_problem(), small_prior(), karras(20, 0.01, 10.0)
    here = sample(problem, prior, sampler, ladder, samples=4)
    there = sample(problem.to("cuda"), prior, sampler, ladder, samples=4)
    assert there.x.device.type == "cuda"
    # float64 kernels of both devices round differently, and twenty steps amplify it a little.
    torch.testing.assert_close(there.x.cpu(), here.x, rtol=1e-6, atol=1e-6)


def test_network_agrees_across_devices() -> None:
    prior = load_prior("ct")
    x = torch.randn(2, 1, 40, 56, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 1.0])
    expected = prior(x, sigma)
    # TF32 convolutions keep 10 bits of mantissa: a thousandth of the data's size.
    torch.testing.assert_close(
        prior.to("cuda")(x.cuda(), sigma.cuda()).cpu(), expected, rtol=0, atol=5e-3
    )
