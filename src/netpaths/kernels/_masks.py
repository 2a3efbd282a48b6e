"""Numba source: the directions of active neurons, in one pass over their masks."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.lanes import HOT, at, put


@njit(**HOT)
def _turned(before, after, falling, mask, flipped, found, start, stop):
    """As `turned` for the neurons start ≤ k < stop, which share one direction of the map."""
    if flipped.size:
        for k in range(start, stop):
            signs = (at(before, k) < 0) ^ (at(after, k) < 0)
            put(found, k, (np.uint8(signs) ^ falling ^ at(flipped, k)) & at(mask, k))
    else:
        for k in range(start, stop):
            signs = (at(before, k) < 0) ^ (at(after, k) < 0)
            put(found, k, (np.uint8(signs) ^ falling) & at(mask, k))


@njit(cache=True, nogil=True, parallel=True)
def turned(before, after, falling, mask, flipped, found, workers):
    """found[k]: active neurons whose own sign says another direction than their reader's does."""
    lines = falling.size
    length = mask.size // lines if lines else 0
    for piece in prange(workers):
        for line in range(lines * piece // workers, lines * (piece + 1) // workers):
            _turned(before, after, falling[line], mask, flipped, found, line * length, (line + 1) * length)


@njit(**HOT)
def _merged(mask, flipped, other_mask, other_flipped, either, found, start, stop):
    """As `merged` for the neurons start ≤ k < stop."""
    one = np.uint8(1)
    if flipped.size and other_flipped.size:
        for k in range(start, stop):
            first, second = at(mask, k), at(other_mask, k)
            both = (at(flipped, k) | (first ^ one)) & (at(other_flipped, k) | (second ^ one))
            put(either, k, first | second)
            put(found, k, both & (first | second))
    elif flipped.size:
        for k in range(start, stop):
            first, second = at(mask, k), at(other_mask, k)
            put(either, k, first | second)
            put(found, k, at(flipped, k) & first & (second ^ one))
    else:
        for k in range(start, stop):
            first, second = at(mask, k), at(other_mask, k)
            put(either, k, first | second)
            put(found, k, at(other_flipped, k) & second & (first ^ one))


@njit(cache=True, nogil=True, parallel=True)
def merged(mask, flipped, other_mask, other_flipped, either, found, workers):
    """either[k]: neurons that a reader selected; found[k]: those that every reader that selected them turns round."""
    size = mask.size
    for piece in prange(workers):
        start, stop = size * piece // workers, size * (piece + 1) // workers
        _merged(mask, flipped, other_mask, other_flipped, either, found, start, stop)
