"""Image quality, by hand."""

import numpy as np
import pytest

from invdiff.metrics import correlation, psnr, ssim

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(-1, 1, (1, 16, 16))


def test_psnr():
    assert psnr(TRUTH + 0.1, TRUTH, 1.0) == pytest.approx(20)
    assert psnr(TRUTH + 0.1, TRUTH, 2.0) == pytest.approx(20 + 20 * np.log10(2))
    assert psnr(TRUTH, TRUTH, 1.0) == float("inf")
    assert psnr(TRUTH * 255 + 25.5, TRUTH * 255, 255.0) == pytest.approx(20)


def test_nothing_is_clipped_or_stretched():
    assert psnr(TRUTH + 3, TRUTH, 1.0) == pytest.approx(-20 * np.log10(3))
    assert psnr(0.5 * TRUTH, TRUTH, 1.0) < 20


def test_no_wrapping_of_bytes():
    a, b = np.full((1, 8, 8), 250, np.uint8), np.full((1, 8, 8), 10, np.uint8)
    assert psnr(a, b, 255.0) == psnr(b, a, 255.0) == pytest.approx(20 * np.log10(255 / 240))


def test_ssim():
    assert ssim(TRUTH, TRUTH, 2.0) == pytest.approx(1)
    noisy = TRUTH + 0.5 * RNG.standard_normal(TRUTH.shape)
    assert ssim(noisy, TRUTH, 2.0) < 0.95
    assert ssim(10 * noisy, 10 * TRUTH, 20.0) == pytest.approx(ssim(noisy, TRUTH, 2.0))


def test_correlation():
    other = RNG.standard_normal(TRUTH.shape)
    expected = np.corrcoef(TRUTH.ravel(), other.ravel())[0, 1]
    assert correlation(TRUTH, other) == pytest.approx(expected)
    assert correlation(TRUTH, 3 - 2 * TRUTH) == pytest.approx(-1)
    assert correlation(TRUTH, np.ones_like(TRUTH)) == 0
