"""A simulated MRI scan as a folder: raw multi-coil HDF5, a DICOM series, how they were made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from invdiff.commands.mri_patients import random_head
from invdiff.commands.raw_kspace import NOISE, TRUTH
from invdiff.datasets.dicom_derivation import SeriesLabel
from invdiff.datasets.dicom_folder import new_folder
from invdiff.datasets.dicom_writer import SIMULATED, write_series
from invdiff.datasets.ellipses import Ellipse
from invdiff.datasets.fastmri import write_fastmri
from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space
from invdiff.datasets.mr_phantom import analytic_kspace, wave_maps
from invdiff.files import save_json
from invdiff.operators.coil_combination import root_sum_of_squares
from invdiff.operators.fourier import ifft2c
from invdiff.operators.masks import equispaced_fraction_mask
from invdiff.provenance import versions

__all__ = ["MRIScan", "write_mri"]

WIDTH = 240.0  # mm
DISTANCE = 5.0  # mm between slices
CENTRE = 16  # columns that are always measured: coil maps are estimated from them
BRIGHTEST = 1000.0  # of the images
READOUT = 2  # times as many samples as rows
NOISE_SAMPLES = 4096  # of every coil


@dataclass(frozen=True)
class MRIScan:
    """What is simulated, slice by slice, from a phantom whose k-space is known in closed form.

    Arguments:
        slices: How many, 5 mm apart; the head grows narrower from the middle.
        size: Rows and columns of the image.
        coils: Receiver coils.
        acceleration: The columns of k-space over those measured.
        noise: Standard deviation of each real component, over the brightest pixel.
        seed: Of the head, the coils, the sampling and the noise.
    """

    slices: int
    size: int
    coils: int
    acceleration: float
    noise: float
    seed: int

    @property
    def pixel(self) -> float:
        """The side of a pixel in mm."""
        return WIDTH / self.size

    def measured(self) -> np.ndarray:
        """The columns of k-space that are measured, bool (columns,)."""
        centre = max(0.08, CENTRE / self.size)
        shape = (self.size, self.size)
        pattern = equispaced_fraction_mask(shape, self.acceleration, centre, self.seed)
        return np.asarray(pattern.mask[0, 0].numpy().astype(bool).any(0))

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Noisy k-space (slices, coils, readout, columns), and the images of a perfect scan.

        k-space is zero where it was not measured. The images (slices, rows, columns) are the root
        sums of squares over the coils of all of k-space without noise; the brightest is 1000.
        """
        clean = self._clean(READOUT * self.size)
        perfect = root_sum_of_squares(ifft2c(torch.from_numpy(self._clean(self.size))))
        unit = BRIGHTEST / float(perfect.max())
        kspace = (unit * clean + self._noise(0, clean.shape)) * self.measured()
        return kspace.astype(np.complex64), unit * perfect[:, 0].numpy()

    def noise_scan(self) -> np.ndarray:
        """What the coils receive without a signal, complex (coils, samples)."""
        return self._noise(1, (self.coils, NOISE_SAMPLES))

    def header(self) -> Header:
        """What a scanner would write."""
        n = self.size
        return Header(
            Space((READOUT * n, n, 1), (READOUT * WIDTH, WIDTH, DISTANCE)),
            Space((n, n, 1), (WIDTH, WIDTH, DISTANCE)),
            EncodingLimits(0, n - 1, n // 2),
        )

    def _noise(self, stream: int, shape: tuple[int, ...]) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, stream]))
        parts = generator.standard_normal((2, *shape))
        noise: np.ndarray = self.noise * BRIGHTEST * (parts[0] + 1j * parts[1])
        return noise

    def _clean(self, rows: int) -> np.ndarray:
        """k-space of all slices and coils, without noise."""
        maps = wave_maps(self.coils, WIDTH, self.seed)
        shape = (rows, self.size)
        return np.stack([analytic_kspace(p, maps, shape, self.pixel) for p in self._phantoms()])

    def _phantoms(self) -> list[tuple[Ellipse, ...]]:
        middle = (self.slices - 1) / 2
        heights = (DISTANCE * (k - middle) / (WIDTH / 2) for k in range(self.slices))
        widths = [WIDTH * math.sqrt(max(0.2, 1 - h**2)) for h in heights]
        return [random_head(self.seed, width) for width in widths]


def write_mri(folder: Path, scan: MRIScan, truth: bool) -> dict[str, object]:
    """Writes the folder, whole or not at all, and tells what is in it.

    Raises:
        FileExistsError: If there is something at ``folder``.
        ImportError: Without h5py.
        ValueError: If the acceleration is impossible.
        OSError: If it cannot be written.
    """
    kspace, perfect = scan.measure()
    about: dict[str, object] = {
        "modality": "mri",
        "simulated": True,
        "scan": asdict(scan),
        "measured_columns": int(scan.measured().sum()),
        "files": ["dicom/", "raw.h5", "simulation.json"],
        "versions": versions(),
    }
    spacing = (DISTANCE, scan.pixel, scan.pixel)
    with new_folder(folder) as temporary:
        label = SeriesLabel(SIMULATED.description, SIMULATED.number, identity=repr(scan))
        write_series(temporary / "dicom", np.rint(perfect), spacing, "MR", label)
        known = {NOISE: scan.noise_scan().astype(np.complex64)}
        known |= {TRUTH: perfect.astype(np.float32)} if truth else {}
        write_fastmri(temporary / "raw.h5", kspace, scan.header(), scan.measured(), **known)
        save_json(temporary / "simulation.json", about)
    return about
