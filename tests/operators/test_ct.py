"""CT against what can be worked out by hand, in every geometry."""

import math

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import Beam, CTOperator, Geometry, ParallelBeamCT, Projection, fbp, hann

KERNELS = (Projection.LINEAR, Projection.STRIP)
DISTANCES = {"source_to_axis": 90.0, "source_to_detector": 140.0}


def centres(count: int, spacing: float) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5 - count / 2) * spacing


def disc(size: int, pixel: float, radius: float, finer: int = 8) -> torch.Tensor:
    """0.02/mm inside, averaged over each pixel; (1, 1, size, size) float64."""
    t = centres(size * finer, pixel / finer)
    inside = (t[None, :] ** 2 + t[:, None] ** 2 < radius**2).double() * 0.02
    return inside.reshape(1, 1, size, finer, size, finer).mean((3, 5))


class Ellipse:
    """0.02/mm inside an ellipse with these half axes about (x, y), turned by an angle."""

    a, b, x, y, turn = 18.0, 9.0, 4.0, -6.0, 0.4

    def image(self, shape, size, finer=6):
        """Averaged over each pixel, (1, 1, *shape) float64."""
        y = -centres(shape[0] * finer, size[0] / finer)[:, None] - self.y
        x = centres(shape[1] * finer, size[1] / finer)[None, :] - self.x
        along = (x * math.cos(self.turn) + y * math.sin(self.turn)) / self.a
        across = (y * math.cos(self.turn) - x * math.sin(self.turn)) / self.b
        inside = (along**2 + across**2 < 1).double() * 0.02
        return inside.reshape(1, 1, shape[0], finer, shape[1], finer).mean((3, 5))

    def integrals(self, theta, u):
        """Along x cos(theta) + y sin(theta) = u; and how deep within the shadow the ray is."""
        width2 = (self.a * torch.cos(theta - self.turn)) ** 2 + (
            self.b * torch.sin(theta - self.turn)
        ) ** 2
        tau = u - self.x * torch.cos(theta) - self.y * torch.sin(theta)
        left = (width2 - tau**2).clamp_min(0)
        return 0.04 * self.a * self.b * left.sqrt() / width2, tau.abs() / width2.sqrt()


def test_parallel_ellipse_with_offset():
    geometry = Geometry.parallel(
        (60, 70), 7, pixel_size=0.8, detector_offset=3.0, lateral_shift=-1.0, start=0.2, span=2.0
    )
    theta = torch.tensor([0.2 + 2 * k / 7 for k in range(7)], dtype=torch.float64)[:, None]
    u = centres(geometry.detectors[0], 0.8)[None] + 2.0
    check_ellipse(geometry, theta, u)


@pytest.mark.parametrize("arc", [False, True])
def test_fan_ellipse_with_offset_and_shift(arc):
    """A ray at phi within the fan is the parallel one at u = R sin phi + shift cos phi."""
    geometry = Geometry.fan(
        *((60, 70), 7),
        pixel_size=0.8,
        **DISTANCES,
        detector_offset=3.0,
        lateral_shift=-1.0,
        start=0.2,
        arc=arc,
    )
    spacing = 0.8 * 140 / 90
    t = centres(geometry.detectors[0], spacing)[None] + 3.0
    phi = t / 140 if arc else torch.atan(t / 140)
    turn = torch.tensor([0.2 + 2 * math.pi * k / 7 for k in range(7)], dtype=torch.float64)
    check_ellipse(geometry, turn[:, None] - phi, 90 * torch.sin(phi) - torch.cos(phi))


@pytest.mark.parametrize("size", [(0.5, 1.0), (0.8, 0.5)])
def test_ellipse_with_oblong_pixels(size):
    shape = (round(56 / size[0]), round(56 / size[1]))
    geometry = Geometry.parallel(shape, 7, pixel_size=size, start=0.1)
    theta = torch.tensor([0.1 + math.pi * k / 7 for k in range(7)], dtype=torch.float64)[:, None]
    check_ellipse(geometry, theta, centres(geometry.detectors[0], min(size))[None])


def check_ellipse(geometry, theta, u):
    """Within 2.5 %, on average 0.5 %, where a pixel's blur of the edge is small; 0 outside."""
    ellipse = Ellipse()
    expected, depth = ellipse.integrals(*torch.broadcast_tensors(theta, u))
    x = ellipse.image(geometry.image_shape, geometry.pixel_size)
    for kernel in KERNELS:
        y = CTOperator(geometry, kernel)(x)[0, 0]
        error = (y / expected - 1).abs()[depth < 0.75]
        assert error.max() < 0.025
        assert error.mean() < 0.005
        assert y[depth > 1.5].abs().max() == 0


@pytest.mark.parametrize("arc", [False, True])
@pytest.mark.parametrize("helical", [False, True])
def test_cone_through_a_ball(arc, helical):
    """Chords of rays by hand; oblong voxels, offsets. Half of them within 1 %, all within 3 %."""
    shape, size = (30, 44, 40), (1.0, 0.8, 0.9)
    settings = {
        **DISTANCES,
        "pixel_size": size,
        "detectors": (9, 17),
        "detector_spacing": (3.0, 2.0),
        "detector_offset": (1.0, 2.0),
        "lateral_shift": 1.5,
        "arc": arc,
    }
    if helical:
        geometry = Geometry.helical(shape, 6, turns=1.5, pitch=8.0, **settings)
        turned = torch.arange(6, dtype=torch.float64) / 6 * 1.5
        angle, height = 2 * math.pi * turned, 8.0 * (turned - turned.mean())
    else:
        geometry = Geometry.cone(shape, 6, **settings, start=0.3)
        angle = 0.3 + torch.arange(6, dtype=torch.float64) * math.pi / 3
        height = torch.zeros(6, dtype=torch.float64)
    z = centres(30 * 4, 0.25)[:, None, None] - 1
    y = -centres(44 * 4, 0.2)[None, :, None] + 2
    x = centres(40 * 4, 0.225)[None, None] - 3
    ball = (x**2 + y**2 + z**2 < 100).double() * 0.02
    ball = ball.reshape(30, 4, 44, 4, 40, 4).mean((1, 3, 5))[None, None]

    along = torch.stack([-torch.sin(angle), torch.cos(angle), 0 * angle], dim=1)[None, :, None]
    across = torch.stack([torch.cos(angle), torch.sin(angle), 0 * angle], dim=1)[None, :, None]
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    source = 1.5 * across - 90 * along + height[None, :, None, None] * up
    t = (torch.arange(17, dtype=torch.float64) - 8)[None, None, :, None] * 2 + 2
    s = (torch.arange(9, dtype=torch.float64) - 4)[:, None, None, None] * 3 + 1
    phi = t / 140 if arc else torch.atan(t / 140)
    level = 1.0 if arc else 1 / torch.cos(phi)
    ray = 140 * level * (torch.cos(phi) * along + torch.sin(phi) * across) + s * up
    ray = ray / ray.norm(dim=-1, keepdim=True)
    to_centre = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64) - source
    distance2 = to_centre.square().sum(-1) - (to_centre * ray).sum(-1) ** 2
    expected = 0.04 * (100 - distance2).clamp_min(0).sqrt()

    y = CTOperator(geometry)(ball)[0, 0]
    assert y.shape == expected.shape == (9, 6, 17)
    inner = distance2 < 50
    assert inner.sum() > 100
    error = (y / expected - 1).abs()[inner]
    assert error.median() < 0.01
    assert error.max() < 0.03
    assert y[distance2 > 13**2].abs().max() == 0


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


def test_where_a_point_in_a_volume_lands():
    """Slices grow with z and detector rows with the step up: magnified from the source."""
    geometry = Geometry.cone(
        *((20, 24, 28), (0.0, math.pi / 2)),
        pixel_size=1.0,
        **DISTANCES,
        detectors=(80, 120),
        detector_spacing=(0.5, 0.5),
    )
    x = torch.zeros(1, 1, 20, 24, 28, dtype=torch.float64)
    x[0, 0, 16, 4, 20] = 1
    at = (20 + 0.5 - 14, 12 - 4 - 0.5, 16 + 0.5 - 10)
    y = CTOperator(geometry)(x)[0, 0]
    rows, cells = centres(80, 0.5)[:, None, None], centres(120, 0.5)[None, None]
    mass = y.sum((0, 2))
    # At 0 rays run along +y and cells along +x; at 90 degrees along -x and along +y.
    for view, (depth, side) in enumerate(((at[1], at[0]), (-at[0], at[1]))):
        magnified = 140 / (90 + depth)
        assert (y * rows).sum((0, 2))[view] / mass[view] == pytest.approx(
            at[2] * magnified, abs=0.25
        )
        assert (y * cells).sum((0, 2))[view] / mass[view] == pytest.approx(
            side * magnified, abs=0.25
        )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("beam", ["parallel", "fan", "arc"])
def test_turning_the_image_turns_the_views(kernel, beam):
    """An image turned by 90 degrees under the angle a + 90 degrees is the image under a."""

    def make(angles):
        if beam == "parallel":
            return Geometry.parallel((24, 24), angles, pixel_size=1.0)
        return Geometry.fan((24, 24), angles, pixel_size=1.0, **DISTANCES, arc=beam == "arc")

    angles = (0.2, 0.9, 1.4)
    turned = tuple(a + math.pi / 2 for a in angles)
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    straight = CTOperator(make(angles), kernel)(x)
    rotated = CTOperator(make(turned), kernel)(torch.rot90(x, 1, (2, 3)))
    # Weights are rounded to float32; the wrong turn gives 1.
    assert (straight - rotated).abs().max() < 1e-5 * straight.abs().max()


def test_a_turn_of_a_helix_is_a_rotated_volume():
    volume = torch.randn(1, 1, 8, 12, 12, generator=torch.Generator().manual_seed(0))
    settings = {
        "pixel_size": 1.0,
        **DISTANCES,
        "detectors": (6, 20),
        "detector_spacing": (2.0, 1.5),
    }
    straight = CTOperator(Geometry.helical((8, 12, 12), 5, turns=1.2, pitch=4.0, **settings))
    turned = CTOperator(
        Geometry.helical((8, 12, 12), 5, turns=1.2, pitch=4.0, start=math.pi / 2, **settings)
    )
    expected = straight(volume)
    found = turned(torch.rot90(volume, 1, (3, 4)))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_far_source_is_parallel():
    """Up to the angles within the fan, of 24 mm / 10^6 mm."""
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parallel = Geometry.parallel((24, 24), 5, pixel_size=1.0, detectors=30, start=0.1)
    fan = Geometry.fan(
        *((24, 24), 5),
        pixel_size=1.0,
        source_to_axis=1e6,
        source_to_detector=1e6,
        detectors=30,
        detector_spacing=1.0,
        start=0.1,
        span=math.pi,
    )
    for kernel in KERNELS:
        expected = CTOperator(parallel, kernel)(x)
        assert (CTOperator(fan, kernel)(x) - expected).abs().max() < 1e-3 * expected.abs().max()


def test_defaults_become_numbers():
    A = ParallelBeamCT((30, 40), 4, 0.5)
    assert repr(A) == (
        "ParallelBeamCT(image_shape=(30, 40), views=4, pixel_size=0.5, detectors=50, "
        "detector_spacing=0.5, kernel=Projection.LINEAR, backend=None)"
    )
    assert np.allclose(A.geometry.angles, [math.pi * k / 4 for k in range(4)], atol=1e-15)
    assert torch.equal(
        A(torch.ones(1, *A.domain)), CTOperator(A.geometry)(torch.ones(1, *A.domain))
    )


def test_rays_begin_at_the_source():
    """One beside the image that looks away from it sees nothing."""
    x = torch.ones(1, 1, 8, 8)
    towards = Geometry((8, 8), (1.0, 1.0), (5,), Beam.DIVERGENT, ((0, -6, 0, 6, 1, 0),))
    away = Geometry((8, 8), (1.0, 1.0), (5,), Beam.DIVERGENT, ((0, -6, 0, -12, 1, 0),))
    assert CTOperator(towards)(x)[0, 0, 0, 2] == pytest.approx(8.0)
    assert CTOperator(away)(x).abs().max() == 0


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


def test_fbp_is_smoother_with_hann():
    A = ParallelBeamCT((32, 32), 40, 1.0)
    y = torch.randn(1, *A.range, generator=torch.Generator().manual_seed(0))
    assert fbp(A, y, hann).std() < 0.7 * fbp(A, y).std()
    with pytest.raises(ShapeError):
        fbp(A, y[0])
