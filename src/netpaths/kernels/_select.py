"""Numba source of the selection; imported on first use because importing numba takes a while.

The active outputs of one layer are visited in blocks of places, so that all channels active there share the gathered
receptive fields. Every output is swept once: its products are compared with a guess of the smallest chosen one and
summed in their own type. What is larger than the guess is ranked and summed in float64, and cut where it covers the
goal. Two things make this the same answer as sorting everything and summing it in float64: a guess that was too high
is followed by a lower one, down to 0; and the rounding error of the quick sum is bounded (n / 64 + 16 roundings of
Σ |product| ≤ ‖inputs‖ · ‖weights‖, Cauchy–Schwarz), so that the sum is taken again in float64 wherever the cut could
depend on it. Workers take blocks from a shared counter and write to places of their own: the answer does not depend
on their number.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.kernels._direction import direction
from netpaths.kernels._fields import corners_of, gather, norm
from netpaths.kernels._rows import TOGETHER, Answer, Block, Layer, room_for_rows, settle
from netpaths.kernels._words import summed, words_of
from netpaths.lanes import FEW, HOT, LANES, WORD, at, first_bit, put, take

CHUNK = 1 << 16
"""Chosen positions a worker reserves at once."""

FIELDS = 1 << 16
"""Elements of receptive fields gathered together."""

LINE = 64
"""Bytes of a cache line."""


@njit(**HOT)
def _list_active(rows, image, turn, outs, about, slots, layer, owners, block):
    """List row, output channel, slot and value of a block's active outputs; how many they are."""
    words, starts, bases = rows
    out_channels, places, blocks, first = about
    many = 0
    for out in range(outs[0], outs[1]):
        cell = (image * blocks + turn) * out_channels + out
        word = at(words, cell)
        row = at(starts, cell) + at(bases, image * out_channels + out)
        owner = (image * out_channels + out) * places + first
        while word != np.uint64(0):
            spot = first_bit(word)
            word &= word - np.uint64(1)
            put(owners, row, owner + spot)
            sign = direction(layer.output, layer.flipped, owner + spot)
            put(block.values, many, np.float64(at(layer.output, owner + spot) * sign))
            put(block.signs, many, sign)
            put(block.rows, many, row)
            put(block.outs, many, out)
            put(block.slots, many, at(slots, spot))
            many += 1
            row += 1
    return many


@njit(cache=True, nogil=True)
def _aligned(size, like):
    """Zeros of the type of ``like`` that start at a cache line."""
    room = np.zeros(size + LINE // like.itemsize, like.dtype)
    start = (-room.ctypes.data % LINE) // like.itemsize
    return room[start : start + size]


@njit(**HOT)
def _fields(inputs, union, start, first, width, tables, slots, sorts, layer, block):
    """Gather the fields of the places first + k whose bit k is set in ``union``; how many they are.

    slots[k] tells where; ``start`` is the first input of the group. sorts: room for slots, those of fields that may be
    copied in runs from its start on, the others from its end.
    """
    per_group, length = layer.size // layer.kernel, slots.size
    end_of_first = inputs.size - (per_group - 1) * layer.area
    taken, plain, border = 0, 0, 0
    while union != np.uint64(0):
        spot = first_bit(union)
        slots[spot] = taken
        cells, whole = corners_of(start, end_of_first, width, tables, first + spot, taken, block)
        block.valid[taken] = per_group * cells
        sorts[plain if whole else length - 1 - border] = taken
        plain, border = plain + whole, border + (not whole)
        taken += 1
        union &= union - np.uint64(1)
    if taken > 0:
        gather(inputs, block.corners, layer, sorts[:plain], sorts[length - border :], block.fields)
    for slot in range(taken):
        block.lengths[slot] = norm(block.fields, slot * layer.field_stride, layer.whole)
        block.trust[slot] = 1.0
    return taken


@njit(cache=True, nogil=True)
def _work(inputs, shape, layer, tables, groups, active, length, counters, answer):
    """Take blocks of places from the shared counter and settle their outputs, until none is left."""
    batch, channels, height, width, out_channels = shape
    rows, cols = tables
    per_group, outs, area = channels // groups, out_channels // groups, height * width
    places, kernel = rows.shape[0] * cols.shape[0], rows.shape[1] * cols.shape[1]
    step = min(outs, 512 if places >= 16 else 256)
    steps, blocks = (outs + step - 1) // step, (places + length - 1) // length
    words = active[0]
    reserve = max(CHUNK, 4 * TOGETHER * layer.size)
    slots, sorts = np.empty(length, np.int64), np.empty(length, np.int64)
    block = Block(
        _aligned(length * layer.field_stride, inputs),
        _aligned(layer.whole, inputs),
        np.empty((kernel, length), np.int64),
        np.empty(length, np.int64),
        np.empty(length, np.float64),
        np.empty(length, np.float64),
        np.empty(length * step, np.int64),
        np.empty(length * step, np.int64),
        np.empty(length * step, np.int64),
        np.empty(length * step, np.float64),
        np.empty(length * step, inputs.dtype),
    )
    room = room_for_rows(layer.size, inputs)
    to, end = 0, 0
    while True:
        item = take(counters, 0, 1)
        if item >= batch * groups * steps * blocks:
            break
        turn = item % blocks
        first = item // blocks % steps * step
        group = item // (blocks * steps) % groups
        image = item // (blocks * steps * groups)
        from_out, to_out = group * outs + first, group * outs + min(first + step, outs)
        start = (image * channels + group * per_group) * area
        union = np.uint64(0)
        for out in range(from_out, to_out):
            union |= at(words, (image * blocks + turn) * out_channels + out)
        if _fields(inputs, union, start, turn * length, width, tables, slots, sorts, layer, block) == 0:
            continue
        about = (out_channels, places, blocks, turn * length)
        outputs = (from_out, to_out)
        many = _list_active(active, image, turn, outputs, about, slots, layer, answer.owners, block)
        for begin in range(0, many, TOGETHER):
            batched = min(TOGETHER, many - begin)
            if end - to < batched * layer.size + LANES:
                to = take(counters, 1, reserve)
                end = to + reserve
            to = settle(layer, answer, block, room, begin, batched, to)


@njit(**HOT)
def _flatten(first, last, answer, outputs, size, synapses):
    """The chosen positions of rows first ≤ row < last as synapses; a few at once where the next row overwrites them."""
    arena, owners, where, offsets = answer
    stop = offsets[last]
    for row in range(first, last):
        base, to, source = owners[row] % outputs * size, offsets[row], where[row]
        chosen = offsets[row + 1] - to
        if chosen <= FEW and to + FEW <= stop:
            for k in range(FEW):
                put(synapses, to + k, base + at(arena, source + k))
        else:
            for k in range(chosen):
                put(synapses, to + k, base + at(arena, source + k))


@njit(cache=True, nogil=True, parallel=True)
def select(inputs, shape, layer, stride, rows, cols, active, options, groups, reached, workers):
    """Active outputs, offsets, synapses and contributions of every row; marks what they read in ``reached``."""
    batch, channels, height, width, out_channels = shape
    weight, output, flipped, norms, bias = layer
    theta, covers_value, amounts = options
    places, kernel = rows.shape[0] * cols.shape[0], rows.shape[1] * cols.shape[1]
    size = channels // groups * kernel
    whole = (size + LANES - 1) // LANES * LANES
    unit = 1.01 * (size / WORD + 16) * (2.0**-24 if inputs.itemsize == 4 else 2.0**-53)
    length = min(WORD if places >= 1024 else 16, max(4, FIELDS // size))
    words, starts, bases = words_of(active, batch, out_channels, places, length)
    n = bases[-1]
    space = 2 * n * size + workers * max(CHUNK, 4 * TOGETHER * size) + LANES if n > 0 else 0
    arena = np.empty(space, np.int32)
    arena_values = np.empty(space if amounts else 0, np.float32)
    owners = np.empty(n, np.int64)
    where = np.empty(n, np.int64)
    offsets = np.zeros(n + 1, np.int64)
    counters = np.zeros(2, np.int64)
    inner = (np.arange(size) % kernel).astype(np.int32)
    outer = (np.arange(size) // kernel * height * width).astype(np.int32)
    for _worker in prange(workers):
        if n > 0:
            described = Layer(
                weight,
                output,
                flipped,
                norms,
                bias,
                theta,
                covers_value,
                amounts,
                size,
                whole,
                stride,
                whole + LANES,
                unit,
                1 / size,
                cols.shape[1],
                kernel,
                height * width,
                inner,
                outer,
            )
            answer = Answer(arena, arena_values, owners, where, offsets, reached)
            _work(inputs, shape, described, (rows, cols), groups, (words, starts, bases), length, counters, answer)
    summed(offsets)
    synapses = np.empty(offsets[n], np.int64)
    chosen_values = np.empty(offsets[n] if amounts else 0, np.float32)
    pieces = 16 * workers
    for piece in prange(pieces):
        first, last = n * piece // pieces, n * (piece + 1) // pieces
        _flatten(first, last, (arena, owners, where, offsets), out_channels * places, size, synapses)
        if amounts:
            for row in range(first, last):
                for k in range(offsets[row], offsets[row + 1]):
                    chosen_values[k] = arena_values[k + where[row] - offsets[row]]
    return owners, offsets, synapses, chosen_values
