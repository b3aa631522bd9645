"""Files are whole or absent, whoever writes them."""

import threading

import numpy as np
import pytest

from invdiff.files import load_arrays, save_arrays, save_json, written_whole


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    with written_whole(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_text("half of the new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_no_file_before_the_end(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # or the rename would copy
    assert path.read_text() == "new"


def test_threads_do_not_share_a_temporary_name(tmp_path):
    path, names, both = tmp_path / "a.txt", set(), threading.Barrier(4)

    def write(text):
        with written_whole(path) as temporary:
            temporary.write_text(text * 1000)
            names.add(temporary.name)
            both.wait(30)  # all of them are writing now

    threads = [threading.Thread(target=write, args=(text,)) for text in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 4
    assert path.read_text() in [text * 1000 for text in "abcd"]
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_survive_bit_by_bit(tmp_path):
    arrays = {
        "a": np.array([[0.1, np.nan], [np.inf, -0.0]]),
        "b": np.arange(3, dtype=np.int16),
        "c": np.array(1 + 2j, dtype=np.complex64),
        "d": np.array([True, False]),
        "e": np.zeros((0, 3), dtype=np.float32),
    }
    save_arrays(tmp_path / "x.npz", arrays, {"note": "µ", "n": 3})
    read, about = load_arrays(tmp_path / "x.npz", "thing")
    assert about == {"note": "µ", "n": 3}
    assert read.keys() == arrays.keys()
    for name, value in arrays.items():
        assert read[name].dtype == value.dtype
        assert read[name].shape == value.shape
        assert read[name].tobytes() == value.tobytes()


def test_same_content_same_bytes(tmp_path):
    for name, order in (("x", "ab"), ("y", "ba")):
        arrays = {letter: np.arange(5) for letter in order}
        save_arrays(tmp_path / f"{name}.npz", arrays, {letter: 1 for letter in order})
        save_json(tmp_path / f"{name}.json", {letter: 1 for letter in order})
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError, match="There is no thing at"):
        load_arrays(path, "thing")
    save_arrays(path, {"a": np.arange(1000)}, {})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", whole[:100], whole[:-10], b"{}", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable thing"):
            load_arrays(path, "thing")
    np.savez(path, a=np.arange(3))
    with pytest.raises(ValueError, match="KeyError"):
        load_arrays(path, "thing")
    np.savez(path, a=np.array([{}], dtype=object), about=np.array("{}"))
    with pytest.raises(ValueError, match="is not a readable thing"):  # nothing is unpickled
        load_arrays(path, "thing")


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
