"""The matrices on disk: found again, rebuilt when damaged, bounded, shared by processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from invdiff.operators import (
    CTOperator,
    Geometry,
    ParallelBeamCT,
    Projection,
    ct_cache,
    ct_matrix,
)

A = ParallelBeamCT((10, 9), 5, 1.0)
X = torch.ones(1, 1, 10, 9)


@pytest.fixture(autouse=True)
def forgetful():
    """Nothing is in memory before a test."""
    ct_matrix.system_matrix.cache_clear()
    yield
    ct_matrix.system_matrix.cache_clear()


@pytest.fixture
def builds(monkeypatch):
    """The geometries whose matrices were built."""
    made, build = [], ct_matrix._build

    def counted(geometry, kernel):
        made.append((geometry, kernel))
        return build(geometry, kernel)

    monkeypatch.setattr(ct_matrix, "_build", counted)
    return made


def files():
    return sorted(ct_cache.cache_folder().glob("*"))


def test_built_once_then_kept_in_memory_then_read(builds):
    first = A(X)
    assert torch.equal(ParallelBeamCT((10, 9), 5, 1.0)(X), first)
    assert len(builds) == 1
    ct_matrix.system_matrix.cache_clear()
    assert torch.equal(A(X), first)
    assert len(builds) == 1
    assert len(files()) == 1  # and no temporary file is left


def test_another_geometry_is_another_file(builds):
    A(X)
    ParallelBeamCT((10, 9), 5, 1.0, detector_spacing=1.5)(X)
    assert len(builds) == len(files()) == 2


def test_another_kernel_is_another_file(builds):
    A(X)
    ParallelBeamCT((10, 9), 5, 1.0, kernel=Projection.STRIP)(X)
    assert len(builds) == len(files()) == 2


def test_every_geometry_comes_back_whole(builds):
    """Volumes and fans, too: other shapes, the same files."""
    distances = {"source_to_axis": 60.0, "source_to_detector": 90.0}
    fan = Geometry.fan((10, 9), 5, pixel_size=1.0, **distances, arc=True)
    detector = {"detectors": (3, 8), "detector_spacing": (2.0, 2.0)}
    cone = Geometry.cone((4, 5, 6), 5, pixel_size=1.0, **distances, **detector)
    for operator in (CTOperator(fan), CTOperator(cone)):
        x = torch.rand(1, *operator.domain, generator=torch.Generator().manual_seed(0))
        expected = operator(x)
        ct_matrix.system_matrix.cache_clear()
        again = CTOperator(Geometry.from_json(operator.geometry.to_json()))
        assert torch.equal(again(x), expected)
    assert len(builds) == len(files()) == 2


def test_both_precisions_share_a_file(builds):
    assert torch.allclose(A(X).double(), A(X.double()), rtol=1e-6)
    assert len(builds) == 1


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")


def point_outside(path):
    """A well-formed file whose indices would read foreign memory."""
    arrays = dict(np.load(path))
    arrays["indices"] = arrays["indices"] + 1000
    np.savez(path, **arrays)


@pytest.mark.parametrize("damage", [truncate, flip, empty, point_outside])
def test_a_damaged_file_is_built_again(builds, damage):
    expected = A(X)
    (path,) = files()
    damage(path)
    ct_matrix.system_matrix.cache_clear()
    with pytest.warns(RuntimeWarning, match="building it again"):
        assert torch.equal(A(X), expected)
    assert len(builds) == 2
    ct_matrix.system_matrix.cache_clear()
    A(X)
    assert len(builds) == 2  # the file is whole again


def test_the_oldest_files_go(monkeypatch):
    A(X)
    (old,) = files()
    os.utime(old, (1, 1))
    monkeypatch.setenv("INVDIFF_CACHE_BYTES", str(int(1.5 * old.stat().st_size)))
    ParallelBeamCT((10, 9), (0.0, 0.1, 0.2, 0.3, 0.4), 1.0)(X)
    assert len(files()) == 1
    assert not old.exists()


def test_a_matrix_beyond_the_limit_is_not_kept(monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE_BYTES", "10")
    A(X)
    assert not ct_cache.cache_folder().exists()


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="INVDIFF_CACHE"):
        assert A(X).sum() > 0


def test_the_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("INVDIFF_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ct_cache.cache_folder() == tmp_path / "invdiff" / "ct"


def test_two_processes_at_once():
    script = (
        "import torch; from invdiff.operators import CTOperator, Geometry;"
        "A = CTOperator(Geometry.fan((40, 40), 30, pixel_size=1.0, source_to_axis=90,"
        "source_to_detector=120)); print(A(torch.ones(1, 1, 40, 40)).sum().item())"
    )
    # Errors only: the libraries warn at import, and the cache's warning is a RuntimeWarning.
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", script]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert len(files()) == 1
