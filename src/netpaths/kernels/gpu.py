"""The selection in Triton, for CUDA tensors; importing this module imports Triton.

The same answer as `netpaths.kernels.reference`. A program holds the receptive fields of a few active outputs:

1. Products are rounded in float32 and held as integers that order like them; sums are taken in float64.
2. Bisection finds the smallest chosen product: what is at least as large as the middle reaches the goal or does not,
   and the search goes on from the next product that exists on that side.
3. Counts become offsets, and a second pass takes the products again and writes what is chosen, in ascending order.

Other questions, other types than float32 and fields above LONGEST are answered by `netpaths.kernels.reference`.
Memory beyond the answer is 8 bytes for every active output, 4 for every place and kernel element of the layer, and a
copy of the inputs, outputs or weights where they are not contiguous, and of the inputs of a 1 × 1 convolution.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from netpaths.kernels import reference
from netpaths.kernels.problem import Chosen, Problem, area
from netpaths.kernels.reference import largest, operands, weights

__all__ = ["largest", "operands", "select", "weights"]

LONGEST = 32768
"""Elements of the largest receptive field that a program holds in registers."""

HELD = 8192
"""Products that a program holds, if one field has no more."""

WARP = 512
"""Products held by the 32 threads of a warp; more would leave too few warps beside each other."""

MOST_WARPS = 32
"""Warps of the largest program."""

NONE = tl.constexpr(-(2**31))
"""Orders before every product: padding."""

ALL = tl.constexpr(2**31 - 1)
"""Orders after every product."""

SIZES = ("n", "places", "outputs", "outs_per_group", "batch_stride", "group_stride")
"""Arguments whose values are not worth a compiled kernel of their own."""


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output."""
    if problem.inputs.dtype != torch.float32 or problem.field_size > LONGEST:
        return reference.select(problem)
    with torch.cuda.device_of(problem.inputs):
        return _select(problem)


def _select(problem: Problem) -> Chosen:
    kernel = problem.rows.shape[1] * problem.cols.shape[1]
    memory = torch.channels_last if kernel == 1 else torch.contiguous_format  # a field's elements side by side
    inputs = problem.inputs.detach().contiguous(memory_format=memory)
    active = problem.active.reshape(-1).nonzero()[:, 0].contiguous()
    layer = _layer(problem, inputs, active)
    options = _options(problem.field_size, kernel)
    grid = (triton.cdiv(len(active), options["ROWS"]),)

    borders, copies = active.new_empty((2, len(active)), dtype=torch.int32)
    offsets = active.new_zeros(len(active) + 1)
    theta = torch.full((1,), problem.theta, dtype=torch.float64, device=active.device)  # a float would become float32
    _search[grid](*layer, borders, copies, offsets, theta, COVERS_VALUE=problem.covers_value, **options)
    offsets.cumsum_(0)

    synapses = active.new_empty(int(offsets[-1]))
    values = inputs.new_empty(len(synapses)) if problem.amounts else None
    reached = torch.zeros_like(inputs, dtype=torch.uint8)
    _write[grid](*layer, borders, copies, offsets, synapses, values, reached, **options)
    shape = (len(inputs), area(problem.active.shape), problem.field_size)
    return Chosen(shape, active, offsets, synapses, (reached.view(torch.bool).contiguous(),), values)


def _layer(problem: Problem, inputs: torch.Tensor, active: torch.Tensor) -> tuple[Any, ...]:
    """What both kernels are told first."""
    weight = problem.weight
    flags = problem.reversed
    batch_stride, channel_stride, *_ = inputs.stride()
    outputs = area(problem.active.shape)
    return (
        inputs,
        None if weight is None else weight.detach().to(inputs.dtype).contiguous(),
        _corners(problem, inputs),
        active,
        problem.output.detach().contiguous(),
        None if flags is None else flags.contiguous().view(torch.uint8),
        len(active),
        len(problem.rows) * len(problem.cols),
        outputs,
        problem.active.shape[1] // problem.groups,
        batch_stride,
        channel_stride * problem.channels_per_group,
        channel_stride,
        problem.field_size,
    )


def _corners(problem: Problem, inputs: torch.Tensor) -> torch.Tensor:
    """Where each place's field stands within a channel, -1 for padding: (kernel, places) int32."""
    rows, cols = problem.rows.T[:, None, :, None], problem.cols.T[None, :, None, :]
    place = rows * inputs.stride(2) + cols * inputs.stride(3)
    return torch.where((rows < 0) | (cols < 0), -1, place).to(torch.int32).contiguous()


def _options(size: int, kernel: int) -> dict[str, int | bool]:
    """How programs are cut for fields of ``size``; fusion would leave products unrounded.

    Neighbouring threads take neighbouring outputs, which read neighbouring inputs. Where the field itself is a row of
    memory they share one, and a program needs no more fields than fill a warp.
    """
    block = triton.next_power_of_2(size)
    rows = max(1, min(32, (WARP if kernel == 1 else HELD) // block))
    return {
        "KERNEL": kernel,
        "ROWS": rows,
        "BLOCK": block,
        "num_warps": min(MOST_WARPS, max(1, rows * block // WARP)),
        "enable_fp_fusion": False,
    }


@triton.jit
def _owners(active, n, ROWS: tl.constexpr):
    """The program's rows, whether they exist, and their flat outputs: (ROWS,) each."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = row < n
    return row, exists, tl.load(active + row, mask=exists, other=0)


@triton.jit
def _negated(owner, output, flags):
    """The outputs' values, and whether their contributions are negated: (ROWS,) each."""
    own = tl.load(output + owner)
    negate = own < 0
    if flags is not None:
        negate = negate ^ (tl.load(flags + owner) != 0)
    return own, negate


@triton.jit
def _products(
    owner,
    exists,
    negate,
    inputs,
    weight,
    corners,
    places,
    outputs,
    outs_per_group,
    batch_stride,
    group_stride,
    channel_stride,
    size,
    KERNEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Contributions as integers that order like them, NONE for padding, and which inputs they read.

    Returns int32 keys, (BLOCK, ROWS); where each row's channels start, (ROWS,) int64; and the places from there, int32,
    (BLOCK, ROWS).
    """
    within = (owner % outputs).to(tl.int32)
    place = within % places
    out = within // places
    start = owner // outputs * batch_stride + out // outs_per_group * group_stride
    position = tl.arange(0, BLOCK)[:, None]
    inside = exists[None, :] & (position < size)
    corner = tl.load((corners + place)[None, :] + position % KERNEL * places, mask=inside, other=-1)
    valid = corner >= 0
    source = position // KERNEL * channel_stride + corner
    product = tl.load((inputs + start)[None, :] + source, mask=valid, other=0.0)
    if weight is not None:
        product = product * tl.load((weight + out.to(tl.int64) * size)[None, :] + position, mask=valid, other=0.0)
    product = tl.where(negate[None, :], -product, product)
    bits = product.to(tl.int32, bitcast=True)
    key = tl.where(product == 0, 0, bits ^ ((bits >> 31) & 0x7FFFFFFF))
    return tl.where(valid, key, NONE), start, source


@triton.jit
def _values(keys):
    """The float32 contributions that ``keys`` stand for."""
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _sums(keys, chosen):
    """The sums of each row's ``chosen`` contributions: (BLOCK, ROWS) to (ROWS,) float64."""
    return tl.sum(_values(tl.where(chosen, keys, 0)).to(tl.float64), 0)


@triton.jit
def _border(keys, low, high, goal):
    """The largest key down to which a row's contributions sum to ``goal``; both bounds are keys of the row."""
    while tl.max((low < high).to(tl.int32), 0) > 0:
        middle = low + ((high - low + 1) >> 1)
        upper = keys >= middle[None, :]
        enough = _sums(keys, upper) >= goal
        above = tl.min(tl.where(upper, keys, ALL), 0)
        below = tl.max(tl.where(upper, NONE, keys), 0)
        searching = low < high
        low = tl.where(searching & enough, above, low)
        high = tl.where(searching & (enough == 0), below, high)
    return low


@triton.jit
def _copies(keys, border, goal):
    """How many contributions equal to ``border`` a row needs to reach ``goal``: (ROWS,) int32, at least 1."""
    before = _sums(keys, keys > border[None, :])
    value = _values(tl.maximum(border, 1)).to(tl.float64)
    most = tl.sum((keys == border[None, :]).to(tl.int32), 0).to(tl.float64)
    needed = tl.ceil((goal - before) / value)
    needed = tl.where(needed > 1, needed, 1.0)  # also where infinite sums make it no number
    return tl.where(needed < most, needed, most).to(tl.int32)


@triton.jit(do_not_specialize=SIZES)
def _search(
    inputs,
    weight,
    corners,
    active,
    output,
    flags,
    n,
    places,
    outputs,
    outs_per_group,
    batch_stride,
    group_stride,
    channel_stride,
    size,
    borders,
    copies,
    offsets,
    theta,
    COVERS_VALUE: tl.constexpr,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every row's smallest chosen key, how many equal ones are chosen, and in offsets[1:] how many in all."""
    row, exists, owner = _owners(active, n, ROWS)
    own, negate = _negated(owner, output, flags)
    keys, _, _ = _products(
        owner,
        exists,
        negate,
        inputs,
        weight,
        corners,
        places,
        outputs,
        outs_per_group,
        batch_stride,
        group_stride,
        channel_stride,
        size,
        KERNEL,
        BLOCK,
    )
    valid = keys > NONE
    total = _sums(keys, valid)
    many = tl.sum(valid.to(tl.int32), 0)
    share = tl.load(theta)
    target = total
    if COVERS_VALUE:
        target = tl.where(negate, -own, own).to(tl.float64)
    goal = share * target
    alone = (total <= 0) | (share * many.to(tl.float64) <= 1)
    enough = (alone == 0) & (_sums(keys, keys > 0) >= goal)

    best = tl.max(keys, 0)
    least = tl.min(tl.where(keys > 0, keys, ALL), 0)
    border = _border(keys, tl.where(enough, least, best), best, goal)
    border = tl.where(enough | alone, border, 0)
    equal = tl.where(enough, _copies(keys, border, goal), (alone & (many > 0)).to(tl.int32))
    count = tl.sum((keys > border[None, :]).to(tl.int32), 0) + equal
    tl.store(borders + row, border, mask=exists)
    tl.store(copies + row, equal, mask=exists)
    tl.store(offsets + 1 + row, count.to(tl.int64), mask=exists)


@triton.jit(do_not_specialize=SIZES)
def _write(
    inputs,
    weight,
    corners,
    active,
    output,
    flags,
    n,
    places,
    outputs,
    outs_per_group,
    batch_stride,
    group_stride,
    channel_stride,
    size,
    borders,
    copies,
    offsets,
    synapses,
    values,
    reached,
    KERNEL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write every row's chosen positions in ascending order, and mark what they read."""
    row, exists, owner = _owners(active, n, ROWS)
    _, negate = _negated(owner, output, flags)
    keys, start, source = _products(
        owner,
        exists,
        negate,
        inputs,
        weight,
        corners,
        places,
        outputs,
        outs_per_group,
        batch_stride,
        group_stride,
        channel_stride,
        size,
        KERNEL,
        BLOCK,
    )
    border = tl.load(borders + row, mask=exists, other=ALL)[None, :]
    equal = tl.load(copies + row, mask=exists, other=0)[None, :]
    tied = keys == border
    chosen = (keys > border) | (tied & (tl.cumsum(tied.to(tl.int32), 0) <= equal))
    rank = tl.cumsum(chosen.to(tl.int32), 0) - 1
    to = tl.load(offsets + row, mask=exists, other=0)
    first = owner % outputs * size
    tl.store((synapses + to)[None, :] + rank, first[None, :] + tl.arange(0, BLOCK)[:, None], mask=chosen)
    tl.store((reached + start)[None, :] + source, 1, mask=chosen)
    if values is not None:
        tl.store((values + to)[None, :] + rank, _values(keys), mask=chosen)
