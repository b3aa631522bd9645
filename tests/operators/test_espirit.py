"""ESPIRiT against the truth, its definition, and sigpy."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from invdiff.demos.mri import sagittal_head
from invdiff.errors import NotFinite, ShapeError
from invdiff.operators import birdcage_maps, espirit, espirit_maps, maps_from_calibration
from invdiff.operators.cartesian_mri import fft2c, ifft2c

ACS, COILS, SIZE = 24, 8, 160


def scan(size=SIZE, coils=COILS, noise=0.005, dtype=torch.complex64, acs=ACS):
    """A real T1-weighted slice with a smooth phase, simulated on a grid twice as fine.

    Gives k-space, zero outside the calibration block, the maps on the coarse grid, and where the
    object is: above a tenth of its peak. ``noise`` is per real component, the peak is about 1.
    """
    head = torch.from_numpy(sagittal_head())[None, None]
    fine = interpolate(head, size=(2 * size, 2 * size), mode="bilinear", align_corners=False)
    t = torch.linspace(-1, 1, 2 * size, dtype=torch.float64)
    angle = 0.8 * torch.cos(2 * t)[:, None] + 0.6 * torch.sin(2.5 * t)
    image = torch.polar(fine.double(), angle[None, None])
    maps = birdcage_maps(coils, 2 * size, 2 * size).to(torch.complex128)
    half = slice(size // 2, size // 2 + size)
    kspace = fft2c(maps * image)[..., half, half] / 2
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(2, *kspace.shape, generator=generator, dtype=torch.float64)
    kspace = kspace + noise * torch.complex(*parts)
    centre = torch.zeros_like(kspace)
    block = slice(size // 2 - acs // 2, size // 2 - acs // 2 + acs)
    centre[..., block, block] = kspace[..., block, block]
    truth = ifft2c(fft2c(image)[..., half, half] / 2)[0, 0].abs()
    return centre.to(dtype), maps[..., ::2, ::2], truth > 0.1 * truth.max()


def coherence(maps, truth, inside):
    return (maps.to(truth).conj() * truth).sum(1).abs()[0][inside]


@pytest.fixture(scope="module")
def measured():
    """A quarter of the pixels, for the tests that need no fine detail."""
    return scan(size=80)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_maps_are_the_true_ones(dtype):
    """Measured 0.99995 mean, and 0.994 worst at the neck, which the field of view cuts off.

    Low-resolution maps reach 0.99983 on average, three times as far from 1.
    """
    kspace, truth, inside = scan(dtype=dtype)
    found = espirit_maps(kspace, ACS)
    assert found.maps.shape == kspace.shape
    assert found.maps.dtype == dtype
    assert found.eigenvalues.shape == (1, 1, SIZE, SIZE)
    agreement = coherence(found.maps, truth, inside)
    assert agreement.mean() >= 0.9999
    assert agreement.min() >= 0.99
    simple = coherence(maps_from_calibration(kspace, ACS), truth, inside)
    assert 1 - agreement.mean() < 0.5 * (1 - simple.mean())
    assert (
        found.eigenvalues[0, 0][inside].min() > 0.8
    )  # the default crop hides no part of the object


def test_the_measure_can_fail(measured):
    """Maps displaced by one pixel of 80 are told from the true ones."""
    kspace, truth, inside = measured
    wrong = espirit_maps(kspace, ACS).maps.roll(1, -1)
    assert coherence(wrong, truth, inside).mean() < 0.9999


def test_agrees_with_sigpy(measured):
    """The same equations, solved by power iteration: to 1e-5, single precision, in the object.

    Phases are compared after both are turned to a real first coil.
    """
    mri = pytest.importorskip("sigpy.mri")
    kspace, _, inside = measured
    theirs = mri.app.EspiritCalib(kspace[0].numpy(), ACS, crop=0, show_pbar=False).run()
    ours = espirit_maps(kspace, ACS, crop=0).maps[0]
    pair = [m * torch.exp(-1j * m[:1].angle()) for m in (ours, torch.from_numpy(theirs))]
    assert ((pair[0] - pair[1]) * inside).abs().max() < 1e-5


def test_gram_of_the_kernels_is_the_defined_one():
    """One pixel, summed over all pairs of positions in a patch; and its eigenvectors."""
    kspace, kernel, width = scan(size=40, coils=3, dtype=torch.complex128)[0], 3, 10
    found = espirit_maps(kspace, width, kernel, threshold=0.05, crop=0, sets=3)
    block = kspace[0, :, 15:25, 15:25].numpy()
    patches = [
        block[:, i : i + kernel, j : j + kernel].ravel()
        for i in range(width - kernel + 1)
        for j in range(width - kernel + 1)
    ]
    basis, singular, _ = np.linalg.svd(np.stack(patches, 1), full_matrices=False)
    basis = basis[:, singular >= 0.05 * singular[0]]
    projection = basis @ basis.conj().T
    for row, column in ((20, 20), (3, 31)):
        position = np.array([row - 20, column - 20]) / 40
        gram = np.zeros((3, 3), complex)
        for p, (c, *a) in enumerate(np.ndindex(3, kernel, kernel)):
            for q, (d, *b) in enumerate(np.ndindex(3, kernel, kernel)):
                wave = np.exp(-2j * math.pi * (np.subtract(b, a) @ position))
                gram[c, d] += projection[p, q] * wave / kernel**2
        vectors = found.sets[0, :, :, row, column].T.numpy()
        values = found.eigenvalues[0, :, row, column].numpy()
        assert np.allclose(vectors.conj().T @ vectors, np.eye(3), atol=1e-12)
        assert np.allclose(gram @ vectors, vectors * values, atol=1e-12)
        assert np.all(np.diff(values) <= 0)


def test_folded_object_needs_two_sets():
    """Where a wrapped object overlaps itself, two maps fit; where it does not, one does.

    Measured medians of the second eigenvalue: 0.93 in the overlap and 0.45 beside it.
    """
    size = 64
    rows, columns = torch.arange(2 * size) - size, torch.arange(size) - size // 2
    inside = ((rows[:, None] / 46) ** 2 + (columns / 26) ** 2 < 1).double()
    texture = torch.rand(inside.shape, generator=torch.Generator().manual_seed(1))
    image = birdcage_maps(8, 2 * size, size) * (inside * (0.5 + texture))
    folded, count = (part.unflatten(-2, (2, size)).sum(-3) for part in (image, inside))
    folded, count = (part.roll(size // 2, -2) for part in (folded, count))
    found = espirit_maps(fft2c(folded), ACS, crop=0, sets=2)
    first, second = found.eigenvalues[0]
    assert (count == 2).sum() > 200
    assert first[count >= 1].median() > 0.99
    assert second[count == 2].median() > 0.85
    assert second[count == 1].median() < 0.6


def test_phase_is_that_of_the_low_resolution_maps(measured):
    """Both turn the virtual coil real; 0.05 rad is what the low resolution leaves."""
    kspace, _, inside = measured
    low = maps_from_calibration(kspace, ACS)
    product = (low.conj() * espirit_maps(kspace, ACS).maps).sum(1)[0][inside]
    assert product.angle().abs().median() < 0.05
    turned = espirit_maps(kspace * (0.6 + 0.8j), ACS).maps
    assert ((turned - espirit_maps(kspace, ACS).maps) * inside).abs().max() < 1e-3


def test_scale_batch_and_chunks_change_nothing(measured, monkeypatch):
    """In the object to 1e-3: eigenvectors turn by rounding / gap in single precision."""
    kspace, _, inside = measured
    alone = espirit_maps(kspace, ACS)
    other = torch.randn(
        kspace.shape, generator=torch.Generator().manual_seed(5), dtype=kspace.dtype
    )
    pair = espirit_maps(torch.cat([other, 1e-7 * kspace]), ACS)
    assert ((pair.maps[1] - alone.maps[0]) * inside).abs().max() < 1e-3
    monkeypatch.setattr(espirit, "CHUNK", 1)
    chunked = espirit_maps(kspace, ACS)
    assert ((chunked.maps - alone.maps) * inside).abs().max() < 1e-3
    assert (chunked.eigenvalues - alone.eigenvalues).abs().max() < 1e-5


def test_crop_hides_what_is_only_noise(measured):
    kspace, _, _ = measured
    found = espirit_maps(kspace, ACS, crop=0.9)
    norm = found.maps.abs().square().sum(1)
    kept = found.eigenvalues[:, 0] >= 0.9
    assert 0.2 < kept.float().mean() < 0.9
    assert (norm[kept] - 1).abs().max() < 1e-5
    assert (norm[~kept] == 0).all()
    assert (espirit_maps(kspace, ACS, crop=0).maps.abs().square().sum(1) - 1).abs().max() < 1e-5


def test_refusals(measured):
    kspace = measured[0]
    with pytest.raises(ValueError, match="zero in every coil"):
        espirit_maps(kspace, ACS + 2)  # two more than were measured
    with pytest.raises(ValueError, match="maps_from_calibration"):
        espirit_maps(kspace, 10)
    with pytest.raises(ValueError, match="1 to 8"):
        espirit_maps(kspace, ACS, sets=9)
    with pytest.raises(ValueError, match="threshold"):
        espirit_maps(kspace, ACS, threshold=0)
    with pytest.raises(ValueError, match="crop"):
        espirit_maps(kspace, ACS, crop=1.5)
    with pytest.raises(ShapeError, match="expected"):
        espirit_maps(kspace[0], ACS)
    with pytest.raises(TypeError, match="complex"):
        espirit_maps(kspace.real, ACS)
    broken = kspace.clone()
    broken[0, 2, 40, 40] = math.nan
    with pytest.raises(NotFinite, match="expected finite"):
        espirit_maps(broken, ACS)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(measured):
    kspace, _, inside = measured
    found = espirit_maps(kspace.to("cuda"), ACS).maps.cpu()
    assert ((found - espirit_maps(kspace, ACS).maps) * inside).abs().max() < 1e-3
