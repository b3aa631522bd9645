"""A simulated CT scan as a folder: a DICOM series, a measurement file, and how they were made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from invdiff.datasets.ct_bodies import head_volume, torso_volume
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.dicom_derivation import SeriesLabel
from invdiff.datasets.dicom_folder import new_folder
from invdiff.datasets.dicom_writer import SIMULATED, write_series
from invdiff.datasets.hounsfield import hu_to_attenuation
from invdiff.datasets.measurement_file import write_measurement
from invdiff.datasets.photon_counts import simulate_counts
from invdiff.files import save_json
from invdiff.operators.ct_geometry import Geometry
from invdiff.provenance import versions

__all__ = ["CTScan", "write_ct"]

WATER = 0.02  # 1/mm
WIDTH = {"head": 240.0, "torso": 420.0}  # mm
DISTANCE = 5.0  # mm between slices


@dataclass(frozen=True)
class CTScan:
    """What is simulated: ``views`` parallel views of each of ``slices`` of a phantom.

    Arguments:
        body: "head" or "torso".
        slices: How many, 5 mm apart.
        size: Rows and columns of the image.
        views: Directions over half a turn.
        photons: Per ray, before the body.
        seed: Of the phantom and the noise.
    """

    body: str
    slices: int
    size: int
    views: int
    photons: float
    seed: int

    def volume(self) -> tuple[np.ndarray, tuple[float, float, float]]:
        """Hounsfield units (slices, rows, columns) without noise, and the spacing in mm."""
        pixel = WIDTH[self.body] / self.size
        make = head_volume if self.body == "head" else torso_volume
        spacing = (DISTANCE, pixel, pixel)
        return make(self.seed, (self.slices, self.size, self.size), spacing, 0.0).hu, spacing

    def measure(self, hu: np.ndarray, pixel: float, truth: bool) -> CTMeasurement:
        """Its line integrals with their noise, and the images if ``truth``."""
        attenuation = np.maximum(hu_to_attenuation(hu, WATER), 0)
        geometry = Geometry.parallel((self.size, self.size), self.views, pixel_size=pixel)
        seeds = np.random.SeedSequence(self.seed).generate_state(self.slices).tolist()
        made = simulate_counts(attenuation, geometry, self.photons, seeds)
        data = made.noise.log_data(made.counts)
        return CTMeasurement(
            tuple(f"slice-{k + 1:04d}" for k in range(self.slices)),
            data.y[:, 0].float().numpy(),
            torch.as_tensor(data.noise.sigma)[:, 0].float().numpy(),
            geometry,
            WATER,
            attenuation.astype(np.float32) if truth else None,
            {"simulated": True, "scan": asdict(self)},
        )


def write_ct(folder: Path, scan: CTScan, truth: bool) -> dict[str, object]:
    """Writes the folder, whole or not at all, and tells what is in it.

    Raises:
        FileExistsError: If there is something at ``folder``.
        ImportError: Without h5py.
        OSError: If it cannot be written.
    """
    hu, spacing = scan.volume()
    hu = np.rint(np.clip(hu, -1024, 3071)).astype(np.float32)  # what the series can hold
    measurement = scan.measure(hu, spacing[1], truth)
    about: dict[str, object] = {
        "modality": "ct",
        "simulated": True,
        "scan": asdict(scan),
        "files": ["dicom/", "measurement.h5", "simulation.json"],
        "versions": versions(),
    }
    with new_folder(folder) as temporary:
        label = SeriesLabel(SIMULATED.description, SIMULATED.number, identity=repr(scan))
        write_series(temporary / "dicom", hu, spacing, "CT", label)
        write_measurement(temporary / "measurement.h5", measurement)
        save_json(temporary / "simulation.json", about)
    return about
