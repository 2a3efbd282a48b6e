"""Numba source: the receptive fields of places, gathered so that all output channels active there share them."""

from __future__ import annotations

import numpy as np
from numba import njit

from netpaths.lanes import HOT, LANES, at, copy_4, copy_8, copy_16, exact_sum, put, put_lanes


@njit(**HOT)
def corners_of(start, end, width, tables, place, slot, block):
    """Find where the first channel of a place's receptive field stands, -1 for padding.

    Returns how many of its cells are no padding, and whether LANES elements may be copied from where each of its rows
    starts: they lie in memory as they lie in the field, and the first channel's lie before ``end``.
    """
    rows, cols = tables
    y, x = place // cols.shape[0], place % cols.shape[0]
    inside, whole = 0, cols.shape[1] <= LANES
    for i in range(rows.shape[1]):
        for j in range(cols.shape[1]):
            exists = rows[y, i] >= 0 and cols[x, j] >= 0
            inside += exists
            whole &= exists and cols[x, j] == cols[x, 0] + j
            corner = start + rows[y, i] * width + cols[x, j]
            whole &= cols.shape[1] == 1 or corner + LANES <= end
            block.corners[i * cols.shape[1] + j, slot] = corner if exists else -1
    return inside, whole


@njit(**HOT)
def _gather_runs(inputs, corners, layer, slot, fields):
    """Copy the field of a slot in runs, each a row of the kernel; what one writes too much the next one replaces."""
    start, size, run = slot * layer.field_stride, layer.size, layer.kernel_width
    rows, area = layer.kernel // run, layer.area
    flat, room = corners.reshape(corners.size), corners.shape[1] * run
    channels = size // layer.kernel
    for c in range(channels):
        for i in range(rows):
            source = at(flat, i * room + slot) + c * area
            to = start + c * layer.kernel + i * run
            if run <= 4:
                copy_4(inputs, source, fields, to)
            elif run <= 8:
                copy_8(inputs, source, fields, to)
            else:
                copy_16(inputs, source, fields, to)
    put_lanes(fields, start + size, fields.dtype.type(0))


@njit(**HOT)
def _gather_cells(inputs, corners, layer, plain, fields):
    """Copy the fields of the slots ``plain``, which have no padding, element by element."""
    stride, room = layer.field_stride, corners.shape[1]
    flat = corners.reshape(corners.size)
    for to in range(layer.size):
        first, shift = np.int64(at(layer.inner, to)) * room, np.int64(at(layer.outer, to))
        for k in range(plain.size):
            slot = at(plain, k)
            put(fields, slot * stride + to, at(inputs, at(flat, first + slot) + shift))


@njit(**HOT)
def _gather_border(inputs, corners, layer, border, fields):
    """Copy the fields of the slots ``border``, padding as 0."""
    stride, room = layer.field_stride, corners.shape[1]
    flat, nothing = corners.reshape(corners.size), fields.dtype.type(0)
    for to in range(layer.size):
        first, shift = np.int64(at(layer.inner, to)) * room, np.int64(at(layer.outer, to))
        for k in range(border.size):
            slot = at(border, k)
            corner = at(flat, first + slot)
            value = at(inputs, max(corner, 0) + shift)
            put(fields, slot * stride + to, value if corner >= 0 else nothing)


@njit(**HOT)
def gather(inputs, corners, layer, plain, border, fields):
    """Copy receptive fields to rows of ``fields``: of the slots ``plain`` in runs, of ``border`` with padding as 0."""
    size = layer.size
    if corners.shape[0] == 1 and at(layer.outer, size - 1) == size - 1 and plain.size == 1:  # a vector
        start = corners[0, plain[0]]
        for c in range(size):
            put(fields, plain[0] * layer.field_stride + c, at(inputs, start + c))
    elif layer.kernel_width > 1:
        for k in range(plain.size):
            _gather_runs(inputs, corners, layer, plain[k], fields)
    else:
        _gather_cells(inputs, corners, layer, plain, fields)
    _gather_border(inputs, corners, layer, border, fields)


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
