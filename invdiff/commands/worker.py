"""One of several processes of a run: does the cells that it is told to do, and tells of each."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from invdiff.commands.batch import run_items
from invdiff.commands.cases import LoadedPriors
from invdiff.commands.cell import Cells
from invdiff.commands.ledger import Ledger
from invdiff.commands.privacy import reason
from invdiff.commands.settings import Settings
from invdiff.commands.sources import find_source
from invdiff.commands.stopping import Stopped, stoppable

__all__ = ["Job", "work"]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Arguments:
        path: Of the measurements.
        settings: Of the run, with the worker's own device.
        cells: The folder of the ledger.
        threads: On the CPU.
    """

    path: Path
    settings: Settings
    cells: Path
    threads: int


@dataclass(frozen=True)
class Relay:
    """Tells the parent of progress, as ``Progress`` tells a person."""

    pipe: Connection

    def step(self) -> None:
        """One step of the present item is done."""
        self.pipe.send(("step",))

    def item(self, label: str, what: str, computed: bool) -> None:
        """An item is done, or failed."""
        self.pipe.send(("item", label, what, computed))


def work(job: Job, pipe: Connection) -> None:
    """Does items, whose numbers come through the pipe, until None comes.

    Sends ("step",), ("item", label, what, computed), ("done", number, outcome); and
    ("ended", reason) if it cannot go on.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with stoppable():
            _work(job, pipe)
    except (Stopped, EOFError, BrokenPipeError):  # the parent stopped it, or is gone
        return
    except Exception as error:
        pipe.send(("ended", reason(error, (job.path,))))


def _work(job: Job, pipe: Connection) -> None:
    torch.set_num_threads(job.threads)
    relay = Relay(pipe)
    items = find_source(job.path).items
    cells = Cells(job.settings, LoadedPriors(job.settings), Ledger(job.cells), relay.step)
    while (number := pipe.recv()) is not None:
        (outcome,) = run_items([items[number]], cells, relay)
        pipe.send(("done", number, outcome))


def _end_with_parent() -> None:
    """A parent that was killed could not tell its workers to stop."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
