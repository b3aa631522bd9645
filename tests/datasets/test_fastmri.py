"""Raw HDF5 files: they come back whole, say what is wrong, and never say whose they are."""

import h5py
import numpy as np
import pytest
import torch

from invdiff.datasets.fastmri import FastMRIFile, is_hdf5, write_fastmri
from invdiff.datasets.ismrmrd_header import (
    EncodingLimits,
    Header,
    Space,
    parse_header,
    write_header,
)
from invdiff.datasets.kspace_preparation import prepare
from invdiff.datasets.raw_simulation import simulate_raw_mri
from invdiff.errors import ShapeError
from invdiff.operators import noise_covariance, root_sum_of_squares
from invdiff.operators.fourier import ifft2c

SECRET = "Doe^Jane"


def header(rows=12, columns=10, limits=(0, 9, 5)) -> Header:
    return Header(
        Space((rows, columns, 1), (2.0 * rows, 10.0, 5.0)),
        Space((rows // 2, columns, 1), (float(rows), 10.0, 5.0)),
        EncodingLimits(*limits),
    )


def volume(columns=10, measured=slice(None), slices=3) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, slices, 2, 12, columns))
    kspace = np.zeros((slices, 2, 12, columns), np.complex64)
    kspace[..., measured] = (values[0] + 1j * values[1])[..., measured]
    return kspace


def test_header_round_trip_and_what_follows_from_it():
    made = header(limits=(0, 7, 4))
    assert parse_header(write_header(made)) == made
    assert made.measured == slice(1, 9)
    assert made.readout == 6
    knee = Header(
        Space((640, 368, 1), (280.0, 161.0, 4.5)),
        Space((320, 320, 1), (140.0, 140.0, 4.5)),
        EncodingLimits(0, 321, 161),
    )
    assert knee.measured == slice(23, 345)  # padding 184 - 161 on the left, 322 columns
    assert knee.readout == 320


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-9], "not XML"),
        (lambda text: text.replace("<center>5</center>", ""), "center"),
        (lambda text: text.replace("<x>12</x>", "<x>many</x>"), "encodedSpace/matrixSize/x"),
        (lambda text: text.replace("<x>12</x>", "<x>0</x>"), "positive"),
        (lambda text: text.replace("<x>12</x>", "<x>inf</x>"), "not finite"),
        (lambda text: text.replace("<x>12</x>", "<x>nan</x>"), "not finite"),
        (lambda text: text.replace("<x>12</x>", "<x>1e999</x>"), "not finite"),
        (lambda text: text.replace("<x>12</x>", "<x>12.5</x>"), "not a whole"),
        (lambda text: text.replace("<y>10.0</y>", "<y>nan</y>"), "not finite"),
        (lambda text: text.replace("<x>24.0</x>", "<x>1e-320</x>"), "positive"),
        (lambda text: text.replace("<center>5</center>", "<center>-inf</center>"), "not finite"),
        (lambda text: text.replace("ISMRMRD", "OTHER"), "0 encodings"),
        (lambda text: "<!DOCTYPE a>" + text, "entities"),
        (lambda text: text + " " * 2**20, "million"),
    ],
    ids=[
        "cut",
        "no-center",
        "no-number",
        "zero",
        "inf",
        "nan",
        "overflow",
        "half",
        "nan-view",
        "tiny-view",
        "inf-center",
        "namespace",
        "entities",
        "long",
    ],
)
def test_wrong_headers_are_refused(change, said):
    text = write_header(header()).replace("<encoding>", f"<id>{SECRET}</id><encoding>", 1)
    parse_header(text)
    with pytest.raises(ValueError, match=said) as caught:
        parse_header(change(text))
    assert SECRET not in str(caught.value)


def test_a_volume_round_trip(tmp_path):
    path = tmp_path / "a.h5"
    mask = np.arange(10) % 2 == 0
    write_fastmri(path, volume(measured=mask), header(), mask)
    file = FastMRIFile.open(path)
    assert file.shape == (3, 2, 12, 10)
    assert file.middle == 1
    assert np.array_equal(file.mask, mask)
    for index in range(3):
        assert np.array_equal(file.read(index), volume(measured=mask)[index])
    assert [one.name for one in tmp_path.iterdir()] == ["a.h5"]
    for index in (-1, 3):
        with pytest.raises(ValueError, match="from 0 on"):
            file.read(index)


def test_padding_is_not_measured(tmp_path):
    """Encoding limits cut the mask; data in the padding are refused."""
    limits = header(limits=(0, 6, 4))
    write_fastmri(tmp_path / "a.h5", volume(measured=slice(1, 8)), limits)
    file = FastMRIFile.open(tmp_path / "a.h5")
    assert np.array_equal(np.flatnonzero(file.mask), np.arange(1, 8))
    file.read(0)
    write_fastmri(tmp_path / "b.h5", volume(), limits)
    with pytest.raises(ValueError, match="encoding limits"):
        FastMRIFile.open(tmp_path / "b.h5").read(0)


def test_attributes_are_neither_read_nor_shown(tmp_path):
    path = tmp_path / f"{SECRET}.h5"
    write_fastmri(path, volume(), header())
    with h5py.File(path, "a") as file:
        file.attrs["patient_id"] = SECRET
    file = FastMRIFile.open(path)
    assert SECRET not in repr(file)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"kspace": None}, ValueError, "kspace"),
        ({"ismrmrd_header": None}, ValueError, "ismrmrd_header"),
        ({"kspace": volume()[0]}, ShapeError, "Single-coil"),
        ({"kspace": volume().real}, TypeError, "complex"),
        ({"kspace": volume(columns=8)}, ShapeError, "header encodes"),
        ({"ismrmrd_header": write_header(header(limits=(0, 10, 5)))}, ValueError, "inside"),
        ({"mask": np.zeros(10)}, ValueError, "empty"),
        ({"mask": np.full(10, 0.5)}, ValueError, "zeros and ones"),
        ({"mask": np.ones(8)}, ValueError, "mask"),
        ({"mask": np.array([b"1"] * 10)}, ValueError, "mask"),
        ({"ismrmrd_header": np.ones(3)}, ValueError, "neither of numbers nor of texts"),
    ],
    ids=[
        "no-kspace",
        "no-header",
        "single-coil",
        "real",
        "header",
        "limits",
        "empty",
        "values",
        "shape",
        "texts",
        "numbers",
    ],
)
def test_wrong_files_are_refused(tmp_path, change, error, said):
    path = tmp_path / "a.h5"
    write_fastmri(path, volume(), header(), np.ones(10))
    with h5py.File(path, "a") as file:
        file.attrs["patient_id"] = SECRET
        for name, value in change.items():
            del file[name]
            if value is not None:
                file[name] = value
    with pytest.raises(error, match=said) as caught:
        FastMRIFile.open(path)
    assert SECRET not in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    write_fastmri(path, volume(), header())
    assert is_hdf5(path)
    whole = path.read_bytes()
    for content, said in ((whole[: len(whole) // 2], "damaged"), (b"text", "not an HDF5 file")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            FastMRIFile.open(path)
    with pytest.raises(FileNotFoundError):
        FastMRIFile.open(tmp_path / "absent.h5")
    write_fastmri(path, np.where(volume() == volume(), np.nan, 0).astype(np.complex64), header())
    with pytest.raises(ValueError, match="NaN"):
        FastMRIFile.open(path).read(0)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    write_fastmri(path, volume(), header())
    file = FastMRIFile.open(path)
    write_fastmri(path, volume(slices=2), header())
    with pytest.raises(ValueError, match="has changed"):
        file.read(0)


def test_numbers_in_the_other_byte_order(tmp_path):
    path = tmp_path / "a.h5"
    write_fastmri(path, volume(), header())
    with h5py.File(path, "a") as file:
        del file["kspace"]
        file["kspace"] = volume().astype(">c8")
    found = FastMRIFile.open(path).read(1)
    assert found.dtype == np.complex64 and found.dtype.isnative
    assert np.array_equal(found, volume()[1])


def disc(side=48):
    t = np.linspace(-1, 1, side)
    return (np.hypot(t[:, None], t) < 0.7) * (1 + 0.3 * np.cos(5 * t))


def test_the_simulated_noise_has_its_covariance():
    """Two seeds of an empty image, whole k-space: 5 standard errors of each entry."""
    noise = simulate_raw_mri(np.zeros((64, 64)), np.ones(64), 0.1, 0, coils=3)
    found = noise_covariance(torch.from_numpy(noise.kspace).flatten(1)[None])[0].numpy()
    assert np.allclose(np.diag(noise.covariance), 0.01)
    assert np.abs(noise.covariance - np.diag(np.diag(noise.covariance))).max() > 1e-3
    assert np.abs(found - noise.covariance).max() < 5 * 0.01 / np.sqrt(128 * 64)


def test_preparation_undoes_what_the_scanner_did():
    """A full scan with little noise: the root sum of squares of the coils is the truth.

    sigma scales the image: whitening divides by it. Coils differ by their noise's correlation,
    so the known covariance is that of one coil, sigma^2.
    """
    scan = simulate_raw_mri(disc(), np.ones(48), 1e-3, 0, coils=1)
    noise = 1e-3 * (np.random.default_rng(0).normal(size=(2, 1, 1, 100_000)))
    given = torch.from_numpy(noise[0] + 1j * noise[1])
    made = prepare(scan.kspace, scan.mask, scan.header().readout, 8, given)
    assert made.kspace.kspace.shape == (1, 48, 48)
    assert made.kspace.sigma == 1
    assert made.energy == pytest.approx(1)
    image = root_sum_of_squares(ifft2c(torch.from_numpy(made.kspace.kspace))[None])[0, 0].numpy()
    # One birdcage coil has modulus 1 everywhere; noise of 1e-3 and its estimate to 1 %.
    gap = 1e-3 * image - np.abs(scan.truth)
    assert np.abs(gap).max() < 0.02 * np.abs(scan.truth).max()


def test_preparation_whitens_and_keeps_the_mask():
    mask = np.zeros(48, bool)
    mask[::3] = mask[18:30] = True
    scan = simulate_raw_mri(disc(), mask, 0.02, 0, coils=6)
    made = prepare(scan.kspace, mask, 48, 4)
    assert made.kspace.kspace.shape == (4, 48, 48)
    assert np.array_equal(made.kspace.mask, np.broadcast_to(mask, (48, 48)))
    assert 0.9 < made.energy <= 1
    empty = simulate_raw_mri(np.zeros((256, 48)), mask, 0.02, 0, coils=6)
    quiet = prepare(empty.kspace, mask, 256, 6).kspace
    noise = noise_covariance(torch.from_numpy(quiet.kspace[:, :, mask]).flatten(1)[None])[0]
    # Estimated from the border: 0.19 x 512 x 24 samples, so entries have an error of 2 %.
    assert (noise - torch.eye(6)).abs().max() < 0.12
    with pytest.raises(ValueError, match="columns"):
        simulate_raw_mri(disc(), mask[:5], 0.02, 0)


def test_a_border_without_noise_is_refused():
    """In units of the noise the samples are absurd, or overflow in a transform: fuzzing found it.

    The second is still finite after whitening, 1e38, and no longer after the transform.
    """
    double = volume()[0].astype(np.complex128)
    cases = ((volume()[0], 1e20, 1e-19), (volume()[0], 1e19, 1e-19), (double, 1e150, 1e-150))
    for kspace, large, small in cases:
        kspace[:, 1:-1] *= large
        kspace[:, [0, -1]] *= small
        with pytest.raises(ValueError, match="in units of its noise"):
            prepare(kspace, np.ones(10), 12, 2)
