"""No name of a patient leaves the input, whatever happens, but into the DICOM it belongs to."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from pydicom import dcmread
from runs import QUICK, discs, invdiff, write_discs

from invdiff.commands.privacy import reason, without_names
from invdiff.datasets.measurement_file import write_measurement

PLANTED = "ZZDOE"


def planted_anywhere(folder: Path, *texts: str) -> list[str]:
    """The files, names and texts in which the name is."""
    found = [str(i) for i, text in enumerate(texts) if PLANTED in text]
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if inside.parts[0] == "dicom":
            continue
        if PLANTED in str(inside) or (path.is_file() and PLANTED.encode() in path.read_bytes()):
            found.append(str(inside))
    return found


def test_a_run_that_succeeds_and_one_that_fails(tmp_path: Path) -> None:
    place = tmp_path / f"{PLANTED}^JANE"
    options = ["--slices", "2", "--size", "32", "--views", "16"]
    assert invdiff("simulate", "ct", "--out", place, *options).returncode == 0
    for path in (place / "dicom").iterdir():
        image = dcmread(path)
        image.PatientName = image.StudyDescription = image.PatientComments = PLANTED
        image.ProtocolName = image.SeriesDescription = PLANTED
        image.save_as(path.with_name(f"{PLANTED}-{path.name}"))
        path.unlink()
    (place / "measurement.h5").unlink()
    write_measurement(place / f"{PLANTED}.h5", discs(2, 32, PLANTED))
    out = tmp_path / "out"
    done = invdiff("recon", place, "--out", out, *QUICK)
    assert done.returncode in (0, 4), done.stderr
    assert planted_anywhere(out, done.stdout, done.stderr) == []
    kept = dcmread(next((out / "dicom/mean").iterdir()))
    assert kept.PatientName == PLANTED  # the DICOM is the patient's own
    again = invdiff("recon", place, "--out", out, *QUICK, "--seed", "1")
    assert again.returncode == 1
    checked = invdiff("check", place, "samples=2", "steps=3", "--json")
    scored = invdiff("eval", out / "dicom/mean", "--truth", place / "dicom", "--data-range", "9")
    texts = [one.stdout + one.stderr for one in (again, checked, scored)]
    assert planted_anywhere(out, *texts) == []


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    place = tmp_path / PLANTED
    place.mkdir()
    write_discs(place / f"{PLANTED}-a.h5", 1, PLANTED)
    (place / f"{PLANTED}-b.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + PLANTED.encode())
    np.savez(place / f"{PLANTED}-c.npz", **{PLANTED: np.ones(3)})
    np.savez(place / f"{PLANTED}-d.npz", sinogram=np.ones(3), **{PLANTED: np.ones(3)})
    with h5py.File(place / f"{PLANTED}-e.h5", "w") as file:
        file.attrs[PLANTED] = PLANTED
        file[PLANTED] = np.ones(3)
    with h5py.File(place / f"{PLANTED}-f.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = np.ones(3), PLANTED
    out = tmp_path / "out"
    done = invdiff("recon", place, "--out", out, *QUICK)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("failed:") == 5
    assert planted_anywhere(out, done.stdout, done.stderr) == []


def test_messages_lose_every_part_of_a_path() -> None:
    path = Path("/data/Doe, Jane/scan-7.h5")
    told = without_names("/data/Doe, Jane/scan-7.h5: scan-7.h5 is bad; scan-7 too", (path,))
    assert told == "the input: the input is bad; the input too"
    assert reason(OSError(28, "No space left on device", str(path)), (path,)) == (
        "No space left on device."
    )
    assert "secret" not in reason(RuntimeError("secret"), ())
