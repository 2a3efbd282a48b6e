"""Numba source: the active outputs of a layer, as bits of words and as a list."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.lanes import HOT, WORD, at, bits_set, first_bit, put, word_of


@njit(**HOT)
def _line(active, start, stop, length, words, starts, first, step):
    """The blocks of the marks start ≤ k < stop, to places ``step`` apart; returns how many are active."""
    total = 0
    for place in range(start, stop, length):
        word = word_of(active, place, min(place + length, stop))
        put(words, first, word)
        put(starts, first, total)
        total += bits_set(word)
        first += step
    return total


@njit(**HOT)
def summed(counts):
    """Turn counts[1:] into what they sum up to; counts[0] is 0."""
    total = counts[0]
    for row in range(1, counts.size):
        total += at(counts, row)
        put(counts, row, total)


@njit(cache=True, nogil=True, parallel=True)
def words_of(active, batch, out_channels, places, length):
    """The active outputs as bits, and the rows they belong to.

    Returns the words of blocks of ``length`` places, flat (batch, blocks, out_channels); how many rows of its line, an
    image's channel, come before each block, of the same shape; each line's first row, (batch · out_channels + 1,).
    """
    blocks = (places + length - 1) // length
    words = np.zeros(batch * blocks * out_channels, np.uint64)
    starts = np.empty(words.size, np.int64)
    bases = np.zeros(batch * out_channels + 1, np.int64)
    for line in prange(batch * out_channels):
        first = line // out_channels * blocks * out_channels + line % out_channels
        stop = min((line + 1) * places, active.size)
        bases[line + 1] = _line(active, line * places, stop, length, words, starts, first, out_channels)
    summed(bases)
    return words, starts, bases


@njit(cache=True, nogil=True, parallel=True)
def listed(active, pieces):
    """The places of the active outputs, ascending; ``pieces`` is how many parts of the work are shared out."""
    blocks = (active.size + WORD - 1) // WORD
    words = np.empty(blocks, np.uint64)
    firsts = np.zeros(pieces + 1, np.int64)
    for piece in prange(pieces):
        members = 0
        for block in range(blocks * piece // pieces, blocks * (piece + 1) // pieces):
            word = word_of(active, block * WORD, min((block + 1) * WORD, active.size))
            put(words, block, word)
            members += bits_set(word)
        firsts[piece + 1] = members
    summed(firsts)
    found = np.empty(firsts[pieces], np.int64)
    for piece in prange(pieces):
        row = firsts[piece]
        for block in range(blocks * piece // pieces, blocks * (piece + 1) // pieces):
            word = at(words, block)
            while word != np.uint64(0):
                put(found, row, block * WORD + first_bit(word))
                word &= word - np.uint64(1)
                row += 1
    return found
