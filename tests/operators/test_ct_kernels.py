"""The entries of the matrices: against ASTRA's, and against chords by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from invdiff.errors import ShapeError
from invdiff.operators import AstraCPU, CTOperator, Geometry, Projection, project_once
from invdiff.operators.ct_astra import plane_geometries
from invdiff.operators.ct_matrix import matrix_blocks, matrix_bytes
from invdiff.operators.ct_rays import rays

KERNELS = (Projection.LINEAR, Projection.STRIP)
FAN = {"pixel_size": 0.7, "source_to_axis": 60.0, "source_to_detector": 100.0}
MAKERS = {
    "parallel": lambda: Geometry.parallel((20, 31), 7, pixel_size=0.7, detector_spacing=0.9),
    "fan": lambda: Geometry.fan((20, 31), 7, **FAN, detector_offset=1.3, lateral_shift=-2.0),
    "arc": lambda: Geometry.fan((20, 31), 7, **FAN, detector_offset=1.3, arc=True),
    "oblong": lambda: Geometry.parallel((20, 31), 7, pixel_size=(0.7, 1.6), start=0.1),
}
CONE = {
    **{"pixel_size": (1.0, 0.8, 0.9), "source_to_axis": 60.0, "source_to_detector": 90.0},
    **{"detectors": (7, 11), "detector_spacing": (2.0, 2.5)},
}


def matrix(geometry, kernel):
    return sparse.vstack(list(matrix_blocks(geometry, kernel))).tocsr()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("spacing", [0.4, 0.7, 1.1])
def test_agrees_with_astra(kernel, spacing):
    """To 1e-4 of the largest entry: ASTRA adds up positions along a ray in float32."""
    import astra

    geometry = Geometry.parallel(
        *((20, 31), 9), pixel_size=0.7, detector_spacing=spacing, start=0.013, detector_offset=0.3
    )
    projector = astra.create_projector(kernel.value, *plane_geometries(geometry))
    number = astra.projector.matrix(projector)
    expected = astra.matrix.get(number)
    astra.matrix.delete(number)
    astra.projector.delete(projector)
    found = matrix(geometry, kernel)
    assert found.shape == expected.shape
    assert abs(found - expected).max() < 1e-4 * found.max()


@pytest.mark.parametrize("name", MAKERS)
def test_ones_give_the_length_of_rays(name):
    """In mm, for rays that go in through one side and out through the opposite one.

    Others leave between two of the lines at which the image is interpolated.
    """
    geometry = MAKERS[name]()
    found = rays(geometry, np.arange(math.prod(geometry.sinogram_shape)))
    half = np.array(geometry.image_shape[::-1]) * geometry.pixel_size[::-1] / 2
    main = np.abs(found.direction / geometry.pixel_size[::-1]).argmax(1)
    row, other = np.arange(len(main)), 1 - main
    length = 2 * half[main] / np.abs(found.direction[row, main])
    slope = found.direction[row, other] / found.direction[row, main]
    at = [
        found.origin[row, other] + (end * half[main] - found.origin[row, main]) * slope
        for end in (-1, 1)
    ]
    through = np.abs(at).max(0) < half[other] - np.array(geometry.pixel_size[::-1])[other] / 2
    assert through.sum() > 20
    sums = np.asarray(matrix(geometry, Projection.LINEAR).sum(1)).ravel()
    assert np.abs(sums / length - 1)[through].max() < 1e-5  # float32


def test_thin_rays_through_oblong_pixels():
    """Half as many pixels as mm: a ray along the long side of 64 x 128 mm meets 128 mm."""
    A = CTOperator(
        Geometry.parallel(
            (64, 64), (0.0, math.pi / 2), pixel_size=(2.0, 1.0), detector_spacing=1.0
        )
    )
    y = A(torch.ones(1, *A.domain))[0, 0]
    middle = A.range[-1] // 2
    assert y[0, middle] == pytest.approx(128)
    assert y[1, middle] == pytest.approx(64)


@pytest.mark.parametrize("name", MAKERS)
def test_strips_are_means_of_chords(name):
    """Each entry is the mean of the chords of 400 rays to all over its cell.

    Exact for parallel rays up to the sampling, 1/400 of the longest chord; fans take the rays
    through one pixel to be parallel, which is another 1 / 100 here.
    """
    geometry = MAKERS[name]()
    n = geometry.detectors[0]
    few = Geometry(
        *(geometry.image_shape, geometry.pixel_size, (400 * n,), geometry.beam),
        tuple((*row[:4], row[4] / 400, row[5] / 400) for row in geometry.vectors),
        geometry.arc,
    )
    found = matrix(geometry, Projection.STRIP)
    longest = math.hypot(*geometry.pixel_size)
    tolerance = longest * (1 / 200 if name in ("parallel", "oblong") else 1 / 80)
    for view, row, column in ((0, 3, 7), (2, 19, 30), (5, 9, 15), (6, 0, 0)):
        lines = rays(few, view * 400 * n + np.arange(400 * n))
        down, right = geometry.pixel_size
        centre = np.array([(column - 15) * right, (9.5 - row) * down])
        half = np.array([right, down]) / 2
        with np.errstate(divide="ignore"):
            a = (centre - half - lines.origin) / lines.direction
            b = (centre + half - lines.origin) / lines.direction
        chord = np.minimum(np.maximum(a, b).min(1), 1e9) - np.minimum(a, b).max(1)
        expected = np.maximum(chord, 0).reshape(n, 400).mean(1)
        block = found[view * n : (view + 1) * n, row * 31 + column].toarray().ravel()
        assert block.max() > 0.1
        assert np.abs(block - expected).max() < tolerance


@pytest.mark.parametrize("helical", [False, True])
@pytest.mark.parametrize("arc", [False, True])
def test_joseph_in_space_is_interpolation(helical, arc):
    """Against interpolating the volume at every crossing with another library."""
    from scipy.ndimage import map_coordinates

    shape = (8, 10, 12)
    geometry = (
        Geometry.helical(shape, 5, turns=1.3, pitch=6.0, **CONE, arc=arc)
        if helical
        else Geometry.cone(shape, 5, **CONE, arc=arc, start=0.2)
    )
    volume = np.random.default_rng(0).normal(size=shape)
    lines = rays(geometry, np.arange(math.prod(geometry.sinogram_shape)))
    size, scale = np.array(geometry.pixel_size), np.array([1, -1, 1]) / geometry.pixel_size
    expected = []
    for origin, direction in zip(lines.origin[:, ::-1], lines.direction[:, ::-1], strict=True):
        start = origin * scale + (np.array(shape) - 1) / 2
        step = direction * scale
        axis = np.abs(step).argmax()
        t = (np.arange(shape[axis]) - start[axis]) / step[axis]
        at = start + t[:, None] * step
        values = map_coordinates(np.pad(volume, 1), at.T + 1, order=1, mode="constant")
        expected.append(values.sum() * size[axis] / abs(direction[axis]))
    expected = np.array(expected)
    assert (np.abs(expected) > 0).sum() > 100
    found = matrix(geometry, Projection.LINEAR) @ volume.ravel()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()  # float32 weights


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("factor", [1, 2])
def test_the_memory_estimate(kernel, name, factor):
    """Within 10 %: it guards against running out of memory, and refuses what would."""
    geometry = MAKERS[name]().finer(factor)
    found = matrix(geometry, kernel)
    entries, rows = found.nnz, sum(found.shape)
    assert matrix_bytes(geometry, kernel) == pytest.approx(16 * entries + 4 * rows, rel=0.1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", MAKERS)
def test_project_once(kernel, name):
    """Like the operator; ASTRA, which does it where it can, computes in float32."""
    geometry = MAKERS[name]().finer(2)
    x = torch.randn(1, 1, *geometry.image_shape, generator=torch.Generator().manual_seed(0))
    own_kernel = name == "fan" and kernel is Projection.LINEAR  # ASTRA's thin rays of a fan
    expected = CTOperator(geometry, kernel, AstraCPU() if own_kernel else None)(x)[0, 0]
    found = torch.from_numpy(project_once(geometry, x[0, 0].numpy(), kernel))
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_project_once_refuses():
    geometry = MAKERS["parallel"]()
    with pytest.raises(ValueError, match="NaN"):
        project_once(geometry, np.full(geometry.image_shape, np.nan))
    with pytest.raises(ShapeError, match="grid"):
        project_once(geometry, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="LINEAR"):
        project_once(Geometry.cone((4, 5, 6), 3, **CONE), np.zeros((4, 5, 6)))
