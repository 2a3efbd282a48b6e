"""Numba source: the directions of active neurons, in one pass over their masks."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.lanes import HOT, at, byte_at, put

BLOCK = 1 << 13
"""Neurons merged together, so that they stay in the nearest cache."""


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
def _join(part, turned, either, found, start, stop):
    """Add one reader, whose marks stand at addresses; ``turned`` is 0 where it turns nothing round."""
    one = np.uint8(1)
    if turned:
        for k in range(start, stop):
            own = byte_at(part, k)
            put(either, k, at(either, k) | own)
            put(found, k, at(found, k) & (byte_at(turned, k) | (own ^ one)))
    else:
        for k in range(start, stop):
            own = byte_at(part, k)
            put(either, k, at(either, k) | own)
            put(found, k, at(found, k) & (own ^ one))


@njit(**HOT)
def _merged(readers, either, found, start, stop):
    """As `merged` for the neurons start ≤ k < stop."""
    for k in range(start, stop):
        put(either, k, np.uint8(0))
        put(found, k, np.uint8(1))
    for reader in range(readers.shape[0]):
        _join(readers[reader, 0], readers[reader, 1], either, found, start, stop)
    for k in range(start, stop):
        put(found, k, at(found, k) & at(either, k))


@njit(cache=True, nogil=True, parallel=True)
def merged(readers, either, found, workers):
    """either[k]: neurons that a reader selected; found[k]: those that every reader that selected them turns round.

    readers: (readers, 2) uint64, the addresses of what each selected and of what it turns round, 0 for nothing.
    """
    size = either.size
    blocks = (size + BLOCK - 1) // BLOCK
    for piece in prange(workers):
        for block in range(blocks * piece // workers, blocks * (piece + 1) // workers):
            _merged(readers, either, found, block * BLOCK, min(size, (block + 1) * BLOCK))
