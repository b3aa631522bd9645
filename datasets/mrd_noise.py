"""The noise scans of an ISMRMRD file."""

from __future__ import annotations

import numpy as np

from invdiff.datasets.mrd_lines import Readout

__all__ = ["NoiseScans"]


class NoiseScans:
    """Readouts without signal."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._readouts: list[Readout] = []

    def __len__(self) -> int:
        return len(self._readouts)

    def add(self, readout: Readout) -> None:
        """Adds one; raises ValueError if there are too many, or coils or dwell times differ."""
        self._size += readout.samples.nbytes
        if self._size > self._limit:
            raise ValueError(f"The noise scans have more than {self._limit} bytes. Keep fewer.")
        self._readouts.append(readout)
        first = self._readouts[0]
        if len(first.samples) != len(readout.samples) or first.dwell != readout.dwell:
            raise ValueError("The noise scans differ in coils or dwell time. Keep one of them.")

    def scaled(self, dwell: float, bandwidth: float) -> np.ndarray:
        r"""Samples (coils, samples) times :math:`\sqrt{t_\mathrm{noise} / (b\, t_\mathrm{scan})}`.

        The variance of noise grows with the bandwidth, one over the dwell time t, of which the
        share b of the noise scan's has noise. Raises ValueError if only one dwell time is known.
        """
        own = self._readouts[0].dwell
        if own == dwell:
            ratio = 1.0
        elif own > 0 and dwell > 0 and 1e-6 < own / dwell < 1e6:
            ratio = own / dwell
        else:
            raise ValueError(
                "The dwell time (sample_time_us) of the noise scan or of the image's readouts is "
                "missing or absurd; the noise cannot be scaled. Write both, or drop the noise."
            )
        samples = np.concatenate([readout.samples for readout in self._readouts], axis=1)
        return samples * np.float32((ratio / bandwidth) ** 0.5)
