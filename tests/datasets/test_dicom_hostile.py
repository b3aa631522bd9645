"""DICOM files made to harm: a clear error, within bounded memory and time."""

import copy
import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import broken_reader
import numpy as np
import pydicom
import pytest
from dicom_helpers import FILES, changed, enhanced, five, quickly, series_of_five
from pydicom.uid import RLELossless

from invdiff.datasets import dicom_worker
from invdiff.datasets.dicom_files import list_files
from invdiff.datasets.dicom_limits import DicomError, DicomLimits, clear_errors
from invdiff.datasets.dicom_reader import read_series
from invdiff.datasets.dicom_worker import Worker

SCRIPTS = Path(__file__).parents[2] / "scripts"
MIB = 2**20


def deflated(path):
    """60 kB that unpack to 64 MiB."""

    def bomb(image):
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        image.PixelData = bytes(64 * MIB)
        image["PixelData"].VR = "OW"

    changed(FILES / "CT_small.dcm", path, bomb)
    assert path.stat().st_size < MIB


def false_size(name, size):
    def write(path):
        def lie(image):
            image.Rows = image.Columns = size

        changed(FILES / name, path, lie)

    return write


def false_frames(path):
    """Fifty frames described, pixels of five."""
    whole = enhanced([pydicom.dcmread(one) for one in series_of_five()])
    whole.compress(RLELossless)
    whole.NumberOfFrames = 50
    items = [copy.deepcopy(one) for one in 10 * list(whole.PerFrameFunctionalGroupsSequence)]
    for k, groups in enumerate(items):
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k]
    whole.PerFrameFunctionalGroupsSequence = items
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save_as(path, enforce_file_format=True)


def many_frames(path):
    changed(FILES / "MR_small_RLE.dcm", path, lambda i: setattr(i, "NumberOfFrames", 100_000))


def false_codestream(path):
    """JPEG 2000 whose own header says 30000 x 30000."""
    data = bytearray((FILES / "MR_small_jp2klossless.dcm").read_bytes())
    start = data.index(b"\xff\x4f\xff\x51") + 8
    for at in (start, start + 4, start + 16, start + 20):  # image and tile, width and height
        data[at : at + 4] = (30000).to_bytes(4, "big")
    path.write_bytes(data)


def nested(path):
    """Two thousand sequences of undefined length, each in the other."""
    begin = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = (FILES / "CT_small.dcm").read_bytes()
    at = data.index(b"\x20\x00\x0d\x00UI")  # tags before (0040,0275) do not matter to a parser
    path.write_bytes(data[:at] + 2000 * begin + data[at:])


def many_items(path):
    """128 kB of empty items, each of which becomes an object."""
    begin = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
    item = b"\xfe\xff\x00\xe0\0\0\0\0"
    end = b"\xfe\xff\xdd\xe0\0\0\0\0"
    data = (FILES / "CT_small.dcm").read_bytes()
    at = data.index(b"\x20\x00\x0d\x00UI")
    path.write_bytes(data[:at] + begin + 2**14 * item + end + data[at:])


def truncated(path):
    data = (FILES / "CT_small.dcm").read_bytes()
    path.write_bytes(data[: len(data) // 2])


def headless(path):
    path.write_bytes((FILES / "CT_small.dcm").read_bytes()[:400])


ATTACKS = {
    "deflate bomb": (deflated, "is deflated"),
    "RLE 30000 x 30000": (false_size("MR_small_RLE.dcm", 30000), "more pixels than allowed"),
    "RLE 11000 x 11000": (false_size("MR_small_RLE.dcm", 11000), "run lengths can hold"),
    "JPEG 2000 11000 x 11000": (false_size("MR_small_jp2klossless.dcm", 11000), "pixel data"),
    "JPEG-LS 11000 x 11000": (false_size("MR_small_jpeg_ls_lossless.dcm", 11000), "pixel data"),
    "uncompressed 65535 x 65535": (false_size("MR_small.dcm", 65535), "more pixels than allowed"),
    "uncompressed 11000 x 11000": (false_size("MR_small.dcm", 11000), "fewer pixels"),
    "RLE frames": (false_frames, r"pixel data \(RLE Lossless\)"),
    "100000 frames": (many_frames, "several frames|more pixels than allowed"),
    "JPEG 2000 codestream": (false_codestream, "pixel data|crashed|memory|another size"),
    "nesting": (nested, "too deeply"),
    "truncated pixels": (truncated, "fewer pixels"),
    "truncated header": (headless, "pixel|other kinds|damaged"),
}


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"JPEG 2000 codestream"}))
def test_an_attack_is_refused_with_a_clear_error(tmp_path, name):
    """Even without the protection of another process, which only that codestream needs."""
    write, reason = ATTACKS[name]
    write(tmp_path / "a.dcm")
    with pytest.raises(DicomError, match=reason):
        quickly(tmp_path / "a.dcm")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak in /proc")
def test_memory_is_bounded_under_attack(tmp_path):
    """One process survives all the attacks, within 128 MiB (of which it begins with 50).

    pydicom alone needs 1.8 GB for the 30000 x 30000 pixels, and inflates without end.
    """
    attacks = ATTACKS | {"many items": (many_items, None)}
    for name, (write, _) in attacks.items():
        write(tmp_path / name)
    tracemalloc.start()
    with Worker(DicomLimits()) as worker:
        for name, (_, reason) in attacks.items():
            try:
                worker.describe(tmp_path / name, 0)
                list(worker.frames(tmp_path / name, range(50 if name == "RLE frames" else 1)))
                error = None
            except DicomError as refusal:
                error = str(refusal)
            assert error is reason is None or re.search(reason, error), name
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) < 128 * 1024
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()


def test_a_dicomdir_leads_nowhere(tmp_path):
    """Its references point out of the folder, as does a link; only what lies inside is read."""
    outside = tmp_path / "outside"
    five(outside)
    inside = five(tmp_path / "inside")
    source = FILES / "dicomdirtests" / "DICOMDIR"

    def traverse(image):
        for record in image.DirectoryRecordSequence:
            if "ReferencedFileID" in record:
                record.ReferencedFileID = ["..", "outside", "0.dcm"]

    changed(source, inside / "DICOMDIR", traverse)
    (inside / "more").symlink_to(outside, target_is_directory=True)
    (inside / "one.dcm").symlink_to(outside / "1.dcm")
    volume = quickly(inside)
    assert volume.pixels.shape == (5, 16, 16)
    assert (volume.skipped.other_kinds, volume.skipped.links) == (1, 2)
    with pytest.raises(DicomError, match="0 localizers and 1 DICOM files of other kinds"):
        quickly(inside / "DICOMDIR")


def test_pipes_are_not_opened(tmp_path):
    """Opening one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DicomError, match="1 other files"):
        list_files(tmp_path, DicomLimits())
    with pytest.raises(DicomError, match="not a regular file"):
        list_files([tmp_path / "pipe"], DicomLimits())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DicomLimits(files=4), "more than 4 files"),
        (DicomLimits(file_bytes=1000), "larger than 1000 bytes"),
        (DicomLimits(frame_bytes=511), "at most 511 bytes a frame"),
        (DicomLimits(pixel_bytes=5 * 512 - 1), r"\(5, 16, 16\) exceeds 2559 bytes"),
    ],
)
def test_limits_hold(limits, reason):
    with pytest.raises(DicomError, match=reason):
        quickly(FILES / "dicomdirtests" / "98892001" / "CT5N", limits)
    with pytest.raises(DicomError, match=reason):
        quickly(series_of_five(), limits)


def test_what_may_be_at_a_limit_is_read():
    limits = DicomLimits(files=5, frame_bytes=512, pixel_bytes=5 * 512)
    assert quickly(series_of_five(), limits).pixels.shape == (5, 16, 16)


def test_a_process_that_hangs_is_ended():
    """Stopped, as if in an endless loop; CharLS 2 has one that fuzzing found."""
    path = FILES / "CT_small.dcm"
    with Worker(DicomLimits(seconds=1.0)) as worker:
        os.kill(worker.process.pid, signal.SIGSTOP)
        with pytest.raises(DicomError, match=r"longer than 1 s"):
            worker.describe(path, 0)
        assert worker.process.wait() == -signal.SIGKILL
    assert threading.active_count() < 20


def test_a_process_that_dies_is_an_error():
    path = FILES / "CT_small.dcm"
    with Worker(DicomLimits()) as worker:
        assert worker.describe(path, 0).modality == "CT"
        frames = worker.frames(path, [0])
        assert next(frames).shape == (128, 128)
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(DicomError, match=r"has ended|crashed"):
            worker.describe(path, 0)


@functools.cache
def said_of(path):
    """What the process says of a file and of its frame."""
    with Worker(DicomLimits()) as worker:
        worker._ask("describe", path, 0)
        line = worker.process.stdout.readline()
        worker._ask("frames", path, [0])
        about = worker.process.stdout.readline()
        return json.loads(line), json.loads(about), worker.process.stdout.read(128 * 128 * 2)


NONSENSE = {  # part of what is said: description, one of its planes, or frame
    "modality": {"modality": "XX"},
    "header": {"header": "no base64"},
    "localizers": {"localizers": -1},
    "planes": {"planes": 3},
    "shape": {"plane": {"shape": [1, 128]}},
    "no-shape": {"plane": {"shape": [128, 128, 1]}},
    "file": {"plane": {"file": 1}},
    "position": {"plane": {"position": [0.0, 0.0, 1e999]}},
    "text": {"plane": {"slope": "1"}},
    "bits": {"plane": {"bits": [16, 2**40]}},
    "padding": {"plane": {"padding": [2**70, 0]}},
    "extra": {"plane": {"more": 1}},
    "dtype": {"frame": {"dtype": "|O8"}},
    "negative": {"frame": {"shape": [-128, -128]}},
    "bytes": {"frame": {"bytes": 2**50}},
    "no-bytes": {"frame": {"bytes": "all"}},
    "list": {"frame": [1]},
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_process_that_was_taken_over_is_not_trusted(case, monkeypatch):
    path = FILES / "CT_small.dcm"
    description, frame, pixels = copy.deepcopy(said_of(path))
    change = dict(NONSENSE[case])
    description["planes"][0] |= change.pop("plane", {})
    new = change.pop("frame", {})
    frame = new if isinstance(new, list) else frame | new
    lines = [json.dumps(part).encode() + b"\n" for part in (description | change, frame)]
    told = Told(b"".join(lines) + pixels)
    monkeypatch.setattr(dicom_worker.subprocess, "Popen", lambda *_, **__: told)
    with pytest.raises(DicomError, match=r"crashed its decoder|another size"):
        read_series(path)


class Told:
    """A process that says what it is told to."""

    def __init__(self, said):
        self.stdout, self.stdin = io.BytesIO(said), io.BytesIO()

    def kill(self): ...
    def communicate(self): ...


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit")
def test_the_process_has_a_memory_limit(tmp_path):
    """It follows the declared frame of 8 kB; the codestream's lie asks for 3.4 GiB."""
    false_codestream(tmp_path / "a.dcm")
    with Worker(DicomLimits()) as worker:
        worker.describe(tmp_path / "a.dcm", 0)
        with pytest.raises(DicomError):
            list(worker.frames(tmp_path / "a.dcm", [0]))
        limit = Path(f"/proc/{worker.process.pid}/limits")
        if limit.exists() and worker.process.poll() is None:
            (line,) = re.findall(r"Max address space\s+(\d+)", limit.read_text())
            size = (tmp_path / "a.dcm").stat().st_size
            assert int(line) == DicomLimits.memory(size, 64 * 64 * 2)


class Panic(BaseException):
    """As decoders written in Rust raise it."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StopIteration(), "damaged or invalid pixel data \\(StopIteration"),
        (RecursionError(), "nests sequences too deeply"),
        (MemoryError(), "more memory"),
        (
            PermissionError(13, "denied", "/secret/SMITH.dcm"),
            "cannot be read \\(PermissionError\\)",
        ),
        (Panic("SMITH"), "invalid pixel data \\(Panic\\)"),
        (KeyError("SMITH"), "KeyError"),
    ],
)
def test_every_exception_becomes_one(error, reason):
    with pytest.raises(DicomError, match=reason) as caught, clear_errors("pixel data"):
        raise error
    assert "SMITH" not in str(caught.value)


def test_an_interrupt_stays_one():
    with pytest.raises(KeyboardInterrupt), clear_errors("pixel data"):
        raise KeyboardInterrupt


def test_500_damaged_files(tmp_path):
    """Those of the full count, ``scripts/fuzz_readers.py --files 10000``, that come first."""
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPTS / "fuzz_readers.py"), "--reader", "dicom"),
            *("--files", "500", "--keep", str(tmp_path / "found")),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["findings"] == []
    assert report["files"] == 500
    assert report["outcomes"]["read"] > 50  # not all are refused: some damage is in the pixels
    assert report["outcomes"]["refused"] > 250
    assert report["peak_bytes"] < 2**30


def test_fuzzing_finds_a_broken_reader(tmp_path):
    sys.path.insert(0, str(SCRIPTS))
    from fuzzing import Reader, damaged, fuzz

    reader = Reader(broken_reader.seeds, broken_reader.load, broken_reader.refusals, seconds=1)
    report = fuzz("broken", reader, 8, 0, tmp_path / "kept")
    assert report["findings"] == [(1, "died (-6)"), (3, "hung"), (5, "raised KeyError")]
    assert report["outcomes"]["refused"] == 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "broken-0-1",
        "broken-0-3",
        "broken-0-5",
    ]
    kept = (tmp_path / "kept" / "broken-0-1").read_bytes()
    assert kept == damaged([bytes(range(200))], 0, 1)


def test_a_series_with_one_bad_file_names_it(tmp_path):
    folder = five(tmp_path / "five")
    (folder / "2.dcm").write_bytes((folder / "2.dcm").read_bytes()[:-100])
    with pytest.raises(DicomError, match="File 3 of 5 holds fewer pixels"):
        read_series(folder)
    assert np.isfinite(quickly(FILES / "CT_small.dcm").pixels).all()
