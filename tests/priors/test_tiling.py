"""Tiles against the whole image: exact for finite receptive fields, near for the embedded ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invdiff import DDS, karras, sample
from invdiff.errors import ShapeError
from invdiff.operators import Inpainting
from invdiff.priors import Prior, load_prior
from invdiff.priors.tiling import Tiled

RADIUS = 8  # of Strided, worked out in its docstring


class Strided(nn.Module):
    """Convolutions on two grids; an answer depends on pixels at most 8 away.

    Downwards: 3x3 (1), then 2x2 with stride 2; on the coarse grid 3x3 twice (2 coarse pixels, so
    up to 5 fine ones within a block), upwards 2x2, then 3x3 (1): 1 + 5 + 1 + 1 = 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 8, 2, 2)
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU())
        self.coarse = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.last = nn.Conv2d(6, channels, 3, padding=1)
        self.double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.silu(self.first(x))
        return self.last(fine + self.up(self.coarse(self.middle(self.down(fine)))))


class Convolutional:
    """A prior from it, for even sizes; padding mirrors the end as the embedded priors do."""

    sigma_min, sigma_max, value_range = 0.01, 10.0, (-1.0, 1.0)
    name, sha256 = "strided", "0" * 64

    def __init__(self, channels: int = 2) -> None:
        self.network = Strided(channels)
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        height, width = x.shape[-2:]
        whole = F.pad(x, (0, width % 2, 0, height % 2), mode="reflect")
        level = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x)
        return (whole + level * self.network(whole))[..., :height, :width]

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise ShapeError(f"not an image: {shape}")

    def error_variance(self, sigma: Tensor) -> Tensor:
        return sigma.square()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


SIZES = [(64, 64), (70, 96), (33, 131), (31, 20), (32, 33), (101, 40), (34, 300)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("overlap", [2 * RADIUS, 3 * RADIUS])
def test_overlap_of_the_receptive_field_is_exact(size, overlap):
    prior = Convolutional()
    x, sigma = noise(2, 2, *size), torch.tensor([0.3, 1.1], dtype=torch.float64)
    tiled = Tiled(prior, tile=64, overlap=overlap, multiple=2)
    # Rounding of float64 sums in another order.
    torch.testing.assert_close(tiled(x, sigma), prior(x, sigma), rtol=0, atol=1e-13)


def test_less_overlap_is_not_exact_and_the_receptive_field_is_as_stated():
    prior = Convolutional()
    x, sigma = noise(1, 2, 64, 160), torch.tensor(1.0)
    short = Tiled(prior, tile=64, overlap=RADIUS, multiple=2)
    assert float((short(x, sigma) - prior(x, sigma)).abs().max()) > 1e-6
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(prior(leaf, sigma)[0, 0, 32, 80], leaf)
    reached = (slope.abs().sum(1)[0] > 0).nonzero()
    assert int((reached - torch.tensor([32, 80])).abs().max()) <= RADIUS


@pytest.mark.parametrize("multiple", [2, 16])
@pytest.mark.parametrize("length", range(1, 300, 7))
def test_weights_add_up_to_one_within_their_tiles(length, multiple):
    tiled = Tiled(Convolutional(), tile=64, overlap=16, multiple=multiple)
    total = torch.zeros(length, dtype=torch.float64)
    for (start, stop), weight in tiled._strips(length):
        assert start % multiple == 0 and stop - start <= 64 and stop <= length
        assert len(weight) == stop - start and float(weight.min()) >= 0
        if start > 0:
            assert float(weight[:8].max()) == 0  # half an overlap at a cut counts for nothing
        if stop < length:
            assert float(weight[-8:].max()) == 0
        total[start:stop] += weight
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-15)


def test_no_tile_is_larger_than_said():
    prior = Convolutional()
    Tiled(prior, tile=64, overlap=16, multiple=2)(noise(1, 2, 200, 75), torch.tensor(1.0))
    assert all(max(shape[-2:]) <= 64 for shape in prior.seen)
    assert len(prior.seen) == 6 * 2  # cells of 32: 200 - 64 = 136 takes 5 more, 75 one more


@pytest.mark.parametrize("size", [(70, 96), (33, 131)], ids=str)
def test_the_vjp_goes_through_exactly(size):
    prior = Convolutional()
    x, sigma, weight = noise(2, 2, *size), torch.tensor(0.7), noise(2, 2, *size).flip(-1)
    slopes = []
    for denoiser in (prior, Tiled(prior, tile=64, overlap=16, multiple=2)):
        leaf = x.clone().requires_grad_()
        slopes.append(torch.autograd.grad(denoiser(leaf, sigma), leaf, weight)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "tolerance"), [("photo", 2e-3), ("ct", 2e-3)])
def test_the_embedded_priors_are_near_their_untiled_selves(name, tolerance):
    """Squared change against the denoiser's own squared error: the receptive field is wider
    than the overlap, but little comes from its rim. docs/check-prior.md has more numbers.
    """
    from invdiff.inspection import known_images

    prior = load_prior(name)
    image = known_images(prior.card.channels, 128)[-2 if name == "ct" else 0].values[None]
    low, high = prior.value_range
    x = low + (high - low) * image
    sigma = torch.tensor(0.2 * (high - low) / 2)
    noisy = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    whole = prior(noisy, sigma)
    error = (whole - x).square().mean()
    pieces = Tiled(prior, tile=96, overlap=24)(noisy, sigma)
    change = (pieces - whole).square().mean() / error
    assert float(change) < tolerance
    # Without overlap there are seams: the same measure sees them.
    cut = Tiled(prior, tile=64, overlap=0)(noisy, sigma)
    assert float((cut - whole).square().mean() / error) > 10 * float(change)


def test_no_seams():
    """Between neighbours the change steps by a tenth at most of what the answer itself does."""
    prior = load_prior("ct")
    x = torch.randn(1, 1, 64, 160, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor(1.0)
    whole = prior(x, sigma)

    def steps(image: Tensor) -> Tensor:
        return (image[..., 1:] - image[..., :-1]).square().mean((0, 1, 2)).sqrt()

    usual = float(steps(whole).mean())
    faded, cut = (
        float(steps(Tiled(prior, tile=64, overlap=overlap)(x, sigma) - whole).max())
        for overlap in (16, 0)
    )
    assert faded < 0.1 * usual  # measured 0.07
    assert cut > usual  # measured 2.6: without overlap the same measure sees seams


def test_small_images_are_passed_on_whole():
    prior = load_prior("ct")
    x = torch.randn(1, 1, 40, 50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Tiled(prior)(x, torch.tensor(0.3)), prior(x, torch.tensor(0.3)))


def test_it_is_a_prior_that_samplers_take():
    from invdiff import Gaussian, Problem

    prior = Tiled(Convolutional(1), tile=16, overlap=4, multiple=2)
    mask = torch.ones(1, 1, 24, 24, dtype=torch.float64)
    operator = Inpainting(mask)
    problem = Problem(operator(0.1 * noise(1, 1, 24, 24)), operator, Gaussian(0.1))
    result = sample(problem, prior, DDS(), karras(4, 0.01, 10.0), progress=False, throw=False)
    assert result.x.shape == (1, 1, 1, 24, 24)
    assert "tiled 16/4" in prior.name
    assert isinstance(prior, Prior)
    assert prior.error_variance(torch.tensor(0.5)) == 0.25


@pytest.mark.parametrize(
    ("tile", "overlap", "multiple", "message"),
    [
        (64, 32, 16, "leaves no cell"),
        (64, -1, 16, "leaves no cell"),
        (60, 8, 16, "must be multiples of 16"),
        (64, 4, 16, "must be multiples of 16"),
        (64, 16, 0, "not positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tile, overlap, multiple, message):
    with pytest.raises(ValueError, match=message):
        Tiled(Convolutional(), tile, overlap, multiple)


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"\(channels, h, w\)"):
        Tiled(Convolutional()).check_shape((2, 3, 64, 64))
    with pytest.raises(ShapeError, match="does not take"):
        Tiled(load_prior("ct")).check_shape((3, 600, 600))
    Tiled(load_prior("ct")).check_shape((1, 6000, 6000))
