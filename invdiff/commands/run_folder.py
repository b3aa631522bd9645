"""The folder of a run: it belongs to one run for ever, and goes on with it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from invdiff.commands.ledger import Ledger, remove_parts
from invdiff.commands.settings import Settings
from invdiff.files import save_json, written_whole

__all__ = ["CELLS", "claim", "read_run"]

CELLS = "cells"
RUN = "run.json"


def claim(folder: Path, settings: Settings, identities: Mapping[str, Any]) -> Ledger:
    """The ledger of a run in a folder that is new, empty, or its own.

    Writes ``config.yaml``, the settings as they were resolved.

    Raises:
        ValueError: If the folder holds something else, or another run.
        OSError: If it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError("The output is a file; --out needs a folder. Give another name.")
    foreign = folder.is_dir() and any(each.name != CELLS for each in folder.iterdir())
    ledger = Ledger(folder / CELLS)
    if foreign and read_run(folder) is None:
        raise ValueError(
            "The output folder holds files that no run of invdiff left. Nothing is ever "
            "overwritten: give a new folder."
        )
    run = json.loads(json.dumps(dict(identities), sort_keys=True))
    while True:
        with ledger.lock("run") as mine:
            if mine:
                remove_parts(folder, "config.")
                remove_parts(ledger.folder, "run.")
                _check_or_write(folder, settings, run)
                return ledger
        time.sleep(0.05)  # another process is just here


def read_run(folder: Path) -> dict[str, Any] | None:
    """What the run in a folder depends on, by modality; None if there is no run."""
    try:
        found = json.loads((folder / CELLS / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _check_or_write(folder: Path, settings: Settings, run: dict[str, Any]) -> None:
    known = read_run(folder)
    if known is None:
        save_json(folder / CELLS / RUN, run)
    elif known != run:
        names = sorted(_differences(known, run))
        raise ValueError(
            f"The output folder holds another run: {', '.join(names)} differ. Give another "
            "folder, or the same settings to go on with it."
        )
    with written_whole(folder / "config.yaml") as temporary:
        text = yaml.safe_dump(settings.to_dict(), sort_keys=False)
        temporary.write_text(text, encoding="utf-8")


def _differences(known: dict[str, Any], run: dict[str, Any]) -> set[str]:
    if set(known) != set(run):
        return {"modalities"}
    pairs = [(known[name], run[name]) for name in run]
    return {key for old, new in pairs for key in {*old, *new} if old.get(key) != new.get(key)}
