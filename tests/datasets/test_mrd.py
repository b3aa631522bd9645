"""ISMRMRD files: sorted into k-space as they were measured, or refused with the reason."""

from dataclasses import replace

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from invdiff.datasets.hdf5 import one_worker
from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space
from invdiff.datasets.mrd import read_mrd
from invdiff.datasets.mrd_header import parse_mrd_header, write_mrd_header
from invdiff.datasets.mrd_measurement import measurement_of_mrd
from invdiff.datasets.mrd_writer import write_mrd
from invdiff.datasets.raw_simulation import simulate_raw_mri
from invdiff.errors import ShapeError
from invdiff.operators.fourier import ifft2c

rng = np.random.default_rng(0)
COILS, LENGTH, PHASES = 3, 16, 8
NOISE = ismrmrd.ACQ_IS_NOISE_MEASUREMENT


@pytest.fixture(autouse=True)
def fast():
    with one_worker():
        yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.mrd"


def normal(*shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def header(partitions=1, limits=(0, PHASES - 1, PHASES // 2)):
    space = Space((LENGTH, PHASES, partitions), (2.0 * LENGTH, PHASES, 5.0 * partitions))
    recon = Space((LENGTH // 2, PHASES, partitions), (1.0 * LENGTH, PHASES, 5.0 * partitions))
    return Header(space, recon, EncodingLimits(*limits))


def readout(samples, flags=(), discard=(0, 0), dwell=5.0, centre=LENGTH // 2, **counters):
    """One record of the ismrmrd library."""
    made = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples, np.complex64))
    made.center_sample, made.sample_time_us = centre, dwell
    made.discard_pre, made.discard_post = discard
    for name, count in counters.items():
        setattr(made.idx, name, count)
    for flag in flags:
        made.set_flag(flag)
    return made


def written(path, readouts, text=None):
    """A file made by the ismrmrd library."""
    with ismrmrd.Dataset(str(path), create_if_needed=True) as file:
        file.write_xml_header((text or write_mrd_header(header(), COILS)).encode())
        for one in readouts:
            file.append_acquisition(one)


def lines(kspace, **more):
    """The readouts of (coils, LENGTH, PHASES), in an order that is not that of their places."""
    order = rng.permutation(kspace.shape[2])
    return [readout(kspace[:, :, y], kspace_encode_step_1=y, **more) for y in order.tolist()]


def test_a_file_of_the_library_is_sorted_as_it_was_measured(path):
    """Two slices, a noise scan, a navigator, a line that was never measured."""
    kspace, noise, navigator = (
        normal(2, COILS, LENGTH, PHASES),
        normal(COILS, 40),
        normal(COILS, 9),
    )
    made = [readout(noise, [NOISE])]
    made += [readout(navigator, [ismrmrd.ACQ_IS_NAVIGATION_DATA])]
    made += lines(kspace[1, :, :, :-1], slice=1) + lines(kspace[0], slice=0)
    written(path, made)
    scan = read_mrd(path)
    assert scan.items == ("slice-000", "slice-001")
    assert scan.kspace.dtype == np.complex64
    assert np.array_equal(scan.kspace[0, ..., 0], kspace[0])
    assert np.array_equal(scan.kspace[1, :, :, :-1, 0], kspace[1, :, :, :-1])
    assert not scan.kspace[1, :, :, -1].any()
    assert scan.counts[:, :, 0].tolist() == [[1] * 8, [1] * 7 + [0]]
    assert np.array_equal(scan.noise, noise)
    assert scan.skipped == 1
    assert scan.calibration is None


def test_the_centre_of_the_limits_is_the_centre_of_kspace(path):
    """6 of 8 lines, counted from 0 with centre 2, lie at 2 to 7."""
    kspace = normal(COILS, LENGTH, 6)
    written(path, lines(kspace), write_mrd_header(header(limits=(0, 5, 2)), COILS))
    scan = read_mrd(path)
    assert np.array_equal(scan.kspace[0, :, :, 2:, 0], kspace)
    assert scan.counts[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


def test_averages_and_repetitions(path):
    """Averages are averaged and lower the noise; repetitions are items of their own."""
    one, two = normal(2, COILS, LENGTH, PHASES)
    written(path, lines(one) + lines(two, average=1) + lines(two, repetition=1))
    scan = read_mrd(path)
    assert scan.items == ("slice-000/repetition-000", "slice-000/repetition-001")
    assert np.allclose(scan.kspace[0, ..., 0], (one + two) / 2, atol=1e-6)
    assert scan.counts[:, 0, 0].tolist() == [2, 1]
    sigma = measurement_of_mrd(replace(scan, noise=normal(COILS, 99))).sigma
    assert np.allclose(sigma[0], 2**-0.5)
    assert (sigma[1] == 1).all()


@pytest.mark.parametrize("mode", ["embedded", "separate"])
def test_calibration_lines_are_of_the_image_only_if_embedded(path, mode):
    kspace, other = normal(COILS, LENGTH, PHASES), normal(COILS, LENGTH, PHASES)
    made = lines(kspace[:, :, ::2])
    for k, one in enumerate(made):  # lines 0, 2, 4, 6
        one.idx.kspace_encode_step_1 *= 2
        if k == 0:
            one.set_flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    for y in (3, 5):
        flags = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]
        made.append(readout(other[:, :, y], flags, kspace_encode_step_1=y))
    text = write_mrd_header(header(), COILS)
    parallel = (
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>"
        "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
        f"<calibrationMode>{mode}</calibrationMode></parallelImaging></encoding>"
    )
    written(path, made, text.replace("</encoding>", parallel))
    scan = read_mrd(path)
    embedded = mode == "embedded"
    assert scan.counts[0, :, 0].tolist() == [1, 0, 1, embedded, 1, embedded, 1, 0]
    assert (scan.calibration is None) == embedded
    if not embedded:
        assert np.array_equal(scan.calibration[0][0, :, :, 3, 0], other[:, :, 3])
        assert scan.calibration[1][0, :, 0].tolist() == [0, 0, 0, 1, 0, 1, 0, 0]


def test_noise_is_scaled_by_dwell_time_and_bandwidth(path):
    """Variance goes with bandwidth: four times the dwell time, a quarter of the variance."""
    noise = normal(COILS, 40)
    text = write_mrd_header(header(), COILS).replace(
        "<receiverChannels>",
        "<relativeReceiverNoiseBandwidth>0.5</relativeReceiverNoiseBandwidth><receiverChannels>",
    )
    made = [readout(noise, [NOISE], dwell=20.0)]
    written(path, made + lines(normal(COILS, LENGTH, PHASES), dwell=5.0), text)
    assert np.allclose(read_mrd(path).noise, noise * np.sqrt(4 / 0.5), rtol=1e-6)


def test_what_the_writer_wrote_is_read_by_the_library_and_here(path):
    kspace, noise = normal(2, COILS, LENGTH, PHASES), normal(COILS, 50)
    mask = np.array([1, 0, 1, 1, 1, 1, 0, 1])
    write_mrd(path, kspace, mask, header(limits=(0, 7, 4)), noise, dwell=2.5)
    scan = read_mrd(path)
    assert np.array_equal(scan.kspace[..., 0], kspace * mask)
    assert np.array_equal(scan.noise, noise)
    with ismrmrd.Dataset(str(path), create_if_needed=False, mode="r") as file:
        parsed = ismrmrd.xsd.CreateFromDocument(file.read_xml_header())
        assert parsed.encoding[0].encodedSpace.matrixSize.x == LENGTH
        last = file.read_acquisition(file.number_of_acquisitions() - 1)
        assert np.array_equal(last.data, kspace[1, :, :, 7])
        assert (last.idx.slice, last.idx.kspace_encode_step_1, last.sample_time_us) == (1, 7, 2.5)
        assert file.read_acquisition(0).is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)


def test_shifted_limits_round_trip(path):
    kspace = normal(1, COILS, LENGTH, PHASES)
    write_mrd(path, kspace, np.ones(PHASES), header(limits=(3, 10, 7)))
    assert np.array_equal(read_mrd(path).kspace[..., 0], kspace)


def test_measurement_is_white_and_cropped(path):
    """A simulated scan: its image lies where the truth does, alone."""
    image = np.zeros((32, 24))
    image[8:24, 6:18] = 1
    raw = simulate_raw_mri(image, np.ones(24), 0.01, seed=0, coils=4)
    lower = np.linalg.cholesky(raw.covariance)
    noise = (lower @ normal(4, 4000)).astype(np.complex64)
    write_mrd(path, raw.kspace[None], raw.mask, raw.header(), noise)
    scan = measurement_of_mrd(read_mrd(path), coils=4)
    assert scan.data.shape == (1, 4, 32, 24)
    assert scan.pixel_size == (1.0, 1.0)
    images = ifft2c(torch.from_numpy(scan.data))
    magnitude = images.abs().square().sum(1).sqrt()[0].numpy()
    inside = np.abs(raw.truth) > 0.5
    level = magnitude[inside] / np.abs(raw.truth[inside])
    assert level.std() < 0.25 * level.mean()
    assert magnitude[:4].mean() < 0.1 * magnitude[inside].mean()


def test_whitened_noise_has_unit_variance(path):
    """Pure correlated noise: 4 x 16 x 64 complex samples, 6 standard errors are 0.09."""
    mix = normal(4, 4) + 3 * np.eye(4)
    kspace = np.tensordot(mix, normal(4, 32, 64), 1)[None]
    big = Header(
        Space((32, 64, 1), (64, 64, 5)), Space((16, 64, 1), (32, 64, 5)), EncodingLimits(0, 63, 32)
    )
    write_mrd(path, kspace, np.ones(64), big, mix @ normal(4, 50_000))
    scan = measurement_of_mrd(read_mrd(path))
    assert scan.data.shape == (1, 4, 16, 64)
    assert abs(scan.data.real.var() - 1) < 0.1
    assert abs(scan.data.imag.var() - 1) < 0.1
    off = np.cov(scan.data[0].reshape(4, -1)) / 2 - np.eye(4)
    assert np.abs(off).max() < 0.15


def test_volumes_are_divided_along_the_readout(path):
    """Partitions: every readout position is a slice with the partitions as rows."""
    volume = normal(COILS, LENGTH, PHASES, 6)
    made = [
        readout(volume[:, :, y, z], kspace_encode_step_1=y, kspace_encode_step_2=z)
        for y in range(PHASES)
        for z in range(6)
        if (y, z) != (0, 0)
    ]
    limits = (
        "<kspace_encoding_step_2><minimum>0</minimum><maximum>5</maximum><center>3</center>"
        "</kspace_encoding_step_2></encodingLimits>"
    )
    text = write_mrd_header(header(6), COILS).replace("</encodingLimits>", limits)
    written(path, made, text)
    scan = read_mrd(path)
    assert np.array_equal(scan.kspace[0, :, :, 1:], volume[:, :, 1:])
    eye = np.sqrt(2) * np.concatenate([np.eye(COILS)] * 50, axis=1).astype(np.complex64) * 5
    whole = measurement_of_mrd(replace(scan, noise=eye))
    assert whole.data.shape == (LENGTH // 2, COILS, 6, PHASES)
    assert whole.pixel_size == (5.0, 1.0)
    assert not whole.mask[:, 0, 0].any()
    assert whole.mask.sum() == LENGTH // 2 * 47
    # Coils were compressed by a unitary matrix: compare what does not depend on it.
    shifted = np.fft.ifftshift(scan.kspace[0], axes=1)
    images = np.fft.fftshift(np.fft.ifft(shifted, axis=1, norm="ortho"), axes=1)[:, 4:12]
    energy = (np.abs(images) ** 2).sum(0).transpose(0, 2, 1)
    noise = (np.abs(eye) ** 2).sum(1).mean() / (2 * eye.shape[1])
    assert np.allclose((np.abs(whole.data) ** 2).sum(1), energy / noise, rtol=1e-4)


def test_separate_calibration_gives_the_maps():
    """Eight central lines of a separate scan, and an image of every other line."""
    image = np.zeros((32, 24))
    image[6:26, 5:19] = 1
    raw = simulate_raw_mri(image, np.ones(24), 1e-3, seed=1, coils=4)
    kspace = raw.kspace[None, ..., None]
    counts = np.zeros((1, 24, 1), np.int8)
    counts[:, ::2] = 1
    centre = np.zeros((1, 24, 1), np.int8)
    centre[:, 6:18] = 1
    from invdiff.datasets.mrd import MRDScan

    where = counts[:, None, None]
    scan = MRDScan(
        parse_mrd_header(write_mrd_header(raw.header(), 4)), ("a",), kspace * where, counts,
        (np.linalg.cholesky(raw.covariance) @ normal(4, 2000)).astype(np.complex64),
        (kspace * centre[:, None, None], centre), 0,
    )  # fmt: skip
    measured = measurement_of_mrd(scan)
    full = measurement_of_mrd(replace(scan, kspace=kspace, counts=counts * 0 + 1))
    coil_images = ifft2c(torch.from_numpy(full.data))[0]
    maps = torch.from_numpy(measured.maps)[0]
    combined = (maps.conj() * coil_images).sum(0)
    rss = coil_images.abs().square().sum(0).sqrt()
    inside = rss > 0.5 * rss.max()
    # The maps point where the coils' images do: nothing is lost in combining them.
    assert (combined.abs()[inside] / rss[inside]).min() > 0.97


def text_of(**changes):
    text = write_mrd_header(header(), COILS)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text


KSPACE = normal(COILS, LENGTH, PHASES)
WRONG = {
    "reversed": (lines(KSPACE, flags=[ismrmrd.ACQ_IS_REVERSE]), None, "reversed"),
    "short": (lines(KSPACE[:, 1:]), None, "15 samples"),
    "off-centre": (lines(KSPACE, centre=3), None, "centred at 3"),
    "discarded": (lines(KSPACE, discard=(1, 1)), None, "14 samples"),
    "all-discarded": (lines(KSPACE, discard=(8, 8)), None, "discards all"),
    "twice": (lines(KSPACE) * 2, None, "measured twice"),
    "outside": ([readout(KSPACE[:, :, 0], kspace_encode_step_1=8)], None, "outside"),
    "partition": ([readout(KSPACE[:, :, 0], kspace_encode_step_2=1)], None, "outside"),
    "coils": (
        [readout(KSPACE[:, :, 0]), readout(KSPACE[:2, :, 1], kspace_encode_step_1=1)],
        None,
        "3 and 2 coils",
    ),
    "nan": ([readout(KSPACE[:, :, 0] * np.nan)], None, "NaN"),
    "only-noise": (
        [readout(KSPACE[:, :, 0], [NOISE])],
        None,
        "no read",
    ),
    "dwell": (
        [readout(KSPACE[:, :, 0], [NOISE], dwell=0.0), *lines(KSPACE)],
        None,
        "dwell",
    ),
    "radial": (lines(KSPACE), text_of(a=("cartesian", "radial")), "not 'cartesian'"),
    "large": (lines(KSPACE), text_of(a=("<x>16<", "<x>99999<")), "more than 16384"),
    "limits": (lines(KSPACE), text_of(a=("<center>4<", "<center>inf<")), "encoding limits|number"),
    "no-xml": (lines(KSPACE), "nothing", "not XML"),
    "entities": (lines(KSPACE), "<!DOCTYPE x><a/>", "entities"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_scans_are_refused(case, path):
    readouts, text, match = WRONG[case]
    written(path, readouts, text)
    with pytest.raises(ValueError, match=match):
        read_mrd(path)


def test_other_files_are_refused(path):
    with h5py.File(path, "w") as file:
        file["kspace"] = 1.0
    with pytest.raises(ValueError, match="0 scans"):
        read_mrd(path)
    with h5py.File(path, "w") as file:
        file["dataset/xml"], file["dataset/data"] = [write_mrd_header(header(), 1)], np.ones(3)
    with pytest.raises(ValueError, match="list of records"):
        read_mrd(path)
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = [write_mrd_header(header(), 1)]
        file["dataset/data"] = np.zeros(3, [("head", "<f4"), ("data", "<f4")])
    with pytest.raises(ValueError, match="lack fields"):
        read_mrd(path)


def test_memory_is_refused_before_it_is_taken(path, monkeypatch):
    from invdiff.datasets import mrd

    written(path, lines(KSPACE))
    monkeypatch.setattr(mrd, "LIMIT", 2000)
    with pytest.raises(ValueError, match=r"larger than allowed|more than 2000 bytes"):
        read_mrd(path)


def test_what_cannot_be_written(path):
    with pytest.raises(ShapeError, match="same readout"):
        write_mrd(path, normal(1, COILS, 9, PHASES), np.ones(PHASES), header())
    with pytest.raises(ShapeError, match="mask"):
        write_mrd(path, normal(1, COILS, LENGTH, PHASES), np.ones(3), header())
    with pytest.raises(ShapeError, match="noise"):
        write_mrd(path, normal(1, COILS, LENGTH, PHASES), np.ones(PHASES), header(), normal(2, 9))
    with pytest.raises(TypeError, match="complex"):
        write_mrd(path, np.ones((1, COILS, LENGTH, PHASES)), np.ones(PHASES), header())
    assert not path.exists()
