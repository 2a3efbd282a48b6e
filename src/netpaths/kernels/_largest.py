"""Numba source: the largest input of every active output's receptive field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._words import words_of
from netpaths.lanes import WORD, first_bit


@njit(cache=True, nogil=True)
def _maximum(inputs, start, area, width, rows, cols, per_group, y, x):
    """The first place of the largest value that is no padding, and how many values equal it."""
    best, ties = -1, 0
    largest = inputs.dtype.type(0)
    place = 0
    for c in range(per_group):
        for i in range(rows.shape[1]):
            for j in range(cols.shape[1]):
                row, col = rows[y, i], cols[x, j]
                if row >= 0 and col >= 0:
                    value = inputs[start + c * area + row * width + col]
                    if best < 0 or value > largest:
                        best, ties, largest = place, 1, value
                    elif value == largest:
                        ties += 1
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
    words, starts, n = words_of(active, batch, out_channels, places, WORD)
    owners = np.empty(n, np.int64)
    offsets = np.zeros(n + 1, np.int64)
    bests = np.empty(n, np.int64)
    values = np.empty(n, inputs.dtype)
    for line in prange(batch * out_channels):
        image, out = line // out_channels, line % out_channels
        start = (image * channels + out // outs * per_group) * area
        for block in range(words.shape[1]):
            word, row = words[image, block, out], starts[image, block, out]
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
    for row in range(n):
        offsets[row + 1] += offsets[row]
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
