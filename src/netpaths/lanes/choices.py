"""Truth values as bits of words, and the lanes they choose."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from netpaths.lanes.vectors import HOT, INDEX, LANES, WORD, bits, compressed, load, numbers, pointer, store


@intrinsic
def marked(typing, marks, start):
    """Bit k of the word says whether the byte marks[start + k] is other than 0, k < WORD."""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.IntType(8), WORD)
        loaded = load(context, builder, pointer(context, builder, signature, arguments, 0, arguments[1]), vector)
        return builder.bitcast(builder.icmp_unsigned("!=", loaded, ir.Constant(vector, None)), ir.IntType(WORD))

    return types.uint64(marks, types.int64), generate


@njit(**HOT)
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


@intrinsic
def first_bit(typing, word):
    """The place of the lowest bit that is set; WORD for 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def bits_set(typing, word):
    """How many bits are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def placed(typing, words, first, count, places, to):
    """Write the places of the bits set in words[first : first + count] to places[to:], int32, ascending.

    Returns how many they are. Places beyond them are overwritten, fewer than WORD.
    """
    place = types.int64
    signature = types.int64(words, place, place, places, place)

    def generate(context, builder, signature, arguments):
        count = arguments[2]
        source = pointer(context, builder, signature, arguments, 0, arguments[1])
        target = pointer(context, builder, signature, arguments, 3, arguments[4])
        bytes_of_word, wide = ir.VectorType(ir.IntType(8), WORD), ir.VectorType(INDEX, LANES)
        base = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
        total = cgutils.alloca_once_value(builder, ir.Constant(count.type, 0))
        with cgutils.for_range(builder, count) as loop:
            spot = builder.gep(source, [loop.index])
            mask = builder.load(builder.bitcast(spot, bits(WORD).as_pointer()), align=8)
            spots = compressed(builder, ir.Constant(bytes_of_word, list(range(WORD))), mask)
            taken = builder.ctpop(builder.load(spot))
            end = builder.gep(target, [builder.load(total)])

            def write(start, spots=spots, end=end):
                lanes = builder.shuffle_vector(spots, spots, numbers(start, LANES))
                value = builder.add(builder.zext(lanes, wide), builder.load(base))
                store(context, builder, value, builder.gep(end, [ir.Constant(ir.IntType(64), start)]))

            write(0)
            with builder.if_then(builder.icmp_unsigned(">", taken, ir.Constant(taken.type, LANES)), likely=False):
                for start in range(LANES, WORD, LANES):
                    write(start)
            builder.store(builder.add(builder.load(total), taken), total)
            builder.store(builder.add(builder.load(base), ir.Constant(wide, [WORD] * LANES)), base)
        return builder.load(total)

    return signature, generate


@intrinsic
def kept(typing, values, start, word, into, to):
    """Write values[start + k] for every bit k < LANES that is set to into[to:], in order; both are int32.

    LANES places of ``into`` are overwritten.
    """
    signature = types.void(values, types.int64, types.uint64, into, types.int64)

    def generate(context, builder, signature, arguments):
        source = pointer(context, builder, signature, arguments, 0, arguments[1])
        target = pointer(context, builder, signature, arguments, 3, arguments[4])
        mask = builder.bitcast(builder.trunc(arguments[2], ir.IntType(LANES)), bits(LANES))
        lanes = load(context, builder, source, ir.VectorType(INDEX, LANES))
        store(context, builder, compressed(builder, lanes, mask), target)
        return context.get_dummy_value()

    return signature, generate
