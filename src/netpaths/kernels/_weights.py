"""Numba source: the distinct weights that chosen synapses use."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.lanes import WORD, first_bit, take

LINES = 8
"""Output channels a worker takes at once."""


@njit(cache=True, nogil=True)
def _bounds(active, places, lines):
    """Where each output channel's rows start and end, all images' channels in one line."""
    bounds = np.zeros(lines + 1, np.int64)
    for row in range(active.size):
        bounds[active[row] // places + 1] += 1
    for line in range(lines):
        bounds[line + 1] += bounds[line]
    return bounds


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
                base = line % channels * size
                for row in range(bounds[line], bounds[line + 1]):
                    shift = active[row] % outputs * size
                    for k in range(offsets[row], offsets[row + 1]):
                        position = synapses[k] - shift
                        words[position // WORD] |= np.uint64(1) << np.uint64(position % WORD)
                at = offsets[bounds[line]]
                for place in range(words.size):
                    word = words[place]
                    words[place] = 0
                    while word != np.uint64(0):
                        room[at] = base + place * WORD + first_bit(word)
                        at += 1
                        word &= word - np.uint64(1)
                starts[line + 1] = at - offsets[bounds[line]]
    for line in range(lines):
        starts[line + 1] += starts[line]
    keys = np.empty(starts[lines], np.int64)
    for line in prange(lines):
        at = offsets[bounds[line]] - starts[line]
        for k in range(starts[line], starts[line + 1]):
            keys[k] = room[at + k]
    return starts[::channels].copy(), keys
