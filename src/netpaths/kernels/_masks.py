"""Numba source: the directions of active neurons, in one pass over their masks."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True)
def turned(before, after, falling, mask, flipped, found, workers):
    """found[k]: active neurons whose own sign says another direction than their reader's does."""
    lines = falling.size
    length = mask.size // lines if lines else 0
    for piece in prange(workers):
        for line in range(lines * piece // workers, lines * (piece + 1) // workers):
            start, stop = line * length, (line + 1) * length
            if flipped.size:
                for k in range(start, stop):
                    found[k] = ((before[k] < 0) ^ (after[k] < 0) ^ falling[line] ^ flipped[k]) & mask[k]
            else:
                for k in range(start, stop):
                    found[k] = ((before[k] < 0) ^ (after[k] < 0) ^ falling[line]) & mask[k]


@njit(cache=True, nogil=True, parallel=True)
def merged(mask, flipped, other_mask, other_flipped, either, found, workers):
    """either[k]: neurons that a reader selected; found[k]: those that every reader that selected them turns round."""
    size = mask.size
    one = np.uint8(1)
    for piece in prange(workers):
        start, stop = size * piece // workers, size * (piece + 1) // workers
        if flipped.size and other_flipped.size:
            for k in range(start, stop):
                either[k] = mask[k] | other_mask[k]
                found[k] = (flipped[k] | (mask[k] ^ one)) & (other_flipped[k] | (other_mask[k] ^ one)) & either[k]
        elif flipped.size:
            for k in range(start, stop):
                either[k] = mask[k] | other_mask[k]
                found[k] = flipped[k] & mask[k] & (other_mask[k] ^ one)
        else:
            for k in range(start, stop):
                either[k] = mask[k] | other_mask[k]
                found[k] = other_flipped[k] & other_mask[k] & (mask[k] ^ one)
