"""Single cells: faults of prior, memory and disk, and the lock that goes with the process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import QUIET, discs
from torch import Tensor

from invdiff.commands import ledger as ledger_module
from invdiff.commands.batch import run_items
from invdiff.commands.cases import LoadedPriors
from invdiff.commands.cell import Cells
from invdiff.commands.ledger import Ledger
from invdiff.commands.progress import Progress
from invdiff.commands.settings import read_settings
from invdiff.commands.sources import Item
from invdiff.files import load_arrays
from invdiff.priors import load_prior


class Around:
    """The prior ct, with something wrong."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.inner, self.change = load_prior("ct"), change

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.change(self.inner(x, sigma), sigma)


def cells(folder: Path, change: Callable[[Tensor, Tensor], Tensor] | None = None) -> Cells:
    settings = read_settings(None, ["samples=4", "steps=3"], {})
    priors = LoadedPriors(settings)
    if change is not None:
        priors._known["ct"] = Around(change)
    return Cells(settings, priors, Ledger(folder), lambda: None)


def items(count: int) -> list[Item]:
    whole = discs(count)
    return [Item(k, 0, "ct", Path("none"), lambda k=k: discs_item(whole, k)) for k in range(count)]


def discs_item(whole: Any, k: int) -> Any:
    from dataclasses import replace

    rows = slice(k, k + 1)
    return replace(whole, items=whole.items[rows], data=whole.data[rows], truth=whole.truth[rows])


def run(found: Cells, count: int = 1) -> list[dict[str, Any]]:
    with Progress(count, 3, quiet=True) as progress:
        return run_items(items(count), found, progress)


def test_nan_from_the_prior_fails_its_item_only(tmp_path: Path) -> None:
    calls = []

    def first_item_only(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(1)
        return x * torch.nan if len(calls) == 2 else x

    one, two = run(cells(tmp_path, first_item_only), 2)
    assert (one["status"], two["status"]) == ("failed", "done")
    assert "NaN" in one["reason"]


def test_out_of_memory_takes_fewer_rows_with_the_same_result(tmp_path: Path) -> None:
    most = []

    def small(x: Tensor, sigma: Tensor) -> Tensor:
        most.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return x

    (poor,) = run(cells(tmp_path / "poor", small))
    (rich,) = run(cells(tmp_path / "rich"))
    assert poor["rows"] == 1 and rich["rows"] is None and max(most) == 4
    first, second = (
        load_arrays(tmp_path / name / f"{rich['cell']}.images.npz", "cell")[0]
        for name in ("poor", "rich")
    )
    for name in first:  # HU: rounding of other batches, 1e-6 of the first level's 20,000, grown
        gap = np.abs(first[name] - second[name])
        assert gap.max() < 3
        assert gap.mean() < 1


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(ledger_module, "save_json", full)
    with pytest.raises(OSError, match="No space"):
        run(cells(tmp_path))
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part*")) and not list(tmp_path.rglob("*.lock"))
    (again,) = run(cells(tmp_path))
    assert again["status"] == "done"


def test_a_cell_without_its_results_is_not_done(tmp_path: Path) -> None:
    found = cells(tmp_path)
    (record,) = run(found)
    assert found.ledger.done(record["cell"])
    found.ledger.path(record["cell"], ".images.npz").unlink()
    assert found.ledger.done(record["cell"]) is None
    found.ledger.path(record["cell"], ".json").write_text("{")
    assert found.ledger.done(record["cell"]) is None


def test_a_lock_goes_with_its_process_and_is_taken_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from invdiff.commands.ledger import Ledger\n"
        f"with Ledger(Path({str(tmp_path)!r})).lock('k') as mine:\n"
        "    print(mine, flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, env=QUIET
    )
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    with ledger.lock("k") as mine:
        assert not mine
    other.kill()
    other.communicate()
    assert (tmp_path / "k.lock").exists()  # stale
    with ledger.lock("k") as mine:
        assert mine
        with ledger.lock("k") as second:
            assert not second
    assert not (tmp_path / "k.lock").exists()
