"""All items of a run: what is done is not done again, and what fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from invdiff.commands.cell import Cells
from invdiff.commands.ledger import remove_parts
from invdiff.commands.sources import Item

__all__ = ["Listener", "Outcome", "run_items"]

PAUSE = 0.5  # seconds between two looks at what another process is doing

Outcome = dict[str, Any]
"""A cell's record, with its key under "cell"."""


class Listener(Protocol):
    """Who is told of items: ``Progress``, or a parent process."""

    def item(self, label: str, what: str, computed: bool) -> None:
        """An item is done, or failed; ``computed`` if this took time."""


def run_items(items: Sequence[Item], cells: Cells, progress: Listener) -> list[Outcome]:
    """The outcome of every item, in their order.

    Items that another process is working on are left for the end, when its results are taken, or
    its work is taken over if it has ended without.

    Raises OSError if results cannot be written.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = list(items)
    while waiting:
        left = []
        for item in waiting:
            found = _attempt(item, cells, progress)
            if found is None:
                left.append(item)
            else:
                outcomes[item.number] = found
        if left and len(left) == len(waiting):
            time.sleep(PAUSE)
        waiting = left
    return [outcomes[item.number] for item in items]


def _attempt(item: Item, cells: Cells, progress: Listener) -> Outcome | None:
    """The outcome of one item, or None while another process has it."""
    try:
        measurement = item.read()
        key = cells.key(item, measurement)
    except Exception as error:
        key = f"unread-{item.label}"
        record = cells.fail(key, item, error)
        progress.item(item.label, f"failed: {record['reason']}", computed=False)
        return record | {"cell": key}
    done = cells.ledger.done(key)
    if done is not None:
        progress.item(item.label, "was done before", computed=False)
        return done | {"cell": key}
    with cells.ledger.lock(key) as mine:
        if not mine:
            return None
        remove_parts(cells.ledger.folder, key)
        record = cells.ledger.done(key) or cells.compute(key, item, measurement)
    progress.item(item.label, _words(record), computed=True)
    return record | {"cell": key}


def _words(record: Outcome) -> str:
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    doubt = ", SUSPECT" if record["suspect"] else ""
    return f"done in {record['seconds']:.1f} s, misfit {record['chi2']:.3f}{doubt}"
