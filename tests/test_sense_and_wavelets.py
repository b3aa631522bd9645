"""The classical MRI reconstructions reach the minima they claim."""

import pytest
import torch

from invdiff.linalg import as_matrix
from invdiff.operators import (
    AsComplex,
    CartesianMRI,
    Identity,
    PhaseRetrieval,
    birdcage_maps,
    cartesian_mask,
)
from invdiff.sense import sense_cg
from invdiff.wavelets import l1_wavelet, shrink_wavelets, wavelet_norm


def draw(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def acquisition(side: int = 16, items: int = 2):
    """An operator, data with noise of different sigma in two items."""
    maps = birdcage_maps(4, side, side).to(torch.complex128)
    A = CartesianMRI(maps, cartesian_mask((side, side), 2, 0.2, 0).mask)
    t = torch.linspace(-1, 1, side, dtype=torch.float64)
    x = ((t[:, None].abs() < 0.6) & (t.abs() < 0.5)).to(torch.complex128)[None, None]
    x = torch.cat([x, 1j * x.roll(3, -1)])[:items]
    sigma = torch.tensor([0.05, 0.2], dtype=torch.float64)[:items, None, None, None]
    noise = 2**0.5 * sigma * draw(items, *A.range)
    return A, A(x) + A.mask * noise, sigma, x


def test_sense_is_regularised_least_squares():
    A, y, sigma, _ = acquisition(8)
    real = A @ AsComplex((1, 8, 8))
    (columns,) = as_matrix(real)
    found = sense_cg(real, y, sigma, 3.0, iterations=500, tolerance=1e-12)
    for item in range(2):
        data = torch.cat([y[item].real.flatten(), y[item].imag.flatten()]) / sigma[item].item()
        m = columns / sigma[item].item()
        expected = torch.linalg.solve(m.T @ m + 3 * torch.eye(m.shape[1]), m.T @ data)
        assert (found[item].flatten() - expected).norm() < 1e-9 * expected.norm()
    joined = sense_cg(A, y, sigma, 3.0, iterations=500, tolerance=1e-12)
    assert (joined - AsComplex((1, 8, 8))(found)).abs().max() < 1e-9


def test_sense_refusals():
    y = torch.zeros(1, 1, 4, 4)
    for sigma, weight in ((0.0, 1.0), (0.1, 0.0), (0.1, float("inf"))):
        with pytest.raises(ValueError, match="weight > 0 and sigma > 0"):
            sense_cg(Identity((1, 4, 4)), y, sigma, weight)
        with pytest.raises(ValueError, match="weight > 0 and sigma > 0"):
            l1_wavelet(Identity((1, 4, 4)), y, sigma, weight)
    nonlinear = PhaseRetrieval((1, 4, 4))
    for solve in (sense_cg, l1_wavelet):
        with pytest.raises(TypeError, match="linear"):
            solve(nonlinear, torch.zeros(1, *nonlinear.range), 0.1, 1.0)


def test_the_wavelets_are_orthonormal_and_shrinking_is_their_proximal_map():
    """Energy is kept; and no small step lowers the objective below that of the shrunk image."""
    x, threshold = draw(2, 1, 32, 16), torch.tensor([0.3, 1.0], dtype=torch.float64)
    assert (shrink_wavelets(x, 0 * threshold, "db2", 2) - x).abs().max() < 1e-10
    found = shrink_wavelets(x, threshold, "db2", 2)

    def objective(u):
        square = (u - x).abs().square().flatten(1).sum(1) / 2
        return square + threshold * wavelet_norm(u, "db2", 2)

    least = objective(found)
    for seed in range(5):
        for size in (1e-1, 1e-3):
            assert (objective(found + size * draw(*x.shape, seed=seed + 1)) > least).all()


def test_complex_images_and_two_channels_are_the_same():
    """At the minimum: on the way there, step sizes differ (their bound starts elsewhere)."""
    A, y, sigma, _ = acquisition()
    join = AsComplex((1, 16, 16))
    found, pair = (
        l1_wavelet(op, y, sigma, 4.0, 1000, wavelet="db2", levels=2, seed=None)
        for op in (A, A @ join)
    )
    assert (join(pair) - found).abs().max() < 1e-6 * found.abs().max()


def test_an_orthonormal_problem_is_solved_in_closed_form():
    x = draw(1, 1, 16, 16)
    found = l1_wavelet(
        Identity((1, 16, 16), is_complex=True),
        x,
        0.5,
        3.0,
        200,
        wavelet="db2",
        levels=2,
        seed=None,
    )
    expected = shrink_wavelets(x, torch.tensor([3.0 * 0.25], dtype=torch.float64), "db2", 2)
    assert (found - expected).abs().max() < 1e-9


def test_no_direction_leads_down():
    """The objective is convex: at its minimum no small step may lower it (to 1e-6)."""
    A, y, sigma, truth = acquisition()
    x = l1_wavelet(A, y, sigma, 4.0, 1000, wavelet="db2", levels=2, seed=None)

    def objective(u):
        square = ((A(u) - y) / sigma).abs().square().flatten(1).sum(1) / 2
        return square + 4.0 * wavelet_norm(u, "db2", 2)

    least = objective(x)
    assert (
        objective(l1_wavelet(A, y, sigma, 4.0, 10, wavelet="db2", levels=2, seed=None))
        > 1.001 * least
    ).any()
    for direction in (truth - x, -x, x, draw(*x.shape, seed=3)):
        for size in (1e-1, 1e-2, 1e-3):
            assert (objective(x + size * direction) >= least * (1 - 1e-6)).all()


def test_odd_sides_rows_and_random_shifts():
    maps = birdcage_maps(4, 18, 15).to(torch.complex128)
    A = CartesianMRI(maps, cartesian_mask((18, 15), 2, 0.2, 0).mask)
    y = A(draw(2, 1, 18, 15))
    found = l1_wavelet(A, y, 0.1, 1.0, 10, wavelet="db2", levels=2)
    assert found.shape == (2, 1, 18, 15)
    assert torch.equal(l1_wavelet(A, y, 0.1, 1.0, 10, wavelet="db2", levels=2), found)
    assert not torch.equal(l1_wavelet(A, y, 0.1, 1.0, 10, wavelet="db2", levels=2, seed=1), found)
    alone = l1_wavelet(A, y[:1], 0.1, 1.0, 10, wavelet="db2", levels=2)
    assert (alone - found[:1]).abs().max() < 1e-10
    with pytest.raises(ValueError, match="levels"):
        l1_wavelet(A, y, 0.1, 1.0, 10)


def test_sparsity_beats_least_squares_on_a_box():
    """Both at about their best weight: the error of wavelets is at most half as large."""
    A, y, sigma, truth = acquisition(32)
    sense = [sense_cg(A, y, sigma, w) for w in (0.3, 1.0, 3.0, 10.0)]
    sparse = [l1_wavelet(A, y, sigma, w, wavelet="haar", levels=3) for w in (2.0, 5.0, 10.0)]
    errors = [
        torch.stack([(x - truth).flatten(1).norm(dim=1) for x in some]).amin(0)
        for some in (sparse, sense)
    ]
    assert (errors[0] < 0.5 * errors[1]).all()
