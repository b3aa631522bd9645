"""Priors made from priors, held to exact Gaussian ones."""

from __future__ import annotations

import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.transforms import AffinePrior, ComplexPrior, GreyPrior

SHAPE = (1, 3, 4)


def gaussian(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.Size(shape).numel()
    factor = torch.randn(pixels, pixels, generator=rng, dtype=torch.float64)
    mean = torch.randn(shape, generator=rng, dtype=torch.float64)
    return mean, factor @ factor.T / pixels + 0.1 * torch.eye(pixels, dtype=torch.float64)


def draw(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize(("scale", "offset"), [(0.02, 0.02), (-3.0, 1.5), (1.0, 0.0)])
@pytest.mark.parametrize("rows", [False, True])
def test_affine_is_the_prior_of_the_scaled_images(scale, offset, rows):
    mean, covariance = gaussian(SHAPE)
    inner = GaussianPrior.dense(mean, covariance)
    exact = GaussianPrior.dense(scale * mean + offset, scale**2 * covariance)
    prior = AffinePrior(inner, scale, offset)
    u = scale * draw((3, *SHAPE)) + offset
    sigma = torch.tensor([0.01, 0.7, 40.0] if rows else 0.7, dtype=torch.float64) * abs(scale)
    torch.testing.assert_close(prior(u, sigma), exact(u, sigma), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(prior.error_variance(sigma), exact.error_variance(sigma))


def test_affine_moves_the_range_and_the_noise_levels():
    class Inner:
        sigma_min, sigma_max, value_range = 0.01, 20.0, (-1.0, 3.0)
        name, sha256 = "inner", "0" * 64

    prior = AffinePrior(Inner(), -0.5, 1.0)
    assert prior.value_range == (-0.5, 1.5)
    assert (prior.sigma_min, prior.sigma_max) == (0.005, 10.0)
    assert prior.name == "inner * -0.5 + 1"
    assert prior.sha256 == Inner.sha256


@pytest.mark.parametrize(
    ("scale", "offset"), [(0.0, 1.0), (float("nan"), 0.0), (1.0, float("inf"))]
)
def test_affine_refuses_what_has_no_inverse(scale, offset):
    with pytest.raises(ValueError, match="finite scale other than 0"):
        AffinePrior(GaussianPrior.dense(*gaussian(SHAPE)), scale, offset)


@pytest.mark.parametrize("rows", [False, True])
def test_complex_is_two_independent_images(rows):
    inner = GaussianPrior.dense(*gaussian(SHAPE))
    prior = ComplexPrior(inner)
    x = draw((2, 2, 3, 4))
    sigma = torch.tensor([0.2, 3.0] if rows else 0.5, dtype=torch.float64)
    out = prior(x, sigma)
    for part in range(2):
        alone = inner(x[:, part : part + 1], sigma)
        torch.testing.assert_close(out[:, part : part + 1], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(prior.error_variance(sigma), inner.error_variance(sigma))
    assert prior.value_range == inner.value_range


def test_complex_refuses_other_shapes():
    prior = ComplexPrior(GaussianPrior.dense(*gaussian(SHAPE)))
    prior.check_shape((2, 3, 4))
    for shape in ((1, 3, 4), (3, 4), (2, 3, 5)):
        with pytest.raises(ShapeError):
            prior.check_shape(shape)


class Colour:
    """A linear colour denoiser that mixes channels, with known errors."""

    sigma_min, sigma_max, value_range = 0.002, 20.0, (-1.0, 1.0)
    name, sha256 = "colour", "1" * 64
    mix = torch.tensor([[0.5, 0.2, 0.1], [0.3, 0.6, 0.0], [-0.1, 0.2, 0.9]])

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if shape[0] != 3 or shape[1] < 4:
            raise ShapeError("no")

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        level = sigma.reshape(-1, 1, 1, 1).to(x)
        return torch.einsum("ij,bjhw->bihw", self.mix.to(x), x) / (1 + level)

    def error_variance(self, sigma: torch.Tensor) -> torch.Tensor:
        return sigma

    def grey_error_variance(self, sigma: torch.Tensor) -> torch.Tensor:
        return 2 * sigma


def test_grey_copies_denoises_and_averages():
    prior = GreyPrior(Colour())
    x = draw((2, 1, 4, 5)).requires_grad_()
    sigma = torch.tensor([0.5, 1.0], dtype=torch.float64)
    factor = float(Colour.mix.sum()) / 3
    expected = factor * x / (1 + sigma.reshape(-1, 1, 1, 1))
    torch.testing.assert_close(prior(x, sigma), expected)
    (gradient,) = torch.autograd.grad(prior(x, sigma).sum(), x)
    torch.testing.assert_close(
        gradient, (factor / (1 + sigma)).reshape(-1, 1, 1, 1).expand(2, 1, 4, 5)
    )
    torch.testing.assert_close(prior.error_variance(sigma), 2 * sigma)


def test_grey_refuses_other_shapes():
    prior = GreyPrior(Colour())
    prior.check_shape((1, 4, 4))
    for shape in ((3, 4, 4), (4, 4), (1, 3, 4)):
        with pytest.raises(ShapeError):
            prior.check_shape(shape)
    with pytest.raises(ShapeError):
        prior(torch.zeros(1, 3, 4, 4), torch.tensor(0.1))
