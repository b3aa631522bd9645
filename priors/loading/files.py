"""Weight files, read without running what is in them.

A safetensors file holds tensors only. A .pt file is a pickle, a program that rebuilds objects:
torch reads it with ``weights_only=True``, which allows tensors and plain containers and nothing
else. torch up to 2.5.1 could be tricked past that (CVE-2025-32434), and up to 2.9 be made to write
outside of memory (CVE-2026-24747): use 2.10 or newer on files from strangers.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from invdiff.errors import PriorError

__all__ = ["Checkpoint", "opened", "read_checkpoint"]

LARGEST = 32 * 2**30
"""The largest file that is read, in bytes; no published image model comes near."""


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint:
    """What a weight file holds.

    Arguments:
        path: The file.
        sha256: Of its bytes.
        tree: Tensors, and containers of tensors and numbers.
    """

    path: Path
    sha256: str
    tree: Any


def read_checkpoint(
    path: str | Path,
    *,
    trust_pickle: bool = False,
    sha256: str | None = None,
    largest: int = LARGEST,
) -> Checkpoint:
    """Reads a .safetensors file or a torch checkpoint; its content decides which it is.

    Arguments:
        path: The file.
        trust_pickle: Also reads checkpoints with Python objects other than tensors, by running
            the program in them. **It can do anything you can do**: only for files of your own.
        sha256: What the SHA-256 of the file has to be, if given.
        largest: The largest accepted size in bytes, also once unpacked.

    Raises:
        PriorError: There is no such file, or it is too large, damaged, of another format, not the
            one expected, or holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise PriorError(f"There is no file {path}.")
    size = path.stat().st_size
    if not 0 < size <= largest:
        raise PriorError(f"{path} has {size} bytes, expected 1 to {largest}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        head = file.read(16)
    if sha256 is not None and digest != sha256.lower():
        raise PriorError(
            f"{path} has the SHA-256 {digest}, expected {sha256}. It is damaged or another file."
        )
    if head[8:9] == b"{":
        return Checkpoint(path, digest, _safetensors(path))
    if head[:4] == b"PK\x03\x04":
        _check_archive(path, largest)
    elif head[:1] != b"\x80":
        raise PriorError(
            f"{path} is neither a safetensors file nor a torch checkpoint: it starts with "
            f"{head[:8]!r}. It may be truncated, or a web page that was saved instead of the file."
        )
    return Checkpoint(path, digest, _pickle(path, trust_pickle))


def opened(path: str | Path | Checkpoint, trust_pickle: bool) -> Checkpoint:
    """The checkpoint at a path, or the one given."""
    if isinstance(path, Checkpoint):
        return path
    return read_checkpoint(path, trust_pickle=trust_pickle)


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    # A tensor type that torch lacks is an AttributeError, an odd shape a RuntimeError.
    except (SafetensorError, RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise PriorError(f"{path} is a damaged safetensors file: {error}.") from error


def _check_archive(path: Path, largest: int) -> None:
    """Refuses archives that unpack to more than they are, before torch unpacks them."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = math.fsum(entry.file_size for entry in archive.infolist())
            names = [entry.filename for entry in archive.infolist()]
    # zipfile passes on whatever its parsing of damaged bytes runs into.
    except Exception as error:
        raise PriorError(f"{path} is a damaged archive: {error}. It may be truncated.") from error
    if total > largest:
        raise PriorError(f"{path} unpacks to {total:.0f} bytes, more than the {largest} accepted.")
    if not any(name.endswith("data.pkl") for name in names):
        raise PriorError(f"{path} is a zip archive but no torch checkpoint.")


def _pickle(path: Path, trust: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused next
            return torch.load(path, map_location="cpu", weights_only=not trust)
    # torch has no error type of its own for damaged files.
    except Exception as error:
        text = str(error).split("\n")[0][:300]
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise PriorError(_refusal(path, str(error))) from error
        raise PriorError(
            f"{path} is a damaged torch checkpoint ({type(error).__name__}: {text})."
        ) from error


def _refusal(path: Path, reason: str) -> str:
    named = re.search(r"GLOBAL (\S{1,100})", reason)
    found = f" ({named[1]})" if named else ""
    return (
        f"{path} is not just tensors: it holds Python objects{found}, and reading those runs code "
        "from the file. Save its state dict alone, torch.save(model.state_dict(), ...) or "
        "safetensors. NVIDIA's .pkl files: run NVIDIA's own code once, in an environment of its "
        "own, and save the state dict of 'ema'. If the file is your own and you trust it "
        "entirely, pass trust_pickle=True."
    )
