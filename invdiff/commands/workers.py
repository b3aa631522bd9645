"""Several processes for the items of a run, one per device.

The parent gives each worker the next item when it has done one, shows their progress, and takes
their results from the ledger. There is no shared queue whose lock a killed worker could keep: the
parent has a pipe to each. What a worker that ended early has left is done by the parent itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from invdiff.commands.batch import Outcome
from invdiff.commands.progress import Progress
from invdiff.commands.settings import Settings
from invdiff.commands.sources import Item
from invdiff.commands.worker import Job, work

__all__ = ["Worker", "parse_devices", "run_workers"]

PATIENCE = 30.0  # seconds for a worker to end when it is asked to


@dataclass(frozen=True)
class Worker:
    """A process, the device it works on, and the pipe to it."""

    process: SpawnProcess
    device: str
    pipe: Connection


def parse_devices(text: str) -> tuple[str, ...]:
    """The devices of a list such as "cuda:0,cuda:1"; a device may occur more than once.

    Raises ValueError if they are not devices of one kind.
    """
    names = tuple(name.strip() for name in text.split(","))
    try:
        kinds = {torch.device(name).type for name in names}
    except RuntimeError:
        kinds = set()
    if len(kinds) != 1:
        raise ValueError(
            f"devices is {text!r}, expected a list of one kind, such as cuda:0,cuda:1 or cpu,cpu: "
            "results of different kinds differ by rounding."
        )
    return names


def run_workers(
    path: Path,
    items: Sequence[Item],
    settings: Settings,
    cells: Path,
    devices: Sequence[str],
    progress: Progress,
) -> dict[int, Outcome]:
    """The outcomes of items by their numbers; without those that a worker left undone."""
    outcomes: dict[int, Outcome] = {}
    waiting = [item.number for item in reversed(items)]
    threads = max(1, torch.get_num_threads() // len(devices))
    jobs = [Job(path, replace(settings, device=name), cells, threads) for name in devices]
    with _started(jobs) as workers:
        busy = {worker.pipe: worker for worker in workers}
        for pipe in busy:
            _give(pipe, waiting)
        while busy:
            ready = wait(list(busy))
            for pipe in [each for each in busy if each in ready]:
                try:
                    message = pipe.recv()
                except (EOFError, OSError):  # it has ended, perhaps within a word
                    del busy[pipe]
                    continue
                done = _hear(message, busy[pipe], progress)
                if done:
                    outcomes |= done
                    _give(pipe, waiting)
    return outcomes


def _hear(message: tuple[Any, ...], worker: Worker, progress: Progress) -> dict[int, Outcome]:
    """Passes on what a worker says; the outcome, by its number, of an item that it has done."""
    kind, *content = message
    if kind == "done":
        number, outcome = content
        return {number: outcome}
    if kind == "step":
        progress.step(worker)
    elif kind == "item":
        label, what, computed = content
        progress.item(label, what, computed, worker)
    else:
        progress.say(f"the worker on {worker.device} ended: {content[0]}")
    return {}


def _give(pipe: Connection, waiting: list[int]) -> None:
    """The next item, or None if there is no more."""
    try:
        pipe.send(waiting.pop() if waiting else None)
    except BrokenPipeError:
        return  # it has ended, which is noticed when it is listened to


@contextmanager
def _started(jobs: Sequence[Job]) -> Iterator[list[Worker]]:
    """Workers that have ended when the block is left, in whatever way."""
    context, workers = get_context("spawn"), list[Worker]()
    try:
        for job in jobs:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(job, theirs))
            process.start()
            theirs.close()
            workers.append(Worker(process, job.settings.device, ours))
        yield workers
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(PATIENCE)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
