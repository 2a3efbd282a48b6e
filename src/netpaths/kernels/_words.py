"""Numba source: the active outputs of a layer as bits of words."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from netpaths.lanes import WORD, bits_set, marked


@njit(cache=True, nogil=True)
def word_of(marks, start, stop):
    """The marks start ≤ k < stop as bits, at most WORD of them."""
    if start + WORD <= marks.size:
        word = marked(marks, start)
        if stop - start < WORD:
            word &= (np.uint64(1) << np.uint64(stop - start)) - np.uint64(1)
        return word
    word = np.uint64(0)
    for place in range(start, stop):
        if marks[place]:
            word |= np.uint64(1) << np.uint64(place - start)
    return word


@njit(cache=True, nogil=True, parallel=True)
def words_of(active, batch, out_channels, places, length):
    """The active outputs as bits, (batch, blocks, out_channels), and the row of each block's first one."""
    blocks = (places + length - 1) // length
    words = np.empty((batch, blocks, out_channels), np.uint64)
    for line in prange(batch * out_channels):
        for block in range(blocks):
            start = line * places + block * length
            stop = min(start + length, (line + 1) * places)
            words[line // out_channels, block, line % out_channels] = word_of(active, start, stop)
    starts = np.empty(words.shape, np.int64)
    total = 0
    for image in range(batch):
        for out in range(out_channels):
            for block in range(blocks):
                starts[image, block, out] = total
                total += bits_set(words[image, block, out])
    return words, starts, total
