"""What the numbers of a program mean: kinds of operation, records of values, and when threads share work."""

from __future__ import annotations

IMPORT, EXPORT, CONV, MEAN, LINEAR, THRESHOLD, FIXED, GATE, AFFINE, ADD, POOL, MOVE, FLATTEN = range(13)
"""Kinds of operation."""

BASE, PLANE, STRIDE, HEIGHT, WIDTH, CHANNELS, LIST, SPAN, MASK = range(9)
"""Places in the record of a value."""

RECORD = 9
"""Numbers of a record."""

WORTH = 1 << 23
"""Products from which on several threads share a convolution; about 0.1 ms for one."""

HEAD, SLOT = 64, 32
"""Numbers at the start of a team's memory, and for each convolution that is shared."""
