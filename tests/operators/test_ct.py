"""CT against what can be worked out by hand, and against ASTRA's own projector."""

import math

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import ParallelBeamCT, Projection, fbp, hann
from invdiff.operators.ct_matrix import project_once

KERNELS = (Projection.LINEAR, Projection.STRIP)


def centres(count: int, spacing: float) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5 - count / 2) * spacing


def disc(size: int, pixel: float, radius: float, finer: int = 8) -> torch.Tensor:
    """0.02/mm inside, averaged over each pixel; (1, 1, size, size) float64."""
    t = centres(size * finer, pixel / finer)
    inside = (t[None, :] ** 2 + t[:, None] ** 2 < radius**2).double() * 0.02
    return inside.reshape(1, 1, size, finer, size, finer).mean((3, 5))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("pixel", "spacing"), [(0.5, 0.5), (1.0, 0.8), (0.5, 0.9)])
def test_disc_line_integrals(kernel, pixel, spacing):
    """0.02/mm times the chord, in mm. Within 1 % well inside, where a pixel's blur is small."""
    radius = 25 * pixel
    A = ParallelBeamCT((80, 80), 5, pixel, detector_spacing=spacing, kernel=kernel)
    y = A(disc(80, pixel, radius))[0, 0]
    u = centres(A.range[2], spacing)
    expected = 0.04 * (radius**2 - u**2).clamp_min(0).sqrt()
    inner = u.abs() < 0.8 * radius
    assert (y[:, inner] / expected[inner] - 1).abs().max() < 0.01
    assert y[:, u.abs() > radius + 2 * (pixel + spacing)].abs().max() == 0
    # What a view adds up to is the mass of the disc, whatever the angle.
    mass = 0.02 * math.pi * radius**2
    assert (y.sum(1) * spacing / mass - 1).abs().max() < 0.005


@pytest.mark.parametrize("kernel", KERNELS)
def test_where_a_point_lands(kernel):
    """u = x cos + y sin, row 0 at +y, angles counter-clockwise: to within half a detector."""
    angles = (0.0, math.pi / 6, math.pi / 2, 2.5)
    A = ParallelBeamCT((40, 60), angles, 0.5, detector_spacing=0.25, kernel=kernel)
    x = torch.zeros(1, 1, 40, 60, dtype=torch.float64)
    x[0, 0, 3, 50] = 1
    at_x, at_y = (50 + 0.5 - 30) * 0.5, (20 - 3 - 0.5) * 0.5
    y = A(x)[0, 0]
    u = centres(A.range[2], 0.25)
    found = (y * u).sum(1) / y.sum(1)
    expected = torch.tensor([at_x * math.cos(a) + at_y * math.sin(a) for a in angles])
    assert (found - expected).abs().max() < 0.125


@pytest.mark.parametrize("kernel", KERNELS)
def test_turning_the_image_turns_the_views(kernel):
    """An image turned by 90 degrees under the angle a + 90 degrees is the image under a."""
    angles = (0.2, 0.9, 1.4)
    turned = tuple(a + math.pi / 2 for a in angles)
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    straight = ParallelBeamCT((24, 24), angles, 1.0, kernel=kernel)(x)
    rotated = ParallelBeamCT((24, 24), turned, 1.0, kernel=kernel)(torch.rot90(x, 1, (2, 3)))
    # ASTRA computes weights in float32: 2e-5 of the largest; the wrong turn gives 1.
    assert (straight - rotated).abs().max() < 1e-4 * straight.abs().max()


@pytest.mark.parametrize("kernel", KERNELS)
def test_agrees_with_projecting_on_the_fly(kernel):
    """The matrix and ASTRA's projector sum in different orders, in float32."""
    A = ParallelBeamCT((20, 31), 7, 0.7, detector_spacing=0.9, kernel=kernel)
    x = torch.randn(1, 1, 20, 31, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(project_once(A.geometry, x[0, 0].numpy()))
    assert (A(x)[0, 0] - expected).abs().max() < 2e-6 * expected.abs().max()


def test_project_once_refuses_nan():
    geometry = ParallelBeamCT((6, 6), 3, 1.0).geometry
    with pytest.raises(RuntimeError, match="NaN"):
        project_once(geometry, np.full((6, 6), np.nan))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by jvp
def test_derivatives():
    A = ParallelBeamCT((5, 4), 3, 1.0)
    x = torch.randn(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(A, (x,))
    assert torch.autograd.gradgradcheck(lambda x: A(x).square(), (x,))
    x = x.detach()
    value, tangent = torch.func.jvp(A, (x,), (x,))
    assert torch.equal(value, tangent)
    (back,) = torch.func.vjp(A, x)[1](value)
    assert torch.equal(back, A.adjoint(value))
    one_by_one = torch.func.vmap(lambda image: A(image[None])[0])(x)
    assert torch.allclose(one_by_one, value, rtol=1e-12)


def test_a_batch_is_bitwise_its_rows():
    A = ParallelBeamCT((33, 20), 11, 1.0)
    x = torch.randn(5, 1, 33, 20, generator=torch.Generator().manual_seed(0))
    y = A(x)
    for row in range(5):
        assert torch.equal(A(x[row : row + 1])[0], y[row])
        assert torch.equal(A.adjoint(y[row : row + 1])[0], A.adjoint(y)[row])


def test_defaults_become_numbers():
    A = ParallelBeamCT((30, 40), 4, 0.5)
    assert repr(A) == (
        "ParallelBeamCT(image_shape=(30, 40), views=4, pixel_size=0.5, detectors=50, "
        "detector_spacing=0.5, kernel=Projection.LINEAR)"
    )
    assert A.geometry.angles == tuple(math.pi * k / 4 for k in range(4))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("spacing", [0.6, 1.0, 1.7])
def test_the_memory_estimate(kernel, spacing):
    """Within 10 %: it guards against running out of memory, and refuses what would."""
    A = ParallelBeamCT((48, 48), 9, 1.0, detector_spacing=spacing, kernel=kernel)
    entries = A._matrices(torch.zeros(1)).matrix.values().numel()
    assert A.geometry.matrix_bytes == pytest.approx(16 * entries, rel=0.1)


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match="square"):
        ParallelBeamCT((8, 8), 3, (1.0, 2.0))
    with pytest.raises(ValueError, match="finite angle"):
        ParallelBeamCT((8, 8), (0.0, math.nan), 1.0)
    with pytest.raises(ValueError, match="at least one"):
        ParallelBeamCT((8, 8), 0, 1.0)
    with pytest.raises(ShapeError, match="detector count"):
        ParallelBeamCT((8, 8), 3, 1.0, detectors=0)
    with pytest.raises(ValueError, match="mm"):
        ParallelBeamCT((8, 8), 3, 1.0, detector_spacing=-1.0)
    monkeypatch.setenv("INVDIFF_MATRIX_BYTES", "1000")
    with pytest.raises(ValueError, match="INVDIFF_MATRIX_BYTES"):
        ParallelBeamCT((8, 9), 3, 1.0)(torch.zeros(1, 1, 8, 9))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("pixel", "spacing"), [(0.5, 0.5), (1.0, 0.7), (1.0, 1.3)])
def test_fbp_gives_attenuation_per_mm(kernel, pixel, spacing):
    """A disc of 0.02/mm: its mean within 1 %, inner pixels within 3 % (rms; aliasing)."""
    radius = 25 * pixel
    x = disc(80, pixel, radius)
    A = ParallelBeamCT((80, 80), 120, pixel, detector_spacing=spacing, kernel=kernel)
    found = fbp(A, A(x), hann)[0, 0]
    t = centres(80, pixel)
    inside = t[None, :] ** 2 + t[:, None] ** 2 < (0.8 * radius) ** 2
    assert found[inside].mean() == pytest.approx(0.02, rel=0.01)
    assert (found[inside] / 0.02 - 1).square().mean().sqrt() < 0.03
    outside = t[None, :] ** 2 + t[:, None] ** 2 > (1.25 * radius) ** 2
    assert found[outside].abs().mean() < 0.02 * 0.02


def test_fbp_agrees_with_astra():
    """Both filter with the ramp's samples in space; float32 and padding differ a little: 1 %."""
    import astra

    A = ParallelBeamCT((64, 64), 60, 1.0)
    x = disc(64, 1.0, 20).float()
    y = A(x)
    rays = astra.create_proj_geom(
        "parallel", 1.0, A.geometry.detectors, np.array(A.geometry.angles)
    )
    volume = astra.create_vol_geom(64, 64)
    projector = astra.create_projector("linear", rays, volume)
    sinogram = astra.data2d.create("-sino", rays, y[0, 0].numpy())
    image = astra.data2d.create("-vol", volume)
    settings = astra.astra_dict("FBP")
    settings.update(ProjectorId=projector, ProjectionDataId=sinogram, ReconstructionDataId=image)
    settings["option"] = {"FilterType": "Ram-Lak"}
    algorithm = astra.algorithm.create(settings)
    astra.algorithm.run(algorithm)
    expected = torch.from_numpy(astra.data2d.get(image))
    astra.algorithm.delete(algorithm)
    astra.data2d.delete([sinogram, image])
    astra.projector.delete(projector)
    gap = (fbp(A, y)[0, 0] - expected).norm() / expected.norm()
    assert gap < 0.01


def test_fbp_is_smoother_with_hann():
    A = ParallelBeamCT((32, 32), 40, 1.0)
    y = torch.randn(1, *A.range, generator=torch.Generator().manual_seed(0))
    assert fbp(A, y, hann).std() < 0.7 * fbp(A, y).std()
    with pytest.raises(ShapeError):
        fbp(A, y[0])
