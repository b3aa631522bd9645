"""A simulated MRI scan as a folder: raw multi-coil HDF5, a DICOM series, how they were made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from invdiff.datasets.dicom_derivation import SeriesLabel
from invdiff.datasets.dicom_folder import new_folder
from invdiff.datasets.dicom_writer import SIMULATED, write_series
from invdiff.datasets.ellipses import Ellipse
from invdiff.datasets.fastmri import write_fastmri
from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space
from invdiff.datasets.mr_phantom import analytic_kspace, band_limited, mr_head, wave_maps
from invdiff.files import save_json
from invdiff.operators.fourier import ifft2c
from invdiff.operators.masks import cartesian_mask
from invdiff.provenance import versions

__all__ = ["MRIScan", "write_mri"]

WIDTH = 240.0  # mm
DISTANCE = 5.0  # mm between slices
CENTRE = 16  # columns that are always measured: coil maps are estimated from them
BRIGHTEST = 1000.0  # of the DICOM series
READOUT = 2  # times as many samples as rows


@dataclass(frozen=True)
class MRIScan:
    """What is simulated, slice by slice, from a phantom whose k-space is known in closed form.

    Arguments:
        slices: How many, 5 mm apart; the head grows narrower from the middle.
        size: Rows and columns of the image.
        coils: Receiver coils.
        acceleration: The columns of k-space over those measured.
        noise: Standard deviation of each real component, over the brightest pixel.
        seed: Of the coils, the sampling and the noise.
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
        pattern = cartesian_mask(shape, self.acceleration, centre, self.seed)
        return np.asarray(pattern.mask[0, 0].numpy().astype(bool).any(0))

    def volume(self) -> np.ndarray:
        """The true magnitudes (slices, rows, columns)."""
        shape = (self.size, self.size)
        spectra = np.stack([band_limited(one, shape, self.pixel) for one in self._phantoms()])
        return ifft2c(torch.from_numpy(spectra)).abs().numpy()

    def kspace(self, brightest: float) -> np.ndarray:
        """Noisy k-space (slices, coils, readout, columns), zero where it was not measured."""
        maps = wave_maps(self.coils, WIDTH, self.seed)
        shape = (READOUT * self.size, self.size)
        clean = np.stack([analytic_kspace(p, maps, shape, self.pixel) for p in self._phantoms()])
        generator = np.random.Generator(np.random.Philox(self.seed))
        parts = generator.standard_normal((2, *clean.shape))
        noisy = clean + self.noise * brightest * (parts[0] + 1j * parts[1])
        kspace: np.ndarray = (noisy * self.measured()).astype(np.complex64)
        return kspace

    def header(self) -> Header:
        """What a scanner would write."""
        n = self.size
        return Header(
            Space((READOUT * n, n, 1), (READOUT * WIDTH, WIDTH, DISTANCE)),
            Space((n, n, 1), (WIDTH, WIDTH, DISTANCE)),
            EncodingLimits(0, n - 1, n // 2),
        )

    def _phantoms(self) -> list[tuple[Ellipse, ...]]:
        middle = (self.slices - 1) / 2
        heights = (DISTANCE * (k - middle) / (WIDTH / 2) for k in range(self.slices))
        return [mr_head(width=WIDTH * math.sqrt(max(0.2, 1 - h**2))) for h in heights]


def write_mri(folder: Path, scan: MRIScan) -> dict[str, object]:
    """Writes the folder, whole or not at all, and tells what is in it.

    Raises:
        FileExistsError: If there is something at ``folder``.
        ImportError: Without h5py.
        ValueError: If the acceleration is impossible.
        OSError: If it cannot be written.
    """
    truth = scan.volume()
    brightest = float(truth.max())
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
        shown = np.rint(truth * (BRIGHTEST / brightest))
        write_series(temporary / "dicom", shown, spacing, "MR", label)
        kspace = scan.kspace(brightest)
        write_fastmri(temporary / "raw.h5", kspace, scan.header(), scan.measured())
        save_json(temporary / "simulation.json", about)
    return about
