"""Vector instructions of the runtime: tiles of a convolution, rows of a linear layer, every second element of a row.

A tile is some filters times some vectors of neighbouring places; its sums stay in registers over all inputs and taps.
"""

from __future__ import annotations

import os

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from netpaths.lanes.vectors import HOT, fold, load, pointer, spread, store

WIDE = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]

VECTOR = 16 if WIDE else 8
"""Floats of a vector; planes are whole multiples of 16."""

FILTERS = (0, 8, 8, 8, 6, 5, 4) if WIDE else (0, 8, 5, 4)
"""The most filters of a tile by its vectors: sums, inputs and a weight fit in the registers."""

VECTORS = len(FILTERS) - 1
"""The most vectors of a tile."""

MOST = max(FILTERS)

FUSED = ("contract",)

PATIENCE = 1000
"""How often a thread looks for a number before it lets others have its processor."""

_PLACE = ir.IntType(64)


def _fused(builder, total, left, right):
    """total + left · right, in one instruction where the processor has one."""
    builder.store(builder.fadd(builder.load(total), builder.fmul(left, right, flags=FUSED), flags=FUSED), total)


def _number(value):
    return ir.Constant(_PLACE, value)


@intrinsic
def tile(
    typing, filters, vectors, floats, weights, masks, lists, code, inputs, count, taps, size, rows, mask, at, low, high
):
    """Sums of ``filters`` filters at ``vectors`` vectors of places from ``at`` on, written to ``floats``.

    lists[inputs + 2k], lists[inputs + 2k + 1]: where input k < count stands in ``floats``, and its weights behind those
    of a filter. code[taps + t], t < size: the offsets of the taps. lists[rows + 3r] and the next two: where filter r
    has its weights, its output and its bias. masks[mask + at + k]: 0 for a place that is none, whose output is 0;
    every other one is clamped between ``low`` and ``high``.
    """
    place = types.int64
    signature = types.void(
        place, place, floats, weights, masks, lists, code, *[place] * 7, types.float32, types.float32
    )

    def generate(context, builder, signature, arguments):
        def array(which):
            return pointer(context, builder, signature, arguments, which, _number(0))

        values, weight, mask, lists, code = map(array, (2, 3, 4, 5, 6))
        inputs, count, taps, size, rows, first, at, low, high = arguments[7:]
        inputs, rows, taps = builder.gep(lists, [inputs]), builder.gep(lists, [rows]), builder.gep(code, [taps])
        parts = _Parts(context, builder, values, weight, builder.gep(mask, [builder.add(first, at)]))
        parts.inputs, parts.count, parts.taps, parts.size = inputs, count, taps, size
        parts.rows, parts.at, parts.low, parts.high = rows, at, low, high
        end = builder.append_basic_block("tiled")
        kind = builder.add(builder.mul(arguments[1], _number(MOST + 1)), arguments[0])
        choice = builder.switch(kind, end)
        for wide, most in enumerate(FILTERS):
            for many in range(1, most + 1):
                block = builder.append_basic_block(f"tile_{many}_{wide}")
                choice.add_case(_number(wide * (MOST + 1) + many), block)
                builder.position_at_end(block)
                parts.write(many, wide)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, generate


class _Parts:
    """What every kind of tile reads, as values of the compiler."""

    kind = ir.VectorType(ir.FloatType(), VECTOR)

    def __init__(self, context, builder, values, weight, mask):
        self.context, self.builder, self.values, self.weight, self.mask = context, builder, values, weight, mask

    def row(self, filter_, which):
        """Where a filter has its weights, its output or its bias."""
        return self.builder.load(self.builder.gep(self.rows, [_number(3 * filter_ + which)]))

    def write(self, filters, vectors):
        """Code for a tile of this size."""
        builder = self.builder
        weights = [builder.gep(self.weight, [self.row(each, 0)]) for each in range(filters)]
        sums = []
        for each in range(filters):
            bias = spread(builder, builder.load(builder.gep(self.weight, [self.row(each, 2)])), self.kind)
            sums.append([cgutils.alloca_once(builder, self.kind) for _ in range(vectors)])
            for total in sums[-1]:
                builder.store(bias, total)
        with cgutils.for_range(builder, self.count) as loop:
            spot = builder.gep(self.inputs, [builder.shl(loop.index, _number(1))])
            plane = builder.gep(self.values, [builder.add(builder.load(spot), self.at)])
            own = builder.load(builder.gep(spot, [_number(1)]))
            starts = [builder.gep(row, [own]) for row in weights]
            with cgutils.for_range(builder, self.size) as tap:
                self._tap(plane, starts, tap.index, sums)
        for each, totals in enumerate(sums):
            self._finish(builder.add(self.row(each, 1), self.at), totals)

    def _tap(self, plane, starts, tap, sums):
        """Add the products of one tap of one input."""
        builder = self.builder
        source = builder.gep(plane, [builder.load(builder.gep(self.taps, [tap]))])
        places = [builder.gep(source, [_number(VECTOR * which)]) for which in range(len(sums[0]))]
        values = [load(self.context, builder, where, self.kind) for where in places]
        for start, totals in zip(starts, sums):
            weight = spread(builder, builder.load(builder.gep(start, [tap])), self.kind)
            for value, total in zip(values, totals):
                _fused(builder, total, value, weight)

    def _finish(self, start, totals):
        """Clamp, mask and write the sums of one filter."""
        builder = self.builder
        whole = ir.VectorType(ir.IntType(32), VECTOR)
        low, high = (spread(builder, bound, self.kind) for bound in (self.low, self.high))
        for which, total in enumerate(totals):
            value = builder.load(total)
            value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
            value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
            inside = load(self.context, builder, builder.gep(self.mask, [_number(VECTOR * which)]), whole)
            value = builder.bitcast(builder.and_(builder.bitcast(value, whole), inside), self.kind)
            where = builder.gep(self.values, [builder.add(start, _number(VECTOR * which))])
            store(self.context, builder, value, where)


@intrinsic
def weighted_rows(typing, width, floats, weights, lists, source, inputs, count, start, step, target, bias, low, high):
    """``width`` vectors of Σ_k floats[source + c_k] · weights[start + c_k · step + …] + bias, k < count.

    lists[inputs + k]: c_k. weights[bias:]: the biases. The sums are clamped between ``low`` and ``high`` and written to
    floats[target:]. ``width`` is 1 or 4.
    """
    place = types.int64
    signature = types.void(place, floats, weights, lists, *[place] * 7, types.float32, types.float32)

    def generate(context, builder, signature, arguments):
        values, weight, lists = (
            pointer(context, builder, signature, arguments, which, _number(0)) for which in (1, 2, 3)
        )
        source, inputs, count, start, step, target, bias, low, high = arguments[4:]
        kind = _Parts.kind
        low, high = (spread(builder, bound, kind) for bound in (low, high))
        end = builder.append_basic_block("summed")
        choice = builder.switch(arguments[0], end)
        for width in (1, 4):
            block = builder.append_basic_block(f"rows_{width}")
            choice.add_case(_number(width), block)
            builder.position_at_end(block)
            sums = [cgutils.alloca_once(builder, kind) for _ in range(width)]
            for which, total in enumerate(sums):
                where = builder.gep(weight, [builder.add(bias, _number(VECTOR * which))])
                builder.store(load(context, builder, where, kind), total)
            with cgutils.for_range(builder, count) as loop:
                own = builder.load(builder.gep(lists, [builder.add(inputs, loop.index)]))
                factor = builder.load(builder.gep(values, [builder.add(source, own)]))
                row = builder.gep(weight, [builder.add(start, builder.mul(own, step))])
                for which, total in enumerate(sums):
                    part = load(context, builder, builder.gep(row, [_number(VECTOR * which)]), kind)
                    _fused(builder, total, part, spread(builder, factor, kind))
            for which, total in enumerate(sums):
                value = builder.load(total)
                value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
                value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
                where = builder.gep(values, [builder.add(target, _number(VECTOR * which))])
                store(context, builder, value, where)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def every_second(typing, floats, source, target, vectors):
    """floats[target + k] = floats[source + 2k] for so many vectors of k; up to two more elements are read."""
    signature = types.void(floats, *[types.int64] * 3)

    def generate(context, builder, signature, arguments):
        origin, goal = (pointer(context, builder, signature, arguments, 0, arguments[which]) for which in (1, 2))
        kind = _Parts.kind
        even = ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), list(range(0, 2 * VECTOR, 2)))
        with cgutils.for_range(builder, arguments[3]) as loop:
            place = builder.mul(loop.index, _number(VECTOR))
            where = builder.gep(origin, [builder.shl(place, _number(1))])
            halves = [load(context, builder, builder.gep(where, [_number(VECTOR * half)]), kind) for half in (0, 1)]
            store(context, builder, builder.shuffle_vector(*halves, even), builder.gep(goal, [place]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def row_sum(typing, floats, start, count):
    """The sum of floats[start : start + count], count a multiple of 16; in the order of lanes."""
    signature = types.float32(floats, types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        first = pointer(context, builder, signature, arguments, 0, arguments[1])
        whole = builder.and_(arguments[2], _number(-64))
        totals = []
        for size, start, stop in ((64, _number(0), whole), (16, whole, arguments[2])):
            kind = ir.VectorType(ir.FloatType(), size)
            total = cgutils.alloca_once_value(builder, ir.Constant(kind, None))
            with cgutils.for_range_slice(builder, start, stop, _number(size)) as (place, _):
                value = load(context, builder, builder.gep(first, [place]), kind)
                builder.store(builder.fadd(builder.load(total), value), total)
            totals.append(fold(builder, builder.load(total)))
        return builder.fadd(*totals)

    return signature, generate


@intrinsic
def float_at(typing, address, place):
    """The float32 so many places behind an address in memory."""

    def generate(context, builder, signature, arguments):
        start = builder.inttoptr(arguments[0], ir.FloatType().as_pointer())
        return builder.load(builder.gep(start, [arguments[1]]))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def put_float(typing, address, place, value):
    """Write the float32 so many places behind an address in memory."""

    def generate(context, builder, signature, arguments):
        start = builder.inttoptr(arguments[0], ir.FloatType().as_pointer())
        builder.store(arguments[2], builder.gep(start, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@intrinsic
def added(typing, counters, place, amount):
    """Add to counters[place] in one indivisible step; returns what it held before.

    What a thread wrote before is seen by every thread that finds the new number.
    """
    signature = types.int64(counters, types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        counter = pointer(context, builder, signature, arguments, 0, arguments[1])
        return builder.atomic_rmw("add", counter, arguments[2], "acq_rel")

    return signature, generate


@intrinsic
def seen(typing, counters, place):
    """counters[place] as `added` left it."""
    signature = types.int64(counters, types.int64)

    def generate(context, builder, signature, arguments):
        counter = pointer(context, builder, signature, arguments, 0, arguments[1])
        return builder.load_atomic(counter, "acquire", 8)

    return signature, generate


if hasattr(os, "sched_yield"):
    _give_way = types.ExternalFunction("sched_yield", types.int32())
else:

    @njit(**HOT)
    def _give_way():
        """Nothing, where the system has no such call."""


@njit(**HOT)
def wait(counters, place, least):
    """Wait until counters[place] is at least so much."""
    looks = 0
    while seen(counters, place) < least:
        looks += 1
        if looks > PATIENCE:
            _give_way()


@njit(**HOT)
def wait_for_either(counters, first, least, second):
    """Wait until counters[first] is at least so much, or counters[second] is not 0."""
    looks = 0
    while seen(counters, first) < least and seen(counters, second) == 0:
        looks += 1
        if looks > PATIENCE:
            _give_way()
