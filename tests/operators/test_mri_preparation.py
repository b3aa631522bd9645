"""Whitening, compression, combination, cropping and scaling: exact statements of each."""

import math

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import (
    birdcage_maps,
    border_samples,
    combine_coils,
    compress_coils,
    noise_covariance,
    remove_oversampling,
    root_sum_of_squares,
    scale_kspace,
    whiten,
)
from invdiff.operators.fourier import fft2c, fftc, ifft2c


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return torch.complex(*parts)  # unit variance in each part


def test_noise_covariance_is_per_real_component():
    """Against numpy's (mean zero, divided by n, half for one part); white noise gives sigma^2."""
    noise = draw(2, 3, 50)
    found = noise_covariance(noise)
    for item in range(2):
        expected = np.einsum("is,js->ij", noise[item], np.conj(noise[item].numpy())) / 100
        assert np.allclose(found[item], expected, rtol=0, atol=1e-14)
    many = noise_covariance(0.3 * draw(1, 4, 100_000))[0]
    # Entries have a standard error of 0.09 / sqrt(1e5); 5 of them.
    assert (many - 0.09 * torch.eye(4)).abs().max() < 5 * 0.09 / math.sqrt(1e5)
    with pytest.raises(ShapeError, match="samples"):
        noise_covariance(noise[0])
    with pytest.raises(TypeError, match="complex"):
        noise_covariance(noise.real)
    with pytest.raises(ValueError, match="invertible"):
        noise_covariance(noise[:, :, :2])


def test_whitening_makes_the_covariance_the_identity():
    noise = torch.einsum("ij,bjs->bis", draw(4, 4, seed=1), draw(2, 4, 300))
    covariance = noise_covariance(noise)
    white = whiten(noise.reshape(2, 4, 15, 20), covariance)
    assert white.shape == (2, 4, 15, 20)
    assert (noise_covariance(white.flatten(2)) - torch.eye(4)).abs().max() < 1e-12
    shared = whiten(noise[:1], covariance[:1]), whiten(noise, covariance[:1])
    assert torch.equal(shared[0], shared[1][:1])


def test_whitening_of_independent_coils_divides_by_sigma():
    sigma = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    y = draw(1, 3, 4, 5)
    white = whiten(y, torch.diag(sigma**2)[None].to(y.dtype))
    assert (white - y / sigma[:, None, None]).abs().max() < 1e-14
    for wrong in (torch.zeros(1, 3, 3), -torch.eye(3)[None]):
        with pytest.raises(ValueError, match="positive definite"):
            whiten(y, wrong.to(y.dtype))
    with pytest.raises(ShapeError, match="covariance"):
        whiten(y, torch.eye(2)[None].to(y.dtype))


def test_border_samples_are_the_measured_frame():
    y, mask = draw(1, 2, 10, 20), torch.zeros(10, 20)
    mask[:, ::3] = 1
    found = border_samples(y, mask, 0.1)
    frame = torch.ones(10, 20, dtype=torch.bool)
    frame[1:9, 2:18] = False
    assert torch.equal(found, y[:, :, frame & (mask == 1)])
    with pytest.raises(ValueError, match="noise scan"):
        border_samples(y, mask * ~frame, 0.1)
    with pytest.raises(ValueError, match="share"):
        border_samples(y, mask, 0.5)
    with pytest.raises(ShapeError, match="mask"):
        border_samples(y, mask.T, 0.1)


def test_compression_is_the_truncated_svd():
    y = torch.einsum("ij,bjhw->bihw", draw(6, 6, seed=1), draw(2, 6, 8, 9))
    made = compress_coils(y, 3)
    for item in range(2):
        singular = np.linalg.svd(y[item].flatten(1).numpy(), compute_uv=False) ** 2
        assert made.energy[item].item() == pytest.approx(singular[:3].sum() / singular.sum())
        back = made.matrix[item].mH @ made.kspace[item].flatten(1)
        missing = (back - y[item].flatten(1)).abs().square().sum().item()
        assert missing == pytest.approx(singular[3:].sum())
    gram = made.matrix @ made.matrix.mH
    assert (gram - torch.eye(3)).abs().max() < 1e-12
    assert (made.matrix[:, :, 0].imag.abs().max()) < 1e-12
    assert (made.matrix[:, :, 0].real > 0).all()
    assert (torch.einsum("bvc,bchw->bvhw", made.matrix, y) - made.kspace).abs().max() < 1e-12


def test_compression_keeps_noise_white_and_all_coils_keep_everything():
    noise = draw(1, 6, 2000)
    mixed = whiten(torch.einsum("ij,bjs->bis", draw(6, 6, seed=1), noise), torch.eye(6)[None] + 0j)
    covariance = noise_covariance(mixed)
    white = whiten(mixed, covariance)
    kept = compress_coils(white, 4).kspace
    assert (noise_covariance(kept) - torch.eye(4)).abs().max() < 1e-12
    whole = compress_coils(mixed, 6)
    assert whole.energy.item() == pytest.approx(1)
    assert whole.kspace.norm().item() == pytest.approx(mixed.norm().item())
    for count in (0, 7):
        with pytest.raises(ValueError, match="asked for"):
            compress_coils(mixed, count)
    with pytest.raises(ValueError, match="all zero"):
        compress_coils(0 * mixed, 2)
    with pytest.raises(ShapeError, match="coils"):
        compress_coils(mixed[0], 2)


def test_combinations_of_coils():
    x, maps = draw(2, 1, 6, 7), 3 * birdcage_maps(5, 6, 7).to(torch.complex128)
    images = maps * x
    assert (combine_coils(images, maps) - x).abs().max() < 1e-12
    assert (root_sum_of_squares(images) - 3 * x.abs()).abs().max() < 1e-5  # maps: float32
    assert root_sum_of_squares(images).shape == (2, 1, 6, 7)
    holed = maps.clone()
    holed[..., 2, 3] = 0
    assert combine_coils(images, holed)[:, 0, 2, 3].abs().max() == 0
    with pytest.raises(ShapeError, match="maps"):
        combine_coils(images, maps[:, :3])


def test_combination_has_the_least_variance():
    """Of all weights w with sum w s = 1, conj(s) / |s|^2 has the least sum |w|^2."""
    s = draw(5)
    weights = combine_coils(torch.diag(torch.ones(5)).to(s.dtype)[:, :, None], s[None, :, None])
    w = weights.flatten()
    assert abs((w * s).sum() - 1) < 1e-12
    other = draw(5, seed=2)
    other = other / (other * s).sum()
    assert w.abs().square().sum() < other.abs().square().sum()


@pytest.mark.parametrize(("length", "size"), [(16, 8), (15, 8), (16, 7), (15, 5)])
def test_oversampling_is_removed_exactly(length, size):
    """An image that is empty outside of the kept part comes back, with its values."""
    small = draw(2, 3, size, 6)
    large = torch.zeros(2, 3, length, 6, dtype=small.dtype)
    top = length // 2 - size // 2
    large[:, :, top : top + size] = small
    found = remove_oversampling(fft2c(large), size)
    assert (found - fft2c(small)).abs().max() < 1e-12
    with pytest.raises(ValueError, match="readout"):
        remove_oversampling(found, size + 1)


def test_oversampling_keeps_masked_columns_zero_and_noise_white():
    y = draw(1, 1, 4000, 8)
    y[..., 3:5] = 0
    found = remove_oversampling(y, 2000)
    assert found[..., 3:5].abs().max() == 0
    # 12000 complex samples of unit variance per part; 5 standard errors.
    variance = found[..., :3].abs().square().mean() / 2
    assert abs(variance - 1) < 5 / math.sqrt(6000)
    columns = remove_oversampling(y.mT, 2000, axis=-1)
    assert torch.equal(columns, fftc(remove_ifft(y.mT), (-1,)))


def remove_ifft(y):
    images = torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(y, dim=-1), norm="ortho"), -1)
    return images[..., 1000:3000]


def test_scale_is_invertible_and_follows_the_data():
    x = draw(2, 1, 32, 24)
    y = fft2c(birdcage_maps(4, 32, 24) * x)
    made = scale_kspace(y, 10)
    assert torch.allclose(made.kspace * made.factor[:, None, None, None], y, rtol=1e-14, atol=0)
    again = scale_kspace(1e-7 * y, 10)
    assert torch.allclose(again.factor, 1e-7 * made.factor, rtol=1e-12)
    assert torch.allclose(again.kspace, made.kspace, rtol=1e-12)
    block = torch.zeros_like(y)
    block[..., 11:21, 7:17] = y[..., 11:21, 7:17]
    # The low-resolution image on the full grid passes through the pixels of the small one.
    top = root_sum_of_squares(ifft2c(block)).flatten(1).amax(1)
    assert (scale_kspace(y, 10, 1.0).factor <= top * (1 + 1e-12)).all()
    assert (scale_kspace(y, 10, 1.0).factor > 0.8 * top).all()
    y[..., 16, 12] = 0
    with pytest.raises(ValueError, match="calibration"):
        scale_kspace(y, 10)


def test_scale_of_a_constant_is_its_value():
    maps = torch.full((1, 4, 16, 20), 0.5, dtype=torch.complex128)  # root sum of squares 1
    y = fft2c(maps * 7.0) + 1e-12 * draw(1, 4, 16, 20)
    assert scale_kspace(y, 6).factor.item() == pytest.approx(7, rel=1e-9)
