"""Where the values of a program stand in memory: padded rows, so that every tap of a convolution reads neighbours.

Row y of a channel starts ``stride`` floats behind row y - 1. The columns between one row and the next are zero, and so
is what lies around a channel: that is the padding. Values between which no operation moves rows share a stride.
Memory is used again once nothing reads a value any more, by values of the same form alone: what is zero stays zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

Shape = tuple[int, int, int]
"""Channels, height and width."""

Reach = Callable[[int], tuple[int, int]]
"""From the stride of a value's rows to the first place that an operation reads of a channel, and the end."""

WHOLE = 16
"""Channels are whole multiples of so many floats."""


def whole(size: int) -> int:
    """The next multiple of `WHOLE`."""
    return -(-size // WHOLE) * WHOLE


class Rows:
    """Rows of one stride, which several values share."""

    def __init__(self, least: int) -> None:
        self.least = least
        self._joined: Rows | None = None

    def root(self) -> Rows:
        """What stands for all that were joined."""
        rows = self
        while rows._joined is not None:
            rows = rows._joined
        return rows

    def join(self, other: Rows) -> None:
        """From now on both have the same stride."""
        first, second = self.root(), other.root()
        if first is not second:
            first.need(second.least)
            second._joined = first

    def need(self, least: int) -> None:
        """The stride is at least this."""
        self.root().least = max(self.root().least, least)


@dataclass(eq=False)
class Memory:
    """Room for the channels of a value and of all that share it."""

    shape: Shape
    flat: bool
    rows: Rows
    reaches: list[Reach] = field(default_factory=list)
    base: int = -1

    @property
    def stride(self) -> int:
        return 1 if self.flat else self.rows.root().least

    @property
    def span(self) -> int:
        """Floats of a channel from its first element to the last, in whole vectors."""
        return 1 if self.flat else whole((self.shape[1] - 1) * self.stride + self.shape[2])

    def form(self) -> tuple[int, ...]:
        """Zeros in front of a channel, floats from one channel to the next, stride, height and width."""
        if self.flat:
            return (0, 1, 1, 1, 1)
        reaches = [reach(self.stride) for reach in self.reaches]
        lead = whole(max([0, *(-first for first, _ in reaches)]))
        plane = lead + whole(max([self.span, *(end for _, end in reaches)]))
        return (lead, plane, self.stride, *self.shape[1:])

    @property
    def room(self) -> int:
        """Floats for all channels."""
        return whole(self.shape[0]) + WHOLE if self.flat else self.shape[0] * self.form()[1]


@dataclass(frozen=True, eq=False)
class Value:
    """A value of one image: its memory, and where its record and its list stand.

    shift: channel c of the value is channel c - shift of the memory.
    """

    shape: Shape
    memory: Memory
    record: int
    listed: int
    shift: int = 0

    @property
    def plane(self) -> int:
        return self.memory.form()[1]

    @property
    def described(self) -> list[int]:
        """The record, less the mask."""
        lead, plane, stride, height, width = self.memory.form()
        base = self.memory.base + lead - self.shift * plane
        return [base, plane, stride, height, width, self.shape[0], self.listed, self.memory.span]


@dataclass(eq=False)
class Operation:
    """kind: its number. touches: values it reads or writes. arguments: its numbers, once memory is placed.

    clamp: between which bounds its result is cut. open: whether an activation behind it may still be added. products:
    how many a convolution computes with everything on.
    """

    kind: int
    touches: Sequence[Value]
    arguments: Callable[[], Sequence[int]]
    clamp: tuple[float, float] = (-np.inf, np.inf)
    open: bool = False
    products: int = 0


def placed(operations: Sequence[Operation], start: int) -> int:
    """Give every memory its base from ``start`` on; returns where the last one ends."""
    last = {value.memory: index for index, each in enumerate(operations) for value in each.touches}
    free: list[Memory] = []
    for index, operation in enumerate(operations):
        memories = list(dict.fromkeys(value.memory for value in operation.touches))
        for memory in memories:
            if memory.base < 0:
                start = _place(memory, free, start)
        free += [memory for memory in memories if last[memory] == index]
    return start


def _place(memory: Memory, free: list[Memory], start: int) -> int:
    """The memory's base: where free memory of its form stands, or at the end; returns the new end."""
    for other in free:
        if other.form() == memory.form() and other.room >= memory.room:
            free.remove(other)
            memory.base = other.base
            return start
    memory.base = start
    return start + memory.room


def mask(memory: Memory) -> np.ndarray:
    """-1 for every element of a channel and 0 between them: (span,) int32."""
    found = np.zeros(memory.span, np.int32)
    height, width = memory.shape[1:]
    places = np.arange(height)[:, None] * memory.stride + np.arange(width)
    found[places.reshape(-1)] = -1
    return found


def size_of(shape: Sequence[int]) -> Shape:
    """Channels, height and width of a node's shape: a vector is channels of one element, a signal has one row."""
    if len(shape) == 1:
        return (shape[0], 1, 1)
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], prod(shape[2:]))
