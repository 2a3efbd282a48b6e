"""Numba source: the operations of the runtime, each on one image.

A value is channels of padded rows: element (c, y, x) stands at ``base + c · plane + y · stride + x``, and everything up
to ``span`` that is no element is zero. A list says which of its channels are on; those that are off hold anything and
count as zeros. Vectors are channels of one element, side by side.

A record describes a value in ``code``; the places in it are those of `_instructions`. ``lists[list]`` is how many
channels are on, and they follow.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from netpaths.lanes import HOT, at, put
from netpaths.runtime._instructions import BASE, CHANNELS, HEIGHT, LIST, MASK, PLANE, SPAN, STRIDE, WIDTH
from netpaths.runtime._tiles import (
    FILTERS,
    VECTOR,
    every_second,
    float_at,
    put_float,
    row_sum,
    tile,
    weighted_rows,
)

MOST_FILTERS = np.array(FILTERS)

NORMAL = {"cache": True, "nogil": True, "_nrt": False}

ZERO = np.float32(0)


@njit(**HOT)
def clamped(value, low, high):
    """The value between two bounds."""
    return min(max(value, low), high)


@njit(**HOT)
def switch_all_on(lists, own, channels):
    """Put every channel on the list."""
    put(lists, own, channels)
    for channel in range(channels):
        put(lists, own + 1 + channel, channel)


@njit(**HOT)
def copy_list(lists, source, target):
    """Switch on in one list what is on in another."""
    for place in range(at(lists, source) + 1):
        put(lists, target + place, at(lists, source + place))


@njit(**HOT)
def fill(floats, masks, start, value, record, code):
    """Set the elements of a channel to a value."""
    mask = at(code, record + MASK)
    for place in range(at(code, record + SPAN)):
        put(floats, start + place, value if at(masks, mask + place) != 0 else ZERO)


@njit(**NORMAL)
def take_in(code, arguments, floats, lists, tensors, image):
    """IMPORT value, slot, marked: read an image of a dense tensor; its marks say which channels are on."""
    record, slot, marked = to_fixed_tuple(arguments, 3)
    base, plane, stride = code[record + BASE], code[record + PLANE], code[record + STRIDE]
    height, width, channels = code[record + HEIGHT], code[record + WIDTH], code[record + CHANNELS]
    address, own = tensors[2 * slot], code[record + LIST]
    count = 0
    for channel in range(channels):
        if marked and float_at(tensors[2 * slot + 1], image * channels + channel) == ZERO:
            continue
        lists[own + 1 + count] = channel
        count += 1
        for y in range(height):
            start = ((image * channels + channel) * height + y) * width
            target = base + channel * plane + y * stride
            for x in range(width):
                put(floats, target + x, float_at(address, start + x))
    lists[own] = count


@njit(**NORMAL)
def give_out(code, arguments, floats, lists, tensors, image, to):
    """EXPORT value, slot, marked: write a dense tensor, 0 for channels that are off, and marks of those that are on."""
    record, slot, marked = to_fixed_tuple(arguments, 3)
    base, plane, stride = code[record + BASE], code[record + PLANE], code[record + STRIDE]
    height, width, channels = code[record + HEIGHT], code[record + WIDTH], code[record + CHANNELS]
    address, own = tensors[2 * slot], code[record + LIST]
    for channel in range(channels):
        lists[to + channel] = 0
    for k in range(lists[own]):
        lists[to + lists[own + 1 + k]] = 1
    for channel in range(channels):
        on = lists[to + channel] != 0
        if marked:
            put_float(tensors[2 * slot + 1], image * channels + channel, np.float32(on))
        for y in range(height):
            start = ((image * channels + channel) * height + y) * width
            source = base + channel * plane + y * stride
            for x in range(width):
                put_float(address, start + x, at(floats, source + x) if on else ZERO)


@njit(**NORMAL)
def phases(code, source, target, many, geometry, table, floats, lists):
    """Copy the channels of a value that are on so that the taps of a strided convolution read neighbours.

    geometry: steps down and right, rows, columns, stride and plane of a copy. table: where each of the ``many`` copies
    of a channel starts, relative to it. target: where the copies of channel k on the list go.
    """
    down, right, rows, cols, stride, plane = geometry
    own, base = code[source + LIST], code[source + BASE]
    vectors = (cols + VECTOR - 1) // VECTOR
    for k in range(lists[own]):
        channel = base + lists[own + 1 + k] * code[source + PLANE]
        for which in range(many):
            start, end = channel + code[table + which], target + (k * many + which) * plane
            for y in range(rows):
                if right == 2:
                    every_second(floats, start + y * down * code[source + STRIDE], end + y * stride, vectors)
                else:
                    line = start + y * down * code[source + STRIDE]
                    for x in range(cols):
                        put(floats, end + y * stride + x, at(floats, line + x * right))


@njit(**NORMAL)
def prepare(code, arguments, lists, to):
    """CONV source, target, filters, rows, size, copies, packed …: what the tiles read, from lists[to] on.

    filters: where the list of the filters to compute stands; they are also on in the target. rows: where ``code`` says
    where each filter has its weights and its bias. size: taps. copies: the floats of the copies of a channel, which
    stand from ``packed`` on, or 0. Returns how many inputs and filters there are.
    """
    source, target, filters, rows, size, copies, packed = to_fixed_tuple(arguments, 7)
    own, goal = code[source + LIST], code[target + LIST]
    inputs, outputs = lists[own], lists[filters]
    for k in range(inputs):
        channel = lists[own + 1 + k]
        place = code[source + BASE] + channel * code[source + PLANE] if copies == 0 else packed + k * copies
        lists[to + 2 * k] = place
        lists[to + 2 * k + 1] = channel * size
    to += 2 * inputs
    lists[goal] = outputs
    for k in range(outputs):
        channel = lists[filters + 1 + k]
        lists[goal + 1 + k] = channel
        lists[to + 3 * k] = code[rows + 2 * channel]
        lists[to + 3 * k + 1] = code[target + BASE] + channel * code[target + PLANE]
        lists[to + 3 * k + 2] = code[rows + 2 * channel + 1]
    return inputs, outputs


@njit(**NORMAL)
def tiles(code, arguments, job, first, last, floats, weights, masks, lists, to):
    """Compute parts first ≤ k < last of a convolution that `prepare` prepared.

    job: inputs, outputs, and into how many pieces places and filters are cut.
    """
    inputs, outputs, pieces, blocks = job
    target, size, taps, clamp = arguments[1], arguments[4], arguments[7], arguments[8]
    vectors, mask = code[target + SPAN] // VECTOR, code[target + MASK]
    low, high = weights[clamp], weights[clamp + 1]
    for part in range(first, last):
        piece, block = part // blocks, part % blocks
        start = vectors * piece // pieces
        wide = vectors * (piece + 1) // pieces - start
        begin, end = outputs * block // blocks, outputs * (block + 1) // blocks
        groups = (end - begin + MOST_FILTERS[wide] - 1) // MOST_FILTERS[wide]
        for group in range(groups):
            own = begin + (end - begin) * group // groups
            many = begin + (end - begin) * (group + 1) // groups - own
            rows = to + 2 * inputs + 3 * own
            tile(
                many,
                wide,
                floats,
                weights,
                masks,
                lists,
                code,
                to,
                inputs,
                taps,
                size,
                rows,
                mask,
                start * VECTOR,
                low,
                high,
            )


@njit(**NORMAL)
def mean(code, arguments, floats, weights, lists):
    """MEAN source, target, factor: the sum of every channel times a factor."""
    source, target, factor = to_fixed_tuple(arguments, 3)
    own = code[source + LIST]
    copy_list(lists, own, code[target + LIST])
    for k in range(lists[own]):
        channel = lists[own + 1 + k]
        total = row_sum(floats, code[source + BASE] + channel * code[source + PLANE], code[source + SPAN])
        put(floats, code[target + BASE] + channel * code[target + PLANE], total * weights[factor])


@njit(**NORMAL)
def linear(code, arguments, floats, weights, lists):
    """LINEAR source, target, rows, step, bias, clamp: rows of weights by input, ``step`` floats each."""
    source, target, rows, step, bias, clamp = to_fixed_tuple(arguments, 6)
    own = code[source + LIST]
    low, high = weights[clamp], weights[clamp + 1]
    place = 0
    while place < step:
        wide = 4 if place + 4 * VECTOR <= step else 1
        weighted_rows(
            wide,
            floats,
            weights,
            lists,
            code[source + BASE],
            own + 1,
            lists[own],
            rows + place,
            step,
            code[target + BASE] + place,
            bias + place,
            low,
            high,
        )
        place += wide * VECTOR
    switch_all_on(lists, code[target + LIST], code[target + CHANNELS])


@njit(**NORMAL)
def threshold(code, arguments, floats, lists):
    """THRESHOLD source, target: a code is on where the score is positive, and 1 there."""
    source, target = to_fixed_tuple(arguments, 2)
    own, count = code[target + LIST], 0
    for channel in range(code[target + CHANNELS]):
        if floats[code[source + BASE] + channel] > ZERO:
            put(floats, code[target + BASE] + channel, np.float32(1))
            lists[own + 1 + count] = channel
            count += 1
    lists[own] = count


@njit(**NORMAL)
def choose(code, arguments, floats, lists):
    """FIXED target, table, count: a code that is the same for every image."""
    target, table, count = to_fixed_tuple(arguments, 3)
    own = code[target + LIST]
    lists[own] = count
    for k in range(count):
        channel = code[table + k]
        lists[own + 1 + k] = channel
        put(floats, code[target + BASE] + channel, np.float32(1))


@njit(**NORMAL)
def gate(code, arguments, lists, to):
    """GATE source, chosen, target: of what is on in the source, which is the target's memory, what the code chose."""
    source, chosen, target = to_fixed_tuple(arguments, 3)
    own, marks, goal = code[source + LIST], code[chosen + LIST], code[target + LIST]
    for channel in range(code[source + CHANNELS]):
        lists[to + channel] = 0
    for k in range(lists[marks]):
        lists[to + lists[marks + 1 + k]] = 1
    count = 0
    for k in range(lists[own]):
        channel = lists[own + 1 + k]
        if lists[to + channel]:
            lists[goal + 1 + count] = channel
            count += 1
    lists[goal] = count


@njit(**NORMAL)
def affine(code, arguments, floats, weights, masks, lists):
    """AFFINE source, target, scale, shift, clamp, spreads: per channel; where it spreads, off becomes a constant."""
    source, target, scale, shift, clamp, spreads = to_fixed_tuple(arguments, 6)
    own, goal, mask, span = code[source + LIST], code[target + LIST], code[target + MASK], code[target + SPAN]
    low, high = weights[clamp], weights[clamp + 1]
    if spreads and lists[own] < code[target + CHANNELS]:
        for channel in range(code[target + CHANNELS]):
            value = clamped(weights[shift + channel], low, high)
            fill(floats, masks, code[target + BASE] + channel * code[target + PLANE], value, target, code)
    for k in range(lists[own]):
        channel = lists[own + 1 + k]
        factor, constant = weights[scale + channel], weights[shift + channel]
        start = code[source + BASE] + channel * code[source + PLANE]
        end = code[target + BASE] + channel * code[target + PLANE]
        for place in range(span):
            value = clamped(at(floats, start + place) * factor + constant, low, high)
            put(floats, end + place, value if at(masks, mask + place) != 0 else ZERO)
    if spreads:
        switch_all_on(lists, goal, code[target + CHANNELS])
    else:
        copy_list(lists, own, goal)


@njit(**NORMAL)
def add(code, arguments, floats, weights, lists, to):
    """ADD first, second, target, clamp: a channel is on where it is on in either."""
    first, second, target, clamp = to_fixed_tuple(arguments, 4)
    channels, span, goal = code[target + CHANNELS], code[target + SPAN], code[target + LIST]
    low, high = weights[clamp], weights[clamp + 1]
    for channel in range(channels):
        lists[to + channel] = 0
    for bit, source in ((1, first), (2, second)):
        own = code[source + LIST]
        for k in range(lists[own]):
            lists[to + lists[own + 1 + k]] += bit
    count = 0
    for channel in range(channels):
        kind = lists[to + channel]
        if kind == 0:
            continue
        left = code[first + BASE] + channel * code[first + PLANE]
        right = code[second + BASE] + channel * code[second + PLANE]
        end = code[target + BASE] + channel * code[target + PLANE]
        if kind == 3:
            for place in range(span):
                put(floats, end + place, clamped(at(floats, left + place) + at(floats, right + place), low, high))
        else:
            start = left if kind == 1 else right
            for place in range(span):
                put(floats, end + place, clamped(at(floats, start + place), low, high))
        lists[goal + 1 + count] = channel
        count += 1
    lists[goal] = count


@njit(**NORMAL)
def pool(code, arguments, floats, weights, lists):
    """POOL source, target, largest, rows, down, cols, across, factors, line: windows of rows and columns, -1 for none.

    factors: what the sum of a window is multiplied with, by output; unless the largest is wanted. line: room in
    ``floats`` for a row.
    """
    source, target, largest, rows, down, cols, across, factors, line = to_fixed_tuple(arguments, 9)
    own = code[source + LIST]
    height, width = code[target + HEIGHT], code[target + WIDTH]
    copy_list(lists, own, code[target + LIST])
    for k in range(lists[own]):
        channel = lists[own + 1 + k]
        start = code[source + BASE] + channel * code[source + PLANE]
        end = code[target + BASE] + channel * code[target + PLANE]
        for y in range(height):
            rows_into_line(code, source, start, rows + y * down, down, largest, floats, line)
            for x in range(width):
                value = cell(code, cols + x * across, across, largest, floats, line)
                if not largest:
                    value *= at(weights, factors + y * width + x)
                put(floats, end + y * code[target + STRIDE] + x, value)


@njit(**HOT)
def rows_into_line(code, source, start, rows, down, largest, floats, line):
    """The sum or the largest of some rows of a channel, written to floats[line:]."""
    width = code[source + WIDTH]
    begun = False
    for which in range(down):
        y = code[rows + which]
        if y < 0:
            continue
        row = start + y * code[source + STRIDE]
        for x in range(width):
            value = at(floats, row + x)
            if begun:
                value = max(at(floats, line + x), value) if largest else at(floats, line + x) + value
            put(floats, line + x, value)
        begun = True


@njit(**HOT)
def cell(code, cols, across, largest, floats, line):
    """The sum or the largest of some places of a row."""
    value = np.float32(-np.inf) if largest else ZERO
    for which in range(across):
        x = at(code, cols + which)
        if x >= 0:
            other = at(floats, line + x)
            value = max(value, other) if largest else value + other
    return value


@njit(**NORMAL)
def move(code, arguments, floats, lists):
    """MOVE source, target, table, top, down, left, right, more, same: copies of channels, every some rows and columns.

    table: which channel of the target copies each of the source, -1 for none. more: add to what is on in the target.
    same: both are the same memory, so that nothing is copied.
    """
    source, target, table, top, down, left, right, more, same = to_fixed_tuple(arguments, 9)
    own, goal = code[source + LIST], code[target + LIST]
    count = lists[goal] if more else 0
    height, width = code[target + HEIGHT], code[target + WIDTH]
    for k in range(lists[own]):
        channel = lists[own + 1 + k]
        other = code[table + channel]
        if other < 0:
            continue
        lists[goal + 1 + count] = other
        count += 1
        if same:
            continue
        start = code[source + BASE] + channel * code[source + PLANE] + top * code[source + STRIDE] + left
        end = code[target + BASE] + other * code[target + PLANE]
        for y in range(height):
            for x in range(width):
                value = at(floats, start + y * down * code[source + STRIDE] + x * right)
                put(floats, end + y * code[target + STRIDE] + x, value)
    lists[goal] = count


@njit(**NORMAL)
def flatten(code, arguments, floats, lists):
    """FLATTEN source, target, start, more: all elements of a value in order, from one of a vector on."""
    source, target, first, more = to_fixed_tuple(arguments, 4)
    own, goal = code[source + LIST], code[target + LIST]
    height, width = code[source + HEIGHT], code[source + WIDTH]
    count = lists[goal] if more else 0
    for k in range(lists[own]):
        channel = lists[own + 1 + k]
        start = code[source + BASE] + channel * code[source + PLANE]
        to = first + channel * height * width
        for y in range(height):
            for x in range(width):
                put(floats, code[target + BASE] + to, at(floats, start + y * code[source + STRIDE] + x))
                put(lists, goal + 1 + count, to)
                to += 1
                count += 1
    lists[goal] = count
