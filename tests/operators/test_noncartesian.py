"""Non-Cartesian MRI: against the defining sums, the Cartesian operator, and closed forms."""

import math
import sys

import pytest
import torch

from invdiff.errors import NotFinite, ShapeError
from invdiff.linalg import cg
from invdiff.operators import (
    NonCartesianMRI,
    birdcage_maps,
    espirit_maps,
    golden_radial_trajectory,
    gridding,
    kooshball_trajectory,
    pipe_menon_density,
    radial_density,
    radial_trajectory,
    spiral_trajectory,
)
from invdiff.operators.cartesian_mri import fft2c

SIZE = 64


def draw(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def waves(points, shape):
    """exp(-2 pi i k r) / sqrt(N) for points (samples, axes): the matrix of the definition."""
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in shape]
    pixels = torch.cartesian_prod(*axes)
    return torch.polar(
        torch.full((), 1 / math.sqrt(len(pixels)), dtype=torch.float64),
        -2 * math.pi * points @ pixels.T,
    )


def cartesian_grid(*shape):
    """The frequencies of the centred transform, (1, *shape, axes)."""
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]


def smooth_object(size=SIZE):
    """An ellipse with blurred edges, so that its spectrum ends inside the disc of k-space."""
    t = torch.linspace(-1, 1, size, dtype=torch.float64)
    radius = (t[:, None] ** 2 + (t / 0.8) ** 2).sqrt()
    x = torch.sigmoid(16 * (0.75 - radius)) * (1 + 0.3 * torch.sin(5 * t))
    return torch.polar(x, 0.5 * t[:, None].expand(size, size))[None, None]


# In complex64 the points themselves are rounded: 6e-8 of pi, times half of 12 pixels.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex64, 3e-6), (torch.complex128, 1e-12)]
)
@pytest.mark.parametrize("shape", [(12, 9), (5, 8, 6)])
def test_is_the_defining_sum(shape, dtype, tolerance):
    points = torch.rand(1, 7, 5, len(shape), generator=torch.Generator().manual_seed(1)) - 0.5
    maps, x = draw(1, 3, *shape, seed=2), draw(2, 1, *shape)
    operator = NonCartesianMRI(maps.to(dtype), points)
    matrix = waves(points[0].double().flatten(0, 1), shape)
    expected = (maps * x).flatten(2) @ matrix.T
    found = operator(x.to(dtype))
    assert found.dtype == dtype
    gap = found.flatten(2) - expected
    assert gap.norm() <= tolerance * expected.norm()
    back = operator.adjoint(found)
    coils = (found.to(matrix.dtype).flatten(2) @ matrix.conj()).reshape(2, 3, *shape)
    exact = (maps.conj() * coils).sum(1)
    assert (back[:, 0] - exact).norm() <= tolerance * exact.norm()


@pytest.mark.parametrize("shape", [(8, 8), (12, 9)])
def test_on_a_grid_it_is_the_cartesian_transform(shape):
    maps, x = draw(1, 4, *shape, seed=3), draw(2, 1, *shape)
    operator = NonCartesianMRI(maps, cartesian_grid(*shape))
    expected = fft2c(maps * x)
    assert operator(x).shape == expected.shape
    assert (operator(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("trajectory", [radial_trajectory(9, 32), spiral_trajectory(3, 100, 4)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex64, 1e-6), (torch.complex128, 1e-12)]
)
def test_adjoint_is_exact(trajectory, dtype, tolerance):
    operator = NonCartesianMRI(birdcage_maps(5, 24, 21), trajectory)
    x, y = draw(3, 1, 24, 21, dtype=dtype), draw(3, *operator.range, dtype=dtype, seed=1)
    left, right = (operator(x).conj() * y).sum(), (x.conj() * operator.adjoint(y)).sum()
    assert (left - right).abs() <= tolerance * operator(x).norm() * y.norm()


def test_every_item_its_own_trajectory():
    paths = torch.cat([radial_trajectory(6, 16), golden_radial_trajectory(6, 16)])
    maps, x = draw(1, 2, 10, 11, seed=1), draw(2, 1, 10, 11)
    operator = NonCartesianMRI(maps, paths)
    assert operator.items == 2
    y = operator(x)
    for item in range(2):
        alone = NonCartesianMRI(maps, paths[item : item + 1])
        assert torch.allclose(alone(x[item : item + 1])[0], y[item])
        assert torch.allclose(alone.adjoint(y[item : item + 1])[0], operator.adjoint(y)[item])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by jvp
def test_derivatives_and_vmap():
    """Linear: the Jacobian is the operator, its transpose the adjoint, to rounding."""
    operator = NonCartesianMRI(draw(1, 2, 8, 7, seed=1), radial_trajectory(5, 12))
    x, tangent, u = draw(2, 1, 8, 7), draw(2, 1, 8, 7, seed=2), draw(2, 2, 5, 12, seed=3)
    value, push = torch.func.jvp(operator, (x,), (tangent,))
    assert torch.allclose(value, operator(x))
    assert torch.allclose(push, operator(tangent))
    _, pull = torch.func.vjp(operator, x)
    assert torch.allclose(pull(u)[0], operator.adjoint(u))
    many = draw(3, 2, 1, 8, 7, seed=4)
    expected = torch.stack([operator(one) for one in many])
    for axis in (0, 2):
        found = torch.func.vmap(operator, in_dims=axis)(many.movedim(0, axis))
        assert torch.allclose(found, expected)
    back = torch.func.vmap(operator.adjoint)(expected)
    assert torch.allclose(back, torch.stack([operator.adjoint(one) for one in expected]))


def test_second_derivative():
    operator = NonCartesianMRI(draw(1, 2, 6, 5, seed=1), radial_trajectory(4, 8))
    x = draw(1, 1, 6, 5).requires_grad_(True)
    (first,) = torch.autograd.grad(operator(x).abs().square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first.conj() * draw(1, 1, 6, 5, seed=2)).real.sum(), x)
    expected = 2 * operator.adjoint(operator(draw(1, 1, 6, 5, seed=2)))
    assert torch.allclose(second, expected)


@pytest.mark.parametrize("make", [radial_trajectory, golden_radial_trajectory])
def test_spokes(make):
    path = make(7, 16)
    assert path.shape == (1, 7, 16, 2)
    assert (path[0, :, 8] == 0).all()
    assert torch.allclose(path.norm(dim=-1)[0, 3], (torch.arange(16.0).double() - 8).abs() / 16)
    angle = torch.atan2(path[0, :, -1, 0], path[0, :, -1, 1])
    step = math.pi / 7 if make is radial_trajectory else math.radians(111.2461179750)
    assert torch.allclose((angle[1] - angle[0]).remainder(math.pi), torch.tensor(step).double())


def test_spiral_and_kooshball():
    path = spiral_trajectory(4, 301, 5)
    assert path.shape == (1, 4, 301, 2)
    assert torch.allclose(path[0, :, -1].norm(dim=-1), torch.tensor(0.5).double())
    steps = path[0, 0].diff(dim=0).norm(dim=-1)[20:]  # past the first turn
    assert steps.max() < 1.2 * steps.min()
    ball = kooshball_trajectory(500, 8)
    assert ball.shape == (1, 500, 8, 3)
    directions = ball[0, :, 0] / ball[0, :, :1].norm(dim=-1)
    spread = directions.T @ directions / 500  # a third of the identity, if evenly spread
    assert torch.allclose(spread, torch.eye(3).double() / 3, atol=0.01)
    with pytest.raises(ValueError, match="spokes is 0"):
        radial_trajectory(0, 8)
    with pytest.raises(ValueError, match="turns"):
        spiral_trajectory(1, 8, math.inf)


@pytest.mark.parametrize("offset", [0, 0.3, 0.5])
def test_radial_density_integrates(offset):
    """A Gaussian over the plane and over space, also if no sample meets the centre.

    Measured at most 1.3e-5 (the next order of the kink) and 2e-8 (the Gaussian's cut tail).
    """
    std, shape = 0.08, (12, 20)
    path = radial_trajectory(10, 64)
    path = path + offset * (path[:, :, 1:2] - path[:, :, :1])
    value = torch.exp(-path.square().sum(-1) / (2 * std**2))
    found = (radial_density(path, shape) * value).sum() / 240
    assert abs(found / (2 * math.pi * std**2) - 1) < 3e-5
    ball = kooshball_trajectory(50, 64)
    value = torch.exp(-ball.square().sum(-1) / (2 * std**2))
    found = (radial_density(ball, (3, 4, 5)) * value).sum() / 60
    assert abs(found / (2 * math.pi * std**2) ** 1.5 - 1) < 1e-7


def test_radial_density_follows_uneven_angles():
    """Spokes in any order, one doubled: the gaps are shared, the area is the same."""
    angle = torch.tensor([2.0, 0.1, 0.1, 1.0], dtype=torch.float64)
    along = (torch.arange(9, dtype=torch.float64) - 4) / 9
    spokes = along[:, None] * torch.stack([angle.sin(), angle.cos()], -1)[:, None]
    weights = radial_density(spokes[None], (9, 9))[0]
    share = weights.sum(1) / weights.sum()
    gaps = torch.tensor([0.1 + math.pi - 1.0, 0.1 + math.pi - 2.0, 0.9, 1.9]).double() / 2
    assert torch.allclose(share.sort().values, (gaps / math.pi).sort().values)
    with pytest.raises(ValueError, match="pipe_menon"):
        radial_density(spiral_trajectory(2, 50, 3), (9, 9))
    with pytest.raises(ValueError, match="pipe_menon"):
        radial_density(spokes[None] + 0.05, (9, 9))


def test_pipe_menon_solves_its_equation():
    """Against the dense kernel, and weights of one for Cartesian sampling."""
    grid = cartesian_grid(6, 5)
    assert torch.allclose(pipe_menon_density(grid, (6, 5), 3), torch.ones(1, 6, 5).double())
    path = spiral_trajectory(3, 40, 3)
    matrix = waves(path[0].flatten(0, 1), (10, 12))
    kernel = (matrix.conj() @ matrix.T).abs().square()
    weights = torch.ones(120, dtype=torch.float64)
    for _ in range(4):
        weights = weights / (kernel @ weights)
    found = pipe_menon_density(path, (10, 12), 4)
    assert torch.allclose(found.flatten(), weights, rtol=1e-9)
    final = pipe_menon_density(path, (10, 12), 100).flatten()
    assert (kernel @ final - 1).abs().max() < 0.02


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        (radial_trajectory(101, 2 * SIZE), 0.006),
        (golden_radial_trajectory(101, 2 * SIZE), 0.006),
        (spiral_trajectory(8, 1200, 5), 0.08),
    ],
    ids=["radial", "golden", "spiral"],
)
def test_gridding_and_cg_return_the_image(path, limit):
    """Relative errors measured, in the order of the cases.

    Gridding with Pipe and Menon's weights 4e-4, 5e-4, 0.054; with the ramp 4e-3; 30 steps of
    conjugate gradients 2e-4.
    """
    operator = NonCartesianMRI(birdcage_maps(4, SIZE, SIZE), path)
    truth = smooth_object()
    y = operator(truth)
    gridded = gridding(operator, y, pipe_menon_density(path, (SIZE, SIZE)))
    assert (gridded - truth).norm() < limit * truth.norm()
    solved = cg(lambda u: operator.adjoint(operator(u)), operator.adjoint(y), iterations=30)
    assert (solved.x - truth).norm() < 1e-3 * truth.norm()
    if path.shape[1] == 101:
        ramp = gridding(operator, y, radial_density(path, (SIZE, SIZE)))
        assert (ramp - truth).norm() < limit * truth.norm()
    plain = gridding(operator, y, torch.ones(1, *operator.range[1:]))
    assert (plain - truth).norm() > 0.5 * truth.norm()  # without density it is no inverse


def test_maps_from_radial_data():
    """Coil images gridded one by one give k-space whose centre ESPIRiT takes."""
    path, truth = golden_radial_trajectory(101, 2 * SIZE), smooth_object()
    maps = birdcage_maps(6, SIZE, SIZE).to(torch.complex128)
    y = NonCartesianMRI(maps, path)(truth)
    one_coil = NonCartesianMRI(torch.ones(1, 1, SIZE, SIZE, dtype=torch.complex128), path)
    density = radial_density(path, (SIZE, SIZE))
    coils = gridding(one_coil, y[0][:, None], density)[None, :, 0]
    found = espirit_maps(fft2c(coils), 24).maps
    inside = truth[0, 0].abs() > 0.3
    agreement = (found.conj() * maps).sum(1).abs()[0][inside]
    assert agreement.mean() > 0.9999


def test_refusals(monkeypatch):
    maps, path = birdcage_maps(4, 8, 8), radial_trajectory(5, 16)
    for wrong in (path[0, 0], path[..., :1], kooshball_trajectory(5, 16)):
        with pytest.raises(ShapeError, match="expected"):
            NonCartesianMRI(maps, wrong)
    with pytest.raises(ShapeError, match="expected"):
        NonCartesianMRI(maps.repeat(2, 1, 1, 1), path.repeat(3, 1, 1, 1))
    with pytest.raises(TypeError, match="complex maps"):
        NonCartesianMRI(maps.abs(), path)
    with pytest.raises(TypeError, match="real trajectory"):
        NonCartesianMRI(maps, path.to(torch.complex128))
    with pytest.raises(NotFinite, match="NaN"):
        NonCartesianMRI(maps, path * math.nan)
    with pytest.raises(ValueError, match="cycles per pixel"):
        NonCartesianMRI(maps, 8 * path)
    with pytest.raises(ValueError, match="detach"):
        NonCartesianMRI(maps, path.requires_grad_(True))
    path = path.detach()
    with pytest.raises(ShapeError, match="density"):
        operator = NonCartesianMRI(maps, path)
        gridding(operator, draw(1, 4, 5, 16), torch.ones(1, 5))
    with pytest.raises(ShapeError, match="expected"):
        pipe_menon_density(path, (8, 8, 8))
    with pytest.raises(ValueError, match="iterations"):
        pipe_menon_density(path, (8, 8), 0)
    with pytest.raises(ValueError, match="cycles per pixel"):
        pipe_menon_density(8 * path, (8, 8))
    with pytest.raises(ShapeError, match="expected"):
        radial_density(path, (8, 8, 8))
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'invdiff\[mri\]'"):
        NonCartesianMRI(maps, path)(draw(1, 1, 8, 8))
