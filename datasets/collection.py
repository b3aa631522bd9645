"""Many files as one data set: a folder, or a list of names; each file has a stable name.

The name of an item is its path relative to the root, with forward slashes: the random numbers of
a run follow it, so that the same file gives the same result in any order, subset and place. A
file name may name a patient: ``content_names`` gives names that do not. Messages show none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from invdiff.datasets.untrusted import file_size, nameless

__all__ = ["Collection"]

MOST = 1_000_000  # files
LONGEST = 1024  # characters of a name
LIST_BYTES = 2**28


@dataclass(frozen=True)
class Collection:
    """Files below one folder. Use ``of_folder`` or ``of_list``.

    Arguments:
        root: The folder.
        names: The files' names, relative to it.

    Raises:
        FileNotFoundError: If a name leads to no file.
        ValueError: If there are no names or a million, one occurs twice (or in two spellings of
            one file), or leads out of the root; also by a symbolic link.
    """

    root: Path = field(repr=False)
    names: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST:
            raise ValueError(
                f"There are {len(self.names)} files, expected 1 to {MOST}. Check the folder, the "
                "endings of the names that are asked for, or the list."
            )
        root = self.root.resolve()
        seen: dict[Path, int] = {}
        for number, name in enumerate(self.names, 1):
            place = _inside(root, name, number)
            if place in seen:
                raise ValueError(
                    f"Names {seen[place]} and {number} lead to the same file. Randomness follows "
                    "names: list every file once."
                )
            seen[place] = number

    @classmethod
    def of_folder(cls, root: str | Path, endings: Iterable[str]) -> Collection:
        """All files below a folder with one of these endings (".h5", say), sorted by name.

        Hidden files and folders are left out, and linked folders are not entered.

        Raises:
            NotADirectoryError: If there is no such folder.
            ValueError: As the class does, with no file at all for example.
        """
        root = Path(root)
        if not root.is_dir():
            raise NotADirectoryError("There is no such folder. Check the path.")
        wanted = tuple(endings)
        found = (name for name in _below(root) if name.lower().endswith(wanted))
        names = []
        for name in found:
            names.append(name)
            if len(names) > MOST:
                break
        return cls(root, tuple(sorted(names)))

    @classmethod
    def of_list(cls, listing: str | Path, root: str | Path | None = None) -> Collection:
        """The files that a text lists, one relative name per line, in its order.

        Empty lines and those that begin with # are left out. ``root`` is the list's own folder
        if omitted.

        Raises:
            FileNotFoundError, NotADirectoryError: If there is no such list, folder, or file.
            ValueError: As the class does; or if the list is not UTF-8, or absurdly long.
        """
        listing = Path(listing)
        size = file_size(listing)
        root = listing.parent if root is None else Path(root)
        if not root.is_dir():
            raise NotADirectoryError("There is no such folder. Check the path.")
        if size > LIST_BYTES:
            raise ValueError(f"The list has more than {LIST_BYTES} bytes. Split it.")
        try:
            with nameless():
                lines = listing.read_bytes().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise ValueError(
                "The list is not UTF-8 text. Write one relative name a line."
            ) from None
        kept = (line.strip() for line in lines)
        return cls(root, tuple(line for line in kept if line and not line.startswith("#")))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        """Name and path of each file."""
        for name in self.names:
            yield name, self.root / name

    def content_names(self) -> tuple[str, ...]:
        """For each file a name made of the SHA-256 of its bytes, which tells nothing of its own.

        Raises ValueError if two files hold the same bytes, OSError if one cannot be read.
        """
        names: dict[str, int] = {}
        for number, (_, path) in enumerate(self, 1):
            with nameless(), path.open("rb") as file:
                name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            if name in names:
                raise ValueError(
                    f"Files {names[name]} and {number} hold the same bytes. Drop one of them."
                )
            names[name] = number
        return tuple(names)


def _below(root: Path) -> Iterator[str]:
    """Relative names of files, without hidden ones; links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _inside(root: Path, name: str, number: int) -> Path:
    """The real place of a file, which must lie below the root."""
    pure = PurePosixPath(name)
    plain = 0 < len(name) <= LONGEST and name.isprintable() and "\\" not in name
    if not plain or pure.is_absolute() or ".." in pure.parts or pure.as_posix() != name:
        raise ValueError(
            f"Name {number} is not a plain relative path: it is absolute, leads upwards, has "
            "backslashes, doubled slashes or characters that cannot be printed. Write it relative "
            "to the root."
        )
    try:
        place = (root / name).resolve()
        outside, found = not place.is_relative_to(root), place.is_file()
    except (OSError, RuntimeError):  # a link to itself
        outside = found = False
    if outside:
        raise ValueError(
            f"Name {number} is a link that leads out of the root. Copy the file into it."
        )
    if not found:
        raise FileNotFoundError(f"Name {number} leads to no file. Check the list and the root.")
    return place
