"""Philox4x32-10: random words as a function of a counter and a key, whole arrays at a time.

A counter-based generator has no state: the words of any counter can be had in any order and next
to any others. NumPy's own Philox draws one stream per call; here every row has its own.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011)
    | https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Words", "normal", "philox", "uniform"]

Words = NDArray[np.uint32]

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10
_HALF = np.uint64(32)


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]
) -> tuple[Words, Words, Words, Words]:
    """Four words of 32 random bits for every counter (four words) and key (two).

    Arguments:
        counter: Arrays of uint32 that can be broadcast against each other and the key.
        key: Likewise.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(_ROUNDS):
        left = np.multiply(a, _MULTIPLIERS[0], dtype=np.uint64)
        right = np.multiply(c, _MULTIPLIERS[1], dtype=np.uint64)
        a, b, c, d = (
            (right >> _HALF).astype(np.uint32) ^ b ^ first,
            right.astype(np.uint32),
            (left >> _HALF).astype(np.uint32) ^ d ^ second,
            left.astype(np.uint32),
        )
        first, second = first + _KEY_STEPS[0], second + _KEY_STEPS[1]
    return a, b, c, d


def uniform(high: Words, low: Words) -> NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits, from two words each."""
    return ((high >> np.uint32(5)) * 67108864.0 + (low >> np.uint32(6))) * 2.0**-53


def normal(
    radius: Words, angle: Words, kind: type[np.floating[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two independent standard normal numbers from two words (Box and Muller, 1958).

    32 bits of radius reach out to 6.66 standard deviations, and leave out 3e-11 of the law.
    """
    turn = angle.astype(kind) * kind(2 * np.pi * 2.0**-32)
    # From (0, 1]: the logarithm of zero is never taken.
    length = np.sqrt(kind(-2) * np.log((radius.astype(kind) + kind(1)) * kind(2.0**-32)))
    return length * np.cos(turn), length * np.sin(turn)
