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

from netpaths.kernels._words import words_of
from netpaths.lanes import HOT, LANES, WORD, bits_set, exact_sum, first_bit, preceded, sweep, take

RANKED = 48
"""Up to so many candidates are ranked against each other; more are partitioned."""

CHUNK = 1 << 16
"""Chosen positions a worker reserves at once."""

TOGETHER = 16
"""Outputs taken through each step together, so that the processor overlaps them."""

FIELDS = 1 << 17
"""Elements of receptive fields gathered together."""

LINE = 64
"""Bytes of a cache line."""

CASES = 64
"""Guesses kept, for as many ranges of the goal."""

ATTEMPTS = 8
"""Guesses made for one output, each lower than the last; the last one is 0."""

GUESS = 2.5
"""The first guess of the smallest chosen product, in units of ‖inputs‖ · ‖weights‖ / n."""

UP, DOWN = 1.01, 0.96
"""How a guess moves after a row it was right for, and after one it was too high for."""

NEXT = 5e-324
"""A goal that the largest product reaches alone."""


@njit(**HOT)
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


@njit(**HOT)
def _smallest(values, count, goal):
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


@njit(**HOT)
def _cut(found, spots, base, taken, goal, scratch):
    """Move the places of the shortest prefix reaching ``goal`` to the front; for many candidates. Its length."""
    for place in range(taken):
        scratch[place] = found[base + place]
    smallest, copies = _smallest(scratch, taken, goal)
    everything = copies == 0
    size = 0
    for place in range(base, base + taken):
        tied = found[place] == smallest and copies > 0
        copies -= tied
        if everything or found[place] > smallest or tied:
            spots[base + size] = spots[place]
            size += 1
    return size


@njit(**HOT)
def _ranked(found, base, taken, least, most):
    """Which of at most WORD candidates are in the shortest prefix, largest first, reaching a goal, for two goals.

    A value belongs to the prefix when what comes before it stays below the goal; bit k of a word is for found[k].
    """
    lower, upper = np.uint64(0), np.uint64(0)
    for start in range(0, taken, LANES):
        low, high = preceded(found, base, start, taken, least, most)
        lower |= low << np.uint64(start)
        upper |= high << np.uint64(start)
    bits = (np.uint64(1) << np.uint64(taken)) - np.uint64(1)
    return lower & bits, upper & bits


@njit(**HOT)
def _collect(words, at, count, bases, source, found, spots, to):
    """Products and places of the bits set in words[at : at + count], to found[to:]; how many and their sum.

    Without a branch that depends on a value: where candidates stand cannot be predicted, and a wrong prediction costs
    more than the arithmetic of several words. The words are overwritten. source: field, its start, weight, its start
    and the sign of the products.
    """
    field, start, weight, weight_start, sign = source
    filled, taken = 0, 0
    for place in range(count):
        word = words[at + place]
        words[at + filled] = word
        bases[filled] = place * WORD
        filled += word != np.uint64(0)
        taken += bits_set(word)
    words[at + filled] = 0
    total = 0.0
    word = words[at]
    turn = 0
    for candidate in range(to, to + taken):
        spot = bases[turn] + first_bit(word)
        value = field[start + spot] * weight[weight_start + spot] * sign
        found[candidate] = value
        spots[candidate] = spot
        total += np.float64(value)
        word &= word - np.uint64(1)
        turn += word == np.uint64(0)
        word |= words[at + turn] & (np.uint64(word != np.uint64(0)) - np.uint64(1))
    return taken, total


@njit(**HOT)
def _swept(words, at, source, turned, whole, size, pivot):
    """The quick sum of an output's products; words[at:] say which are above the pivot."""
    field, start, weight, weight_start, sign = source
    if sign > 0:
        return sweep(words, at, field, start, weight, weight_start, whole, pivot)
    for place in range(size):
        turned[place] = -field[start + place]
    return sweep(words, at, turned, 0, weight, weight_start, whole, pivot)


@njit(**HOT)
def _corners(start, width, rows, cols, place, slot, corners):
    """Where the first channel of a place's receptive field stands, -1 for padding; how many are no padding."""
    y, x = place // cols.shape[0], place % cols.shape[0]
    inside = 0
    for i in range(rows.shape[1]):
        for j in range(cols.shape[1]):
            exists = rows[y, i] >= 0 and cols[x, j] >= 0
            inside += exists
            corners[i * cols.shape[1] + j, slot] = start + rows[y, i] * width + cols[x, j] if exists else -1
    return inside


@njit(**HOT)
def _gather(inputs, corners, inside, inner, outer, count, fields, stride):
    """Copy the receptive fields of ``count`` places into rows of ``fields``, padding as 0; none where ``inside``."""
    size = inner.size
    if corners.shape[0] == 1 and outer[size - 1] == size - 1 and count == 1 and corners[0, 0] >= 0:  # a vector
        start = corners[0, 0]
        for c in range(size):
            fields[c] = inputs[start + c]
        return
    for to in range(size):
        k, shift = inner[to], outer[to]
        if inside:
            for slot in range(count):
                fields[slot * stride + to] = inputs[corners[k, slot] + shift]
        else:
            for slot in range(count):
                corner = corners[k, slot]
                fields[slot * stride + to] = inputs[corner + shift] if corner >= 0 else 0


@njit(fastmath={"reassoc"}, **HOT)
def _norm(fields, start, size):
    """The Euclidean length of a row; any order of the sum will do."""
    total = 0.0
    for place in range(start, start + size):
        total += np.float64(fields[place]) * np.float64(fields[place])
    return np.sqrt(total)


@njit(**HOT)
def _largest_of_none_positive(source, size, corners, slot):
    """The first place of the largest product that is no padding, -1 where all is padding."""
    field, start, weight, weight_start, sign = source
    best, largest = -1, field[start]
    for place in range(size):
        value = field[start + place] * weight[weight_start + place] * sign
        if corners[place % corners.shape[0], slot] >= 0 and (best < 0 or value > largest):
            best, largest = place, value
    return best


@njit(**HOT)
def _list_active(words, starts, image, block, outs, about, slots, owners, listed):
    """List row, output channel and slot of a block's active outputs; how many they are."""
    out_channels, places, first = about
    many = 0
    for out in range(outs[0], outs[1]):
        word = words[image, block, out]
        row = starts[image, block, out]
        owner = (image * out_channels + out) * places + first
        while word != np.uint64(0):
            spot = first_bit(word)
            word &= word - np.uint64(1)
            owners[row] = owner + spot
            listed[many, 0], listed[many, 1], listed[many, 2] = row, out, slots[spot]
            many += 1
            row += 1
    return many


@njit(**HOT)
def _goals(total, error, value, options, valid):
    """The least and the most that must be covered, from the sum of the contributions and the bound of its error."""
    theta, covers_value, _ = options
    least = theta * (value if covers_value else total - error)
    most = theta * (value if covers_value else total + error)
    alone = total <= 0 or least <= 0 or theta * valid <= 1
    return (NEXT, NEXT) if alone else (least, most)


@njit(**HOT)
def _settle(layer, geometry, options, result, state, begin, batched, at):
    """Choose for ``batched`` listed outputs, step by step; returns where the next chosen position is written."""
    weight, output, flipped, norms, bias = layer
    size, whole, count, room, stride, field_stride, unit = geometry
    theta, covers_value, amounts = options
    arena, arena_values, owners, where, offsets, reached = result
    (fields, turned, corners, valid, lengths, trust), (words, bases, found, spots, scratch), more = state
    listed, inner, outer, guesses, (sums, pivots, values, signs, cases, sizes, least, most, lower, upper) = more
    one = fields.dtype.type(1)
    root = np.sqrt(np.float64(size))
    for k in range(batched):
        row, out, slot = listed[begin + k, 0], listed[begin + k, 1], listed[begin + k, 2]
        own = output[owners[row]]
        negative = own < 0
        if flipped.size:
            negative ^= flipped[owners[row]] != 0
        sign = -one if negative else one
        scale = lengths[slot] * norms[out]
        likely = theta * (np.float64(own) - (0.0 if covers_value else bias[out])) * np.float64(sign)
        ratio = 8 * likely * root / scale if scale > 0 else 0.0
        case = np.int64(min(max(ratio, 0.0), CASES - 1.0))
        pivot = fields.dtype.type(guesses[case] * trust[slot] * scale / size)
        source = (fields, slot * field_stride, weight, out * stride, sign)
        sums[k] = _swept(words, k * (count + 1), source, turned, whole, size, pivot)
        pivots[k], signs[k], cases[k], values[k] = pivot, sign, case, np.float64(own) * np.float64(sign)
    for k in range(batched):
        out, slot = listed[begin + k, 1], listed[begin + k, 2]
        source = (fields, slot * field_stride, weight, out * stride, signs[k])
        error = unit * lengths[slot] * norms[out]
        total = sums[k]
        if not error < abs(total) < 1e300:
            error, total = 0.0, exact_sum(fields, slot * field_stride, weight, out * stride, whole) * signs[k]
        least[k], most[k] = _goals(total, error, values[k], options, valid[slot])
        at_word, to, pivot = k * (count + 1), k * room, pivots[k]
        taken, covered = _collect(words, at_word, count, bases, source, found, spots, to)
        attempt = 1
        while pivot > 0 and (covered < most[k] or taken == 0):
            pivot = fields.dtype.type(0.7 * pivot) if attempt < ATTEMPTS - 1 else fields.dtype.type(0)
            attempt += 1
            _swept(words, at_word, source, turned, whole, size, pivot)
            taken, covered = _collect(words, at_word, count, bases, source, found, spots, to)
        sizes[k] = taken
        guesses[cases[k]] *= UP if attempt == 1 else DOWN
        trust[slot] *= UP if attempt == 1 else DOWN
    for k in range(batched):
        lower[k], upper[k] = _ranked(found, k * room, min(sizes[k], RANKED), least[k], most[k])
    for k in range(batched):
        row, out, slot = listed[begin + k, 0], listed[begin + k, 1], listed[begin + k, 2]
        source = (fields, slot * field_stride, weight, out * stride, signs[k])
        base = k * room
        where[row] = at
        chosen = sizes[k]
        if chosen == 0:
            spots[base] = _largest_of_none_positive(source, size, corners, slot)
            chosen = 1 if spots[base] >= 0 else 0
        else:
            if lower[k] != upper[k] or chosen > RANKED:
                total = exact_sum(fields, slot * field_stride, weight, out * stride, whole) * signs[k]
                goal, _ = _goals(total, 0.0, values[k], options, valid[slot])
                if chosen > RANKED:
                    chosen = _cut(found, spots, base, chosen, goal, scratch)
                else:
                    lower[k], _ = _ranked(found, base, chosen, goal, goal)
            if sizes[k] <= RANKED:
                word = lower[k]
                chosen = 0
                while word != np.uint64(0):
                    spots[base + chosen] = spots[base + first_bit(word)]
                    chosen += 1
                    word &= word - np.uint64(1)
        for place in range(base, base + chosen):
            position = spots[place]
            arena[at] = position
            reached[corners[inner[position], slot] + outer[position]] = 1
            if amounts:
                arena_values[at] = fields[slot * field_stride + position] * weight[out * stride + position] * signs[k]
            at += 1
        offsets[row + 1] = chosen
    return at


@njit(cache=True, nogil=True)
def _aligned(size, like):
    """Zeros of the type of ``like`` that start at a cache line."""
    room = np.zeros(size + LINE // like.itemsize, like.dtype)
    start = (-room.ctypes.data % LINE) // like.itemsize
    return room[start : start + size]


@njit(cache=True, nogil=True, parallel=True)
def select(inputs, shape, layer, stride, rows, cols, active, options, groups, reached, workers):
    """Active outputs, offsets, synapses and contributions of every row; marks what they read in ``reached``."""
    batch, channels, height, width, out_channels = shape
    per_group, outs = channels // groups, out_channels // groups
    places = rows.shape[0] * cols.shape[0]
    kernel = rows.shape[1] * cols.shape[1]
    area = height * width
    size = per_group * kernel
    whole = (size + LANES - 1) // LANES * LANES
    count = (size + WORD - 1) // WORD
    room = count * WORD + LANES
    field_stride = whole + LANES
    unit = 1.01 * (size / WORD + 16) * (2.0**-24 if inputs.itemsize == 4 else 2.0**-53)
    length = min(WORD if places >= 1024 else 16, max(4, FIELDS // size))
    words, starts, n = words_of(active, batch, out_channels, places, length)
    blocks = words.shape[1]
    step = min(outs, 512 if places >= 16 else 256)
    steps = (outs + step - 1) // step
    items = batch * groups * steps * blocks
    reserve = max(CHUNK, 4 * TOGETHER * size)
    space = 2 * n * size + workers * reserve if n > 0 else 0
    amounts = options[2]
    arena = np.empty(space, np.int32)
    arena_values = np.empty(space if amounts else 0, np.float32)
    owners = np.empty(n, np.int64)
    where = np.empty(n, np.int64)
    offsets = np.zeros(n + 1, np.int64)
    counters = np.zeros(2, np.int64)
    inner = (np.arange(size) % kernel).astype(np.int32)
    outer = (np.arange(size) // kernel * area).astype(np.int32)
    geometry = (size, whole, count, room, stride, field_stride, unit)
    result = (arena, arena_values, owners, where, offsets, reached)
    for _worker in prange(workers):
        fields = _aligned(length * field_stride, inputs)
        turned = _aligned(whole, inputs)
        corners = np.empty((kernel, length), np.int64)
        valid, lengths = np.empty(length, np.int64), np.empty(length, np.float64)
        slots, trust = np.empty(length, np.int64), np.empty(length, np.float64)
        bits = np.empty(TOGETHER * (count + 1), np.uint64)
        bases = np.empty(count + 1, np.int64)
        found = np.empty(TOGETHER * room, inputs.dtype)
        spots = np.empty(TOGETHER * room, np.int32)
        scratch = np.empty(room, inputs.dtype)
        listed = np.empty((length * step, 3), np.int64)
        each = (
            np.empty(TOGETHER, np.float64),
            np.empty(TOGETHER, inputs.dtype),
            np.empty(TOGETHER, np.float64),
            np.empty(TOGETHER, inputs.dtype),
            np.empty(TOGETHER, np.int64),
            np.empty(TOGETHER, np.int64),
            np.empty(TOGETHER, np.float64),
            np.empty(TOGETHER, np.float64),
            np.empty(TOGETHER, np.uint64),
            np.empty(TOGETHER, np.uint64),
        )
        state = (
            (fields, turned, corners, valid, lengths, trust),
            (bits, bases, found, spots, scratch),
            (listed, inner, outer, np.full(CASES, GUESS), each),
        )
        at, end = 0, 0
        while n > 0:
            item = take(counters, 0, 1)
            if item >= items:
                break
            block = item % blocks
            first = item // blocks % steps * step
            group = item // (blocks * steps) % groups
            image = item // (blocks * steps * groups)
            from_out, to_out = group * outs + first, group * outs + min(first + step, outs)
            start = (image * channels + group * per_group) * area
            union = np.uint64(0)
            for out in range(from_out, to_out):
                union |= words[image, block, out]
            taken, inside = 0, 0
            while union != np.uint64(0):
                spot = first_bit(union)
                slots[spot] = taken
                cells = _corners(start, width, rows, cols, block * length + spot, taken, corners)
                valid[taken] = per_group * cells
                inside += cells
                taken += 1
                union &= union - np.uint64(1)
            if taken == 0:
                continue
            _gather(inputs, corners, inside == taken * kernel, inner, outer, taken, fields, field_stride)
            for slot in range(taken):
                lengths[slot] = _norm(fields, slot * field_stride, size)
                trust[slot] = 1.0
            about = (out_channels, places, block * length)
            many = _list_active(words, starts, image, block, (from_out, to_out), about, slots, owners, listed)
            for begin in range(0, many, TOGETHER):
                batched = min(TOGETHER, many - begin)
                if end - at < batched * size:
                    at = take(counters, 1, reserve)
                    end = at + reserve
                at = _settle(layer, geometry, options, result, state, begin, batched, at)
    for row in range(n):
        offsets[row + 1] += offsets[row]
    synapses = np.empty(offsets[n], np.int64)
    chosen_values = np.empty(offsets[n] if amounts else 0, np.float32)
    outputs = out_channels * places
    pieces = 16 * workers
    for piece in prange(pieces):
        for row in range(n * piece // pieces, n * (piece + 1) // pieces):
            base = owners[row] % outputs * size
            shift = where[row] - offsets[row]
            for k in range(offsets[row], offsets[row + 1]):
                synapses[k] = base + arena[k + shift]
                if amounts:
                    chosen_values[k] = arena_values[k + shift]
    return owners, offsets, synapses, chosen_values
