"""Random numbers keyed by what they are for, never by where they sit in a batch.

Every draw belongs to a (seed, item, particle, step). It is the same for any batch size, chunk,
order, number of workers and device, and after a resume; particle 3 of 4 is particle 3 of 8.
Numbers come from a counter-based generator (``philox``) on the host, for all rows at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from invdiff import philox
from invdiff.errors import ShapeError
from invdiff.philox import Words

__all__ = ["ItemId", "Rng"]

ItemId = int | str

_OF_ITEM = np.uint32(2**31)  # the bit that sets an item's own numbers apart from its particles'
_AT_ONCE = 2**14  # counters: their words stay in the processor's cache


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
        # Three words of 32 bits per item: two of the key, 31 bits of the counter.
        self._items = np.array([_digest(seed, item) for item in self.ids], np.uint32)
        self._begin()

    def _begin(self) -> None:
        self._used = 0  # counters of every row
        self._used_by_items = 0

    def at(self, step: int) -> Rng:
        """The numbers of another step, from their beginning."""
        other = copy(self)
        other.step = step
        other._begin()
        return other

    def normal(self, like: Tensor) -> Tensor:
        """Independent standard normal numbers, shape, precision and device of ``like`` (b, ...).

        Complex numbers get a standard normal real and a standard normal imaginary part. Numbers
        of different precision are the same but for rounding.
        """
        if like.is_complex():
            return torch.view_as_complex(self.normal(torch.view_as_real(like)))
        kind = np.float64 if like.dtype == torch.float64 else np.float32
        counters = -(-like[0].numel() // 4)
        out = np.empty((len(like), 4, counters), kind)
        for rows, columns, words in self._words(len(like), counters):
            out[rows, 0, columns], out[rows, 1, columns] = philox.normal(*words[:2], kind)
            out[rows, 2, columns], out[rows, 3, columns] = philox.normal(*words[2:], kind)
        return _shaped(torch.from_numpy(out), like)

    def signs(self, like: Tensor) -> Tensor:
        """Independent -1 or +1 with equal chance (Rademacher), like ``like`` (b, ...)."""
        counters = -(-like[0].numel() // 128)
        out = np.empty((len(like), counters, 4), "<u4")
        for rows, columns, words in self._words(len(like), counters):
            out[rows, columns] = np.stack(words, -1)
        bits = np.unpackbits(out.view(np.uint8).reshape(len(like), -1), axis=1)
        return _shaped(2 * torch.from_numpy(bits.view(np.int8)) - 1, like)

    def uniform(self, count: int | None = None) -> Tensor:
        """``count`` numbers in [0, 1) per item, (n, count), or one, (n,); float64, on the host."""
        place = np.arange(count or 1, dtype=np.uint32) + np.uint32(self._used_by_items)
        self._used_by_items += len(place)
        words = self._draw(place, np.zeros(len(self.ids), np.uint32), self._items, _OF_ITEM)
        numbers = torch.from_numpy(philox.uniform(*words[:2]))
        return numbers[:, 0] if count is None else numbers

    def _words(
        self, rows: int, counters: int
    ) -> Iterator[tuple[slice, slice, tuple[Words, Words, Words, Words]]]:
        """The next words of every row, (rows, counters) each, part by part."""
        if rows != len(self.ids) * self.particles:
            raise ShapeError(
                f"Random numbers for {rows} rows were asked for, but there are {len(self.ids)} "
                f"items of {self.particles} particles. Pass a tensor with one row per particle."
            )
        particle = np.tile(np.arange(self.particles, dtype=np.uint32), len(self.ids))
        items = np.repeat(self._items, self.particles, axis=0)
        wide = max(1, min(counters, _AT_ONCE))
        high = max(1, _AT_ONCE // wide)
        for top in range(0, rows, high):
            part = slice(top, top + high)
            for left in range(0, counters, wide):
                place = np.arange(left, min(left + wide, counters), dtype=np.uint32)
                place += np.uint32(self._used)
                words = self._draw(place, particle[part], items[part], np.uint32(0))
                yield part, slice(left, left + wide), words
        self._used += counters

    def _draw(
        self, place: Words, particle: Words, items: Words, kind: np.uint32
    ) -> tuple[Words, Words, Words, Words]:
        step = np.full(1, self.step, np.uint32)
        key, other, salt = items.T[:, :, None]
        return philox.philox((place, particle[:, None], step, salt | kind), (key, other))


def _shaped(numbers: Tensor, like: Tensor) -> Tensor:
    """The first numbers of every row (b, ...) in the shape, precision and place of ``like``."""
    host = numbers.reshape(len(like), -1)[:, : like[0].numel()].reshape(like.shape)
    if like.is_cuda:
        host = host.pin_memory()  # or the copy would make the host wait
    return host.to(like, non_blocking=True)


def _digest(seed: int, item: ItemId) -> Words:
    text = f"{seed}|{type(item).__name__}|{item}".encode()
    words = np.frombuffer(hashlib.blake2b(text, digest_size=12).digest(), "<u4").copy()
    words[2] &= ~_OF_ITEM
    return words
