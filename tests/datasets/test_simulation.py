"""Simulated measurements: the noise is what it says, and no grid is shared."""

import numpy as np
import pytest
import torch
from ct_shapes import chords, grid

from invdiff.datasets.hounsfield import attenuation_to_hu, hu_to_attenuation
from invdiff.datasets.photon_counts import simulate_counts
from invdiff.datasets.simulation import simulate_ct, simulate_mri
from invdiff.errors import ShapeError
from invdiff.linalg import cg
from invdiff.operators import Geometry, fbp, hann
from invdiff.operators.cartesian_mri import fft2c


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path))


def slice_in_hu(size: int = 48) -> np.ndarray:
    t = np.linspace(-1, 1, size)
    r = np.hypot(t[None, :], t[:, None])
    return np.where(r < 0.8, 40.0, -1000.0) + np.where(r < 0.3, 600.0, 0.0)


def test_noise_is_as_declared():
    """Two seeds differ by noise alone, of variance 2 in units of sigma (4 standard errors)."""
    first, second = (
        simulate_ct(slice_in_hu(), 2.0, 40, 2e4, 0.02, seed).sinogram for seed in (0, 1)
    )
    z = (first.sinogram - second.sinogram) / first.sigma
    assert abs((z**2).mean() / 2 - 1) < 4 * np.sqrt(2 / z.size)
    assert abs(z.mean()) < 4 * np.sqrt(2 / z.size)
    again = simulate_ct(slice_in_hu(), 2.0, 40, 2e4, 0.02, 0).sinogram
    assert np.array_equal(again.sinogram, first.sinogram)


def test_the_operator_explains_the_data():
    """chi2 of the truth is near 1: the two projectors differ by less than the noise here."""
    hu = slice_in_hu()
    made = simulate_ct(hu, 2.0, 30, 2e3, 0.02, 0).sinogram
    x = torch.from_numpy(hu_to_attenuation(hu).astype(np.float32))[None, None]
    misfit = (made.operator()(x)[0, 0].numpy() - made.sinogram) / made.sigma
    assert 0.9 < (misfit**2).mean() < 1.3


def test_reconstructs_in_place():
    """FBP of the simulation lies on the image: right place, right value."""
    hu = slice_in_hu(64)
    made = simulate_ct(hu, 1.5, 180, 1e7, 0.02, 0).sinogram
    y = torch.from_numpy(made.sinogram)[None, None]
    found = attenuation_to_hu(fbp(made.operator(), y, hann)[0, 0].numpy())
    assert np.corrcoef(found.ravel(), hu.ravel())[0, 1] > 0.98  # edges are blurred
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert np.abs(found - hu).mean() < np.abs(np.roll(found, shift, (0, 1)) - hu).mean()
    assert abs(np.median(found[hu == 640.0]) - 640) < 30


def test_starved_rays_are_counted():
    thick = np.where(slice_in_hu() > -500, 3000.0, -1000.0)
    with pytest.warns(UserWarning, match="have no photon"):
        made = simulate_ct(thick, 3.0, 12, 100.0, 0.02, 0)
    assert 0.05 < made.starved < 0.9
    assert np.isfinite(made.sinogram.sinogram).all()
    assert made.sinogram.sigma.max() == 1
    assert simulate_ct(slice_in_hu(), 1.0, 12, 1e5, 0.02, 0).starved == 0


def test_electronic_noise_is_declared():
    """As above, with s = 30 at 400 counts or more, where photons alone would be half of it."""
    first, second = (
        simulate_ct(slice_in_hu(), 2.0, 40, 2e3, 0.02, seed, electronic=30.0).sinogram
        for seed in (0, 1)
    )
    z = (first.sinogram - second.sinogram) / first.sigma
    sure = first.sigma < 0.1  # where the logarithm is nearly linear
    assert abs((z[sure] ** 2).mean() / 2 - 1) < 4 * np.sqrt(2 / sure.sum()) + 0.02
    counts = 2e3 * np.exp(-first.sinogram)
    photons_alone = (first.sinogram - second.sinogram) ** 2 * counts
    assert photons_alone[sure].mean() / 2 > 1.2


GEOMETRIES = {
    "parallel": lambda: Geometry.parallel((48, 48), 60, pixel_size=2.0),
    "fan": lambda: Geometry.fan(
        (48, 48), 60, pixel_size=2.0, source_to_axis=300.0, source_to_detector=500.0
    ),
    "arc": lambda: Geometry.fan(
        (48, 48), 60, pixel_size=2.0, source_to_axis=300.0, source_to_detector=500.0, arc=True
    ),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_counts_have_their_mean(name):
    """Of a disc with known chords: (y - L)^2 / L has mean 1 within 4 standard errors.

    The disc is drawn on the given grid, whose edge pixels are wrong by far more than photon noise
    in the rays that graze them; those are left out. Without the object the mean would be off.
    """
    geometry = GEOMETRIES[name]()
    x, y = grid(geometry)
    image = 0.01 * (np.hypot(x - 9, y + 6) < 25)
    exact = 0.01 * chords(geometry, (9.0, -6.0), 25.0)
    made = simulate_counts(np.stack([image, image]), geometry, 2e3, [5, 6])
    assert made.counts.shape == (2, 1, *geometry.sinogram_shape)
    rate = 2e3 * np.exp(-exact)
    for counts in made.counts[:, 0].numpy():
        for rays in (exact == 0, exact > 0.3):
            chi2 = (counts - rate)[rays] ** 2 / rate[rays]
            assert abs(chi2.mean() - 1) < 4 * np.sqrt(2 / rays.sum()) + 0.03
        assert ((counts - 2e3) ** 2 / 2e3)[exact > 0.3].mean() > 10


def test_an_items_noise_is_its_own():
    """It follows the item's seed, whatever else is simulated along with it."""
    geometry = GEOMETRIES["fan"]()
    images = np.random.default_rng(0).uniform(0, 0.02, (3, 48, 48))
    together = simulate_counts(images, geometry, 1e3, [3, 4, 5], electronic=2.0).counts
    alone = simulate_counts(images[[2, 0]], geometry, 1e3, [5, 3], electronic=2.0).counts
    assert torch.equal(together[[2, 0]], alone)
    other = simulate_counts(images[:1], geometry, 1e3, [7], electronic=2.0).counts
    assert not torch.equal(together[:1], other)


def test_volumes():
    geometry = Geometry.cone(
        (6, 10, 10),
        12,
        pixel_size=2.0,
        source_to_axis=100.0,
        source_to_detector=150.0,
        detectors=(10, 16),
        detector_spacing=(3.0, 3.0),
    )
    x, y = grid(geometry)
    ball = 0.05 * (np.sqrt(x**2 + y**2 + (2 * np.arange(-2.5, 3)[:, None, None]) ** 2) < 4)
    made = simulate_counts(ball[None], geometry, 1e9, [0], finer=2)
    found = made.noise.log_data(made.counts).y[0, 0].numpy()
    exact = 0.05 * chords(geometry, (0.0, 0.0, 0.0), 4.0)
    assert np.abs(found - exact).mean() < 0.1 * exact[exact > 0].mean()


def test_counts_refuse():
    geometry = GEOMETRIES["parallel"]()
    with pytest.raises(ShapeError, match="one seed for each"):
        simulate_counts(np.zeros((2, 48, 48)), geometry, 1e3, [0])
    with pytest.raises(ShapeError, match="one seed for each"):
        simulate_counts(np.zeros((1, 40, 48)), geometry, 1e3, [0])
    with pytest.raises(ValueError, match="hu_to_attenuation"):
        simulate_counts(np.full((1, 48, 48), -1000.0), geometry, 1e3, [0])
    with pytest.raises(ValueError, match="air scan"):
        simulate_counts(np.zeros((1, 48, 48)), geometry, 0.0, [0])


def test_mri_noise_and_truth():
    """sigma is per real component; the maps' energy is one, so coils add up to the truth."""
    image = np.clip(1.2 - np.hypot(*np.meshgrid(*[np.linspace(-1.5, 1.5, 32)] * 2)), 0, 1)
    quiet, noisy = (simulate_mri(image, 2, noise, 0) for noise in (1e-9, 0.05))
    gap = (noisy.kspace.kspace - quiet.kspace.kspace)[:, quiet.kspace.mask]
    count = gap.size
    assert abs(gap.real.std() / 0.05 - 1) < 4 / np.sqrt(2 * count)
    assert abs(gap.imag.std() / 0.05 - 1) < 4 / np.sqrt(2 * count)
    assert noisy.kspace.sigma == 0.05
    assert not noisy.kspace.kspace[:, ~noisy.kspace.mask].any()
    assert quiet.acceleration == pytest.approx(2)
    assert np.abs(np.abs(quiet.truth) - image).mean() < 0.02
    assert np.angle(quiet.truth[np.abs(quiet.truth) > 0.3]).std() > 0.3  # it has a phase


def test_mri_full_scan_gives_the_truth():
    """Root sum of squares of all coils, fully sampled, is |truth| up to coils bending it: 2 %."""
    image = np.clip(1.2 - np.hypot(*np.meshgrid(*[np.linspace(-1.5, 1.5, 32)] * 2)), 0, 1)
    made = simulate_mri(image, 1, 1e-9, 3)
    coils = fft2c(torch.from_numpy(made.kspace.kspace).conj()).conj()  # the inverse transform
    rss = coils.abs().square().sum(0).sqrt().numpy()
    assert np.abs(rss - np.abs(made.truth)).max() < 0.02


def test_mri_operator_explains_the_data():
    """With maps from its own centre, least squares comes within 10 % of the truth."""
    t = np.linspace(-1, 1, 64)
    image = (np.hypot(t[None, :], t[:, None]) < 0.7) * (1 + 0.2 * np.cos(6 * t))[None, :]
    made = simulate_mri(image, 2, 0.002, 1, center_fraction=0.3)
    A = made.kspace.operator()
    y = torch.from_numpy(made.kspace.kspace)[None]
    # Maps from data fix a phase of their own, so the image is compared by its magnitude.
    x = cg(lambda u: A.adjoint(A(u)) + 1e-3 * u, A.adjoint(y)).x
    gap = x[0, 0].abs().numpy() - np.abs(made.truth)
    assert np.linalg.norm(gap) < 0.1 * np.linalg.norm(made.truth)


def test_mri_refuses_what_is_no_image():
    with pytest.raises(ValueError, match="finite real"):
        simulate_mri(np.ones((8, 8), np.complex64), 2, 0.1, 0)
    with pytest.raises(ValueError, match="finite real"):
        simulate_mri(np.ones((2, 8, 8)), 2, 0.1, 0)
