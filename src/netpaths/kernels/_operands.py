"""Numba source: the operands that every active sum of two chooses."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._direction import direction
from netpaths.kernels._words import summed, words_of
from netpaths.lanes import HOT, WORD, at, first_bit, put

LINE = 4096
"""Sums looked at together."""

FIRST, SECOND = np.uint8(1), np.uint8(2)


@njit(**HOT)
def _chosen(first, second, theta):
    """Which of two contributions the selection takes, as bits."""
    total = np.float64(first) + np.float64(second)
    both = (total > 0) & (2 * theta > 1) & (max(first, second) < theta * total)
    return FIRST | SECOND if both else (FIRST if first >= second else SECOND)


@njit(**HOT)
def _choose(first, second, output, flipped, options, word, start, row, answer):
    """Choose for the sums of a word, start + k for every bit k, whose rows start at ``row``."""
    theta, every = options
    owners, taken, offsets, reached_first, reached_second = answer
    while word != np.uint64(0):
        place = start + first_bit(word)
        word &= word - np.uint64(1)
        sign = direction(output, flipped, place)
        bits = FIRST | SECOND if every else _chosen(at(first, place) * sign, at(second, place) * sign, theta)
        put(owners, row, place)
        put(taken, row, bits)
        put(offsets, row + 1, np.int64(1 + (bits == FIRST | SECOND)))
        put(reached_first, place, bits & FIRST)
        put(reached_second, place, bits >> np.uint8(1))
        row += 1


@njit(**HOT)
def _flatten(start, stop, owners, taken, offsets, outputs, synapses):
    """The chosen operands of rows start ≤ row < stop as synapses; the next row overwrites what is one too many."""
    end = at(offsets, stop)
    for row in range(start, stop):
        to, bits = at(offsets, row), at(taken, row)
        base = at(owners, row) % outputs * 2
        put(synapses, to, base + (bits == SECOND))
        if to + 1 < end:
            put(synapses, to + 1, base + 1)


@njit(cache=True, nogil=True, parallel=True)
def operands(
    first, second, shape, active, output, flipped, theta, every, amounts, reached_first, reached_second, workers
):
    """Active outputs, offsets, synapses and contributions of every row; marks what they read."""
    batch, outputs = shape
    lines, blocks = (batch * outputs + LINE - 1) // LINE, LINE // WORD
    words, starts, bases = words_of(active, 1, lines, LINE, WORD)
    n = bases[-1]
    owners = np.empty(n, np.int64)
    taken = np.empty(n, np.uint8)
    offsets = np.zeros(n + 1, np.int64)
    for line in prange(lines):
        answer = (owners, taken, offsets, reached_first, reached_second)
        for block in range(blocks):
            cell, start = block * lines + line, line * LINE + block * WORD
            row = starts[cell] + bases[line]
            _choose(first, second, output, flipped, (theta, every), words[cell], start, row, answer)
    summed(offsets)
    pieces = 16 * workers
    synapses = np.empty(offsets[n], np.int64)
    values = np.empty(offsets[n] if amounts else 0, np.float32)
    for piece in prange(pieces):
        start, stop = n * piece // pieces, n * (piece + 1) // pieces
        _flatten(start, stop, owners, taken, offsets, outputs, synapses)
        if amounts:
            for row in range(start, stop):
                for k in range(offsets[row], offsets[row + 1]):
                    place = owners[row]
                    operand = first if synapses[k] % 2 == 0 else second
                    values[k] = operand[place] * direction(output, flipped, place)
    return owners, offsets, synapses, values
