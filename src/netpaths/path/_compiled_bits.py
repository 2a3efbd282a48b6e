"""Numba source of packed sets; imported on first use because importing numba takes a while."""

from __future__ import annotations

import numpy as np
from numba import njit

from netpaths.lanes import HOT, WORD, at, bits_set, first_bit, put, word_of


@njit(**HOT)
def _packed(marks, start, stop, words, to):
    """Write the marks start ≤ k < stop as bits to words[to:]; returns how many are set."""
    members = 0
    for place in range(start, stop, WORD):
        word = word_of(marks, place, min(place + WORD, stop))
        put(words, to, word)
        members += bits_set(word)
        to += 1
    return members


@njit(cache=True, nogil=True)
def packed(marks, size, words, members):
    """Pack each row of marks, flat (n, size), into a row of words, flat (n, words); members[n] is how many are set."""
    width = (size + WORD - 1) // WORD
    for row in range(members.size):
        members[row] = _packed(marks, row * size, (row + 1) * size, words, row * width)


@njit(cache=True, nogil=True)
def insert(words, indices):
    """Set the bits of ``indices``."""
    for position in range(indices.size):
        index = np.uint64(indices[position])
        words[index >> np.uint64(6)] |= np.uint64(1) << (index & np.uint64(63))


@njit(cache=True, nogil=True)
def unpack(words, members):
    """The places of the bits set, ascending; ``members`` is how many there are."""
    found = np.empty(members, np.int64)
    position = 0
    for place in range(words.size):
        word = words[place]
        while word != np.uint64(0):
            put(found, position, place * WORD + first_bit(word))
            position += 1
            word &= word - np.uint64(1)
    return found


@njit(cache=True, nogil=True)
def unite(first, second, both):
    """Write the union of two packed sets to ``both``, which may be one of them; returns its number of members."""
    members = 0
    for place in range(both.size):
        word = at(first, place) | at(second, place)
        put(both, place, word)
        members += bits_set(word)
    return members


@njit(cache=True, nogil=True)
def inside(words, indices):
    """How many of ``indices`` are members of a packed set."""
    found = np.uint64(0)
    for position in range(indices.size):
        index = np.uint64(indices[position])
        found += (words[index >> np.uint64(6)] >> (index & np.uint64(63))) & np.uint64(1)
    return np.int64(found)


@njit(cache=True, nogil=True)
def shared(first, second):
    """How many indices two ascending lists share; the shorter one jumps through the longer one."""
    if first.size > second.size:
        first, second = second, first
    found, low = 0, 0
    for position in range(first.size):
        index = first[position]
        step = 1
        high = low
        while high < second.size and second[high] < index:
            low = high + 1
            high += step
            step *= 2
        high = min(high, second.size)
        while low < high:
            middle = (low + high) // 2
            if second[middle] < index:
                low = middle + 1
            else:
                high = middle
        if low == second.size:
            break
        found += second[low] == index
    return found
