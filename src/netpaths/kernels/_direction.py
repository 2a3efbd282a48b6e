"""Numba source: whether an output's products are negated before the largest are chosen."""

from __future__ import annotations

from numba import njit

from netpaths.lanes import HOT, at


@njit(**HOT)
def direction(output, flipped, place):
    """-1 for a negative output, 1 for others, turned round where ``flipped`` says so; in the outputs' type."""
    negative = at(output, place) < 0
    if flipped.size:
        negative ^= at(flipped, place) != 0
    return output.dtype.type(-1 if negative else 1)
