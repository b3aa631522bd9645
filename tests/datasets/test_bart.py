"""BART's pairs of files: the format as its documentation has it, exactly back, never half."""

from pathlib import Path

import numpy as np
import pytest

from invdiff.datasets.bart import (
    images_to_cfl,
    kspace_from_cfl,
    kspace_to_cfl,
    read_cfl,
    write_cfl,
)
from invdiff.errors import ShapeError

rng = np.random.default_rng(0)


def complex_values(*shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4, 1, 2), (1,) * 15 + (3,)])
def test_round_trip(shape, tmp_path):
    values = complex_values(*shape)
    write_cfl(tmp_path / "a", values)
    for name in ("a", "a.cfl", "a.hdr"):
        again = read_cfl(tmp_path / name)
        assert again.shape == (*shape, *[1] * (16 - len(shape)))
        assert np.array_equal(again.reshape(shape), values)
        again.ravel()[0] = 0  # may be changed


def test_the_bytes_are_those_of_the_format(tmp_path):
    """First axis fastest, real and imaginary parts in turn, float32 little-endian."""
    write_cfl(tmp_path / "a.b", np.array([[1, 2], [3, 4 + 5j]]))
    assert (tmp_path / "a.b.hdr").read_text().splitlines()[0] == "# Dimensions"
    assert (tmp_path / "a.b.hdr").read_text().splitlines()[1].split() == ["2", "2"] + ["1"] * 14
    stored = np.frombuffer((tmp_path / "a.b.cfl").read_bytes(), "<f4")
    assert stored.tolist() == [1, 0, 3, 0, 2, 0, 4, 5]


def test_comments_of_the_tool_do_no_harm(tmp_path):
    write_cfl(tmp_path / "a", np.ones(3))
    with (tmp_path / "a.hdr").open("a") as file:
        file.write("# Command\nphantom a\n# Creator\nBART\n")
    assert read_cfl(tmp_path / "a").size == 3


def test_kspace_and_images_have_their_axes(tmp_path):
    kspace = complex_values(2, 3, 4, 5)
    cfl = kspace_to_cfl(kspace)
    assert cfl.shape == (4, 5, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1)
    assert cfl[1, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0] == kspace[1, 2, 1, 2]
    assert np.array_equal(kspace_from_cfl(cfl), kspace)
    assert np.array_equal(kspace_from_cfl(np.ones((4, 5))), np.ones((1, 1, 4, 5)))
    assert images_to_cfl(kspace[:, 0]).shape[:4] == (4, 5, 1, 1)
    for wrong in (kspace_to_cfl, images_to_cfl):
        with pytest.raises(ShapeError):
            wrong(np.ones((4, 5)))
    with pytest.raises(ShapeError, match="axes 0"):
        kspace_from_cfl(np.ones((4, 5, 6)))


HEADERS = {
    "empty": "",
    "other": "2 3\n",
    "no-line": "# Dimensions\n",
    "negative": "# Dimensions\n-2 3\n",
    "zero": "# Dimensions\n0 3\n",
    "words": "# Dimensions\ntwo\n",
    "many": "# Dimensions\n" + "1 " * 17,
    "digits": "# Dimensions\n" + "9" * 5000 + "\n",
    "script": "# Dimensions\n²\n",
    "long": "# Dimensions\n3\n" + "#" * 10**5,
}


@pytest.mark.parametrize("case", HEADERS)
def test_wrong_headers_are_refused(case, tmp_path):
    write_cfl(tmp_path / "a", np.ones(3))
    (tmp_path / "a.hdr").write_text(HEADERS[case])
    with pytest.raises(ValueError, match=r"header|hdr"):
        read_cfl(tmp_path / "a")


def test_sizes_that_do_not_fit_are_refused_before_memory_is_taken(tmp_path):
    write_cfl(tmp_path / "a", np.ones(3))
    (tmp_path / "a.hdr").write_text("# Dimensions\n100000 100000 1000\n")
    with pytest.raises(ValueError, match="at most"):
        read_cfl(tmp_path / "a")
    (tmp_path / "a.hdr").write_text("# Dimensions\n4\n")
    with pytest.raises(ValueError, match="24 bytes"):
        read_cfl(tmp_path / "a")
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(FileNotFoundError):
        read_cfl(tmp_path / "a")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ShapeError):
        write_cfl(tmp_path / "a", np.ones((1,) * 17))
    with pytest.raises(ShapeError):
        write_cfl(tmp_path / "a", np.ones(0))
    with pytest.raises(TypeError):
        write_cfl(tmp_path / "a", np.array(["x"]))
    for bad in (np.nan, 1e300):
        with pytest.raises(ValueError, match="finite"):
            write_cfl(tmp_path / "a", np.array([bad]))
    assert not list(tmp_path.iterdir())


def test_a_header_never_stands_beside_other_numbers(tmp_path, monkeypatch):
    """Whichever step of writing fails, what can be read is the old pair, the new one, or none."""
    replaced, real = [], Path.replace
    for failing in range(3):
        write_cfl(tmp_path / "a", np.ones(2))

        def replace(self, target, failing=failing):
            replaced.append(target)
            if len(replaced) > failing:
                raise OSError("disk")
            return real(self, target)

        replaced.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            if failing < 2:
                with pytest.raises(OSError, match="disk"):
                    write_cfl(tmp_path / "a", np.arange(2.0))
            else:
                write_cfl(tmp_path / "a", np.arange(2.0))
        if (tmp_path / "a.hdr").exists():
            values = read_cfl(tmp_path / "a").ravel().tolist()
            assert values in ([1, 1], [0, 1])
        assert not [path for path in tmp_path.iterdir() if ".part" in path.name]
