"""`invdiff recon mri` on raw files: the right slice, and clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from invdiff.cli import main
from invdiff.datasets.fastmri import FastMRIFile, write_fastmri
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.raw_simulation import RawScan, simulate_raw_mri
from invdiff.demos.mri import read_kspace


def recon(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from invdiff.cli import main; main()", "recon", "mri"]
    return subprocess.run(
        [*command, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def scan() -> RawScan:
    t = np.linspace(-1, 1, 48)
    disc = (np.hypot(t[:, None], t) < 0.7) * (1 + 0.3 * np.cos(5 * t))
    mask = np.zeros(48, bool)
    mask[::2] = mask[16:32] = True
    return simulate_raw_mri(disc, mask, 0.01, 0, coils=4)


def test_a_raw_file_is_reconstructed(tmp_path: Path, scan: RawScan) -> None:
    """The posterior mean lies on the truth, in the units of the noise."""
    scan.save(tmp_path / "raw.h5")
    done = recon("raw.h5", "--samples", "2", "--steps", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "invdiff-recon-mri/report.json").read_text())
    assert (report["notes"]["slice"], report["notes"]["slices"]) == (0, 1)
    assert set(report["methods"]) == {"zero_filled", "sense", "tv", "posterior_mean", "sample"}
    with np.load(tmp_path / "invdiff-recon-mri/images.npz") as images:
        found = images["posterior_mean"][0]
    assert np.corrcoef(found.ravel(), np.abs(scan.truth).ravel())[0, 1] > 0.97


def test_the_slice_can_be_chosen(tmp_path: Path, scan: RawScan) -> None:
    many = np.stack([factor * scan.kspace for factor in (1, 2, 4, 8)]).astype(np.complex64)
    write_fastmri(tmp_path / "raw.h5", many, scan.header(), scan.mask)
    kspace, notes = read_kspace(tmp_path / "raw.h5", None)
    assert notes["slice"] == 2
    first, notes = read_kspace(tmp_path / "raw.h5", 0)
    assert notes["slice"] == 0
    # Whitened by its own border: the factor cancels.
    assert np.allclose(first.kspace, kspace.kspace, atol=1e-4 * np.abs(kspace.kspace).max())
    with pytest.raises(ValueError, match="from 0 on"):
        read_kspace(tmp_path / "raw.h5", 4)


def test_errors_are_one_clear_line(
    tmp_path: Path,
    scan: RawScan,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.h5").write_text("no data")
    few = scan.mask & (np.abs(np.arange(48) - 24) > 2)
    scan._replace(mask=few, kspace=scan.kspace * few).save(tmp_path / "no-centre.h5")
    for arguments, said in (
        (["absent.h5"], "There is no such file"),
        (["text.h5"], "not a readable npz file"),
        (["no-centre.h5"], "central samples"),
        (["no-centre.h5", "--slice", "3"], "from 0 on"),
    ):
        monkeypatch.setattr(sys, "argv", ["invdiff", "recon", "mri", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert not (tmp_path / "invdiff-recon-mri").exists()


def test_npz_files_have_one_slice(tmp_path: Path, scan: RawScan) -> None:
    scan.save(tmp_path / "raw.h5")
    kspace, _ = read_kspace(tmp_path / "raw.h5", None)
    kspace.save(tmp_path / "one.npz")
    again, notes = read_kspace(tmp_path / "one.npz", None)
    assert np.array_equal(again.kspace, kspace.kspace) and notes == {}
    with pytest.raises(ValueError, match="Omit the slice"):
        read_kspace(tmp_path / "one.npz", 0)
    assert FastMRIFile.open(tmp_path / "raw.h5").middle == 0


def test_mismatched_maps_and_empty_masks(scan: RawScan, tmp_path: Path) -> None:
    scan.save(tmp_path / "raw.h5")
    kspace, _ = read_kspace(tmp_path / "raw.h5", None)
    assert isinstance(kspace, KSpace)
    with pytest.raises(ValueError, match="one per coil"):
        replace(kspace, maps=np.ones((4, 96, 48), np.complex64))
    with pytest.raises(ValueError, match="empty"):
        replace(kspace, mask=np.zeros((48, 48), bool))
