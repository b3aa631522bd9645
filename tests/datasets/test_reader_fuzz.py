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
    "name", ["bart", "list", "measurement", "mrd", "nifti", "npz", "picture", "result"]
)
def test_damaged_files_are_refused_or_read(name, scripts, tmp_path, monkeypatch):
    from invdiff.datasets import hdf5_process

    monkeypatch.setattr(hdf5_process, "PATIENCE", 5.0)
    outcomes, slowest = copy_context().run(attempt, scripts, name, tmp_path)
    refused = [text for text in outcomes if text]
    assert len(outcomes) == FILES
    assert len(refused) > FILES / 4  # the damage is real
    assert all(text[0].isupper() and text.endswith(".") for text in refused)
    assert all(str(tmp_path) not in text and "one.damaged" not in text for text in refused)
    assert slowest < 60  # none hangs: what the process for HDF5 may take is 5 s
