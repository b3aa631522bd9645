"""Sampling patterns: achieved acceleration, the centre, and the published definitions."""

import numpy as np
import pytest
import torch

from invdiff.operators import (
    cartesian_mask,
    equispaced_fraction_mask,
    equispaced_mask,
    fastmri_equispaced_fraction_mask,
    fastmri_equispaced_mask,
    fastmri_random_mask,
    gaussian_column_mask,
    gaussian_mask,
    inversebench_equispaced_mask,
    inversebench_random_mask,
    partial_fourier,
    poisson_disc_mask,
)
from invdiff.operators.masks import likeliest

EXACT = [cartesian_mask, equispaced_fraction_mask, gaussian_column_mask]
COLUMNS = [*EXACT, equispaced_mask]
FASTMRI = [fastmri_random_mask, fastmri_equispaced_mask, fastmri_equispaced_fraction_mask]


def lines(made) -> np.ndarray:
    """The measured columns of a pattern of columns."""
    assert (made.mask == made.mask[:, :, :1]).all()
    return np.flatnonzero(made.mask[0, 0, 0].numpy())


@pytest.mark.parametrize("acceleration", [1, 4, 6.5])
@pytest.mark.parametrize("make", EXACT)
def test_exact_number_of_columns(make, acceleration):
    made = make((16, 100), acceleration, 0.08, seed=0)
    assert len(lines(made)) == round(100 / acceleration)
    assert made.acceleration == pytest.approx(100 / round(100 / acceleration))


@pytest.mark.parametrize("width", [64, 65])
@pytest.mark.parametrize("make", [*COLUMNS, *FASTMRI])
def test_columns_have_their_centre_and_their_seed(make, width):
    made = make((5, width), 4, 0.1, 3)
    assert made.mask.shape == (1, 1, 5, width)
    assert made.mask.dtype == torch.float32
    assert made.center == round(0.1 * width)
    start = width // 2 - made.center // 2
    late = make in FASTMRI and (width % 2, made.center % 2) == (1, 0)  # as fastMRI counts
    assert made.mask[0, 0, 0, start + late : start + late + made.center].all()
    assert made.acceleration == pytest.approx(made.mask.numel() / made.mask.sum().item())
    assert torch.equal(make((5, width), 4, 0.1, 3).mask, made.mask)
    others = [make((5, width), 4, 0.1, seed).mask for seed in range(4, 12)]
    assert not all(torch.equal(other, made.mask) for other in others)


@pytest.mark.parametrize("make", [*COLUMNS, *FASTMRI])
def test_impossible_columns_are_refused(make):
    for acceleration, fraction in ((20, 0.1), (4, 0.0)):
        with pytest.raises(ValueError, match="Lower one"):
            make((2, 64), acceleration, fraction, 0)
    with pytest.raises(ValueError, match="at least 1"):
        make((2, 64), 0, 0.1, 0) if make is equispaced_mask else make((2, 64), 0.5, 0.1, 0)


def test_equispaced_by_hand():
    made = equispaced_mask((2, 24), 4, 4 / 24, 0)
    found = set(lines(made))
    centre = {10, 11, 12, 13}
    assert centre <= found
    offsets = [o for o in range(4) if found == centre | set(range(o, 24, 4))]
    assert len(offsets) == 1
    with pytest.raises(TypeError, match="integer"):
        equispaced_mask((2, 24), 4.5, 0.1, 0)


def test_equispaced_fraction_gaps_differ_by_one():
    """Outside of the centre, counted without it, as equal as whole numbers allow."""
    made = equispaced_fraction_mask((2, 100), 3.7, 0.08, 5)
    outside = np.delete(np.arange(100), np.arange(46, 54))
    ranks = np.searchsorted(outside, np.setdiff1d(lines(made), np.arange(46, 54)))
    assert len(ranks) == 27 - 8
    gaps = np.diff(np.append(ranks, ranks[0] + len(outside)))
    assert set(gaps) <= {4, 5}  # 92 / 19 = 4.84


def test_weighted_drawing_has_the_law_of_drawing_one_by_one():
    """Pairs of 4 weights without repetition: 4 standard errors of 20000 draws, 12 outcomes."""
    weights = np.array([1.0, 2.0, 3.0, 4.0]) / 10
    rng = np.random.default_rng(0)
    counts = np.zeros((4, 4))
    for _ in range(20000):
        first, second = likeliest(np.log(weights), 2, rng)
        counts[first, second] += 1
    expected = weights[:, None] * weights / (1 - weights[:, None]) * (1 - np.eye(4))
    error = np.sqrt(expected * (1 - expected) / 20000)
    assert (np.abs(counts / 20000 - expected) <= 4 * error).all()
    uniform = (1 - np.eye(4)) / 12  # the test can fail
    assert (np.abs(counts / 20000 - uniform) > 4 * error).any()


def test_gaussian_patterns_are_denser_inside():
    near = far = 0
    for seed in range(20):
        found = np.abs(lines(gaussian_column_mask((2, 200), 4, 0.04, seed)) - 100)
        near, far = near + (found < 40).sum(), far + (found >= 60).sum()
    assert near > 3 * far
    with pytest.raises(ValueError, match="spread"):
        gaussian_column_mask((2, 200), 4, 0.04, 0, spread=0.0)
    samples = gaussian_mask((60, 80), 6, 10, 1).mask[0, 0].numpy()
    assert samples[20:40, 30:50].mean() > 4 * samples[:10].mean()
    with pytest.raises(ValueError, match="spread"):
        gaussian_mask((60, 80), 6, 10, 1, spread=-1.0)


@pytest.mark.parametrize("make", [gaussian_mask, poisson_disc_mask])
def test_patterns_in_both_directions(make):
    made = make((60, 81), 6, 10, 2)
    assert made.acceleration == pytest.approx(60 * 81 / round(60 * 81 / 6))
    assert made.mask[0, 0, 25:35, 35:45].all()
    assert made.center == 10
    assert torch.equal(make((60, 81), 6, 10, 2).mask, made.mask)
    assert not torch.equal(make((60, 81), 6, 10, 3).mask, made.mask)
    for acceleration, center in ((0.5, 10), (6, 0), (6, 70), (60, 10)):
        with pytest.raises(ValueError, match="Lower one"):
            make((60, 81), acceleration, center, 0)


def test_poisson_disc_keeps_its_distance():
    """No pair outside of the centre is nearer than 1 + slope rho, for some slope that matters.

    The slope is not returned: the largest that all pairs allow is found, and is as large as the
    density needs (a random pattern of the same density has neighbours everywhere: slope 0).
    """

    def slope(samples):
        u, v = (np.arange(n) - n // 2 for n in samples.shape)
        rho = np.hypot((u / (samples.shape[0] / 2))[:, None], v / (samples.shape[1] / 2))
        outside = samples.copy()
        outside[samples.shape[0] // 2 - 4 :, :][:8, samples.shape[1] // 2 - 4 :][:, :8] = False
        place, level = np.argwhere(outside), rho[outside]
        apart = np.hypot(*(place[:, None] - place).transpose(2, 0, 1)) + 1e9 * np.eye(len(place))
        least = np.minimum(level[:, None], level)
        return ((apart - 1) / np.maximum(least, 1e-9)).min()

    samples = poisson_disc_mask((64, 80), 8, 8, 0, elliptical=False).mask[0, 0].numpy() == 1
    assert slope(samples) > 1.5
    shuffled = np.random.default_rng(0).permutation(samples.ravel()).reshape(samples.shape)
    assert slope(shuffled) < 0.5


def test_the_ellipse():
    made = poisson_disc_mask((64, 80), 4, 8, 0)
    u, v = (np.arange(n) - n // 2 for n in (64, 80))
    corner = np.hypot((u / 32)[:, None], v / 40) > 1
    assert not made.mask[0, 0].numpy()[corner].any()
    with pytest.raises(ValueError, match="elliptical=False"):
        poisson_disc_mask((64, 80), 1.1, 8, 0)
    assert poisson_disc_mask((64, 80), 1, 8, 0, elliptical=False).mask.all()


@pytest.mark.parametrize("width", [320, 368, 171])
@pytest.mark.parametrize(("acceleration", "fraction"), [(4, 0.08), (8, 0.04)])
def test_fastmri_masks_follow_the_published_rules(width, acceleration, fraction):
    """From the same Mersenne twister; the choice among one acceleration draws nothing from it."""
    center = round(width * fraction)
    block = np.zeros(width, dtype=bool)
    block[(width - center + 1) // 2 :][:center] = True
    for seed in (0, 7, tuple(map(ord, "file1000001.h5"))):
        rng = np.random.RandomState(seed)
        rng.randint(0, 1)
        chance = (width / acceleration - center) / (width - center)
        expected = block | (rng.uniform(size=width) < chance)
        made = fastmri_random_mask((3, width), acceleration, fraction, seed)
        assert np.array_equal(lines(made), np.flatnonzero(expected))

        offset = np.random.RandomState(seed).randint(0, acceleration)
        expected = block | (np.arange(width) % acceleration == offset)
        made = fastmri_equispaced_mask((3, width), acceleration, fraction, seed)
        assert np.array_equal(lines(made), np.flatnonzero(expected))

        spacing = acceleration * (width - center) / (width - center * acceleration)
        offset = np.random.RandomState(seed).randint(0, round(spacing))
        count = int(np.ceil((width - 1 - offset) / spacing))
        picked = np.rint(offset + spacing * np.arange(count)).astype(int)
        expected = block.copy()
        expected[picked] = True
        made = fastmri_equispaced_fraction_mask((3, width), acceleration, fraction, seed)
        assert np.array_equal(lines(made), np.flatnonzero(expected))
        assert made.acceleration == pytest.approx(acceleration, rel=0.1)


def test_fastmri_random_has_its_acceleration_on_average():
    """Columns are binomial: the mean of 400 masks within 4 standard errors of n / R."""
    width, center = 320, 26
    chance = (80 - center) / (width - center)
    counts = [len(lines(fastmri_random_mask((1, width), 4, 0.08, s))) for s in range(400)]
    error = np.sqrt((width - center) * chance * (1 - chance) / 400)
    assert abs(np.mean(counts) - 80) < 4 * error


@pytest.mark.parametrize(("acceleration", "share"), [(4, 0.08), (6, 0.08), (8, 0.04)])
def test_inversebench_masks_follow_the_published_rules(acceleration, share):
    width = 320
    center = int(np.floor(share * width))
    block = np.arange((width - center) // 2, (width + center) // 2)
    outside = np.setdiff1d(np.arange(width), block)
    for seed in (0, 5):
        drawn = np.random.RandomState(seed).choice(
            outside, size=int(np.floor(width / acceleration) - center), replace=False
        )
        made = inversebench_random_mask((2, width), acceleration, seed)
        assert np.array_equal(lines(made), np.union1d(block, drawn))
        assert made.center == center
        assert made.acceleration == pytest.approx(width / (width // acceleration))
    made = inversebench_equispaced_mask((2, width), acceleration)
    assert np.array_equal(lines(made), np.union1d(block, outside[::acceleration]))


def test_inversebench_refusals():
    with pytest.raises(ValueError, match="wider"):
        inversebench_random_mask((2, 20), 8)
    with pytest.raises(ValueError, match="Lower it"):
        inversebench_random_mask((2, 320), 30)


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("from_start", [True, False])
def test_partial_fourier(axis, from_start):
    whole = poisson_disc_mask((40, 60), 3, 8, 0)
    made = partial_fourier(whole, 0.65, axis, from_start)
    length = whole.mask.shape[axis]
    dropped = length - round(0.65 * length)
    start = 0 if from_start else length - dropped
    assert not made.mask.narrow(axis, start, dropped).any()
    rest = 0 if not from_start else dropped
    kept = (axis, rest, length - dropped)
    assert torch.equal(made.mask.narrow(*kept), whole.mask.narrow(*kept))
    assert made.acceleration == pytest.approx(made.mask.numel() / made.mask.sum().item())
    assert whole.mask.sum() > made.mask.sum()  # the given pattern is left as it was
    for fraction, wrong in ((0.5, axis), (0.55, axis), (1.1, axis), (0.8, 0)):
        with pytest.raises(ValueError, match="keeps the centre whole"):
            partial_fourier(whole, fraction, wrong, from_start)
