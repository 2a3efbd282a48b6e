"""Numba source: active outputs taken through the selection together, step by step: the processor overlaps them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from netpaths.kernels._candidates import covered, keep, places_of_bits, products, swept
from netpaths.kernels._fields import largest_of_none_positive
from netpaths.kernels._ranks import RANKED, cut, ranked
from netpaths.lanes import HOT, LANES, WORD, at, bits_set, exact_sum, put, put_lanes

TOGETHER = 16
"""Outputs taken through each step together."""

CASES = 64
"""Guesses kept, for as many ranges of the goal."""

ATTEMPTS = 7
"""Further guesses for one output, each lower than the last; the last one is 0."""

LOWER = 0.7
"""A further guess over the one before."""

GUESS = 2.5
"""The first guess of the smallest chosen product, in units of ‖inputs‖ · ‖weights‖ / n."""

UP, DOWN = 1.01, 0.96
"""How a guess moves after a row it was right for, and after one it was too high for."""

NEXT = 5e-324
"""A goal that the largest product reaches alone."""


class Layer(NamedTuple):
    """What does not change within a layer.

    weight, output, flipped, norms and bias: as in `Problem`, flat. size: elements of a field; whole: of one in whole
    lanes. stride, field_stride: from one row of weights, or of gathered fields, to the next. unit: the rounding error
    of a quick sum over Σ |product|. inverse: 1 / size. kernel_width, kernel, area: elements of a kernel's row, of a
    kernel, of an input channel. inner, outer: for every element of a field its place in the kernel, and where its
    channel starts.
    """

    weight: object
    output: object
    flipped: object
    norms: object
    bias: object
    theta: object
    covers_value: object
    amounts: object
    size: object
    whole: object
    stride: object
    field_stride: object
    unit: object
    inverse: object
    kernel_width: object
    kernel: object
    area: object
    inner: object
    outer: object


class Answer(NamedTuple):
    """What the workers write: each to places of its own, or all the same value.

    arena, values: chosen positions, and contributions, each row's together. owners: the output of every row. where:
    where a row's positions start in the arena. offsets: how many a row chose, one place later. reached: marks of the
    inputs that were chosen.
    """

    arena: object
    values: object
    owners: object
    where: object
    offsets: object
    reached: object


class Block(NamedTuple):
    """The gathered fields of a block of places, one a slot, and the outputs active there.

    turned: room for a negated field. corners: (kernel, slots), the input that each cell of a kernel reads in the first
    channel, -1 for padding. valid, lengths: a field's elements that are no padding, and its Euclidean length. trust: by
    how much the guesses for this slot are changed. rows, outs, slots, values, signs: of every active output its row,
    channel, slot, value and direction; the value is negative where it lies against the direction.
    """

    fields: object
    turned: object
    corners: object
    valid: object
    lengths: object
    trust: object
    rows: object
    outs: object
    slots: object
    values: object
    signs: object


class Rows(NamedTuple):
    """Room for the steps of TOGETHER outputs.

    guesses: by range of the goal. words, bases: which products are candidates. found, spots: the candidates' values
    and places. belongs: the output of every chosen position. The rest holds a number for each output.
    """

    guesses: object
    words: object
    bases: object
    found: object
    spots: object
    scratch: object
    belongs: object
    sums: object
    pivots: object
    cases: object
    sizes: object
    least: object
    most: object
    lower: object
    upper: object


@njit(**HOT)
def words_per_row(size):
    """Words that hold a bit for each of ``size`` products."""
    return (size + WORD - 1) // WORD


@njit(**HOT)
def room_per_row(size):
    """Places for as many candidates, and lanes beyond them."""
    return words_per_row(size) * WORD + LANES


@njit(cache=True, nogil=True)
def room_for_rows(size, like):
    """Room for the steps of rows of ``size`` products of the type of ``like``."""
    count, room = words_per_row(size), room_per_row(size)
    return Rows(
        np.full(CASES, GUESS),
        np.empty(TOGETHER * (count + 1), np.uint64),
        np.empty(count + 1, np.int64),
        np.empty(TOGETHER * room, like.dtype),
        np.zeros(TOGETHER * room, np.int32),
        np.empty(room, like.dtype),
        np.empty(TOGETHER * room, np.int32),
        np.empty(TOGETHER, np.float64),
        np.empty(TOGETHER, like.dtype),
        np.empty(TOGETHER, np.int64),
        np.empty(TOGETHER, np.int64),
        np.empty(TOGETHER, np.float64),
        np.empty(TOGETHER, np.float64),
        np.empty(TOGETHER, np.uint64),
        np.empty(TOGETHER, np.uint64),
    )


@njit(**HOT)
def _goals(total, error, value, layer, valid):
    """The least and the most that must be covered, from the sum of the contributions and the bound of its error."""
    least = layer.theta * (value if layer.covers_value else total - error)
    most = layer.theta * (value if layer.covers_value else total + error)
    alone = total <= 0 or least <= 0 or layer.theta * valid <= 1
    return (NEXT, NEXT) if alone else (least, most)


@njit(**HOT)
def _source(layer, block, rows, begin, k):
    """Where the products of a listed output come from: field, its start, weight, its start, sign."""
    slot, out = at(block.slots, begin + k), at(block.outs, begin + k)
    return block.fields, slot * layer.field_stride, layer.weight, out * layer.stride, at(block.signs, begin + k)


@njit(**HOT)
def _exact(layer, source):
    """The sum of an output's products in float64."""
    field, start, weight, weight_start, sign = source
    return exact_sum(field, start, weight, weight_start, layer.whole) * sign


@njit(**HOT)
def _guess(layer, block, rows, begin, batched):
    """A guess of each output's smallest chosen product."""
    root = 8 * layer.theta * np.sqrt(np.float64(layer.size))
    for k in range(batched):
        out, slot = at(block.outs, begin + k), at(block.slots, begin + k)
        own, sign = at(block.values, begin + k), at(block.signs, begin + k)
        scale = at(block.lengths, slot) * at(layer.norms, out)
        expected = own - (0.0 if layer.covers_value else np.float64(at(layer.bias, out) * sign))
        ratio = root * expected / scale if scale > 0 else 0.0
        case = np.int64(min(max(ratio, 0.0), CASES - 1.0))
        guess = at(rows.guesses, case) * at(block.trust, slot) * scale * layer.inverse
        put(rows.pivots, k, block.fields.dtype.type(guess))
        put(rows.cases, k, case)


@njit(**HOT)
def _sweep(layer, block, rows, begin, batched):
    """Sum each output's products and mark those above its guess."""
    count = words_per_row(layer.size)
    for k in range(batched):
        source, pivot = _source(layer, block, rows, begin, k), at(rows.pivots, k)
        total = swept(rows.words, k * (count + 1), source, block.turned, layer.whole, layer.size, pivot)
        put(rows.sums, k, total)


@njit(**HOT)
def _list(layer, block, rows, begin, batched):
    """List the places of each output's candidates, then their products."""
    count, room = words_per_row(layer.size), room_per_row(layer.size)
    for k in range(batched):
        put(rows.sizes, k, places_of_bits(rows.words, k * (count + 1), count, rows.bases, rows.spots, k * room))
    for k in range(batched):
        products(_source(layer, block, rows, begin, k), rows.found, rows.spots, k * room, at(rows.sizes, k))


@njit(**HOT)
def _reach(layer, block, rows, begin, batched):
    """Set each output's goals; where its candidates do not cover them, take all above a lower guess."""
    room = room_per_row(layer.size)
    for k in range(batched):
        out, slot = at(block.outs, begin + k), at(block.slots, begin + k)
        error = layer.unit * at(block.lengths, slot) * at(layer.norms, out)
        total = at(rows.sums, k)
        if not error < abs(total) < 1e300:
            error, total = 0.0, _exact(layer, _source(layer, block, rows, begin, k))
        least, most = _goals(total, error, at(block.values, begin + k), layer, at(block.valid, slot))
        put(rows.least, k, least)
        put(rows.most, k, most)
        taken = at(rows.sizes, k)
        enough = taken > 0 and covered(rows.found, k * room, taken) >= most
        if not enough and at(rows.pivots, k) > 0:
            _lower(layer, block, rows, begin, k)
        change = UP if enough else DOWN
        case = at(rows.cases, k)
        put(rows.guesses, case, at(rows.guesses, case) * change)
        put(block.trust, slot, at(block.trust, slot) * change)


@njit(**HOT)
def _lower(layer, block, rows, begin, k):
    """List the candidates of one output above lower and lower guesses, until they cover its goal."""
    count, to = words_per_row(layer.size), k * room_per_row(layer.size)
    source, first = _source(layer, block, rows, begin, k), k * (count + 1)
    pivot = rows.pivots[k]
    for attempt in range(ATTEMPTS):
        pivot = block.fields.dtype.type(LOWER * pivot if attempt < ATTEMPTS - 1 else 0)
        swept(rows.words, first, source, block.turned, layer.whole, layer.size, pivot)
        taken = places_of_bits(rows.words, first, count, rows.bases, rows.spots, to)
        products(source, rows.found, rows.spots, to, taken)
        rows.sizes[k] = taken
        if pivot <= 0 or (taken > 0 and covered(rows.found, to, taken) >= rows.most[k]):
            break


@njit(**HOT)
def _rank(layer, block, rows, begin, batched):
    """Mark the chosen candidates of each output; where rounding could decide, from the sum in float64."""
    room = room_per_row(layer.size)
    for k in range(batched):
        taken = min(at(rows.sizes, k), RANKED)
        lower, upper = ranked(rows.found, k * room, taken, at(rows.least, k), at(rows.most, k))
        put(rows.lower, k, lower)
        put(rows.upper, k, upper)
    for k in range(batched):
        if at(rows.lower, k) != at(rows.upper, k) or at(rows.sizes, k) > RANKED:
            slot = block.slots[begin + k]
            total = _exact(layer, _source(layer, block, rows, begin, k))
            goal, _ = _goals(total, 0.0, at(block.values, begin + k), layer, block.valid[slot])
            rows.least[k] = goal
            if rows.sizes[k] <= RANKED:
                rows.lower[k], _ = ranked(rows.found, k * room, rows.sizes[k], goal, goal)


@njit(**HOT)
def _chosen(layer, answer, block, rows, begin, k, to):
    """Write an output's chosen positions to the arena; returns how many they are."""
    base = k * room_per_row(layer.size)
    taken = at(rows.sizes, k)
    if taken == 0:
        slot = block.slots[begin + k]
        best = largest_of_none_positive(_source(layer, block, rows, begin, k), layer.size, block.corners, slot)
        answer.arena[to] = best
        return 1 if best >= 0 else 0
    if taken > RANKED:
        chosen = cut(rows.found, rows.spots, base, taken, rows.least[k], rows.scratch)
        for place in range(chosen):
            answer.arena[to + place] = rows.spots[base + place]
        return chosen
    chosen = 0
    for start in range(0, taken, LANES):
        part = (at(rows.lower, k) >> np.uint64(start)) & np.uint64((1 << LANES) - 1)
        keep(rows.spots, base + start, part, answer.arena, to + chosen)
        chosen += bits_set(part)
    return chosen


@njit(**HOT)
def _emit(layer, answer, block, rows, begin, batched, to):
    """Write what each output chose and mark what it reads; returns where the next chosen position is written."""
    first, room, corners = to, block.corners.shape[1], block.corners.reshape(block.corners.size)
    for k in range(batched):
        row = at(block.rows, begin + k)
        chosen = _chosen(layer, answer, block, rows, begin, k, to)
        for start in range(to - first, to - first + chosen, LANES):
            put_lanes(rows.belongs, start, np.int32(k))
        put(answer.where, row, to)
        put(answer.offsets, row + 1, chosen)
        to += chosen
    for place in range(first, to):
        position, k = np.int64(at(answer.arena, place)), np.int64(at(rows.belongs, place - first))
        corner = np.int64(at(layer.inner, position)) * room + at(block.slots, begin + k)
        put(answer.reached, at(corners, corner) + np.int64(at(layer.outer, position)), np.uint8(1))
    if layer.amounts:
        for place in range(first, to):
            field, start, weight, weight_start, sign = _source(layer, block, rows, begin, rows.belongs[place - first])
            position = answer.arena[place]
            answer.values[place] = field[start + position] * weight[weight_start + position] * sign
    return to


@njit(**HOT)
def settle(layer, answer, block, rows, begin, batched, to):
    """Choose for ``batched`` listed outputs; returns where the next chosen position is written."""
    _guess(layer, block, rows, begin, batched)
    _sweep(layer, block, rows, begin, batched)
    _list(layer, block, rows, begin, batched)
    _reach(layer, block, rows, begin, batched)
    _rank(layer, block, rows, begin, batched)
    return _emit(layer, answer, block, rows, begin, batched, to)
