"""Whether the noise that a measurement states is the noise that is in it."""

from __future__ import annotations

import numpy as np

from invdiff.commands.sources import Measurement
from invdiff.datasets.mri_measurement import MRIMeasurement

__all__ = ["noise_ratio"]

MAD = 0.6745  # of standard normal numbers: the median of their absolute values
OUTER = 0.2  # the share of k-space on each side that is taken for noise


def noise_ratio(measurement: Measurement) -> float:
    r"""The noise in the data over the stated standard deviation.

    Of line integrals from third differences of neighbouring cells, which remove what is smooth:
    :math:`d / \sqrt{20}` has the noise's standard deviation. Of k-space from its outer samples,
    where images have least energy. Medians of magnitudes, so that edges weigh little; what
    remains of the image makes the ratio larger, never smaller.
    """
    if isinstance(measurement, MRIMeasurement):
        return _of_kspace(measurement)
    sigma = np.broadcast_to(measurement.sigma, measurement.data.shape)
    third = np.diff(measurement.data.astype(np.float64), 3, axis=-1) / np.sqrt(20)
    # The variance of a difference is that of its parts, weighed by 1, 9, 9 and 1.
    weights = (1, 9, 9, 1)
    count = third.shape[-1]
    parts = [w * sigma[..., k : k + count].astype(np.float64) ** 2 for k, w in enumerate(weights)]
    stated = np.sqrt(sum(parts) / 20)
    return float(np.median(np.abs(third / stated)) / MAD)


def _of_kspace(measurement: MRIMeasurement) -> float:
    rows, columns = measurement.data.shape[-2:]
    sigma = np.broadcast_to(measurement.sigma, measurement.data.shape)
    mask = np.broadcast_to(measurement.mask[:, None], measurement.data.shape)
    height, width = np.ogrid[:rows, :columns]
    far = (np.abs(height - rows // 2) > (0.5 - OUTER / 2) * rows) | (
        np.abs(width - columns // 2) > (0.5 - OUTER / 2) * columns
    )
    outer = (mask & far).nonzero()
    if outer[0].size < 10:
        raise ValueError("Fewer than 10 outer samples of k-space were measured: noise unknown.")
    values = measurement.data[outer] / sigma[outer]
    return float(np.median(np.abs(np.concatenate([values.real, values.imag]))) / MAD)
