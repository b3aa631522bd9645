"""A disk that is full, folders that may not be used: one clear line, and nothing half-written.

Memory that is short, and NaN from a prior, are in test_cells.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import contents, room, without_privileges
from runs import QUICK, write_discs

from invdiff.cli import main
from invdiff.datasets.result_file import ResultFile

PLANTED = "ZZDOE"
SIZES = {  # of the disk's room in bytes: what no longer fits
    "the settings": 100,
    "the first results": 1200,
    "the images": 12_000,
    "the posterior": 14_000,
    "the report": 30_000,
}
SAME = ("posterior.h5", "result.json")


def recon(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path) -> int:
    words = ["invdiff", "recon", str(source), "--out", str(out), *QUICK]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def compared(folder: Path) -> dict[str, bytes]:
    """What must be the same however often a run was disturbed."""
    found = contents(folder)
    return {k: v for k, v in found.items() if k in SAME or k.endswith(".images.npz")}


def check_whole(folder: Path) -> None:
    """Everything that bears its final name can be read."""
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in folder.rglob("*.npz"):
        with np.load(path) as arrays:
            assert [arrays[name] for name in arrays.files]
    for path in folder.rglob("*.h5"):
        ResultFile(path).close()
    assert not [p for p in folder.rglob("*") if ".part" in p.name or p.suffix == ".lock"]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp(PLANTED) / f"{PLANTED}.h5", 1)


@pytest.fixture(scope="module")
def expected(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        assert recon(patch, scan, folder) in (0, 4)
    return compared(folder)


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_a_full_disk(
    scan: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The real write calls fail, in the middle of a file; the next run goes on."""
    out = tmp_path / "out"
    with room(size):
        assert recon(monkeypatch, scan, out) in (1, 3)
    said = capsys.readouterr()
    assert "too large" in said.err.lower()  # what the limit of the test says for a full disk
    assert "Traceback" not in said.err and PLANTED not in said.err + said.out
    check_whole(out)
    assert recon(monkeypatch, scan, out) in (0, 4)
    check_whole(out)
    assert compared(out) == expected


@pytest.mark.parametrize(
    ("what", "mode"),
    [("above", 0o555), ("above", 0), ("itself", 0o555), ("itself", 0), ("input", 0)],
    ids=["above-read-only", "above-closed", "itself-read-only", "itself-closed", "input-closed"],
)
def test_folders_and_files_that_may_not_be_used(
    what: str, mode: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, without a name, and nothing is written."""
    with without_privileges() as folder:
        monkeypatch.setenv("INVDIFF_CACHE", str(folder / "cache"))
        scan = write_discs(folder / f"{PLANTED}.h5", 1)
        above = folder / PLANTED
        out = above / "out"
        out.mkdir(parents=True)
        {"above": above, "itself": out, "input": scan}[what].chmod(mode)
        status = recon(monkeypatch, scan, out / "new" if what == "itself" else out)
    said = capsys.readouterr()
    assert status == 1
    assert said.err.count("invdiff: error: ") == 1 and "Traceback" not in said.err
    assert PLANTED not in said.err + said.out
