"""The decoder of latent images, alone and under a measurement; its contract is tested apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from invdiff import Gaussian, Problem, sample
from invdiff.errors import ShapeError
from invdiff.ladder import karras
from invdiff.operators import Decoder, Inpainting
from invdiff.priors import GaussianPrior
from invdiff.samplers import DPS


class Net(nn.Module):
    """Two latent channels to one image channel of twice the size; not linear."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.up = nn.ConvTranspose2d(2, 1, 2, stride=2)
        for value in self.parameters():
            value.data = torch.randn(value.shape, generator=generator)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.up(z) / 2)


def mask() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(1, 1, 8, 8, generator=generator) < 0.6).float()


def test_the_image_is_the_networks():
    network = Net()
    operator = Decoder(network, (2, 4, 4))
    z = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(operator(z), network(z))
    assert (operator.domain, operator.range) == ((2, 4, 4), (1, 8, 8))
    assert network.up.weight.requires_grad  # the caller's module is not frozen


def test_it_is_a_copy():
    network = Net()
    operator = Decoder(network, (2, 4, 4))
    z, before = torch.ones(1, 2, 4, 4), repr(operator)
    kept = operator(z)
    with torch.no_grad():
        network.up.weight.zero_()
    assert torch.equal(operator(z), kept)
    assert repr(operator) == before
    assert operator != Decoder(Net(seed=5), (2, 4, 4))
    assert operator == operator.to("cpu") == Decoder(Net(), (2, 4, 4))


def test_measured_latents_have_the_chain_rules_derivative():
    """(M D)'^T u against the whole Jacobian of tanh(W z / 2 + b / 2), in float64."""
    operator = Inpainting(mask()) @ Decoder(Net(), (2, 4, 4))
    z = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value, vjp = operator.linearize(z)
    assert value.dtype == torch.float64
    network = Net().double().requires_grad_(False)
    columns = torch.eye(32, dtype=torch.float64).reshape(32, 2, 4, 4)
    matrix = (network.up(columns) - network.up(torch.zeros_like(columns))).flatten(1).T / 2
    for row in range(2):
        slope = 1 - network(z[row : row + 1]).flatten() ** 2
        expected = matrix.T @ (slope * (mask().double().flatten() * u[row].flatten()))
        torch.testing.assert_close(vjp(u)[row].flatten(), expected, rtol=1e-12, atol=1e-12)


def test_a_posterior_of_latents_explains_the_data():
    """DPS under a Gaussian prior of latents: chi2 of order 1, where prior draws have hundreds."""
    operator = Inpainting(mask()) @ Decoder(Net(), (2, 4, 4))
    prior = GaussianPrior.dense(torch.zeros(2, 4, 4), torch.eye(32))
    generator = torch.Generator().manual_seed(3)
    truth = torch.randn(1, 2, 4, 4, generator=generator)
    y = operator(truth) + 0.05 * torch.randn(1, 1, 8, 8, generator=generator) * mask()
    problem = Problem(y, operator, Gaussian(0.05))
    sigmas = karras(60, 0.01, 10.0)
    posterior = sample(problem, prior, DPS(), sigmas, samples=4, progress=False)
    assert posterior.x.shape == (1, 4, 2, 4, 4)
    draws = torch.randn(64, 2, 4, 4, generator=generator)
    blind = ((operator(draws) - y) / 0.05).square().sum((1, 2, 3)) / mask().sum()
    assert float(posterior.chi2.mean()) < 0.1 * float(blind.mean())


def test_what_is_no_decoder_is_refused():
    with pytest.raises(TypeError, match="expected a torch module"):
        Decoder(lambda z: z, (2, 4, 4))
    with pytest.raises(ShapeError, match="does not take latents"):
        Decoder(Net(), (3, 4, 4))
    with pytest.raises(ShapeError, match="expected"):
        Decoder(nn.Flatten(), (2, 4, 4))
