"""Numba source: the shortest prefix of candidates, largest first, that covers a goal."""

from __future__ import annotations

import numpy as np
from numba import njit

from netpaths.lanes import FEW, HOT, LANES, preceded, preceded_few

RANKED = 48
"""Up to so many candidates are ranked against each other; more are partitioned."""


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
def cut(found, spots, base, taken, goal, scratch):
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
def ranked(found, base, taken, least, most):
    """Which of at most WORD candidates are in the shortest prefix, largest first, reaching a goal, for two goals.

    A value belongs to the prefix when what comes before it stays below the goal; bit k of a word is for found[k].
    """
    lower, upper = np.uint64(0), np.uint64(0)
    if taken <= FEW:
        lower, upper = preceded_few(found, base, 0, taken, least, most)
    for start in range(0, taken if taken > FEW else 0, LANES):
        low, high = preceded(found, base, start, taken, least, most)
        lower |= low << np.uint64(start)
        upper |= high << np.uint64(start)
    bits = (np.uint64(1) << np.uint64(taken)) - np.uint64(1)
    return lower & bits, upper & bits
