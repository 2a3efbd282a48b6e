"""Numba source: the receptive fields of places, gathered so that all output channels active there share them."""

from __future__ import annotations

import numpy as np
from numba import njit

from netpaths.lanes import HOT, at, exact_sum, put


@njit(**HOT)
def corners_of(start, width, rows, cols, place, slot, corners):
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
def gather(inputs, corners, inside, layer, count, fields):
    """Copy the receptive fields of ``count`` places into rows of ``fields``, padding as 0; none where ``inside``."""
    stride, size, room = layer.field_stride, layer.size, corners.shape[1]
    flat = corners.reshape(corners.size)
    if corners.shape[0] == 1 and at(layer.outer, size - 1) == size - 1 and count == 1 and flat[0] >= 0:  # a vector
        start = flat[0]
        for c in range(size):
            put(fields, c, at(inputs, start + c))
        return
    nothing = fields.dtype.type(0)
    for to in range(size):
        first, shift = np.int64(at(layer.inner, to)) * room, np.int64(at(layer.outer, to))
        if inside:
            for slot in range(count):
                put(fields, slot * stride + to, at(inputs, at(flat, first + slot) + shift))
        else:
            for slot in range(count):
                corner = at(flat, first + slot)
                value = at(inputs, max(corner, 0) + shift)
                put(fields, slot * stride + to, value if corner >= 0 else nothing)


@njit(**HOT)
def norm(fields, start, whole):
    """The Euclidean length of a row of whole lanes."""
    return np.sqrt(exact_sum(fields, start, fields, start, whole))


@njit(**HOT)
def largest_of_none_positive(source, size, corners, slot):
    """The first place of the largest product that is no padding, -1 where all is padding."""
    field, start, weight, weight_start, sign = source
    best, largest = -1, field[start]
    for place in range(size):
        value = field[start + place] * weight[weight_start + place] * sign
        if corners[place % corners.shape[0], slot] >= 0 and (best < 0 or value > largest):
            best, largest = place, value
    return best
