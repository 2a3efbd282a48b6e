"""Numba source: the distinct weights that chosen synapses use."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._candidates import places_of_bits
from netpaths.kernels._words import summed
from netpaths.lanes import HOT, LANES, WORD, at, marked, put, put_lanes, take

LINES = 8
"""Output channels a worker takes at once."""


@njit(cache=True, nogil=True)
def _bounds(active, places, lines):
    """Where each output channel's rows start and end, all images' channels in one line."""
    bounds = np.zeros(lines + 1, np.int64)
    for row in range(active.size):
        line = at(active, row) // places + 1
        put(bounds, line, at(bounds, line) + 1)
    summed(bounds)
    return bounds


@njit(**HOT)
def _mark(marks, owners, offsets, synapses, rows, before, size):
    """Mark every position that rows[0] ≤ row < rows[1] chose; ``before`` outputs belong to images before theirs."""
    for row in range(rows[0], rows[1]):
        shift = (at(owners, row) - before) * size
        for k in range(at(offsets, row), at(offsets, row + 1)):
            put(marks, at(synapses, k) - shift, np.uint8(1))


@njit(**HOT)
def _list(marks, words, bases, positions, to):
    """Write the places of all marks to positions[to:], and clear them; returns how many they are."""
    for place in range(words.size - 1):
        put(words, place, marked(marks, place * WORD))
    for start in range(0, marks.size, LANES):
        put_lanes(marks, start, np.uint8(0))
    return places_of_bits(words, 0, words.size - 1, bases, positions, to)


@njit(**HOT)
def _flatten(positions, source, base, keys, start, stop):
    """Write base + positions[source:] to keys[start:stop]."""
    for k in range(stop - start):
        put(keys, start + k, base + at(positions, source + k))


@njit(cache=True, nogil=True, parallel=True)
def weights(active, offsets, synapses, shape, places, workers):
    """Where each image's keys start and end, and the ascending distinct keys (channel · field + position)."""
    batch, outputs, size = shape
    channels = outputs // places
    lines = batch * channels
    bounds = _bounds(active, places, lines)
    positions = np.empty(synapses.size + lines * WORD, np.int32)
    starts = np.zeros(lines + 1, np.int64)
    counter = np.zeros(1, np.int64)
    for _worker in prange(workers):
        marks = np.zeros((size + WORD - 1) // WORD * WORD, np.uint8)
        words = np.empty(marks.size // WORD + 1, np.uint64)
        bases = np.empty(words.size, np.int64)
        while True:
            first = take(counter, 0, LINES)
            if first >= lines:
                break
            for line in range(first, min(first + LINES, lines)):
                if bounds[line] < bounds[line + 1]:
                    rows, before = (bounds[line], bounds[line + 1]), line // channels * outputs
                    _mark(marks, active, offsets, synapses, rows, before, size)
                    starts[line + 1] = _list(marks, words, bases, positions, offsets[bounds[line]] + line * WORD)
    summed(starts)
    keys = np.empty(starts[lines], np.int64)
    for line in prange(lines):
        source = offsets[bounds[line]] + line * WORD
        _flatten(positions, source, line % channels * size, keys, starts[line], starts[line + 1])
    return starts[::channels].copy(), keys
