"""Numba source: which products of an output are candidates, found without a branch that depends on a value.

Where candidates stand cannot be predicted, and a wrong prediction costs more than the arithmetic of several words.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from netpaths.lanes import (
    COMPRESSES,
    FEW,
    HOT,
    LANES,
    WORD,
    at,
    bits_set,
    few_sum,
    first_bit,
    kept,
    lane_sum,
    placed,
    put,
    sweep,
)


@njit(**HOT)
def swept(words, to, source, turned, whole, size, pivot):
    """The quick sum of an output's products; words[to:] say which are above the pivot."""
    field, start, weight, weight_start, sign = source
    if sign > 0:
        return sweep(words, to, field, start, weight, weight_start, whole, pivot)
    for place in range(size):
        put(turned, place, -at(field, start + place))
    return sweep(words, to, turned, 0, weight, weight_start, whole, pivot)


@njit(**HOT)
def placed_together(words, first, count, bases, spots, to):
    """The places of the bits set in words[first : first + count], to spots[to:]; returns how many they are.

    Places beyond them are overwritten, fewer than WORD.
    """
    return placed(words, first, count, spots, to)


@njit(**HOT)
def placed_by_bits(words, first, count, bases, spots, to):
    """As `placed_together`, bit by bit; words[first : first + count + 1] and ``bases`` are overwritten."""
    filled, taken = 0, 0
    for place in range(count):
        word = words[first + place]
        words[first + filled] = word
        bases[filled] = place * WORD
        filled += word != np.uint64(0)
        taken += bits_set(word)
    words[first + filled] = 0
    word = words[first]
    turn = 0
    for candidate in range(to, to + taken):
        spots[candidate] = bases[turn] + first_bit(word)
        word &= word - np.uint64(1)
        turn += word == np.uint64(0)
        word |= words[first + turn] & (np.uint64(word != np.uint64(0)) - np.uint64(1))
    return taken


@njit(**HOT)
def kept_together(spots, base, word, into, to):
    """Write spots[base + k] for every bit k < LANES that is set to into[to:], whose LANES places may be overwritten."""
    kept(spots, base, word, into, to)


@njit(**HOT)
def kept_by_bits(spots, base, word, into, to):
    """As `kept_together`, bit by bit."""
    while word != np.uint64(0):
        into[to] = spots[base + first_bit(word)]
        word &= word - np.uint64(1)
        to += 1


places_of_bits = placed_together if COMPRESSES else placed_by_bits
keep = kept_together if COMPRESSES else kept_by_bits


@njit(**HOT)
def _product(source, found, spots, candidate):
    field, start, weight, weight_start, sign = source
    spot = np.int64(at(spots, candidate))
    put(found, candidate, at(field, start + spot) * at(weight, weight_start + spot) * sign)


@njit(**HOT)
def products(source, found, spots, to, taken):
    """The products at spots[to : to + taken], to found[to:]; up to LANES more are read and written.

    source: field, its start, weight, its start and the sign of the products. All of ``spots`` are places of the field.
    """
    if taken <= FEW:
        for candidate in range(to, to + FEW):
            _product(source, found, spots, candidate)
        return
    for turn in range(to, to + taken, LANES):
        for candidate in range(turn, turn + LANES):
            _product(source, found, spots, candidate)


@njit(**HOT)
def covered(found, to, taken):
    """The sum of found[to : to + taken] in float64."""
    if taken <= FEW:
        return few_sum(found, to, taken)
    total = 0.0
    for turn in range(0, taken, LANES):
        total += lane_sum(found, to + turn, min(LANES, taken - turn))
    return total
