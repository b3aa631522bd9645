"""Messages that name no file and no patient: names of files and folders often do both."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from invdiff.commands.exit_codes import ExitCode
from invdiff.errors import NotFinite

__all__ = ["EXPECTED", "guarded", "reason", "without_names"]

EXPECTED = (ValueError, TypeError, OSError, ImportError, NotFinite, KeyError)
SHORTEST = 3  # letters: a shorter part of a path is no name, and may be a word of the message


def without_names(text: str, paths: tuple[Path, ...]) -> str:
    """The text with every path, and every part of one, replaced by "the input"."""
    names: set[str] = set()
    for path in paths:
        for form in (path, path.absolute(), path.resolve()):
            names |= {str(form), form.as_posix()}
            names |= {part for part in form.parts if len(part) >= SHORTEST}
            names |= {form.stem} if len(form.stem) >= SHORTEST else set()
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "the input", text)
    return re.sub(r"(the input[/\\.]*)+the input", "the input", text)


def reason(error: BaseException, paths: tuple[Path, ...]) -> str:
    """Why something failed, for a log: no path, and no text of a library that may quote data."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."  # without the file's name that Python appends
    if isinstance(error, EXPECTED):
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        return without_names(text, paths)
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return f"Unexpected {type(error).__name__} at {' > '.join(places[-3:])}. Report this."


@contextmanager
def guarded(*paths: Path | None) -> Iterator[None]:
    """Inside, an error of the input becomes one line without its names, and exit status 1."""
    try:
        yield
    except EXPECTED as error:
        known = tuple(path for path in paths if path is not None)
        sys.stderr.write(f"invdiff: error: {reason(error, known)}\n")
        raise typer.Exit(ExitCode.REFUSED) from None
