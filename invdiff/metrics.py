"""Image quality against a known truth, with the data range said and the images untouched."""

from __future__ import annotations

import numpy as np

__all__ = ["correlation", "psnr", "ssim"]


def psnr(image: np.ndarray, truth: np.ndarray, data_range: float) -> float:
    r""":math:`10 \log_{10} (R^2 / \overline{(x - t)^2})` in dB, over all pixels and channels.

    Nothing is clipped or stretched; R is ``data_range``, in the units of the images.
    """
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(image: np.ndarray, truth: np.ndarray, data_range: float) -> float:
    """The structural similarity of images (channels, rows, columns), scikit-image's defaults.

    (Wang et al., Image quality assessment: from error visibility to structural similarity, 2004.)
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            truth.astype(np.float64),
            image.astype(np.float64),
            data_range=data_range,
            channel_axis=0,
        )
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation over all pixels; 0 if either is constant."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / size) if size > 0 else 0.0
