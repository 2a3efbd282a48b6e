"""Numba source: the operands that every active sum of two chooses."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._words import words_of
from netpaths.lanes import WORD, first_bit

LINE = 4096
"""Sums looked at together."""

FIRST, SECOND = np.uint8(1), np.uint8(2)


@njit(cache=True, nogil=True)
def _chosen(first, second, theta):
    """Which of two contributions the selection takes, as bits."""
    total = np.float64(first) + np.float64(second)
    best = max(first, second)
    if total > 0 and 2 * theta > 1 and best < theta * total:
        return FIRST | SECOND
    return FIRST if first >= second else SECOND


@njit(cache=True, nogil=True, parallel=True)
def operands(
    first, second, shape, active, output, flipped, theta, every, amounts, reached_first, reached_second, workers
):
    """Active outputs, offsets, synapses and contributions of every row; marks what they read."""
    batch, outputs = shape
    words, starts, n = words_of(active, 1, 1, batch * outputs, WORD)
    owners = np.empty(n, np.int64)
    taken = np.empty(n, np.uint8)
    offsets = np.zeros(n + 1, np.int64)
    blocks = words.shape[1]
    pieces = 16 * workers
    for piece in prange(pieces):
        for block in range(blocks * piece // pieces, blocks * (piece + 1) // pieces):
            word, row = words[0, block, 0], starts[0, block, 0]
            while word != np.uint64(0):
                place = block * WORD + first_bit(word)
                word &= word - np.uint64(1)
                negative = output[place] < 0
                if flipped.size and flipped[place]:
                    negative = not negative
                sign = first.dtype.type(-1 if negative else 1)
                bits = FIRST | SECOND if every else _chosen(first[place] * sign, second[place] * sign, theta)
                owners[row] = place
                taken[row] = bits
                offsets[row + 1] = 2 if bits == FIRST | SECOND else 1
                if bits & FIRST:
                    reached_first[place] = 1
                if bits & SECOND:
                    reached_second[place] = 1
                row += 1
    for row in range(n):
        offsets[row + 1] += offsets[row]
    synapses = np.empty(offsets[n], np.int64)
    values = np.empty(offsets[n] if amounts else 0, np.float32)
    for piece in prange(pieces):
        for row in range(n * piece // pieces, n * (piece + 1) // pieces):
            at, place = offsets[row], owners[row]
            negative = output[place] < 0
            if flipped.size and flipped[place]:
                negative = not negative
            sign = first.dtype.type(-1 if negative else 1)
            for operand in range(2):
                if taken[row] & (FIRST if operand == 0 else SECOND):
                    synapses[at] = place % outputs * 2 + operand
                    if amounts:
                        values[at] = (first[place] if operand == 0 else second[place]) * sign
                    at += 1
    return owners, offsets, synapses, values
