"""Random numbers keyed by what they are for, never by where they sit in a batch.

Every draw belongs to a (seed, item, particle, step). It is the same for any batch size, chunk,
order, number of workers and device, and after a resume; particle 3 of 4 is particle 3 of 8.
Numbers come from NumPy's Philox generator on the host: counter-based, so keys never collide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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
        self._streams: dict[tuple[int, int], np.random.Generator] = {}

    def at(self, step: int) -> Rng:
        """The numbers of another step, from their beginning."""
        return Rng(self.seed, self.ids, self.particles, step)

    def normal(self, like: Tensor) -> Tensor:
        """Independent standard normal numbers, shape, precision and device of ``like`` (b, ...).

        Complex numbers get a standard normal real and a standard normal imaginary part.
        """
        if like.is_complex():
            return torch.view_as_complex(self.normal(torch.view_as_real(like)))
        kind = np.float64 if like.dtype == torch.float64 else np.float32
        out = np.empty(tuple(like.shape), kind)
        for row, stream in enumerate(self._row_streams()):
            stream.standard_normal(out=out[row], dtype=kind)
        host = torch.from_numpy(out)
        if like.is_cuda:
            host = host.pin_memory()  # or the copy would make the host wait
        return host.to(like, non_blocking=True)

    def signs(self, like: Tensor) -> Tensor:
        """Independent -1 or +1 with equal chance (Rademacher), like ``like`` (b, ...)."""
        size = tuple(like.shape[1:])
        rows = [stream.integers(0, 2, size, np.int8) for stream in self._row_streams()]
        return (2 * torch.from_numpy(np.stack(rows)) - 1).to(like)

    def uniform(self, count: int | None = None) -> Tensor:
        """``count`` numbers in [0, 1) per item, (n, count), or one, (n,); float64, on the host."""
        streams = (self._stream(item, _ITEM_STREAM) for item in range(len(self.ids)))
        numbers = np.stack([stream.random(count) for stream in streams])
        return torch.from_numpy(np.asarray(numbers, np.float64))

    def _row_streams(self) -> list[np.random.Generator]:
        pairs = ((i, k) for i in range(len(self.ids)) for k in range(self.particles))
        return [self._stream(item, particle) for item, particle in pairs]

    def _stream(self, item: int, particle: int) -> np.random.Generator:
        if (item, particle) not in self._streams:
            counter = np.array([0, 0, particle, self.step], dtype=np.uint64)
            philox = np.random.Philox(key=self._keys[item], counter=counter)
            self._streams[item, particle] = np.random.Generator(philox)
        return self._streams[item, particle]


def _key(seed: int, item: ItemId) -> int:
    text = f"{seed}|{type(item).__name__}|{item}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
