"""What the vector instructions share: their widths, pointers into arrays, lanes to and from memory."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target

LANES = 16
"""Products computed at once; receptive fields and weights come in rows of a multiple of it."""

FEW = 8
"""Candidates ranked at once: most outputs have no more."""

WORD = 64
"""Comparisons made at once, one bit each."""

HOT = {"cache": True, "nogil": True, "forceinline": True, "_nrt": False}
"""For inner functions: no counting of references, whose atomic steps cost more than the work."""

INDEX = ir.IntType(32)

COMPRESSES = "+avx512vbmi2" in cpu_target.target_context.codegen().magic_tuple()[2]
"""Whether the processor moves chosen lanes together in one instruction: only then `placed` and `kept` are compiled."""


def check_flat(array):
    """Raise TypingError for an array whose elements do not stand one behind the other."""
    if array.ndim != 1 or array.layout != "C":
        raise TypingError("takes a flat, contiguous array")


def pointer(context, builder, signature, arguments, which, index):
    """Where an element of the array stands that is argument ``which``."""
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    return builder.gep(array.data, [index])


def spread(builder, scalar, vector):
    """The scalar in every lane."""
    unset = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(INDEX, vector.count), None))


def numbers(first, count):
    """The lanes first, first + 1 and so on, int32."""
    return ir.Constant(ir.VectorType(INDEX, count), list(range(first, first + count)))


def load(context, builder, start, vector):
    """Lanes from a pointer to their first element, at any address."""
    align = vector.element.get_abi_size(context.target_data)
    return builder.load(builder.bitcast(start, vector.as_pointer()), align=align)


def store(context, builder, value, start):
    """Lanes to a pointer to their first element, at any address."""
    align = value.type.element.get_abi_size(context.target_data)
    return builder.store(value, builder.bitcast(start, value.type.as_pointer()), align=align)


def widened(builder, value):
    """A float or lanes of them in float64."""
    kind = value.type
    vector = isinstance(kind, ir.VectorType)
    if isinstance(kind.element if vector else kind, ir.DoubleType):
        return value
    return builder.fpext(value, ir.VectorType(ir.DoubleType(), kind.count) if vector else ir.DoubleType())


def fold(builder, vector, lanes=1):
    """The sum of upper half and lower half until so many lanes are left; one lane as a value."""
    count = vector.type.count
    while count > lanes:
        count //= 2
        unset = ir.Constant(vector.type, ir.Undefined)
        vector = builder.fadd(*(builder.shuffle_vector(vector, unset, numbers(start, count)) for start in (0, count)))
    return vector if lanes > 1 else builder.extract_element(vector, ir.Constant(INDEX, 0))


def bits(count):
    """The type of so many truth values."""
    return ir.VectorType(ir.IntType(1), count)


def compressed(builder, vector, mask):
    """The lanes whose bit of ``mask`` is set, moved to the front; zeros behind them."""
    count, width = vector.type.count, vector.type.element.width
    name = f"llvm.x86.avx512.mask.compress.v{count}i{width}"
    function = ir.FunctionType(vector.type, [vector.type, vector.type, mask.type])
    compress = cgutils.get_or_insert_function(builder.module, function, name)
    return builder.call(compress, [vector, ir.Constant(vector.type, None), mask])
