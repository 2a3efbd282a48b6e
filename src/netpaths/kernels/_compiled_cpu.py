"""Numba source of the CPU kernel; imported on first use because importing numba takes a while."""
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import njit, prange

BLOCKS = 64
"""Pieces the rows are cut into; a constant, so that results do not depend on the number of threads."""


@njit(cache=True, nogil=True)
def _partition(values, low, high, pivot):
    """Move values above ``pivot`` to the front of values[low:high], equal ones behind them; the two borders."""
    above = low
    place = low
    end = high
    while place < end:
        value = values[place]
        if value > pivot:
            values[place] = values[above]
            values[above] = value
            above += 1
            place += 1
        elif value < pivot:
            end -= 1
            values[place] = values[end]
            values[end] = value
        else:
            place += 1
    return above, end


@njit(cache=True, nogil=True)
def _smallest_chosen(values, count, goal):
    """The smallest value of the shortest prefix of values[:count], largest first, reaching ``goal``.

    Returns the value and how many copies of it are chosen, or 0 copies when the sum of all stays below ``goal``.
    """
    low, high, before = 0, count, 0.0
    while low < high:
        first, middle, last = values[low], values[(low + high) // 2], values[high - 1]
        pivot = max(min(first, middle), min(max(first, middle), last))
        above, below = _partition(values, low, high, pivot)
        total = before
        for place in range(low, above):
            total += values[place]
        if total >= goal and above > low:
            high = above
            continue
        for copies in range(1, below - above + 1):
            total += np.float64(pivot)
            if total >= goal:
                return pivot, copies
        before = total
        low = below
    return values[0], 0


@njit(cache=True, nogil=True)
def _gather(inputs, weight, rows, cols, per_group, batch, channel, out, y, x, sign, values, places):
    """Contributions of one receptive field without padding; returns their number and their sum."""
    kernel_height, kernel_width = rows.shape[1], cols.shape[1]
    weighted = weight.shape[0] > 0
    count = 0
    total = 0.0
    for c in range(per_group):
        for i in range(kernel_height):
            row = rows[y, i]
            if row < 0:
                continue
            for j in range(kernel_width):
                col = cols[x, j]
                if col < 0:
                    continue
                position = (c * kernel_height + i) * kernel_width + j
                value = inputs[batch, channel + c, row, col]
                if weighted:
                    value = value * weight[out, position]
                value = value * sign
                values[count] = value
                places[count] = position
                total += np.float64(value)
                count += 1
    return count, total


@njit(cache=True, nogil=True)
def _largest(values, count):
    best = 0
    for place in range(1, count):
        if values[place] > values[best]:
            best = place
    return best


@njit(cache=True, nogil=True)
def _mark(values, places, count, total, theta, goal, scratch, chosen, amounts):
    """Write chosen positions (ascending) and their contributions; returns how many."""
    if count == 0:
        return 0
    if total <= 0 or theta * count <= 1:
        best = _largest(values, count)
        chosen[0] = places[best]
        amounts[0] = values[best]
        return 1
    positive = 0
    for place in range(count):
        if values[place] > 0:
            scratch[positive] = values[place]
            positive += 1
    smallest, copies = _smallest_chosen(scratch, positive, goal)
    if copies == 0:
        smallest = values.dtype.type(0)
    found = 0
    for place in range(count):
        value = values[place]
        if value > smallest or (value == smallest and copies > 0):
            if value == smallest:
                copies -= 1
            chosen[found] = places[place]
            amounts[found] = value
            found += 1
    return found


@njit(cache=True, nogil=True)
def _source(position, batch, channel, y, x, inputs, rows, cols):
    kernel_height, kernel_width = rows.shape[1], cols.shape[1]
    c = position // (kernel_height * kernel_width)
    i = position // kernel_width % kernel_height
    j = position % kernel_width
    return ((batch * inputs.shape[1] + channel + c) * inputs.shape[2] + rows[y, i]) * inputs.shape[3] + cols[x, j]


@njit(cache=True, nogil=True, parallel=True)
def select(active, negate, target, inputs, weight, rows, cols, out_channels, per_group, groups, theta):
    """Counts per row, positions, sources and contributions of every active output."""
    n = active.size
    size = per_group * rows.shape[1] * cols.shape[1]
    out_height, out_width = rows.shape[0], cols.shape[0]
    one = inputs.dtype.type(1)
    counts = np.zeros(n, np.int64)
    held = np.empty((n, size), np.int32)
    held_values = np.empty((n, size), np.float32)
    for block in prange(BLOCKS):
        values = np.empty(size, inputs.dtype)
        scratch = np.empty(size, inputs.dtype)
        places = np.empty(size, np.int32)
        for row in range(n * block // BLOCKS, n * (block + 1) // BLOCKS):
            x = active[row] % out_width
            y = active[row] // out_width % out_height
            out = active[row] // (out_width * out_height) % out_channels
            batch = active[row] // (out_width * out_height * out_channels)
            channel = out // (out_channels // groups) * per_group
            sign = -one if negate[row] else one
            count, total = _gather(
                inputs, weight, rows, cols, per_group, batch, channel, out, y, x, sign, values, places
            )
            goal = theta * (target[row] if target.size else total)
            counts[row] = _mark(values, places, count, total, theta, goal, scratch, held[row], held_values[row])
    offsets = np.zeros(n + 1, np.int64)
    for row in range(n):
        offsets[row + 1] = offsets[row] + counts[row]
    positions = np.empty(offsets[n], np.int64)
    sources = np.empty(offsets[n], np.int64)
    amounts = np.empty(offsets[n], np.float32)
    for block in prange(BLOCKS):
        for row in range(n * block // BLOCKS, n * (block + 1) // BLOCKS):
            x = active[row] % out_width
            y = active[row] // out_width % out_height
            out = active[row] // (out_width * out_height) % out_channels
            batch = active[row] // (out_width * out_height * out_channels)
            channel = out // (out_channels // groups) * per_group
            for place in range(counts[row]):
                position = held[row, place]
                positions[offsets[row] + place] = position
                amounts[offsets[row] + place] = held_values[row, place]
                sources[offsets[row] + place] = _source(position, batch, channel, y, x, inputs, rows, cols)
    return counts, positions, sources, amounts


@njit(cache=True, nogil=True)
def distinct(offsets, keys, size):
    """Distinct keys of every segment, ascending, and their summed amounts' places; see `kernels.distinct`."""
    seen = np.full(size, -1, np.int64)
    kept = np.empty(keys.size, np.int64)
    counts = np.zeros(offsets.size - 1, np.int64)
    total = 0
    for segment in range(offsets.size - 1):
        start = total
        for place in range(offsets[segment], offsets[segment + 1]):
            key = keys[place]
            if seen[key] != segment:
                seen[key] = segment
                kept[total] = key
                total += 1
        kept[start:total].sort()
        counts[segment] = total - start
    return counts, kept[:total]
