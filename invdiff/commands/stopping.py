"""SIGTERM and Ctrl-C: the run ends at once, keeps its checkpoints, and goes on when repeated."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "stoppable"]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked the run to end. Not an Exception: nothing may take it for a failed item."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, these signals raise ``Stopped`` wherever the main thread is.

    Files are written whole or not at all, so there is no wrong moment.
    """
    if threading.current_thread() is not threading.main_thread():  # only it gets signals
        yield
        return
    before = {each: signal.signal(each, _stop) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number).name)
