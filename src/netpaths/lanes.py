"""Vector instructions for numba: fixed lanes, the same arithmetic and the same order of sums on every processor.

LLVM turns them into whatever the processor has; nothing but numba itself is needed. Every function reads its arrays
without checks: the caller pads them to whole lanes.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import intrinsic

LANES = 16
"""Products computed at once; a multiple of it is what `products` takes."""

FEW = 8
"""Candidates ranked at once: most outputs have no more."""

WORD = 64
"""Comparisons made at once, one bit each."""

HOT = {"cache": True, "nogil": True, "forceinline": True, "_nrt": False}
"""For inner functions: no counting of references, whose atomic steps cost more than the work."""

INDEX = ir.IntType(32)

COMPRESSES = "+avx512vbmi2" in cpu_target.target_context.codegen().magic_tuple()[2]
"""Whether the processor moves chosen lanes together in one instruction: only then `placed` and `kept` are compiled."""


def _check_flat(array):
    if array.ndim != 1 or array.layout != "C":
        raise TypingError("takes a flat, contiguous array")


def _pointer(context, builder, signature, arguments, which, index):
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    return builder.gep(array.data, [index])


def _spread(builder, scalar, vector):
    """The scalar in every lane."""
    unset = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(INDEX, vector.count), None))


def _load(context, builder, pointer, place, vector):
    """Lanes from a pointer to numbers, at any place."""
    align = vector.element.get_abi_size(context.target_data)
    return builder.load(builder.bitcast(builder.gep(pointer, [place]), vector.as_pointer()), align=align)


def _fold(builder, vector, combine, lanes=1):
    """Upper half with lower half until so many lanes are left; one lane as a value."""
    count = vector.type.count
    while count > lanes:
        count //= 2
        unset = ir.Constant(vector.type, ir.Undefined)
        halves = [
            builder.shuffle_vector(
                vector, unset, ir.Constant(ir.VectorType(INDEX, count), list(range(start, start + count)))
            )
            for start in (0, count)
        ]
        vector = combine(*halves)
    return vector if lanes > 1 else builder.extract_element(vector, ir.Constant(INDEX, 0))


@intrinsic
def at(typing, array, place):
    """The element of a flat array at a place that is not negative.

    numba's own index may count from the end; finding out costs more than reading, and hides what could be vectors.
    """
    _check_flat(array)

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature, arguments, 0, arguments[1]))

    return array.dtype(array, types.int64), generate


@intrinsic
def byte_at(typing, address, place):
    """The byte so many places behind an address in memory."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        return builder.load(builder.gep(pointer, [arguments[1]]))

    return types.uint8(types.uint64, types.int64), generate


@intrinsic
def put(typing, array, place, value):
    """Write the element of a flat array at a place that is not negative."""
    _check_flat(array)

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _pointer(context, builder, signature, arguments, 0, arguments[1]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


@intrinsic
def put_lanes(typing, array, place, value):
    """Write the same value to LANES elements of a flat array from a place that is not negative."""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), LANES)
        pointer = _pointer(context, builder, signature, arguments, 0, arguments[1])
        spread = _spread(builder, arguments[2], vector)
        align = vector.element.get_abi_size(context.target_data)
        builder.store(spread, builder.bitcast(pointer, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


def _copying(count):
    @intrinsic
    def copy(typing, source, start, target, to):
        """Copy so many elements, source[start:] to target[to:]."""

        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), count)
            left, right = (
                _pointer(context, builder, signature, arguments, which, arguments[which + 1]) for which in (0, 2)
            )
            align = vector.element.get_abi_size(context.target_data)
            loaded = builder.load(builder.bitcast(left, vector.as_pointer()), align=align)
            builder.store(loaded, builder.bitcast(right, vector.as_pointer()), align=align)
            return context.get_dummy_value()

        return types.void(source, types.int64, target, types.int64), generate

    return copy


copy_4, copy_8, copy_16 = _copying(4), _copying(8), _copying(16)


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
        target, left, right = (
            _pointer(context, builder, signature, arguments, which, arguments[which + 1]) for which in (0, 2, 4)
        )
        sums = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(element, WORD), None))
        narrow = cgutils.alloca_once_value(builder, ir.Constant(ir.VectorType(element, LANES), None))
        last = cgutils.alloca_once_value(builder, ir.Constant(word, 0))

        def compared(place, size, total):
            """Adds the products of ``size`` lanes to ``total``; their comparisons as an integer of as many bits."""
            vector = ir.VectorType(element, size)
            value = builder.fmul(*(_load(context, builder, pointer, place, vector) for pointer in (left, right)))
            builder.store(builder.fadd(builder.load(total), value), total)
            return builder.bitcast(builder.fcmp_ordered(">", value, _spread(builder, pivot, vector)), ir.IntType(size))

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
        total = _fold(builder, builder.load(sums), builder.fadd, LANES)
        total = _fold(builder, builder.fadd(total, builder.load(narrow)), builder.fadd)
        return total if isinstance(element, ir.DoubleType) else builder.fpext(total, ir.DoubleType())

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
        left, right = (
            _pointer(context, builder, signature, arguments, which, arguments[which + 1]) for which in (0, 2)
        )
        whole = builder.and_(count, ir.Constant(count.type, -WORD))
        totals = []
        for size, start, stop in ((WORD, zero, whole), (LANES, whole, count)):
            vector, wide = ir.VectorType(element, size), ir.VectorType(ir.DoubleType(), size)
            total = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(count.type, size)) as (place, _):
                value = builder.fmul(*(_load(context, builder, pointer, place, vector) for pointer in (left, right)))
                value = value if isinstance(element, ir.DoubleType) else builder.fpext(value, wide)
                builder.store(builder.fadd(builder.load(total), value), total)
            totals.append(_fold(builder, builder.load(total), builder.fadd))
        return builder.fadd(*totals)

    return signature, generate


def _preceding(lane_count):
    @intrinsic
    def preceded(typing, values, base, start, count, least, most):
        """Whether what is ranked before values[base + start + k] sums to less than ``least``, and to less than ``most``.

        Two words, bit k < lane_count for each. values[base : base + count] are ranked from large to small, equal ones by place;
        sums are float64, in the order of places.
        """
        place = types.int64
        result = types.UniTuple(types.uint64, 2)
        signature = result(values, place, place, place, types.float64, types.float64)

        def generate(context, builder, signature, arguments):
            element = context.get_data_type(signature.args[0].dtype)
            vector, wide = ir.VectorType(element, lane_count), ir.VectorType(ir.DoubleType(), lane_count)
            _, _, start, count, *goals = arguments
            whole = ir.VectorType(INDEX, lane_count)
            zero, one = ir.Constant(count.type, 0), ir.Constant(count.type, 1)
            pointer = _pointer(context, builder, signature, arguments, 0, arguments[1])
            own = _load(context, builder, pointer, start, vector)
            lanes = _spread(builder, builder.trunc(start, INDEX), whole)
            lanes = builder.add(lanes, ir.Constant(whole, list(range(lane_count))))
            total = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
            with cgutils.for_range_slice(builder, zero, count, one) as (place, _):
                value = builder.load(builder.gep(pointer, [place]))
                others = _spread(builder, value, vector)
                tied = builder.and_(
                    builder.fcmp_ordered("==", others, own),
                    builder.icmp_signed("<", _spread(builder, builder.trunc(place, INDEX), whole), lanes),
                )
                before = builder.or_(builder.fcmp_ordered(">", others, own), tied)
                exact = value if isinstance(element, ir.DoubleType) else builder.fpext(value, ir.DoubleType())
                added = builder.select(before, _spread(builder, exact, wide), ir.Constant(wide, None))
                builder.store(builder.fadd(builder.load(total), added), total)
            words = []
            for goal in goals:
                below = builder.fcmp_ordered("<", builder.load(total), _spread(builder, goal, wide))
                words.append(builder.zext(builder.bitcast(below, ir.IntType(lane_count)), ir.IntType(WORD)))
            return context.make_tuple(builder, signature.return_type, words)

        return signature, generate

    return preceded


preceded_few, preceded = _preceding(FEW), _preceding(LANES)


def _compressed(builder, vector, mask):
    """The lanes whose bit of ``mask`` is set, moved to the front; zeros behind them."""
    count, width = vector.type.count, vector.type.element.width
    name = f"llvm.x86.avx512.mask.compress.v{count}i{width}"
    function = ir.FunctionType(vector.type, [vector.type, vector.type, mask.type])
    compress = cgutils.get_or_insert_function(builder.module, function, name)
    return builder.call(compress, [vector, ir.Constant(vector.type, None), mask])


def _bits(count):
    return ir.VectorType(ir.IntType(1), count)


@intrinsic
def placed(typing, words, first, count, places, to):
    """Write the places of the bits set in words[first : first + count] to places[to:], int32, ascending.

    Returns how many they are. Places beyond them are overwritten, fewer than WORD.
    """
    place = types.int64
    signature = types.int64(words, place, place, places, place)

    def generate(context, builder, signature, arguments):
        count = arguments[2]
        source = _pointer(context, builder, signature, arguments, 0, arguments[1])
        target = _pointer(context, builder, signature, arguments, 3, arguments[4])
        narrow, wide = ir.VectorType(ir.IntType(8), WORD), ir.VectorType(INDEX, LANES)
        base = cgutils.alloca_once_value(builder, ir.Constant(wide, [0] * LANES))
        total = cgutils.alloca_once_value(builder, ir.Constant(count.type, 0))
        with cgutils.for_range(builder, count) as loop:
            spot = builder.gep(source, [loop.index])
            mask = builder.load(builder.bitcast(spot, _bits(WORD).as_pointer()), align=8)
            spots = _compressed(builder, ir.Constant(narrow, list(range(WORD))), mask)
            taken = builder.ctpop(builder.load(spot))
            end = builder.gep(target, [builder.load(total)])

            def write(start, spots=spots, end=end):
                lanes = ir.Constant(ir.VectorType(INDEX, LANES), list(range(start, start + LANES)))
                value = builder.add(builder.zext(builder.shuffle_vector(spots, spots, lanes), wide), builder.load(base))
                here = builder.gep(end, [ir.Constant(ir.IntType(64), start)])
                builder.store(value, builder.bitcast(here, wide.as_pointer()), align=4)

            write(0)
            with builder.if_then(builder.icmp_unsigned(">", taken, ir.Constant(taken.type, LANES)), likely=False):
                for start in range(LANES, WORD, LANES):
                    write(start)
            builder.store(builder.add(builder.load(total), taken), total)
            builder.store(builder.add(builder.load(base), ir.Constant(wide, [WORD] * LANES)), base)
        return builder.load(total)

    return signature, generate


@intrinsic
def kept(typing, values, at, word, into, to):
    """Write values[at + k] for every bit k < LANES that is set to into[to:], in order; both are int32.

    LANES places of ``into`` are overwritten.
    """
    signature = types.void(values, types.int64, types.uint64, into, types.int64)

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(INDEX, LANES)
        source = _pointer(context, builder, signature, arguments, 0, arguments[1])
        target = _pointer(context, builder, signature, arguments, 3, arguments[4])
        loaded = builder.load(builder.bitcast(source, vector.as_pointer()), align=4)
        mask = builder.bitcast(builder.trunc(arguments[2], ir.IntType(LANES)), _bits(LANES))
        chosen = _compressed(builder, loaded, mask)
        builder.store(chosen, builder.bitcast(target, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, generate


def _summing(lane_count):
    @intrinsic
    def lane_sum(typing, values, start, count):
        """The sum of values[start : start + count], count ≤ lane_count, in float64; lane_count values are read."""
        signature = types.float64(values, types.int64, types.int64)

        def generate(context, builder, signature, arguments):
            element = context.get_data_type(signature.args[0].dtype)
            vector, wide = ir.VectorType(element, lane_count), ir.VectorType(ir.DoubleType(), lane_count)
            whole = ir.VectorType(INDEX, lane_count)
            pointer = _pointer(context, builder, signature, arguments, 0, arguments[1])
            value = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=vector.element.get_abi_size(context.target_data))
            value = value if isinstance(element, ir.DoubleType) else builder.fpext(value, wide)
            lanes = ir.Constant(whole, list(range(lane_count)))
            inside = builder.icmp_signed("<", lanes, _spread(builder, builder.trunc(arguments[2], INDEX), whole))
            return _fold(builder, builder.select(inside, value, ir.Constant(wide, None)), builder.fadd)

        return signature, generate

    return lane_sum


few_sum, lane_sum = _summing(FEW), _summing(LANES)


@intrinsic
def marked(typing, marks, start):
    """Bit k of the word says whether the byte marks[start + k] is other than 0, k < WORD."""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.IntType(8), WORD)
        pointer = _pointer(context, builder, signature, arguments, 0, arguments[1])
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_unsigned("!=", loaded, ir.Constant(vector, None)), ir.IntType(WORD))

    return types.uint64(marks, types.int64), generate


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
def take(typing, counters, place, amount):
    """Add to counters[place] in one indivisible step; returns what it held before."""
    signature = types.int64(counters, types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature, arguments, 0, arguments[1])
        return builder.atomic_rmw("add", pointer, arguments[2], "monotonic")

    return signature, generate
