"""JPEG against Pillow's own files, and what its surrogate derivative claims to be."""

import io

import numpy as np
import pytest
import torch
from helpers import generator
from PIL import Image

from invdiff import Gaussian, Problem
from invdiff.curvature import push_forward
from invdiff.datasets.test_images import photograph
from invdiff.errors import ShapeError
from invdiff.operators import JPEG, Chroma
from invdiff.operators.jpeg_codec import quantisation_tables

F64 = torch.float64


def crop(name: str) -> np.ndarray:
    picture = photograph(name)[60:188, 100:260]
    return picture[..., None] if picture.ndim == 2 else picture


def opened(picture: np.ndarray, quality: int, chroma: Chroma) -> np.ndarray:
    """What Pillow reads back from the file that it writes."""
    file = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(
        file, "JPEG", quality=quality, subsampling=chroma.value
    )
    found = np.asarray(Image.open(file))
    return found[..., None] if found.ndim == 2 else found


def tensor(picture: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(dtype)


def noise() -> np.ndarray:
    """Saturated colours and every frequency: the hardest picture for roundings."""
    return np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 96, 3), dtype=np.uint8)


PICTURES = {"astronaut": crop, "chelsea": crop, "camera": crop, "noise": lambda name: noise()}


@pytest.mark.parametrize("chroma", Chroma, ids=lambda chroma: chroma.name)
@pytest.mark.parametrize("quality", [1, 2, 10, 30, 50, 75, 95, 100])
@pytest.mark.parametrize("name", PICTURES)
def test_is_pillows_jpeg(name, quality, chroma):
    """Bit for bit: the same integers are rounded in the same places."""
    picture = PICTURES[name](name)
    x = tensor(picture)
    expected = opened(picture, quality, chroma)
    found = JPEG(tuple(x.shape[1:]), quality, 0.0, 255.0, chroma)(x)
    assert torch.equal(found, tensor(expected))
    assert quality == 100 or not torch.equal(found, x)


def test_range_and_precision():
    """On [-1, 1] the same levels, float32 or float64; values beyond the range are clipped."""
    x = tensor(crop("astronaut"), F64)
    levels = JPEG(tuple(x.shape[1:]), 20, 0.0, 255.0)(x)
    A = JPEG(tuple(x.shape[1:]), 20, -1.0, 1.0)
    centred = 2 * x / 255 - 1
    assert torch.allclose(A(centred), 2 * levels / 255 - 1, atol=1e-14)
    assert (A(centred.float()) - A(centred)).abs().max() < 1e-6
    assert torch.equal(A(3 * centred), A((3 * centred).clamp(-1, 1)))
    # Everything between two levels is stored as the nearer one.
    assert torch.equal(A(centred + 0.4 * 2 / 255), A(centred))


def test_tables_are_those_in_the_file():
    for quality in (1, 5, 49, 50, 77, 100):
        file = io.BytesIO()
        Image.fromarray(noise()).save(file, "JPEG", quality=quality)
        stored = Image.open(file).quantization
        for number, table in enumerate(quantisation_tables(quality)):
            assert list(stored[number]) == table.ravel().tolist()


def test_compressing_twice_changes_little():
    """A file that is opened and saved again: the coefficients are near multiples of the steps."""
    x = tensor(crop("camera"))
    A = JPEG(tuple(x.shape[1:]), 30, 0.0, 255.0)
    once = A(x)
    assert (A(once) - once).abs().mean() < 0.05 * (once - x).abs().mean()


def inside(rows: int = 2, channels: int = 3) -> torch.Tensor:
    """Images whose compressed versions are nowhere clipped."""
    return 0.3 * (2 * torch.rand(rows, channels, 32, 48, generator=generator(0), dtype=F64) - 1)


def smooth_jpeg(x: torch.Tensor, chroma: Chroma) -> torch.Tensor:
    """The colours of JPEG without any rounding, from library parts."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=F64)
    luma = torch.einsum("c,bchw->bhw", weights, x)[:, None]
    blue, red = (x[:, 2:] - luma) / 1.772, (x[:, :1] - luma) / 1.402
    colour = torch.cat([blue, red], 1)
    if chroma is Chroma.QUARTER:
        colour = torch.nn.functional.avg_pool2d(colour, 2)
        colour = torch.nn.functional.interpolate(colour, scale_factor=2, mode="bilinear")
    blue, red = colour[:, :1], colour[:, 1:]
    red, blue = luma + 1.402 * red, luma + 1.772 * blue
    return torch.cat([red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue], 1)


@pytest.mark.parametrize("chroma", Chroma, ids=lambda chroma: chroma.name)
def test_the_surrogate_is_jpeg_without_roundings(chroma):
    """Constants have 13 to 16 binary places there: 1e-4. Inside the range nothing is clipped."""
    A = JPEG((3, 32, 48), 30, -1.0, 1.0, chroma)
    x, direction = inside(), torch.randn(2, 3, 32, 48, generator=generator(1), dtype=F64)
    u = torch.randn(2, 3, 32, 48, generator=generator(2), dtype=F64)
    value, vjp = A.linearize(x)
    assert torch.equal(value, A(x))
    assert value.abs().max() < 1
    slope = push_forward(Problem(u, A, Gaussian(1.0)), x, direction)
    expected = smooth_jpeg(direction, chroma)
    assert (slope - expected).abs().max() < 3e-4 * expected.abs().max()
    left, right = (u * slope).sum(), (direction * vjp(u)).sum()
    assert (left - right).abs() < 1e-12 * u.norm() * slope.norm()


def test_grey_surrogate_is_the_identity_where_nothing_is_clipped():
    A = JPEG((1, 32, 48), 10, -1.0, 1.0)
    x = inside(channels=1)
    u = torch.randn(2, 1, 32, 48, generator=generator(2), dtype=F64)
    assert (A.linearize(x)[1](u) - u).abs().max() < 1e-3
    x[0, 0, 3, 5] = 1.5
    assert A.linearize(x)[1](u)[0, 0, 3, 5] == 0


def test_quantisation_averaged_over_a_step_has_slope_one():
    """The docstring's claim. At quality 10 the mean of a block is stored in steps of 10 levels:
    ten flat blocks spread over one step follow their mean exactly, a single one stays behind."""
    A = JPEG((1, 8, 8), 10, 0.0, 255.0)

    def mean(levels: torch.Tensor) -> float:
        return float(A(levels[:, None, None, None].expand(-1, 1, 8, 8)).mean())

    spread = torch.arange(10, dtype=F64)
    for level in range(90, 110):
        assert mean(spread + level + 1) - mean(spread + level) == pytest.approx(1)
    steps = [mean(torch.tensor([float(level)])) for level in range(90, 110)]
    assert len(set(steps)) == 3


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by jvp
def test_contract():
    A = JPEG((3, 32, 48), 30, -1.0, 1.0)
    assert not A.linear
    assert A.bounds(-9, 9) == (-1.0, 1.0)
    assert eval(repr(A)) == A
    with pytest.raises(TypeError, match="linearize"):
        A.adjoint(inside())
    x = inside().requires_grad_()
    (gradient,) = torch.autograd.grad(A(x).square().sum(), x, create_graph=True)
    assert gradient.requires_grad  # through the surrogate, twice
    tangent = torch.func.jvp(A, (inside(),), (inside(),))[1]
    one_by_one = torch.func.vmap(lambda image: A(image[None])[0])(inside())
    assert torch.equal(one_by_one, A(inside()))
    assert tangent.shape == (2, 3, 32, 48)


def test_refusals():
    with pytest.raises(ShapeError, match="16"):
        JPEG((3, 24, 32), 50, -1.0, 1.0)
    JPEG((3, 24, 32), 50, -1.0, 1.0, Chroma.FULL)
    JPEG((1, 24, 32), 50, -1.0, 1.0)
    with pytest.raises(ShapeError, match="1 or 3"):
        JPEG((2, 32, 32), 50, -1.0, 1.0)
    for quality, black, white in ((0, -1.0, 1.0), (101, -1.0, 1.0), (50, 1.0, 1.0)):
        with pytest.raises(ValueError, match="quality"):
            JPEG((3, 32, 32), quality, black, white)


def test_a_wrong_rounding_is_caught():
    """Unsmoothed chroma, the other decoder, is told apart."""
    picture = crop("astronaut")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=75, subsampling="4:4:4")
    x = tensor(picture)
    found = JPEG(tuple(x.shape[1:]), 75, 0.0, 255.0, Chroma.QUARTER)(x)
    assert not torch.equal(found, tensor(np.asarray(Image.open(file))))
