"""Products of two rows, their sums, and what is ranked before a candidate."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from netpaths.lanes.vectors import FEW, INDEX, LANES, WORD, fold, load, numbers, pointer, spread, widened


@intrinsic
def sweep(typing, words, to, field, at, weight, start, count, pivot):
    """Bit k of words[to:] says whether field[at + k] · weight[start + k] is larger than the pivot, k < count.

    count: a multiple of LANES; the bits up to the next whole word are 0. Returns the sum of all products, in their own
    type, within (count / WORD + 8) rounding errors of Σ |product|.
    """
    place = types.int64
    signature = types.float64(words, place, field, place, weight, place, place, field.dtype)

    def generate(context, builder, signature, arguments):
        element = context.get_data_type(signature.args[2].dtype)
        count, pivot = arguments[6:]
        word = ir.IntType(WORD)
        zero, lanes, bits = (ir.Constant(count.type, number) for number in (0, LANES, WORD))
        target, *rows = (
            pointer(context, builder, signature, arguments, which, arguments[which + 1]) for which in (0, 2, 4)
        )
        sums = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(element, WORD), None))
        narrow = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(element, LANES), None))
        last = cgutils.alloca_once_value(builder, ir.Constant(word, 0))

        def compared(place, size, total):
            """Adds the products of ``size`` lanes to ``total``; their comparisons as an integer of as many bits."""
            vector = ir.VectorType(element, size)
            value = builder.fmul(*(load(context, builder, builder.gep(row, [place]), vector) for row in rows))
            builder.store(builder.fadd(builder.load(total), value), total)
            return builder.bitcast(builder.fcmp_ordered(">", value, spread(builder, pivot, vector)), ir.IntType(size))

        whole = builder.and_(count, ir.Constant(count.type, -WORD))
        with cgutils.for_range_slice(builder, zero, whole, bits) as (place, _):
            spot = builder.gep(target, [builder.udiv(place, bits)])
            builder.store(compared(place, WORD, sums), spot)
        with cgutils.for_range_slice(builder, whole, count, lanes) as (place, _):
            piece = builder.zext(compared(place, LANES, narrow), word)
            shift = builder.and_(place, ir.Constant(count.type, WORD - 1))
            builder.store(builder.or_(builder.load(last), builder.shl(piece, shift)), last)
        with builder.if_then(builder.icmp_signed("<", whole, count)):
            builder.store(builder.load(last), builder.gep(target, [builder.udiv(whole, bits)]))
        total = fold(builder, builder.load(sums), LANES)
        total = fold(builder, builder.fadd(total, builder.load(narrow)))
        return widened(builder, total)

    return signature, generate


@intrinsic
def exact_sum(typing, field, at, weight, start, count):
    """The sum of the products field[at + k] · weight[start + k], k < count, a multiple of LANES, in float64."""
    place = types.int64
    signature = types.float64(field, place, weight, place, place)

    def generate(context, builder, signature, arguments):
        element = context.get_data_type(signature.args[0].dtype)
        count = arguments[4]
        zero = ir.Constant(count.type, 0)
        rows = [pointer(context, builder, signature, arguments, which, arguments[which + 1]) for which in (0, 2)]
        whole = builder.and_(count, ir.Constant(count.type, -WORD))
        totals = []
        for size, start, stop in ((WORD, zero, whole), (LANES, whole, count)):
            vector, wide = ir.VectorType(element, size), ir.VectorType(ir.DoubleType(), size)
            total = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(count.type, size)) as (place, _):
                value = builder.fmul(*(load(context, builder, builder.gep(row, [place]), vector) for row in rows))
                builder.store(builder.fadd(builder.load(total), widened(builder, value)), total)
            totals.append(fold(builder, builder.load(total)))
        return builder.fadd(*totals)

    return signature, generate


def _preceding(width):
    @intrinsic
    def preceded(typing, values, base, start, count, least, most):
        """Whether what is ranked before values[base + start + k] sums to less than ``least``, and than ``most``.

        Two words, bit k < width for each. values[base : base + count] are ranked from large to small, equal ones by
        place; sums are float64, in the order of places.
        """
        place = types.int64
        result = types.UniTuple(types.uint64, 2)
        signature = result(values, place, place, place, types.float64, types.float64)

        def generate(context, builder, signature, arguments):
            element = context.get_data_type(signature.args[0].dtype)
            vector, wide = ir.VectorType(element, width), ir.VectorType(ir.DoubleType(), width)
            whole = ir.VectorType(INDEX, width)
            _, _, start, count, *goals = arguments
            zero, one = ir.Constant(count.type, 0), ir.Constant(count.type, 1)
            first = pointer(context, builder, signature, arguments, 0, arguments[1])
            own = load(context, builder, builder.gep(first, [start]), vector)
            lanes = builder.add(spread(builder, builder.trunc(start, INDEX), whole), numbers(0, width))
            total = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
            with cgutils.for_range_slice(builder, zero, count, one) as (place, _):
                value = builder.load(builder.gep(first, [place]))
                others = spread(builder, value, vector)
                tied = builder.and_(
                    builder.fcmp_ordered("==", others, own),
                    builder.icmp_signed("<", spread(builder, builder.trunc(place, INDEX), whole), lanes),
                )
                before = builder.or_(builder.fcmp_ordered(">", others, own), tied)
                added = builder.select(before, spread(builder, widened(builder, value), wide), ir.Constant(wide, None))
                builder.store(builder.fadd(builder.load(total), added), total)
            words = []
            for goal in goals:
                below = builder.fcmp_ordered("<", builder.load(total), spread(builder, goal, wide))
                words.append(builder.zext(builder.bitcast(below, ir.IntType(width)), ir.IntType(WORD)))
            return context.make_tuple(builder, signature.return_type, words)

        return signature, generate

    return preceded


preceded_few, preceded = _preceding(FEW), _preceding(LANES)


def _summing(width):
    @intrinsic
    def lane_sum(typing, values, start, count):
        """The sum of values[start : start + count], count ≤ width, in float64; so many as ``width`` are read."""
        signature = types.float64(values, types.int64, types.int64)

        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), width)
            first = pointer(context, builder, signature, arguments, 0, arguments[1])
            value = widened(builder, load(context, builder, first, vector))
            count = spread(builder, builder.trunc(arguments[2], INDEX), ir.VectorType(INDEX, width))
            inside = builder.icmp_signed("<", numbers(0, width), count)
            return fold(builder, builder.select(inside, value, ir.Constant(value.type, None)))

        return signature, generate

    return lane_sum


few_sum, lane_sum = _summing(FEW), _summing(LANES)
