"""Large results: whole or absent, one image at a time in memory."""

import h5py
import numpy as np
import pytest

from invdiff.datasets.hdf5 import one_worker
from invdiff.datasets.result_file import ResultFile, new_result
from invdiff.errors import ShapeError

rng = np.random.default_rng(0)
ABOUT = {"prior": "ct", "seed": 3}


@pytest.fixture(autouse=True)
def fast():
    with one_worker():
        yield


@pytest.mark.parametrize("shape", [(6, 7), (1, 6, 7), (3, 6, 7)])
@pytest.mark.parametrize("samples", [0, 4])
def test_round_trip_in_any_order(tmp_path, shape, samples):
    path = tmp_path / "a.h5"
    mean, std = rng.normal(size=(2, 3, *shape)).astype(np.float32)
    drawn = rng.normal(size=(3, samples, *shape)).astype(np.float32)
    with new_result(path, ["a", "b", "ü"], shape, samples, "HU", ABOUT) as writer:
        for k in (2, 0, 1):
            writer.put(k, mean[k], std[k], drawn[k] if samples else None)
        assert not path.exists()
    with ResultFile(path) as result:
        assert result.items == ("a", "b", "ü")
        assert result.about == {"unit": "HU", "about": ABOUT}
        for k in range(3):
            assert np.array_equal(result.read(k), mean[k])
            assert np.array_equal(result.read(k, "std"), std[k])
            if samples:
                assert np.array_equal(result.read(k, "samples"), drawn[k])
        with pytest.raises(IndexError):
            result.read(3)
        with pytest.raises(KeyError):
            result.read(0, "other" if samples else "samples")
    with h5py.File(path) as file:
        assert file["mean"].chunks == (*[1] * (len(shape) - 1), *shape[-2:])
        assert file["mean"].fletcher32


def test_a_result_that_is_not_whole_is_absent(tmp_path):
    image = np.ones((2, 2))
    with pytest.raises(ValueError, match="1 items of the result are missing"):
        with new_result(tmp_path / "a.h5", ["a", "b"], (2, 2), 0, "HU", {}) as writer:
            writer.put(0, image, image)
    with pytest.raises(RuntimeError, match="stop"):
        with new_result(tmp_path / "a.h5", ["a"], (2, 2), 0, "HU", {}) as writer:
            writer.put(0, image, image)
            raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_wrong_parts_are_refused(tmp_path):
    image = np.ones((2, 2))
    with pytest.raises(ValueError, match="missing"):
        with new_result(tmp_path / "a.h5", ["a", "b"], (2, 2), 3, "HU", {}) as writer:
            cases = [
                ((0, image, image), ShapeError, "3 samples"),
                ((0, image[0], image, np.ones((3, 2, 2))), ShapeError, "mean"),
                ((0, image, image, np.ones((2, 2, 2))), ShapeError, "samples"),
                ((0, image, image.astype(int), np.ones((3, 2, 2))), ShapeError, "std"),
                ((0, image * np.nan, image, np.ones((3, 2, 2))), ValueError, "NaN"),
                ((7, image, image, np.ones((3, 2, 2))), IndexError, "Item 7"),
            ]
            for arguments, error, match in cases:
                with pytest.raises(error, match=match):
                    writer.put(*arguments)
            writer.put(0, image, image, np.ones((3, 2, 2)))
            with pytest.raises(IndexError, match="Item 0"):
                writer.put(0, image, image, np.ones((3, 2, 2)))
    for items, shape, samples in ((["a", "a"], (2, 2), 0), (["a"], (), 0), (["a"], (2, 2), -1)):
        with pytest.raises(ValueError), new_result(tmp_path / "b", items, shape, samples, "", {}):
            pass


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["mean"] = 1.0
    with pytest.raises(ValueError, match="no result file"):
        ResultFile(path)


def test_a_damaged_image_is_noticed(tmp_path):
    path, image = tmp_path / "a.h5", rng.normal(size=(8, 8)).astype(np.float32)
    with new_result(path, ["a"], (8, 8), 0, "HU", {}) as writer:
        writer.put(0, image, image)
    content = bytearray(path.read_bytes())
    content[content.index(image.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with ResultFile(path) as result, pytest.raises(ValueError, match="damaged"):
        result.read(0)
        result.read(0, "std")
