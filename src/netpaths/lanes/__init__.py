"""Vector instructions for numba: fixed lanes, the same arithmetic and the same order of sums on every processor.

LLVM turns them into whatever the processor has; nothing but numba itself is needed. Every function reads its arrays
without checks: the caller pads them to whole lanes.
"""

from netpaths.lanes.choices import bits_set, first_bit, kept, marked, placed, word_of
from netpaths.lanes.memory import at, byte_at, copy_4, copy_8, copy_16, put, put_lanes, take
from netpaths.lanes.sums import exact_sum, few_sum, lane_sum, preceded, preceded_few, sweep
from netpaths.lanes.vectors import COMPRESSES, FEW, HOT, LANES, WORD

__all__ = [
    "COMPRESSES",
    "FEW",
    "HOT",
    "LANES",
    "WORD",
    "at",
    "bits_set",
    "byte_at",
    "copy_4",
    "copy_8",
    "copy_16",
    "exact_sum",
    "few_sum",
    "first_bit",
    "kept",
    "lane_sum",
    "marked",
    "placed",
    "preceded",
    "preceded_few",
    "put",
    "put_lanes",
    "sweep",
    "take",
    "word_of",
]
