"""HDF5 files that are not trusted: what is read is exact, and what is wrong harms nobody."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from invdiff.datasets import hdf5, hdf5_process, hdf5_worker
from invdiff.datasets.hdf5 import HDF5File, one_worker


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def test_all_kinds_come_back_exactly(path):
    rng = np.random.default_rng(0)
    record = np.dtype([("head", [("n", "<u2"), ("v", "<f4", (3,))]), ("x", h5py.vlen_dtype("f4"))])
    records = np.zeros(2, record)
    records["head"]["n"], records["head"]["v"] = (7, 8), rng.normal(size=(2, 3))
    for row, size in zip(records, (2, 5), strict=True):
        row["x"] = np.arange(size, dtype=np.float32)
    complex_values = (rng.normal(size=(4, 3)) + 1j * rng.normal(size=(4, 3))).astype(np.complex64)
    with h5py.File(path, "w") as file:
        file["c"] = complex_values
        file["group/big_endian"] = np.arange(5, dtype=">i4")
        file["text"], file["texts"] = "früh", ["a", "bcd"]
        file["fixed"] = np.array([b"xy", b"z"])
        file["bool"] = np.array([True, False])
        file["records"] = records
        file.create_dataset("packed", data=np.ones((64, 64)), compression="gzip", shuffle=True)
        file.attrs["number"], file.attrs["word"], file.attrs["many"] = 3, "ab", [1, 2]
    with HDF5File(path) as file:
        found = file.array("c", 1, 3)
        assert np.array_equal(found, complex_values[1:3])
        assert found.dtype == np.complex64
        assert file.array("group/big_endian").tolist() == [0, 1, 2, 3, 4]
        assert file.entries["group"] is None
        assert file.entries["c"].shape == (4, 3)
        assert file.texts("text") == ["früh"]
        assert file.texts("texts") == ["a", "bcd"]
        assert file.texts("fixed") == ["xy", "z"]
        assert file.array("bool").tolist() == [True, False]
        fields = file.fields("records")
        assert fields["head.n"].tolist() == [7, 8]
        assert np.array_equal(fields["head.v"], records["head"]["v"])
        assert fields["x.lengths"].tolist() == [2, 5]
        assert fields["x.values"].tolist() == [0, 1, 0, 1, 2, 3, 4]
        assert file.array("packed").sum() == 4096
        assert file.attributes() == {"number": 3, "word": "ab", "many": None}
        with pytest.raises(KeyError):
            file.array("group")
        with pytest.raises(ValueError, match="plain numbers"):
            file.array("records")
        with pytest.raises(ValueError, match="texts"):
            file.texts("c")


def refused(path, match, limit=2**26):
    with pytest.raises(ValueError, match=match), HDF5File(path, limit) as file:
        for name, entry in file.entries.items():
            if entry is not None:
                file.fields(name)


def test_a_promise_that_the_file_does_not_hold(path):
    """40 GB declared in 2 kB, as a bomb, and what is merely too large."""
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10**10,), np.float32, chunks=(1000,))
    refused(path, "larger than allowed|far larger")
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (10**6,), np.float32, chunks=(1000,))
    refused(path, "far larger than what it stores")
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(10**6, np.float32)
    refused(path, "larger than allowed", limit=10**6)
    with HDF5File(path, 10**6) as file:
        assert file.array("a", 0, 1000).size == 1000


def test_memory_that_texts_would_take(path):
    """Ragged arrays are as large as their parts, which no header tells."""
    with h5py.File(path, "w") as file:
        file["a"] = ["x" * 10**6] * 3
    refused(path, "larger than allowed", limit=10**6)


@pytest.mark.parametrize("kind", ["soft", "external", "storage", "virtual"])
def test_other_places_are_not_followed(path, tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 100)
    with h5py.File(path, "w") as file:
        if kind == "soft":
            file["a"] = h5py.SoftLink("/b")
        elif kind == "external":
            file["a"] = h5py.ExternalLink(str(secret), "/b")
        elif kind == "storage":
            file.create_dataset("a", (100,), np.uint8, external=[(str(secret), 0, 100)])
        else:
            layout = h5py.VirtualLayout((3,), np.float64)
            layout[:] = h5py.VirtualSource(str(secret), "b", (3,))
            file.create_virtual_dataset("a", layout)
    refused(path, "other files or places")


def test_deep_and_endless_groups(path):
    with h5py.File(path, "w") as file:
        file.create_group("/".join("abcdefghijklmnopqrstuvwxyz"))
    refused(path, "nested too deeply")
    with h5py.File(path, "w") as file:
        file.create_group("a")["b"] = file["/"]
    refused(path, "nested too deeply")


def test_references_and_filters_that_are_not_read(path):
    with h5py.File(path, "w") as file:
        file["b"] = 1.0
        file.create_dataset("a", data=[file["b"].ref], dtype=h5py.ref_dtype)
    refused(path, "neither of numbers nor of texts|damaged")
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.arange(100), chunks=(10,), scaleoffset=4)
    refused(path, "compressed in a way")


def test_what_is_no_file(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file") as error:
        HDF5File(path)
    assert path.name not in str(error.value)
    path.write_bytes(b"something else, long enough" * 40)
    refused(path, "not an HDF5 file")
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(1000)
    path.write_bytes(path.read_bytes()[:-3000])
    refused(path, "damaged or truncated")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        HDF5File(tmp_path / "pipe")


def ended_by(process, request, limit):
    """What a crash of the library looks like from here."""
    process.send_signal(signal.SIGSEGV)
    process.wait()
    return original(process, request, limit)


original = hdf5_process._answer


def test_a_crash_becomes_an_error_and_the_next_file_is_read(path, monkeypatch):
    with h5py.File(path, "w") as file:
        file["a"] = 1.0
    with one_worker():
        with monkeypatch.context() as patch:
            patch.setattr(hdf5_process, "_answer", ended_by)
            refused(path, "library failed")
        with HDF5File(path) as file:
            assert file.array("a") == 1


def test_a_process_that_does_not_answer_is_ended(path, monkeypatch):
    with h5py.File(path, "w") as file:
        file["a"] = 1.0
    monkeypatch.setattr(hdf5_process, "PATIENCE", 0.5)
    held = []

    def stopped(process, request, limit):
        held.append(process)
        process.send_signal(signal.SIGSTOP)
        return original(process, request, limit)

    monkeypatch.setattr(hdf5_process, "_answer", stopped)
    refused(path, "time allowed")
    assert held[0].poll() is not None


def test_processes_end_with_their_files(path):
    with h5py.File(path, "w") as file:
        file["a"] = 1.0
    file = HDF5File(path)
    process = file._worker._process
    assert process.poll() is None
    file.close()
    assert process.poll() is not None
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not an HDF5"):
        HDF5File(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit")
def test_memory_of_the_process_is_limited():
    program = hdf5_worker.__file__
    code = (
        f"import runpy, numpy; w = runpy.run_path({program!r}); w['_limit_memory'](2**30)\n"
        "try: numpy.ones(2**28)\nexcept MemoryError: print('refused')"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "refused"


def test_answers_of_the_process_are_not_trusted():
    class Stream:
        def readinto(self, buffer):
            return 0

    for dtype, shape in (("|O8", [1]), ("<f8", [10**9]), ("<f8", [2])):
        with pytest.raises(ValueError):
            hdf5_process._array(Stream(), dtype, shape, 1000)


NONSENSE = {
    "no-object": [1],
    "nothing": {},
    "list": {"entries": [1]},
    "short": {"entries": {"a": [[2], "f"]}},
    "text": {"entries": {"a": [["2"], "f", 8]}},
    "negative": {"entries": {"a": [[-2], "f", 8]}},
    "huge": {"entries": {"a": [[2**63], "f", 8]}},
    "no-kind": {"entries": {"a": [[2], None, 8]}},
}


class Told:
    """A process that says what it is told to."""

    def __init__(self, said):
        self.stdout, self.stdin = io.BytesIO(said), io.BytesIO()

    def kill(self): ...
    def communicate(self): ...


def told(monkeypatch, *lines):
    said = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    monkeypatch.setattr(hdf5_process, "_started", lambda limit: Told(said))


@pytest.mark.parametrize("case", NONSENSE)
def test_a_process_that_was_taken_over_says_nonsense(path, monkeypatch, case):
    path.write_bytes(b"any")
    told(monkeypatch, NONSENSE[case])
    with pytest.raises(ValueError, match="library failed"):
        HDF5File(path)


def test_deep_answers_and_arrays_that_were_not_announced(path, monkeypatch):
    path.write_bytes(b"any")
    monkeypatch.setattr(hdf5_process, "_started", lambda limit: Told(b"[" * 10**5 + b"\n"))
    with pytest.raises(ValueError, match="library failed"):
        HDF5File(path)
    entries = {"entries": {"a": [[2], "f", 16]}}
    for arrays in ([["", "<f8", [10**9]]], [["", "<f8", [-1, -1]]], [["", 1, [1]]], [[1]], 7):
        told(monkeypatch, entries, {"arrays": arrays})
        with HDF5File(path) as file, pytest.raises(ValueError, match="library failed"):
            file.array("a")
    told(monkeypatch, entries, {"attributes": {"a": [1], "b": 2}})
    with HDF5File(path) as file:
        assert file.attributes() == {"a": None, "b": 2}
    told(monkeypatch, {"refused": ["x"]})
    with pytest.raises(ValueError, match="damaged"):
        HDF5File(path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit")
def test_a_false_length_takes_no_memory(path):
    """The length of a text, which the library allocates before it looks where the text is.

    Fuzzing found that 12 kB took 1 GB. The process may take 1 GiB of addresses, its code included,
    and what 12 kB can hold: so that is refused, and its peak stays small.
    """
    text = b"some text that is long enough to be found"
    with h5py.File(path, "w") as file:
        file["a"] = text.decode()
    content = bytearray(path.read_bytes())
    at = bytes(content).index(len(text).to_bytes(4, "little"))
    content[at : at + 4] = (10**9).to_bytes(4, "little")
    path.write_bytes(content)
    with HDF5File(path) as file:
        peak = Path(f"/proc/{file._worker._process.pid}/status")
        with pytest.raises(ValueError, match=r"damaged|memory|failed"):
            file.texts("a")
        (size,) = re.findall(r"VmHWM:\s+(\d+) kB", peak.read_text())
    assert int(size) < 300 * 1024


def test_flatten_names_nested_fields():
    array = np.zeros(2, [("a", [("b", "<i2")]), ("c", "<f4")])
    assert list(hdf5_worker.flatten(array)) == ["a.b", "c"]
    with pytest.raises(hdf5_worker.Refusal):
        hdf5_worker.flatten(np.zeros(2, "V8"))


def test_without_h5py_the_message_says_what_to_install(monkeypatch, path):
    import builtins

    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install invdiff\[mri\]"):
        hdf5.HDF5File(path)
