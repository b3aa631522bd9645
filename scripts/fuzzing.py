"""Damaging files at random and reading them where they can do no harm: for ``fuzz_readers``.

A file is read in a child process of limited memory. Whatever the reader raises other than its own
refusals, a child that dies, and a file that takes too long are findings.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 4 * 2**30  # bytes of address space of a child, torch's libraries included
EXPECTED = ("refused", "read", ", refused in its own process")
CHUNK = 2000  # files that one child reads


@dataclass(frozen=True)
class Reader:
    """What is fuzzed.

    Arguments:
        seeds: Gives valid files; it may make them in the folder it gets.
        load: Imports the reader, and gives a function that reads one file completely.
        refusals: Gives the exceptions that are clear errors.
        seconds: For one file.
        protected: Imports what users call, if that reads in a process of its own: a file that
            hangs or kills a decoder here is read once more with it, and must be refused.
    """

    seeds: Callable[[Path], list[Path]]
    load: Callable[[], Callable[[Path], object]]
    refusals: Callable[[], tuple[type[Exception], ...]]
    seconds: int = 20
    protected: Callable[[], Callable[[Path], object]] | None = None


def damage(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to four random changes; half of them in the first 2 kB, where the header is."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        end = len(out) if rng.random() < 0.5 else min(len(out), 2048)
        at = int(rng.integers(0, max(end, 1)))
        length = int(rng.integers(1, 65))
        match rng.integers(0, 7):
            case 0:  # flipped bits
                for place in rng.integers(at, max(at + 1, min(end, at + 64)), 4):
                    if place < len(out):
                        out[place] ^= 1 << int(rng.integers(0, 8))
            case 1:  # a number that is extreme as a length or size
                extreme = [0, 1, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**32 - 2]
                value = extreme[int(rng.integers(0, len(extreme)))]
                out[at : at + 4] = value.to_bytes(4, "little" if rng.random() < 0.7 else "big")
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = rng.bytes(length)
            case 4:  # a piece said twice
                out[at:at] = out[at : at + length]
            case 5:  # a piece of another file
                start = int(rng.integers(0, len(other)))
                out[at : at + length] = other[start : start + length]
            case _:
                del out[at if rng.random() < 0.3 else len(out) :]
    return bytes(out)


def damaged(seeds: list[bytes], seed: int, number: int) -> bytes:
    """File ``number`` of a run."""
    rng = np.random.default_rng([seed, number])
    data, other = (seeds[int(rng.integers(0, len(seeds)))] for _ in range(2))
    return damage(data, other, rng)


def _child(reader: Reader, seeds: list[bytes], seed: int, numbers: range, out: Connection) -> None:
    """Reads files and sends what became of each; before each it sends its number."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    read, refusals = reader.load(), reader.refusals()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            path = Path(folder) / f"{number}.damaged"
            path.write_bytes(damaged(seeds, seed, number))
            out.send(number)
            signal.alarm(reader.seconds)
            start = time.perf_counter()
            try:
                read(path)
                outcome = "read"
            except refusals:
                outcome = "refused"
            except Exception as error:
                outcome = f"raised {type(error).__name__}"
            signal.alarm(0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            out.send((outcome, time.perf_counter() - start, peak))
            path.unlink()
    out.send(None)


def _chunk(
    context: Any, reader: Reader, seeds: list[bytes], seed: int, numbers: range
) -> list[tuple[int, tuple[str, float, int]]]:
    """What became of each file; the child that dies at one is replaced for those after it."""
    results: list[tuple[int, tuple[str, float, int]]] = []
    while numbers:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(reader, seeds, seed, numbers, sender))
        child.start()
        sender.close()
        number = numbers.start - 1
        try:
            while (message := receiver.recv()) is not None:
                if isinstance(message, int):
                    number = message
                else:
                    results.append((number, message))
            numbers = range(0)
        except EOFError:
            child.join()
            if number < numbers.start:
                raise RuntimeError("The reader cannot be loaded.") from None
            died = "hung" if child.exitcode == -signal.SIGALRM else f"died ({child.exitcode})"
            died = _protected(reader, damaged(seeds, seed, number), died)
            results.append((number, (died, float(reader.seconds), 0)))
            numbers = range(number + 1, numbers.stop)
        child.join()
    return results


def _protected(reader: Reader, data: bytes, died: str) -> str:
    """What becomes of a file that hung or killed a child when users read it."""
    if reader.protected is None:
        return died
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        try:
            reader.protected()(Path(file.name))
        except reader.refusals():
            return f"{died}, refused in its own process"
    return f"{died}, but is read in its own process"


def fuzz(name: str, reader: Reader, files: int, seed: int, keep: Path) -> dict[str, Any]:
    """Reads that many damaged files. The files of findings are written to ``keep``."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        seeds = [path.read_bytes() for path in reader.seeds(Path(folder))]
    results = []
    for start in range(0, files, CHUNK):
        numbers = range(start, min(start + CHUNK, files))
        results += _chunk(context, reader, seeds, seed, numbers)
    findings = [(n, one[0]) for n, one in results if not one[0].endswith(EXPECTED)]
    for number, _ in findings:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{name}-{seed}-{number}").write_bytes(damaged(seeds, seed, number))
    return {
        "reader": name,
        "files": len(results),
        "seed": seed,
        "outcomes": dict(Counter(one[0] for _, one in results)),
        "findings": findings,
        "slowest_seconds": round(max(one[1] for _, one in results), 3),
        "peak_bytes": max(one[2] for _, one in results),
    }
