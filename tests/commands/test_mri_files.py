"""Raw k-space of scanners and of BART: in the scanner's unit, and the same whatever the format."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from invdiff.commands.cases import LoadedPriors, make_case
from invdiff.commands.checks import check_source
from invdiff.commands.reconstruction import Reconstruction
from invdiff.commands.settings import Settings, read_settings
from invdiff.commands.simulated_mri import MRIScan, write_mri
from invdiff.commands.sources import find_source
from invdiff.datasets.bart import kspace_to_cfl, write_cfl
from invdiff.datasets.fastmri import FastMRIFile
from invdiff.datasets.mri_measurement import MRIMeasurement
from invdiff.demos.case import Case
from invdiff.errors import ShapeError
from invdiff.operators import remove_oversampling, root_sum_of_squares
from invdiff.operators.fourier import ifft2c

SCAN = MRIScan(2, 64, 4, 2.0, 0.002, 0)
FULL = MRIScan(1, 64, 4, 1.0, 0.002, 0)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "in"
    write_mri(folder, SCAN, truth=True)
    return folder


def kspace(folder: Path) -> np.ndarray:
    """That of all slices without oversampling, (slices, coils, rows, columns)."""
    file = FastMRIFile.open(folder / "raw.h5")
    slices = [torch.from_numpy(file.read(k))[None] for k in range(file.shape[0])]
    whole = torch.cat([remove_oversampling(one, SCAN.size) for one in slices])
    return whole.numpy() * file.mask


def case(path: Path, number: int = 0) -> tuple[MRIMeasurement, Case]:
    measurement = find_source(path).items[number].read()
    assert isinstance(measurement, MRIMeasurement)
    settings = Settings()
    return measurement, make_case(measurement, settings, LoadedPriors(settings))


def sense(found: Case) -> np.ndarray:
    image: np.ndarray = found.picture(found.baselines["sense"][0]).numpy()[0]
    return image


def error(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth))


def test_images_are_in_the_unit_of_the_file(tmp_path: Path) -> None:
    """Of a full scan without much noise SENSE gives the root sum of squares, which is known."""
    write_mri(tmp_path / "in", FULL, truth=True)
    _, found = case(tmp_path / "in")
    assert found.truth is not None and float(found.truth.max()) == pytest.approx(1000, rel=1e-5)
    # Noise of 0.2 % of the brightest pixel, and maps that are fitted, not known.
    assert error(sense(found), found.truth[0].numpy()) < 0.03


def test_without_a_noise_scan_the_border_serves(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw.h5"
    path.write_bytes((raw / "raw.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["noise"], file["truth"]
    bare, known = find_source(path).items[0].read(), find_source(raw).items[0].read()
    assert bare.truth is None and bare.provenance["simulated"] is False
    assert known.provenance["simulated"] is True
    assert known.scale == pytest.approx(2.0, rel=0.02)  # 4 x 8192 real numbers
    assert known.scale < bare.scale  # an upper bound: edges of the phantom are in it


@pytest.mark.parametrize("name", ["noise", "truth"])
def test_noise_and_truth_of_another_shape_are_refused(
    name: str, raw: Path, tmp_path: Path
) -> None:
    path = tmp_path / "raw.h5"
    path.write_bytes((raw / "raw.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = np.ones((3, 5))
    with pytest.raises(ShapeError, match=name):
        find_source(path).items[0].read()


@pytest.fixture(scope="module")
def bart(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    write_cfl(folder / "scan", kspace_to_cfl(kspace(raw)))
    noise = SCAN.noise_scan()
    write_cfl(folder / "noise", kspace_to_cfl(noise[None, :, :, None]))
    return folder


@pytest.mark.parametrize("number", [0, 1])
def test_bart_gives_what_fastmri_gives(number: int, raw: Path, bart: Path) -> None:
    one, two = (case(path, number) for path in (raw, bart))
    assert (one[0].mask == two[0].mask).all()
    assert two[0].scale == pytest.approx(one[0].scale)
    assert error(sense(two[1]), sense(one[1])) < 1e-3  # another phase, and rounding
    assert len(find_source(bart / "scan.hdr").items) == 2


def test_barts_maps_are_used(raw: Path, bart: Path, tmp_path: Path) -> None:
    for path in bart.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    clean = ifft2c(torch.from_numpy(SCAN._clean(SCAN.size)))
    maps = clean / root_sum_of_squares(clean)
    write_cfl(tmp_path / "scan-maps", kspace_to_cfl(maps.numpy()))
    source = find_source(tmp_path)
    assert len(source.items) == 2 and source.modality == "mri"
    measurement, found = case(tmp_path, 1)
    assert measurement.maps is not None and np.allclose(measurement.maps[0], maps[1].numpy())
    assert measurement.sigma.shape == (1, 4, 1, 1)
    truth = case(raw, 1)[1].truth
    # Half a scan, regularised; without the maps' unit or phase it would be a multiple of that.
    assert truth is not None and error(sense(found), truth[0].numpy()) < 0.15
    write_cfl(tmp_path / "scan-maps", kspace_to_cfl(maps[:, :2].numpy()))
    with pytest.raises(ShapeError, match="one set"):
        find_source(tmp_path).items[0].read()


def test_maps_alone_are_no_measurement(tmp_path: Path) -> None:
    write_cfl(tmp_path / "maps", np.ones((8, 8, 1, 4)))
    with pytest.raises(ValueError, match="no file"):
        find_source(tmp_path)


def test_a_folder_of_files_of_several_formats(raw: Path, bart: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.h5").write_bytes((raw / "raw.h5").read_bytes())
    for path in bart.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    words = ["samples=2", "steps=3", "items='1,2'", "split=false"]
    settings = read_settings(None, words, {})
    run = Reconstruction.prepare(source, settings, tmp_path / "out", None)
    assert run.found().startswith("detected mri: 2 files: k-space in BART's cfl and raw k-space")
    _, figures = run.run(quiet=True)
    assert [item["file"] for item in figures["items"]] == [1, 2] and figures["done"] == 2
    checked = check_source(find_source(source), settings)
    assert [one["modality"] for one in checked["items"]] == ["mri"] * 2
    rows = [row for one in checked["items"] for row in one["checks"]]
    # The noise is an upper bound: edges of the phantom reach the border of so small a k-space.
    assert all(row["ok"] for row in rows if row["name"] != "noise"), rows
