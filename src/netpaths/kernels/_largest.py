"""Numba source: the largest input of every active output's receptive field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._words import summed, words_of
from netpaths.lanes import HOT, WORD, at, first_bit


@njit(**HOT)
def _maximum(inputs, start, area, width, rows, cols, per_group, y, x):
    """The first place of the largest value that is no padding, how many values equal it, and the value."""
    best, ties, place = -1, 0, 0
    largest = inputs.dtype.type(0)
    for c in range(per_group):
        for i in range(rows.shape[1]):
            row = rows[y, i]
            for j in range(cols.shape[1]):
                col = cols[x, j]
                if row >= 0 and col >= 0:
                    value = at(inputs, start + c * area + row * width + col)
                    larger = best < 0 or value > largest
                    ties = 1 if larger else ties + (value == largest)
                    best = place if larger else best
                    largest = value if larger else largest
                place += 1
    return best, ties, largest


@njit(cache=True, nogil=True, parallel=True)
def largest(inputs, shape, rows, cols, active, groups, every, amounts, reached, workers):
    """Active outputs, offsets, synapses and contributions of every row; marks what they read in ``reached``."""
    batch, channels, height, width, out_channels = shape
    per_group, outs = channels // groups, out_channels // groups
    area, out_width = height * width, cols.shape[0]
    places = rows.shape[0] * out_width
    kernel = rows.shape[1] * cols.shape[1]
    size = per_group * kernel
    words, starts, bases = words_of(active, batch, out_channels, places, WORD)
    blocks, n = (places + WORD - 1) // WORD, bases[-1]
    owners = np.empty(n, np.int64)
    offsets = np.zeros(n + 1, np.int64)
    bests = np.empty(n, np.int64)
    values = np.empty(n, inputs.dtype)
    for line in prange(batch * out_channels):
        image, out = line // out_channels, line % out_channels
        start = (image * channels + out // outs * per_group) * area
        for block in range(blocks):
            cell = (image * blocks + block) * out_channels + out
            word, row = words[cell], starts[cell] + bases[line]
            while word != np.uint64(0):
                place = block * WORD + first_bit(word)
                word &= word - np.uint64(1)
                best, ties, value = _maximum(
                    inputs, start, area, width, rows, cols, per_group, place // out_width, place % out_width
                )
                owners[row] = line * places + place
                bests[row] = best
                values[row] = value
                offsets[row + 1] = ties if every else min(ties, 1)
                row += 1
    summed(offsets)
    synapses = np.empty(offsets[n], np.int64)
    chosen_values = np.empty(offsets[n] if amounts else 0, np.float32)
    for piece in prange(16 * workers):
        for row in range(n * piece // (16 * workers), n * (piece + 1) // (16 * workers)):
            line, place = owners[row] // places, owners[row] % places
            y, x = place // out_width, place % out_width
            image, out = line // out_channels, line % out_channels
            start = (image * channels + out // outs * per_group) * area
            position = bests[row]
            for k in range(offsets[row], offsets[row + 1]):
                source = -1
                while source < 0:
                    inner = position % kernel
                    line_at, col = rows[y, inner // cols.shape[1]], cols[x, inner % cols.shape[1]]
                    if line_at >= 0 and col >= 0:
                        source = start + position // kernel * area + line_at * width + col
                        if inputs[source] != values[row]:
                            source = -1
                    position += 1
                synapses[k] = (out * places + place) * size + position - 1
                reached[source] = 1
                if amounts:
                    chosen_values[k] = values[row]
    return owners, offsets, synapses, chosen_values
