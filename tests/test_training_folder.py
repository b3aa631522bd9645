"""Training on a folder of one's own: units, owners, what is refused, and the command itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from training_folder import gather

from invdiff.datasets.crops import read_rgb
from invdiff.datasets.ct_measurement import CTMeasurement
from invdiff.datasets.dicom_limits import quiet_pydicom
from invdiff.datasets.dicom_writer import write_series
from invdiff.datasets.fastmri import write_fastmri
from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space
from invdiff.datasets.measurement_file import write_measurement
from invdiff.datasets.medical_folder import Volume, read_medical_folder
from invdiff.datasets.nifti import NiftiVolume, write_nifti
from invdiff.operators import Geometry
from invdiff.operators.fourier import fft2c
from invdiff.priors import load_prior

NAME = "QZXPATIENTQZX"
SCRIPT = Path(__file__).parents[1] / "scripts" / "train_prior.py"
STRAIGHT = np.diag([3.0, 1.0, 1.0, 1.0])  # slices 3 mm apart, pixels of 1 mm


def body(seed: int, slices: int = 3, side: int = 48) -> np.ndarray:
    """Discs of some 40 HU in air, with a texture of their own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - side / 2
    inside = np.hypot(x, y) < 0.4 * side
    values = np.where(inside, rng.integers(0, 80, (slices, side, side)), -1000)
    return values.astype(np.float32)


def series(folder: Path, seed: int, patient: str, modality: str = "CT") -> None:
    """A DICOM series of that patient."""
    write_series(folder, np.maximum(body(seed), 0 if modality == "MR" else -1024),
                 (3.0, 1.0, 1.0), modality)  # fmt: skip
    for path in folder.iterdir():
        with quiet_pydicom():
            image = pydicom.dcmread(path)
            image.PatientID = patient
            image.save_as(path, enforce_file_format=True)


def owners(volumes: tuple[Volume, ...]) -> int:
    return len({volume.owner for volume in volumes})


def test_ct_of_every_format_is_in_hounsfield_units(tmp_path):
    series(tmp_path / "a" / "first", 0, NAME)
    series(tmp_path / "b" / "second", 1, NAME)
    write_nifti(tmp_path / "c.nii", NiftiVolume(body(2), STRAIGHT))
    geometry = Geometry.parallel((48, 48), 5, pixel_size=1.0)
    truth = 0.02 * (1 + body(3, 1) / 1000)
    data = np.zeros((1, *geometry.sinogram_shape), np.float32)
    write_measurement(
        tmp_path / "d.h5",
        CTMeasurement(("one",), data, np.ones((1, 1, 1), np.float32), geometry, truth=truth),
    )
    (tmp_path / f"{NAME}.txt").write_text("notes")
    found = read_medical_folder(tmp_path, "ct")
    assert found.formats == {"DICOM": 2, "NIfTI": 1, "HDF5": 1}
    assert found.refused == {"It is neither DICOM, NIfTI nor HDF5.": 1}
    assert owners(found.volumes) == 3  # two series are of one patient
    expected = {seed: np.clip(body(seed), -1024, 3071) for seed in range(3)} | {3: body(3, 1)}
    for volume in found.volumes:
        assert volume.pixels.dtype == np.int16
        assert volume.axes == (0,)
        near = [np.abs(volume.pixels - e).max() for e in expected.values()
                if e.shape == volume.pixels.shape]  # fmt: skip
        assert min(near) <= 1  # rounding of the truth's attenuation, in float32
    assert NAME not in repr(found)


def test_mr_is_over_its_percentile_and_across_all_square_axes(tmp_path):
    series(tmp_path / "a", 0, "one", "MR")
    cube = np.random.default_rng(1).random((20, 20, 20)).astype(np.float32) * 700
    write_nifti(tmp_path / "b.nii.gz", NiftiVolume(cube, np.diag([1.0, 1.0, 1.0, 1.0])))
    images = torch.from_numpy(body(3) + 1000).reshape(3, 1, 48, 48)
    kspace = fft2c((images * torch.tensor([0.6, 0.8])[:, None, None]).to(torch.complex64))
    header = Header(Space((48, 48, 1), (48.0,) * 3), Space((48, 48, 1), (48.0,) * 3),
                    EncodingLimits(0, 47, 24))  # fmt: skip
    write_fastmri(tmp_path / "c.h5", kspace.numpy(), header)
    mask = np.ones(48)
    mask[::2] = 0
    write_fastmri(tmp_path / "d.h5", kspace.numpy() * mask, header, mask)
    found = read_medical_folder(tmp_path, "mr")
    assert found.formats == {"DICOM": 1, "NIfTI": 1, "HDF5": 1}
    assert [why.split(":")[0] for why in found.refused] == ["Its k-space is undersampled"]
    axes = sorted(volume.axes for volume in found.volumes)
    assert axes == [(0,), (0,), (0, 1, 2)]
    for volume in found.volumes:
        assert np.percentile(volume.pixels.astype(np.float32), 99.9) == pytest.approx(1, abs=2e-3)


def test_root_sum_of_squares_of_raw_kspace_is_the_image(tmp_path):
    images = torch.from_numpy(body(3) + 1000).reshape(3, 1, 48, 48)
    kspace = fft2c((images * torch.tensor([0.6, 0.8])[:, None, None]).to(torch.complex64))
    header = Header(Space((48, 48, 1), (48.0,) * 3), Space((48, 48, 1), (48.0,) * 3),
                    EncodingLimits(0, 47, 24))  # fmt: skip
    write_fastmri(tmp_path / "c.h5", kspace.numpy(), header)
    (volume,) = read_medical_folder(tmp_path, "mr").volumes
    expected = images[:, 0].numpy() / np.percentile(images.numpy(), 99.9)
    np.testing.assert_allclose(volume.pixels, expected, atol=1e-3)  # float16


def test_the_wrong_modality_and_oblong_pixels_are_refused(tmp_path):
    series(tmp_path / "a", 0, "one", "MR")
    write_nifti(tmp_path / "b.nii", NiftiVolume(body(1), np.diag([3.0, 1.0, 2.0, 1.0])))
    found = read_medical_folder(tmp_path, "ct")
    assert not found.volumes
    assert found.refused == {
        "It is MR, and CT was asked for.": 1,
        "Its pixels are not square in any plane. Resample it.": 1,
    }
    with pytest.raises(ValueError, match=r"images of 0 owners.*Left out: 1 x It is MR"):
        gather("ct", tmp_path, 32, 0)


def test_nobody_is_on_both_sides(tmp_path):
    for seed in range(4):
        series(tmp_path / f"{seed}", seed, f"patient {seed % 3}")
    found = gather("ct", tmp_path, 64, 0)
    assert (found.owners, found.held_out) == (3, 1)
    assert found.validation.shape[1:] == (1, 128, 128)
    rng = np.random.default_rng(0)
    crops = found.crops.draw(rng, 8, 64)
    assert crops.min() >= -1.024
    seen = {plane[:48, :48].tobytes() for pool in found.crops.pools for plane in pool}
    for image in found.validation[:, 0].numpy():
        values = np.round(1000 * image[:48, :48]).astype(np.int16)
        assert len(np.unique(values)) > 50
        assert values.tobytes() not in seen
    again = gather("ct", tmp_path, 64, 0)
    assert torch.equal(found.validation, again.validation)


def test_sixteen_bits_become_eight(tmp_path):
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(codes).save(tmp_path / "a.png")
    pixels = np.asarray(read_rgb(tmp_path / "a.png"))
    assert pixels.shape == (256, 256, 3)
    np.testing.assert_array_equal(pixels[..., 0], codes // 257)


def test_pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("a/1", 130), ("a/2", 140), ("b", 150), ("c", 60)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(path)
    (tmp_path / "d.png").write_bytes(b"no picture")
    found = gather("photo", tmp_path, 128, 0)
    assert (found.owners, found.held_out) == (2, 1)
    assert sorted(found.refused) == [
        "It cannot be read as a picture.", "It has a side below 128 pixels.",
    ]  # fmt: skip
    assert found.validation.shape[1:] == (3, 128, 128)


def test_the_command_writes_a_prior_that_loads(tmp_path):
    for seed in range(2):
        series(tmp_path / "scans" / f"{seed}", seed, f"{NAME}{seed}")
    config = tmp_path / "config.json"
    config.write_text('{"widths": [8, 8], "blocks": [1, 1], "start": "", "pixels": 2048, '
                      '"phases": [[0.0, 16]]}')  # fmt: skip
    command = [
        sys.executable, SCRIPT, "ct", "--folder", tmp_path / "scans",
        "--out", tmp_path / "run", "--name", "chest", "--licence", "CC0-1.0", "--steps", "6",
        "--every", "3", "--threads", "1", "--device", "cpu", "--config", config,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "images of 1 owners" in done.stdout
    assert NAME not in done.stdout + done.stderr
    prior = load_prior(tmp_path / "run" / "chest.safetensors")
    card = prior.card
    assert (card.name, card.units, card.data[0].licence) == ("chest", "HU / 1000", "CC0-1.0")
    assert card.training["steps"] == 6
    assert len(card.error_sigmas) == 24
    assert prior(torch.zeros(1, 1, 32, 32), torch.tensor(0.1)).isfinite().all()
    assert (tmp_path / "run" / "curve.png").exists()
    assert NAME not in (tmp_path / "run" / "chest.json").read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "6 steps" in again.stdout  # nothing was left to do, and the card is written anew
    wrong = subprocess.run([*command, "--name", "ct"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "--name" in wrong.stderr
