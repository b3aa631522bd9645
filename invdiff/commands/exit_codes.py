"""What a command's exit status means. docs/commands.md has them for users."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """REFUSED as a whole; SOME_FAILED, the others are written; SUSPECT misfits; STOPPED: go on.

    2 is wrong usage, from the command line's parser. 75 is what mail programs and batch systems
    take for "try again": a run stopped by a signal continues when it is started again.
    """

    DONE = 0
    REFUSED = 1
    USAGE = 2
    SOME_FAILED = 3
    SUSPECT = 4
    FAILED_CHECK = 5
    STOPPED = 75
