"""Blur against convolutions written out, library convolutions, and what kernels promise."""

import math

import numpy as np
import pytest
import torch
from helpers import generator
from scipy import ndimage

from invdiff.errors import NotFinite, ShapeError
from invdiff.linalg import as_matrix
from invdiff.operators import Blur, Boundary, gaussian_kernel, motion_kernel

F64 = torch.float64
SHAPE = (2, 9, 11)
NAMES = {boundary.name.lower(): boundary for boundary in Boundary}


def kernel(items: int = 1, channels: int = 1, size: tuple[int, int] = (5, 3)) -> torch.Tensor:
    return torch.randn(items, channels, *size, generator=generator(1), dtype=F64)


def image(rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, *SHAPE, generator=generator(0), dtype=F64)


def written_out(x: np.ndarray, k: np.ndarray, boundary: Boundary) -> np.ndarray:
    """One channel by the definition, pixel by pixel."""

    def at(i: int, size: int) -> int | None:
        if boundary is Boundary.CIRCULAR:
            return i % size
        if boundary is Boundary.REFLECT:
            return abs(i) if i < size else 2 * (size - 1) - i
        return i if 0 <= i < size else None

    half = [n // 2 for n in k.shape]
    out = np.zeros(x.shape)
    for (row, column), _ in np.ndenumerate(out):
        for (a, b), weight in np.ndenumerate(k):
            r = at(row - (a - half[0]), x.shape[0])
            c = at(column - (b - half[1]), x.shape[1])
            if r is not None and c is not None:
                out[row, column] += weight * x[r, c]
    if boundary is Boundary.VALID:
        return out[half[0] : x.shape[0] - half[0], half[1] : x.shape[1] - half[1]]
    return out


@pytest.mark.parametrize("boundary", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize(("items", "channels"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_is_the_convolution(boundary, items, channels):
    x, k = image(), kernel(items, channels)
    found = Blur(SHAPE, k, boundary)(x)
    for item in range(2):
        for channel in range(2):
            one = k[item % items, channel % channels].numpy()
            expected = written_out(x[item, channel].numpy(), one, boundary)
            assert np.abs(found[item, channel].numpy() - expected).max() < 1e-13


@pytest.mark.parametrize("boundary", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (17, 21)], ids=str)
def test_any_size_of_kernel(boundary, size):
    """From a point to kernels that reach across the image, and the adjoint as a dense matrix."""
    if boundary in (Boundary.CIRCULAR, Boundary.VALID) and size[0] > 9:
        with pytest.raises(ShapeError, match="too large"):
            Blur((1, 9, 11), kernel(size=size), boundary)
        return
    A = Blur((1, 9, 11), kernel(size=size), boundary)
    x = image()[:, :1]
    expected = written_out(x[0, 0].numpy(), A.kernel[0, 0].numpy(), boundary)
    assert np.abs(A(x)[0, 0].numpy() - expected).max() < 1e-12
    assert (as_matrix(A.H)[0] - as_matrix(A)[0].T).abs().max() < 1e-13


def test_reflect_is_what_dps_computes():
    """Padding by ReflectionPad2d and a correlation, here with the kernel turned round."""
    k = motion_kernel(11, 6, seed=3)
    x = torch.randn(2, 3, 32, 24, generator=generator(0), dtype=F64)
    padded = torch.nn.functional.pad(x, (5, 5, 5, 5), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, k.expand(3, -1, -1, -1), groups=3)
    found = Blur((3, 32, 24), k.flip(-2, -1), Boundary.REFLECT)(x)
    assert torch.allclose(found, expected, atol=1e-13)
    assert not torch.allclose(Blur((3, 32, 24), k, Boundary.REFLECT)(x), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("boundary", "padding"),
    [(Boundary.CIRCULAR, "circular"), (Boundary.REFLECT, "reflect"), (Boundary.VALID, "valid")],
    ids=lambda value: str(value),
)
def test_agrees_with_deepinv(boundary, padding):
    physics = pytest.importorskip("deepinv.physics")
    theirs = physics.Blur(kernel(), padding=padding)
    assert torch.allclose(Blur(SHAPE, kernel(), boundary)(image()), theirs.A(image()), atol=1e-12)


def test_circular_blur_multiplies_the_spectrum():
    """A wave goes through, scaled by the kernel's transform at its frequency."""
    A = Blur((1, 16, 12), gaussian_kernel(0.8), Boundary.CIRCULAR)
    k = A.kernel[0, 0].numpy()
    rows, columns = np.mgrid[:16, :12]
    wave = np.cos(2 * math.pi * (3 * rows / 16 + 2 * columns / 12) + 0.3)
    offset = np.arange(-3, 4)
    gain = [
        np.sum(weights * np.cos(2 * math.pi * frequency * offset))
        for weights, frequency in zip((k.sum(1), k.sum(0)), (3 / 16, 2 / 12), strict=True)
    ]
    found = A(torch.from_numpy(wave)[None, None])[0, 0].numpy()
    assert np.allclose(found, gain[0] * gain[1] * wave, atol=1e-13)


def test_gaussian_kernel_is_the_published_one():
    """DPS filters a unit impulse of 61 x 61 by scipy, std 3: ours, with zeros around it."""
    impulse = np.zeros((61, 61))
    impulse[30, 30] = 1
    expected = ndimage.gaussian_filter(impulse, sigma=3.0)
    found = np.pad(gaussian_kernel(3.0)[0, 0].numpy(), 18)
    assert np.abs(found - expected).max() < 1e-15
    assert gaussian_kernel(0.0).tolist() == [[[[1.0]]]]
    narrow = gaussian_kernel((0.5, 2.0))
    assert narrow.shape == (1, 1, 5, 17)
    assert float(narrow.sum()) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("length", [0.0, 10.0, 25.0])
def test_motion_kernel(length):
    """Light is kept, the mean is the centre, and the path fills the circle that was asked for."""
    offset = np.arange(31) - 15.0
    for seed in range(6):
        k = motion_kernel(31, length, seed)[0, 0].numpy()
        assert k.min() >= 0
        assert k.sum() == pytest.approx(1, abs=1e-13)
        mean = (k.sum(1) @ offset, k.sum(0) @ offset)
        assert np.abs(mean).max() < 1e-12
        distance = np.hypot(*np.meshgrid(offset, offset))
        assert length / 2 - 1 < distance[k > 0].max() < length / 2 + 1.5


def test_motion_kernels_are_smooth_lines_of_their_own_seed():
    k = motion_kernel(31, 20, 4)
    assert torch.equal(motion_kernel(31, 20, 4), k)
    assert not torch.allclose(motion_kernel(31, 20, 5), k)
    assert not torch.allclose(motion_kernel(31, 20, (4, 1)), k)
    lit = k[0, 0].numpy() > 0
    assert ndimage.label(lit, np.ones((3, 3)))[1] == 1  # one line,
    assert lit.sum() < 0.2 * lit.size  # not a patch


def test_bounds_hold_and_are_attained():
    for boundary in Boundary:
        A = Blur(SHAPE, kernel(2), boundary)
        low, high = A.bounds(-0.5, 2.0)
        extreme = [torch.where(k > 0, 2.0, -0.5).flip(-2, -1).expand(2, -1, -1) for k in kernel(2)]
        x = torch.zeros(2, *SHAPE, dtype=F64)
        for item in range(2):
            x[item, :, 2:7, 4:7] = extreme[item]
        assert A(x).max() <= high + 1e-12
        assert A(x).max() == pytest.approx(high)
        assert A(torch.full_like(x, 2.0)).min() >= low - 1e-12


def test_refusals():
    with pytest.raises(ShapeError, match=r"kernel\[None, None\]"):
        Blur(SHAPE, torch.ones(3, 3), Boundary.VALID)
    with pytest.raises(ShapeError, match="channels"):
        Blur((3, 9, 9), torch.ones(1, 2, 3, 3), Boundary.VALID)
    with pytest.raises(ShapeError, match="odd"):
        Blur(SHAPE, torch.ones(1, 1, 4, 3), Boundary.VALID)
    with pytest.raises(TypeError, match="real"):
        Blur(SHAPE, torch.ones(1, 1, 3, 3, dtype=torch.int64), Boundary.VALID)
    with pytest.raises(NotFinite, match="finite"):
        Blur(SHAPE, torch.full((1, 1, 3, 3), math.nan), Boundary.VALID)
    with pytest.raises(ValueError, match="std"):
        gaussian_kernel(-1.0)
    with pytest.raises(ValueError, match="odd"):
        motion_kernel(20, 5, 0)
    with pytest.raises(ValueError, match="length"):
        motion_kernel(21, 19, 0)


def test_a_wrong_phase_is_caught():
    class Late(Blur):
        def _forward(self, x):
            return super()._forward(x).roll(1, -1)

    x, k = image(), kernel()
    expected = written_out(x[0, 0].numpy(), k[0, 0].numpy(), Boundary.CIRCULAR)
    found = Late(SHAPE, k, Boundary.CIRCULAR)(x)[0, 0].numpy()
    assert np.abs(found - expected).max() > 0.1
