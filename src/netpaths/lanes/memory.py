"""Elements and lanes of flat arrays, read and written without checks."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from netpaths.lanes.vectors import LANES, check_flat, load, pointer, spread, store


@intrinsic
def at(typing, array, place):
    """The element of a flat array at a place that is not negative.

    numba's own index may count from the end; finding out costs more than reading, and hides what could be vectors.
    """
    check_flat(array)

    def generate(context, builder, signature, arguments):
        return builder.load(pointer(context, builder, signature, arguments, 0, arguments[1]))

    return array.dtype(array, types.int64), generate


@intrinsic
def byte_at(typing, address, place):
    """The byte so many places behind an address in memory."""

    def generate(context, builder, signature, arguments):
        start = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        return builder.load(builder.gep(start, [arguments[1]]))

    return types.uint8(types.uint64, types.int64), generate


@intrinsic
def put(typing, array, place, value):
    """Write the element of a flat array at a place that is not negative."""
    check_flat(array)

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], pointer(context, builder, signature, arguments, 0, arguments[1]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


@intrinsic
def put_lanes(typing, array, place, value):
    """Write the same value to LANES elements of a flat array from a place that is not negative."""
    check_flat(array)

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), LANES)
        start = pointer(context, builder, signature, arguments, 0, arguments[1])
        store(context, builder, spread(builder, arguments[2], vector), start)
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


def _copying(count):
    @intrinsic
    def copy(typing, source, start, target, to):
        """Copy so many elements, source[start:] to target[to:]."""

        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), count)
            left, right = (
                pointer(context, builder, signature, arguments, which, arguments[which + 1]) for which in (0, 2)
            )
            store(context, builder, load(context, builder, left, vector), right)
            return context.get_dummy_value()

        return types.void(source, types.int64, target, types.int64), generate

    return copy


copy_4, copy_8, copy_16 = _copying(4), _copying(8), _copying(16)


@intrinsic
def take(typing, counters, place, amount):
    """Add to counters[place] in one indivisible step; returns what it held before."""
    signature = types.int64(counters, types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        counter = pointer(context, builder, signature, arguments, 0, arguments[1])
        return builder.atomic_rmw("add", counter, arguments[2], "monotonic")

    return signature, generate
