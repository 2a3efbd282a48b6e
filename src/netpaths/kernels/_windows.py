"""Numba source: the selection in small receptive fields without weights, as average pooling has them."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._direction import direction
from netpaths.kernels._words import listed, summed
from netpaths.lanes import HOT, bits_set, first_bit


@njit(**HOT)
def _window(inputs, about, rows, cols, y, x, sign, values, places):
    """Contributions of one field without padding and their places; how many they are and their sum."""
    start, area, width, per_group = about
    count, place, total = 0, 0, 0.0
    for c in range(per_group):
        for i in range(rows.shape[1]):
            for j in range(cols.shape[1]):
                row, col = rows[y, i], cols[x, j]
                if row >= 0 and col >= 0:
                    value = inputs[start + c * area + row * width + col] * sign
                    values[count] = value
                    places[count] = place
                    total += np.float64(value)
                    count += 1
                place += 1
    return count, total


@njit(**HOT)
def _chosen(values, places, count, total, goal, theta):
    """The places of the shortest prefix, largest first, reaching ``goal``, as bits; the values are sorted."""
    alone = total <= 0 or goal <= 0 or theta * count <= 1
    for place in range(1, count):
        value, own = values[place], places[place]
        hole = place
        while hole > 0 and values[hole - 1] < value:
            values[hole], places[hole] = values[hole - 1], places[hole - 1]
            hole -= 1
        values[hole], places[hole] = value, own
    word, covered = np.uint64(0), 0.0
    for place in range(count):
        if place > 0 and (alone or covered >= goal or values[place] <= 0):
            break
        word |= np.uint64(1) << np.uint64(places[place])
        covered += np.float64(values[place])
    return word


@njit(cache=True, nogil=True, parallel=True)
def windows(inputs, shape, rows, cols, active, output, flipped, options, groups, reached, workers):
    """As `netpaths.kernels._select.select`, for fields of at most WORD elements whose weights are all 1."""
    _, channels, height, width, out_channels = shape
    theta, covers_value, amounts = options
    per_group, outs = channels // groups, out_channels // groups
    area, out_width, kernel = height * width, cols.shape[0], rows.shape[1] * cols.shape[1]
    places, size = rows.shape[0] * out_width, per_group * kernel
    pieces = 16 * workers
    owners = listed(active, pieces)
    n = owners.size
    bits = np.empty(n, np.uint64)
    offsets = np.zeros(n + 1, np.int64)
    for piece in prange(pieces):
        values, spots = np.empty(size, inputs.dtype), np.empty(size, np.int64)
        for row in range(n * piece // pieces, n * (piece + 1) // pieces):
            owner = owners[row]
            line, place = owner // places, owner % places
            start = (line // out_channels * channels + line % out_channels // outs * per_group) * area
            y, x = place // out_width, place % out_width
            sign = direction(output, flipped, owner)
            about = (start, area, width, per_group)
            count, total = _window(inputs, about, rows, cols, y, x, sign, values, spots)
            goal = theta * (np.float64(output[owner] * sign) if covers_value else total)
            chosen = _chosen(values, spots, count, total, goal, theta)
            bits[row], offsets[row + 1] = chosen, bits_set(chosen)
            while chosen != np.uint64(0):
                position = first_bit(chosen)
                chosen &= chosen - np.uint64(1)
                inner = position % kernel
                at = rows[y, inner // cols.shape[1]] * width + cols[x, inner % cols.shape[1]]
                reached[start + position // kernel * area + at] = 1
    summed(offsets)
    synapses = np.empty(offsets[n], np.int64)
    chosen_values = np.empty(offsets[n] if amounts else 0, np.float32)
    for piece in prange(pieces):
        for row in range(n * piece // pieces, n * (piece + 1) // pieces):
            at, owner, word = offsets[row], owners[row], bits[row]
            line, place = owner // places, owner % places
            base = (line % out_channels * places + place) * size
            while word != np.uint64(0):
                position = first_bit(word)
                word &= word - np.uint64(1)
                synapses[at] = base + position
                if amounts:
                    inner = position % kernel
                    start = (line // out_channels * channels + line % out_channels // outs * per_group) * area
                    y, x = place // out_width, place % out_width
                    source = rows[y, inner // cols.shape[1]] * width + cols[x, inner % cols.shape[1]]
                    value = inputs[start + position // kernel * area + source]
                    chosen_values[at] = value * direction(output, flipped, owner)
                at += 1
    return owners, offsets, synapses, chosen_values
