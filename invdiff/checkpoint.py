"""Checkpoints: a killed run goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from invdiff.files import load_arrays, save_arrays

__all__ = ["Checkpoint"]


class Saved(NamedTuple):
    """What a chunk was doing: the next step, its state, its trace and its costs."""

    step: int
    fields: list[Tensor]
    trace: dict[str, list[Tensor]]
    counts: Counter[str]


@dataclass(frozen=True)
class Checkpoint:
    """One file per chunk in a folder, whole or absent; no folder, no checkpoints."""

    folder: Path | None
    fingerprint: str

    @classmethod
    def open(cls, folder: str | Path | None, run: dict[str, Any]) -> Checkpoint:
        """The checkpoints of a run; what must not change across a resume is in ``run``."""
        text = json.dumps(run, sort_keys=True)
        return cls(
            Path(folder) if folder is not None else None,
            hashlib.sha256(text.encode()).hexdigest(),
        )

    def read(self, first: int) -> Saved | None:
        """The last state of the chunk that begins at item ``first``, if there is one.

        Raises ValueError when it belongs to another run, or cannot be read.
        """
        path = self._path(first)
        if path is None or not path.exists():
            return None
        arrays, about = load_arrays(path, "checkpoint")
        if about["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{path} belongs to another run: the data, operator, noise, prior, sampler, "
                "ladder, seed, ids, samples, chunk or versions differ. Use another folder, or "
                "delete it."
            )
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        fields = [tensors[f"state.{i}"] for i in range(about["fields"])]
        trace = {name: list(tensors[f"trace.{name}"]) for name in about["trace"]}
        return Saved(about["step"], fields, trace, Counter(about["counts"]))

    def write(
        self,
        first: int,
        step: int,
        state: tuple[Tensor, ...],
        trace: dict[str, list[Tensor]],
        counts: Counter[str],
    ) -> None:
        """Replaces the chunk's file, once the new one is whole."""
        path = self._path(first)
        if path is None:
            return
        arrays = {f"state.{i}": value.detach().cpu().numpy() for i, value in enumerate(state)}
        arrays |= {f"trace.{name}": torch.stack(rows).numpy() for name, rows in trace.items()}
        about = {
            "fingerprint": self.fingerprint,
            "step": step,
            "fields": len(state),
            "trace": list(trace),
            "counts": dict(counts),
        }
        save_arrays(path, arrays, about)

    def _path(self, first: int) -> Path | None:
        return None if self.folder is None else self.folder / f"items-{first:06d}.npz"
