"""Damaged and hostile files: every reader refuses them with a clear error of the package.

300 files per reader here; ``scripts/fuzz_readers.py`` reads as many as one likes, each reader in
processes of limited memory.
"""

import time
from contextvars import copy_context
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
FILES = 300

pytestmark = pytest.mark.skipif(not SCRIPTS.exists(), reason="this run is of the wheel")


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import fuzz_formats
    import fuzz_readers

    return fuzz_readers, fuzz_formats


def attempt(scripts, name, folder):
    """What became of each file; an error that is not the package's own ends the test."""
    from invdiff.datasets import hdf5

    fuzz_readers, fuzz_formats = scripts
    reader = fuzz_readers.READERS[name]
    (folder / "seeds").mkdir()
    (folder / "files").mkdir()
    seeds = [path.read_bytes() for path in reader.seeds(folder / "seeds")]
    assert seeds
    read, outcomes, slowest = reader.load(), [], 0.0
    path = folder / "files" / "one.damaged"
    try:
        for content in seeds:
            path.write_bytes(content)
            read(path)
        for number in range(FILES):
            path.write_bytes(fuzz_readers.damaged(seeds, 7, number))
            start = time.perf_counter()
            try:
                read(path)
                outcomes.append("")
            except fuzz_formats.Refused as refusal:
                outcomes.append(str(refusal))
            slowest = max(slowest, time.perf_counter() - start)
    finally:
        if hdf5._shared.get() is not None:
            hdf5._shared.get().stop()
    return outcomes, slowest


@pytest.mark.parametrize(
    "name",
    ["bart", "fastmri", "list", "measurement", "mrd", "nifti", "npz", "picture", "result"],
)
def test_damaged_files_are_refused_or_read(name, scripts, tmp_path, monkeypatch):
    from invdiff.datasets import hdf5_process

    monkeypatch.setattr(hdf5_process, "PATIENCE", 5.0)
    outcomes, slowest = copy_context().run(attempt, scripts, name, tmp_path)
    refused = [text for text in outcomes if text]
    assert len(outcomes) == FILES
    assert len(refused) > FILES / 4  # the damage is real
    starts = "ABCDEFGHIJKLMNOPQRSTUVWXYZk"  # "kspace" is the name of an array
    assert all(text[0] in starts and text.endswith(".") for text in refused)
    assert all(str(tmp_path) not in text and "one.damaged" not in text for text in refused)
    assert slowest < 60  # none hangs: what the process for HDF5 may take is 5 s


@pytest.fixture
def targets(monkeypatch):
    """Those of ``fuzz_coverage``, which put something else in the place of processes."""
    from invdiff.datasets import dicom_worker, hdf5_process

    for module, name in (
        (hdf5_process, "_started"),
        (dicom_worker, "subprocess"),
        (dicom_worker, "_limit"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import fuzz_readers
    import fuzz_targets

    return fuzz_targets.TARGETS, fuzz_readers.damaged


def attempt_target(target, damaged, folder):
    (folder / "seeds").mkdir()
    read, seeds = target.load(folder), target.seeds(folder / "seeds")
    for seed in seeds:
        read(seed)
    for number in range(FILES):
        read(damaged(seeds, 8, number))


@pytest.mark.parametrize(
    "name",
    [
        "dicom-answers",
        "fastmri-answers",
        "measurement-answers",
        "mrd-answers",
        "result-answers",
    ],
)
def test_answers_of_processes_are_not_trusted(name, targets, tmp_path):
    """A file may take a process over: whatever it then says is read or refused clearly."""
    known, damaged = targets
    copy_context().run(attempt_target, known[name], damaged, tmp_path)
