"""Random numbers keyed by what they are for, never by where they sit in a batch.

Every draw belongs to a (seed, item, particle, step). It is the same for any batch size, chunk,
order, number of workers and device, and after a resume; particle 3 of 4 is particle 3 of 8.
Numbers come from NumPy's Philox generator on the host: counter-based, so keys never collide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ItemId", "Rng"]

ItemId = int | str

_ITEM_STREAM = 2**63  # the counter word of draws that belong to an item rather than a particle


class Rng:
    """The random numbers of one step, for all rows of a chunk.

    Arguments:
        seed: The run's seed, any integer.
        ids: The identities of the chunk's items, integers or relative names.
        particles: The number of rows per item; rows of an item are adjacent.
        step: The step that the numbers belong to; 0 is the initialisation.
    """

    def __init__(self, seed: int, ids: Sequence[ItemId], particles: int, step: int = 0) -> None:
        self.seed, self.ids, self.particles, self.step = seed, tuple(ids), particles, step
        self._keys = [_key(seed, item) for item in self.ids]
        self._begin()

    def _begin(self) -> None:
        # One generator serves all streams: to set its state is much cheaper than to make another.
        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)
        self._states: dict[tuple[int, int], Any] = {}

    def at(self, step: int) -> Rng:
        """The numbers of another step, from their beginning."""
        other = copy(self)
        other.step = step
        other._begin()
        return other

    def normal(self, like: Tensor) -> Tensor:
        """Independent standard normal numbers, shape, precision and device of ``like`` (b, ...).

        Complex numbers get a standard normal real and a standard normal imaginary part.
        """
        if like.is_complex():
            return torch.view_as_complex(self.normal(torch.view_as_real(like)))
        kind = np.float64 if like.dtype == torch.float64 else np.float32
        out = np.empty(tuple(like.shape), kind)
        for row, place in zip(out, self._places(), strict=True):
            with self._stream(*place) as stream:
                stream.standard_normal(out=row, dtype=kind)
        host = torch.from_numpy(out)
        if like.is_cuda:
            host = host.pin_memory()  # or the copy would make the host wait
        return host.to(like, non_blocking=True)

    def signs(self, like: Tensor) -> Tensor:
        """Independent -1 or +1 with equal chance (Rademacher), like ``like`` (b, ...)."""
        out = np.empty(tuple(like.shape), np.int8)
        for row, place in zip(out, self._places(), strict=True):
            with self._stream(*place) as stream:
                row[...] = stream.integers(0, 2, row.shape, np.int8)
        return (2 * torch.from_numpy(out) - 1).to(like)

    def uniform(self, count: int | None = None) -> Tensor:
        """``count`` numbers in [0, 1) per item, (n, count), or one, (n,); float64, on the host."""
        out = np.empty((len(self.ids), *(() if count is None else (count,))))
        for item in range(len(self.ids)):
            with self._stream(item, _ITEM_STREAM) as stream:
                out[item] = stream.random(count)
        return torch.from_numpy(out)

    def _places(self) -> Iterator[tuple[int, int]]:
        return ((i, k) for i in range(len(self.ids)) for k in range(self.particles))

    @contextmanager
    def _stream(self, item: int, particle: int) -> Iterator[np.random.Generator]:
        """The generator, where the stream was left; at its beginning, if it was never there."""
        place = item, particle
        left: Any = self._states.get(place) or self._fresh(item, particle)
        self._bits.state = left
        yield self._generator
        self._states[place] = self._bits.state

    def _fresh(self, item: int, particle: int) -> dict[str, Any]:
        counter = np.array([0, 0, particle, self.step], dtype=np.uint64)
        return {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": self._keys[item]},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }


def _key(seed: int, item: ItemId) -> np.ndarray:
    text = f"{seed}|{type(item).__name__}|{item}".encode()
    return np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), "<u8").astype(np.uint64)
