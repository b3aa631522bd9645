"""The Cartesian operator against its defining sum, deepinv, and itself in other chunks."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff.operators import AsComplex, CartesianMRI, birdcage_maps, cartesian_mask
from invdiff.operators.fourier import centring_phase, fftc, ifftc


def draw(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def centred(n):
    """The matrix of the transform along one axis, by its definition."""
    k = np.arange(n) - n // 2
    return torch.from_numpy(np.exp(-2j * np.pi * np.outer(k, k) / n) / math.sqrt(n))


def random_mask(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.5


@pytest.mark.parametrize("shape", [(8,), (6, 7), (5, 4, 9)], ids=str)
def test_centring_phase_replaces_the_shifts(shape):
    x, axes = draw(2, *shape), tuple(range(-len(shape), 0))
    p = centring_phase(shape, x)
    plain = p * torch.fft.fftn(p * x, dim=axes, norm="ortho")
    assert (plain - fftc(x, axes)).abs().max() < 1e-13 * math.prod(shape)
    assert (p.abs() - 1).abs().max() < 1e-15
    assert (ifftc(fftc(x, axes), axes) - x).abs().max() < 1e-13


@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 6, 7)], ids=["even", "odd"])
def test_a_volume_by_the_defining_sum(shape):
    maps, mask, x = draw(1, 3, *shape, seed=1), random_mask(1, 1, *shape), draw(2, 1, *shape)
    a, b, c = (centred(n) for n in shape)
    expected = mask * torch.einsum("ai,bj,ck,nqijk->nqabc", a, b, c, maps * x)
    assert (CartesianMRI(maps, mask)(x) - expected).abs().max() < 1e-12 * expected.abs().max()


def test_several_sets_of_maps_add_up():
    sets, mask, x = draw(1, 2, 3, 6, 7, seed=1), random_mask(1, 1, 6, 7), draw(2, 2, 6, 7)
    both = CartesianMRI(sets, mask)
    single = [CartesianMRI(sets[:, one], mask) for one in range(2)]
    assert both.domain == (2, 6, 7)
    assert both.range == (3, 6, 7)
    expected = single[0](x[:, :1]) + single[1](x[:, 1:])
    assert (both(x) - expected).abs().max() < 1e-13 * expected.abs().max()
    y = draw(2, 3, 6, 7, seed=2)
    expected = torch.cat([one.adjoint(y) for one in single], 1)
    assert (both.adjoint(y) - expected).abs().max() < 1e-13 * expected.abs().max()


@pytest.mark.parametrize("shape", [(12, 10), (4, 6, 5)], ids=["slice", "volume"])
def test_agrees_with_deepinv(shape):
    """deepinv's MultiCoilMRI, real channels, float32: rounding of a few times 1e-7."""
    import deepinv

    maps, mask = draw(1, 5, *shape, seed=1, dtype=torch.complex64), random_mask(1, 1, *shape)
    A = CartesianMRI(maps, mask)
    theirs = deepinv.physics.MultiCoilMRI(
        mask=mask.float()[0, 0], coil_maps=maps, three_d=len(shape) == 3
    )
    x, y = draw(2, 1, *shape, dtype=torch.complex64), draw(2, 5, *shape, dtype=torch.complex64)
    found = theirs.A(torch.cat([x.real, x.imag], 1))
    expected = torch.complex(found[:, 0], found[:, 1])
    assert (A(x) - expected).abs().max() < 1e-6 * expected.abs().max()
    found = theirs.A_adjoint(torch.stack([y.real, y.imag], 1))
    expected = torch.complex(found[:, 0], found[:, 1])[:, None]
    assert (A.adjoint(y) - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
def test_chunks_change_nothing_but_rounding(chunk):
    maps, mask = draw(3, 5, 8, 9, seed=1), random_mask(3, 1, 8, 9)
    whole = CartesianMRI(maps, mask, coil_chunk=5)
    parts = replace(whole, coil_chunk=chunk)
    x, y, weight = draw(3, 1, 8, 9), draw(3, 5, 8, 9, seed=2), torch.rand(3, 5, 8, 9).double()
    for found, expected in (
        (parts(x), whole(x)),
        (parts.adjoint(y), whole.adjoint(y)),
        (parts.normal(weight)(x), whole.normal(weight)(x)),
    ):
        assert (found - expected).abs().max() < 1e-13 * expected.abs().max()


@pytest.fixture
def transformed(monkeypatch):
    """The number of entries, and the axes, of every transform."""
    seen = []
    for name in ("fftn", "ifftn"):
        plain = getattr(torch.fft, name)

        def noted(x, *, dim, plain=plain, **rest):
            seen.append((x.numel(), dim))
            return plain(x, dim=dim, **rest)

        monkeypatch.setattr(torch.fft, name, noted)
    return seen


def test_memory_is_that_of_a_chunk(transformed):
    A = CartesianMRI(birdcage_maps(12, 16, 16), torch.ones(1, 1, 16, 16), coil_chunk=3)
    x = draw(2, 1, 16, 16, dtype=torch.complex64)
    y = A(x)
    A.adjoint(y)
    A.normal(torch.ones(1, 1, 1, 1))(x)
    assert {size for size, _ in transformed} == {2 * 3 * 16 * 16}
    assert len(transformed) == 2 * 12 // 3  # the normal map of a full scan needs none


def test_the_workspace_bounds_the_chunk(transformed, monkeypatch):
    from invdiff.operators import cartesian_mri

    monkeypatch.setattr(cartesian_mri, "WORKSPACE", {"cpu": 5 * 2 * 8 * 16 * 16})
    A = CartesianMRI(birdcage_maps(12, 16, 16), torch.ones(1, 1, 16, 16))
    A(draw(2, 1, 16, 16, dtype=torch.complex64))
    assert [size // (2 * 16 * 16) for size, _ in transformed] == [5, 5, 2]
    transformed.clear()
    A(draw(64, 1, 16, 16, dtype=torch.complex64))  # one coil exceeds it: one at a time
    assert len(transformed) == 12


@pytest.mark.parametrize(
    ("mask", "axes"),
    [
        (random_mask(1, 1, 1, 10).expand(1, 1, 8, 10), (-1,)),
        (random_mask(1, 1, 8, 1).expand(1, 1, 8, 10), (-2,)),
        (random_mask(1, 1, 8, 10), (-2, -1)),
    ],
    ids=["columns", "rows", "both"],
)
def test_complete_readouts_are_not_transformed(mask, axes, transformed):
    A = CartesianMRI(draw(1, 3, 8, 10, seed=1), mask)
    x = draw(2, 1, 8, 10)
    expected = A.adjoint(3.0 * A(x))
    transformed.clear()
    found = A.normal(torch.full((2, 3, 8, 10), 3.0, dtype=torch.float64))(x)
    assert {dim for _, dim in transformed} == {axes}
    assert (found - expected).abs().max() < 1e-13 * expected.abs().max()


def test_derivatives_in_both_modes_and_under_vmap():
    A = CartesianMRI(draw(1, 5, 6, 7, seed=1), random_mask(1, 1, 6, 7), coil_chunk=2)
    real = A @ AsComplex((1, 6, 7))
    x, u = torch.randn(2, 2, 6, 7).double(), draw(2, 5, 6, 7, seed=2)
    value, vjp = torch.func.vjp(real, x)
    assert torch.equal(value, real(x))
    assert (vjp(u)[0] - real.adjoint(u)).abs().max() < 1e-12
    assert (torch.autograd.functional.jvp(real, x, x)[1] - value).abs().max() < 1e-12
    many = torch.func.vmap(real)(torch.stack([x, 2 * x]))
    assert (many[1] - 2 * value).abs().max() < 1e-12
    z = draw(2, 1, 6, 7).requires_grad_(True)
    assert torch.autograd.gradcheck(A.normal(torch.rand(1, 5, 6, 7).double()), (z,))


def test_the_normal_map_keeps_double_precision_with_single_maps():
    A = CartesianMRI(birdcage_maps(3, 6, 8), cartesian_mask((6, 8), 2, 0.2, 0).mask)
    weight, x = torch.rand(1, 3, 6, 8, dtype=torch.float64), draw(1, 1, 6, 8)
    expected = A.adjoint(weight * A(x))
    assert (A.normal(weight)(x) - expected).abs().max() < 1e-14
