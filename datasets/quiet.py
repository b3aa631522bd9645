"""Libraries that may not speak: what they log about a file can quote its header."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Inside, this logger and all warnings are silent."""
    speaker = logging.getLogger(logger)
    before, speaker.disabled = speaker.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        speaker.disabled = before
