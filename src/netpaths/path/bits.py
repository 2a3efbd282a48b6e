"""Packed sets: 64 elements a word, least significant bit first."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpaths.compiling import tolerant_cache

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]


def empty(size: int) -> Words:
    """A packed set over ``size`` elements without a member."""
    return np.zeros(words_for(size), np.uint64)


def words_for(size: int) -> int:
    """The number of words of a packed set over ``size`` elements."""
    return (size + 63) // 64


def from_masks(masks: NDArray[np.bool_]) -> tuple[Words, list[int]]:
    """The packed sets of flat masks (n, size), (n, words), and how many members each has."""
    count, size = masks.shape
    words, members = np.empty((count, words_for(size)), np.uint64), np.empty(count, np.int64)
    marks = np.ascontiguousarray(masks).view(np.uint8)
    _compiled()["packed"](marks.reshape(-1), size, words.reshape(-1), members)
    return words, members.tolist()


def insert(words: Words, indices: Indices) -> None:
    """Add ``indices`` to the packed set in place."""
    _compiled()["insert"](words, indices)


def pack(indices: Indices, size: int) -> Words:
    """The packed set of ``indices`` over ``size`` elements."""
    words = empty(size)
    insert(words, indices)
    return words


def unite(first: Words, second: Words, both: Words | None = None) -> tuple[Words, int]:
    """The union of two packed sets and its number of members, in ``both`` where it is given; one pass over memory."""
    both = np.empty_like(first) if both is None else both
    return both, int(_compiled()["unite"](first, second, both))


def unpack(words: Words, members: int | None = None) -> Indices:
    """The members of a packed set, ascending; ``members`` is how many they are, where that is known."""
    return np.asarray(_compiled()["unpack"](words, count(words) if members is None else members))


def count(words: Words) -> int:
    """The number of members."""
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def contains(words: Words, indices: Indices) -> NDArray[np.bool_]:
    """For every index whether it is a member: (n,) booleans."""
    return np.asarray((words[indices >> 6] >> (indices & 63).astype(np.uint64)) & np.uint64(1), dtype=bool)


def inside(words: Words, indices: Indices) -> int:
    """How many of ``indices`` are members."""
    return int(_compiled()["inside"](words, indices))


def shared(first: Indices, second: Indices) -> int:
    """How many indices two ascending lists share."""
    return int(_compiled()["shared"](first, second))


@cache
def _compiled() -> dict[str, Any]:
    """Compile on first use; importing numba takes a while."""
    with tolerant_cache():
        from netpaths.path import _compiled_bits

    return {name: getattr(_compiled_bits, name) for name in ("insert", "inside", "packed", "shared", "unite", "unpack")}
