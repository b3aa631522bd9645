"""Progress: a bar with the time left on a terminal, one plain line per item elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Hashable
from types import TracebackType
from typing import Self

from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """Steps of items. Everything goes to standard error.

    Arguments:
        items: How many there are.
        steps: Of each.
        quiet: Whether to be silent.
    """

    def __init__(self, items: int, steps: int, quiet: bool = False) -> None:
        self._items, self._steps, self._quiet = items, steps, quiet
        self._done = self._computed = 0
        self._started = time.monotonic()
        shown = not quiet and sys.stderr.isatty()
        self._bar = tqdm(total=items * steps, unit="step", disable=not shown, file=sys.stderr)
        self._within: Counter[Hashable] = Counter()

    def step(self, worker: Hashable = None) -> None:
        """One step of the present item, of a worker's if there are several, is done."""
        self._within[worker] += 1
        self._bar.update(1)

    def item(self, label: str, what: str, computed: bool, worker: Hashable = None) -> None:
        """An item is done, or failed; ``computed`` if this took time."""
        self._done += 1
        self._computed += computed
        self._bar.update(self._steps - min(self._within.pop(worker, 0), self._steps))
        line = f"{label} ({self._done} of {self._items}): {what}"
        left = self._items - self._done
        if computed and left:
            each = (time.monotonic() - self._started) / self._computed
            line += f"; about {each * left:.0f} s left"
        self.say(line)

    def say(self, line: str) -> None:
        """A line of its own."""
        if self._quiet:
            return
        self._bar.clear()
        sys.stderr.write(line + "\n")
        self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
