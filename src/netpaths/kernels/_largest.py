"""Numba source: the largest input of every active output's receptive field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._words import listed, summed
from netpaths.lanes import HOT, at, put


@njit(**HOT)
def _maximum(inputs, start, area, width, tables, per_group, y, x):
    """The first place of the largest value that is no padding and its input, how many equal it, and the value."""
    rows, cols, height, length = tables
    best, source, ties, place = -1, -1, 0, 0
    largest = inputs.dtype.type(0)
    for c in range(per_group):
        for i in range(height):
            row = at(rows, y * height + i)
            for j in range(length):
                col = at(cols, x * length + j)
                if row >= 0 and col >= 0:
                    here = start + c * area + row * width + col
                    value = at(inputs, here)
                    larger = best < 0 or value > largest
                    ties = 1 if larger else ties + (value == largest)
                    best, source = (place, here) if larger else (best, source)
                    largest = value if larger else largest
                place += 1
    return best, source, ties, largest


@njit(**HOT)
def _ties(inputs, start, area, width, tables, position, value, base, synapses, reached, first, stop):
    """List the places behind ``position`` whose inputs equal ``value``, to synapses[first:stop]; marks the inputs."""
    rows, cols, height, length = tables
    kernel = height * length
    for k in range(first, stop):
        found = False
        while not found:
            position += 1
            row, col = rows[position % kernel // length], cols[position % length]
            if row >= 0 and col >= 0:
                source = start + position // kernel * area + row * width + col
                found = inputs[source] == value
        synapses[k] = base + position
        reached[source] = 1


@njit(cache=True, nogil=True, parallel=True)
def largest(inputs, shape, rows, cols, active, groups, every, amounts, reached, workers):
    """Active outputs, offsets, synapses and contributions of every row; marks what they read in ``reached``."""
    _, channels, height, width, out_channels = shape
    per_group, outs = channels // groups, out_channels // groups
    area, out_width, kernel = height * width, cols.shape[0], rows.shape[1] * cols.shape[1]
    places, size = rows.shape[0] * out_width, per_group * kernel
    pieces = 16 * workers
    owners = listed(active, pieces)
    n = owners.size
    offsets = np.zeros(n + 1, np.int64)
    bests = np.empty(n, np.int64)
    values = np.empty(n, inputs.dtype)
    tables = (rows.reshape(rows.size), cols.reshape(cols.size), rows.shape[1], cols.shape[1])
    for piece in prange(pieces):
        for row in range(n * piece // pieces, n * (piece + 1) // pieces):
            line, place = at(owners, row) // places, at(owners, row) % places
            start = (line // out_channels * channels + line % out_channels // outs * per_group) * area
            y, x = place // out_width, place % out_width
            best, source, ties, value = _maximum(inputs, start, area, width, tables, per_group, y, x)
            put(bests, row, best)
            put(values, row, value)
            put(offsets, row + 1, np.int64(ties if every else min(ties, 1)))
            if best >= 0:
                put(reached, source, np.uint8(1))
    summed(offsets)
    synapses = np.empty(offsets[n], np.int64)
    chosen_values = np.empty(offsets[n] if amounts else 0, np.float32)
    outputs = out_channels * places
    for piece in prange(pieces):
        for row in range(n * piece // pieces, n * (piece + 1) // pieces):
            owner, first, stop = at(owners, row), at(offsets, row), at(offsets, row + 1)
            base = owner % outputs * size
            if stop > first:
                put(synapses, first, base + at(bests, row))
            if stop > first + 1:
                line, place = owner // places, owner % places
                y, x = place // out_width, place % out_width
                start = (line // out_channels * channels + line % out_channels // outs * per_group) * area
                own = (tables[0][y * rows.shape[1] :], tables[1][x * cols.shape[1] :], rows.shape[1], cols.shape[1])
                best, value = bests[row], values[row]
                _ties(inputs, start, area, width, own, best, value, base, synapses, reached, first + 1, stop)
            if amounts:
                for k in range(first, stop):
                    chosen_values[k] = values[row]
    return owners, offsets, synapses, chosen_values
