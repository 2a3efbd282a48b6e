"""Packed sets: 64 elements a word, least significant bit first."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]


def empty(size: int) -> Words:
    """A packed set over ``size`` elements without a member."""
    return np.zeros((size + 63) // 64, np.uint64)


def from_mask(mask: NDArray[np.bool_]) -> Words:
    """The packed set of a flat mask."""
    words = empty(mask.size)
    packed = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: packed.size] = packed  # words are little-endian on every machine torch runs on
    return words


def insert(words: Words, indices: Indices) -> None:
    """Add ``indices`` to the packed set in place."""
    _compiled()["insert"](words, indices)


def pack(indices: Indices, size: int) -> Words:
    """The packed set of ``indices`` over ``size`` elements."""
    words = empty(size)
    insert(words, indices)
    return words


def unpack(words: Words) -> Indices:
    """The members of a packed set, ascending."""
    return np.asarray(_compiled()["unpack"](words, count(words)))


def count(words: Words) -> int:
    """The number of members."""
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def contains(words: Words, indices: Indices) -> NDArray[np.bool_]:
    """For every index whether it is a member: (n,) booleans."""
    return np.asarray((words[indices >> 6] >> (indices & 63).astype(np.uint64)) & np.uint64(1), dtype=bool)


@cache
def _compiled() -> dict[str, Any]:
    from numba import njit

    from netpaths.lanes import first_bit

    @njit(cache=True, nogil=True)
    def insert(words: Words, indices: Indices) -> None:
        for position in range(indices.size):
            index = indices[position]
            words[index >> 6] |= np.uint64(1) << np.uint64(index & 63)

    @njit(cache=True, nogil=True)
    def unpack(words: Words, members: int) -> Indices:
        found = np.empty(members, np.int64)
        position = 0
        for place in range(words.size):
            word = words[place]
            while word != np.uint64(0):
                found[position] = place * 64 + first_bit(word)
                position += 1
                word &= word - np.uint64(1)
        return found

    return {"insert": insert, "unpack": unpack}
