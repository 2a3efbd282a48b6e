"""Numba source: the distinct weights that chosen synapses use."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.lanes import HOT, WORD, at, first_bit, put, take

LINES = 8
"""Output channels a worker takes at once."""


@njit(cache=True, nogil=True)
def _bounds(active, places, lines):
    """Where each output channel's rows start and end, all images' channels in one line."""
    bounds = np.zeros(lines + 1, np.int64)
    for row in range(active.size):
        line = at(active, row) // places + 1
        put(bounds, line, at(bounds, line) + 1)
    for line in range(lines):
        bounds[line + 1] += bounds[line]
    return bounds


@njit(**HOT)
def _mark(words, owners, offsets, synapses, rows, outputs, size):
    """Set the bit of every position that rows[0] ≤ row < rows[1] chose."""
    for row in range(rows[0], rows[1]):
        shift = at(owners, row) % outputs * size
        for k in range(at(offsets, row), at(offsets, row + 1)):
            position = np.uint64(at(synapses, k) - shift)
            place = np.int64(position >> np.uint64(6))
            put(words, place, at(words, place) | np.uint64(1) << (position & np.uint64(63)))


@njit(**HOT)
def _list(words, base, keys, to):
    """Write base + k for every bit k that is set to keys[to:], and clear them; returns where the next one goes."""
    for place in range(words.size):
        word = at(words, place)
        put(words, place, np.uint64(0))
        while word != np.uint64(0):
            put(keys, to, base + place * WORD + first_bit(word))
            to += 1
            word &= word - np.uint64(1)
    return to


@njit(cache=True, nogil=True, parallel=True)
def weights(active, offsets, synapses, shape, places, workers):
    """Where each image's keys start and end, and the ascending distinct keys (channel · field + position)."""
    batch, outputs, size = shape
    channels = outputs // places
    lines = batch * channels
    bounds = _bounds(active, places, lines)
    room = np.empty(synapses.size, np.int64)
    starts = np.zeros(lines + 1, np.int64)
    counter = np.zeros(1, np.int64)
    for _worker in prange(workers):
        words = np.zeros((size + WORD - 1) // WORD, np.uint64)
        while True:
            first = take(counter, 0, LINES)
            if first >= lines:
                break
            for line in range(first, min(first + LINES, lines)):
                if bounds[line] == bounds[line + 1]:
                    continue
                _mark(words, active, offsets, synapses, (bounds[line], bounds[line + 1]), outputs, size)
                to = offsets[bounds[line]]
                starts[line + 1] = _list(words, line % channels * size, room, to) - to
    for line in range(lines):
        starts[line + 1] += starts[line]
    keys = np.empty(starts[lines], np.int64)
    for line in prange(lines):
        source = offsets[bounds[line]] - starts[line]
        for k in range(starts[line], starts[line + 1]):
            keys[k] = room[source + k]
    return starts[::channels].copy(), keys
