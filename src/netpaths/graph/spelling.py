"""One spelling for one operation: what exported graphs write in several ways is brought to one here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx

from netpaths.graph import einsum

if TYPE_CHECKING:
    from netpaths.graph.exporting import Rewriter

aten = torch.ops.aten


def _always(node: fx.Node) -> bool:
    return True


def _same_kind(node: fx.Node) -> bool:
    """A conversion that changes neither type nor device."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return False
    before, after = source.meta["val"], node.meta["val"]
    return bool(before.dtype == after.dtype and before.device == after.device)


def _same_shape(node: fx.Node) -> bool:
    source = node.args[0]
    return isinstance(source, fx.Node) and tuple(map(str, source.meta["val"].shape)) == tuple(
        map(str, node.meta["val"].shape)
    )


def _whole(node: fx.Node) -> bool:
    """A slice that takes everything."""
    return _same_shape(node) and bool(len(node.args) < 5 or node.args[4] == 1)


IDENTITIES: Mapping[Any, Callable[[fx.Node], bool]] = {
    aten.clone.default: _always,
    aten.alias.default: _always,
    aten.detach.default: _always,
    aten.detach_.default: _always,
    aten.contiguous.default: _always,
    aten.lift_fresh_copy.default: _always,
    aten.to.dtype: _same_kind,
    aten.to.dtype_layout: _same_kind,
    aten.to.device: _same_kind,
    aten.to.other: _same_kind,
    aten._to_copy.default: _same_kind,
    aten.type_as.default: _same_kind,
    aten.view.default: _same_shape,
    aten._unsafe_view.default: _same_shape,
    aten.reshape.default: _same_shape,
    aten.expand.default: _same_shape,
    aten.expand_as.default: _same_shape,
    aten.reshape_as.default: _same_shape,
    aten.view_as.default: _same_shape,
    aten.slice.Tensor: _whole,
}
"""Operations whose value is their first argument, and when."""


FILLED: Mapping[Any, Callable[[fx.Node], Any]] = {
    aten.zeros_like.default: lambda node: 0,
    aten.new_zeros.default: lambda node: 0,
    aten.empty_like.default: lambda node: 0,
    aten.new_empty.default: lambda node: 0,
    aten.ones_like.default: lambda node: 1,
    aten.new_ones.default: lambda node: 1,
    aten.full_like.default: lambda node: _number(node.args[1]),
    aten.new_full.default: lambda node: _number(node.args[2]),
    aten.fill.Scalar: lambda node: _number(node.args[1]),
}
"""Operations that read a tensor for its shape alone, and the number they fill it with; None where that is no number."""


def _number(value: Any) -> Any:
    return None if isinstance(value, fx.Node) else value


def adaptive_max_pool1d(input: torch.Tensor, output_size: list[int]) -> torch.Tensor:
    """The maxima without their places: (batch, channels, length) to (batch, channels, *output_size)."""
    found: torch.Tensor = F.adaptive_max_pool1d(input, output_size)
    return found


def adaptive_max_pool2d(input: torch.Tensor, output_size: list[int]) -> torch.Tensor:
    """The maxima without their places: (batch, channels, height, width) to (batch, channels, *output_size)."""
    found: torch.Tensor = F.adaptive_max_pool2d(input, output_size)
    return found


def adaptive_max_pool3d(input: torch.Tensor, output_size: list[int]) -> torch.Tensor:
    """The maxima without their places: (batch, channels, depth, height, width) to (batch, channels, *output_size)."""
    found: torch.Tensor = F.adaptive_max_pool3d(input, output_size)
    return found


ALONE: Mapping[str, Any] = {
    "max_pool1d_with_indices": aten.max_pool1d.default,
    "max_pool2d_with_indices": aten.max_pool2d.default,
    "max_pool3d_with_indices": aten.max_pool3d.default,
    "adaptive_max_pool1d": adaptive_max_pool1d,
    "adaptive_max_pool2d": adaptive_max_pool2d,
    "adaptive_max_pool3d": adaptive_max_pool3d,
}
"""Operations that return the places of what they choose as well, and what returns the values alone."""


def pieces(
    whole: fx.Node, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, tuple[Any, ...]] | None:
    """One of an operation's several results as an operation of its own: target and arguments; None where it is none."""
    target = whole.target
    name = getattr(getattr(target, "overloadpacket", None), "__name__", str(target))
    source = args[0]
    if name in ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"):
        dim = int(kwargs.get("dim", args[2] if len(args) > 2 else 0))
        sizes = [int(piece.shape[dim]) for piece in whole.meta["val"]]
        start = sum(sizes[:index])
        return aten.slice.Tensor, (source, dim, start, start + sizes[index])
    if name == "unbind":
        return aten.select.int, (source, int(kwargs.get("dim", args[1] if len(args) > 1 else 0)), index)
    if name in ("var_mean", "std_mean"):
        axes = args[1] if len(args) > 1 else kwargs.get("dim")
        keep = args[3] if len(args) > 3 else kwargs.get("keepdim", False)
        if index == 1:
            return aten.mean.dim, (source, axes, keep)
        return None
    if index:
        return None
    if name == "_native_batch_norm_legit_no_training":
        x, weight, bias, mean, variance, momentum, eps = args
        return aten.batch_norm.default, (x, weight, bias, mean, variance, False, momentum, eps, False)
    if name == "native_layer_norm":
        return aten.layer_norm.default, (*args[:4], args[4])
    if name == "native_group_norm":
        x, weight, bias, _, _, _, groups, eps = args
        return aten.group_norm.default, (x, groups, weight, bias, eps)
    if name in ("max", "min") and len(args) > 1:
        return (aten.amax if name == "max" else aten.amin).default, (source, [args[1]], *args[2:])
    return (ALONE[name], args[:2] if name.startswith("adaptive") else args) if name in ALONE else None


def _squeezed(write: Rewriter, x: fx.Node, *_: Any) -> fx.Node:
    """Squeeze without axes also takes a batch of one; its axes are known."""
    ones = [axis for axis, size in enumerate(x.meta["val"].shape) if isinstance(size, int) and size == 1]
    return write.call(aten.squeeze.dims, x, ones)


def _matmul(write: Rewriter, x: fx.Node, other: fx.Node) -> fx.Node:
    """A product with a constant matrix is a linear layer."""
    weight = write.held(other)
    if weight is not None and weight.dim() == 2:
        return write.call(aten.linear.default, x, write.constant(weight.detach().t().contiguous()))
    return write.last(aten.matmul.default, x, other)


def _addmm(write: Rewriter, bias: fx.Node, x: fx.Node, other: fx.Node, beta: float = 1, alpha: float = 1) -> fx.Node:
    weight, added = write.held(other), write.held(bias)
    if weight is None or added is None or added.dim() != 1:
        product = write.step(aten.matmul.default, x, other)
        if alpha != 1:
            product = write.step(aten.mul.Tensor, product, alpha)
        return write.call(aten.add.Tensor, product, bias if beta == 1 else write.step(aten.mul.Tensor, bias, beta))
    matrix = write.constant((weight.detach().t() * alpha).contiguous())
    return write.call(aten.linear.default, x, matrix, write.constant(added.detach() * beta))


def _spread(write: Rewriter, x: Any) -> Any:
    """An activation as large as the node's value."""
    wanted = write.node.meta["val"].shape
    if not isinstance(x, fx.Node) or tuple(map(str, x.meta["val"].shape)) == tuple(map(str, wanted)):
        return x
    return write.step(aten.expand.default, x, write.sizes())


def _two(target: Any) -> Callable[..., fx.Node]:
    """An operation on two operands: a single activation is copied first where a constant is larger."""

    def change(write: Rewriter, x: Any, other: Any, **options: Any) -> fx.Node:
        active = [isinstance(operand, fx.Node) and write.held(operand) is None for operand in (x, other)]
        ranks = {operand.meta["val"].dim() for operand in (x, other) if isinstance(operand, fx.Node)}
        if sum(active) == 1 or len(ranks) > 1:
            x, other = (_spread(write, own) if activated else own for own, activated in zip((x, other), active))
        alpha = options.pop("alpha", 1)
        if alpha != 1:
            other = other * alpha if not isinstance(other, fx.Node) else write.step(aten.mul.Tensor, other, alpha)
        return write.last(target, x, other, **options)

    return change


def _reversed_difference(write: Rewriter, x: fx.Node, other: Any, alpha: float = 1) -> fx.Node:
    return write.call(aten.sub.Tensor, other, x if alpha == 1 else write.step(aten.mul.Tensor, x, alpha))


def _reshaped(write: Rewriter, x: fx.Node, shape: Any) -> fx.Node:
    """Copies of layout are gone, so that a view may have to copy; one that joins the last axes names no sizes."""
    before, after = (tuple(map(str, node.meta["val"].shape)) for node in (x, write.node))
    kept = len(after) - 1
    if 0 < kept < len(before) - 1 and before[:kept] == after[:kept]:
        return write.call(aten.flatten.using_ints, x, kept, -1)
    return write.last(aten.reshape.default, x, shape)


def _as_node(target: Any) -> Callable[..., fx.Node]:
    """A change of shape to that of another tensor, which is read for nothing else."""
    return lambda write, x, *_, **__: write.last(target, x, write.sizes())


def _added_product(write: Rewriter, x: Any, first: Any, second: Any, value: float = 1) -> fx.Node:
    return _added(write, x, write.step(aten.mul.Tensor, first, second), value)


def _added_quotient(write: Rewriter, x: Any, first: Any, second: Any, value: float = 1) -> fx.Node:
    return _added(write, x, write.step(aten.div.Tensor, first, second), value)


def _added(write: Rewriter, x: Any, other: fx.Node, value: float) -> fx.Node:
    return write.call(aten.add.Tensor, x, other if value == 1 else write.step(aten.mul.Tensor, other, value))


def _between(write: Rewriter, first: Any, second: Any, weight: Any) -> fx.Node:
    """From the first to the second by a share."""
    apart = write.step(aten.sub.Tensor, second, first)
    return write.call(aten.add.Tensor, first, write.step(aten.mul.Tensor, apart, weight))


def _gated_unit(write: Rewriter, x: fx.Node, dim: int = -1) -> fx.Node:
    half = int(x.meta["val"].shape[dim]) // 2
    kept, gate = (write.step(aten.slice.Tensor, x, dim, start, start + half) for start in (0, half))
    return write.call(aten.mul.Tensor, kept, write.step(aten.sigmoid.default, gate))


def _smallest(write: Rewriter, x: fx.Node, *args: Any, **kwargs: Any) -> fx.Node:
    """The smallest is the largest of the negated."""
    return write.last(aten.neg.default, write.step(aten.amax.default, write.step(aten.neg.default, x), *args, **kwargs))


def _smaller(write: Rewriter, x: Any, other: Any) -> fx.Node:
    first, second = (_negated(write, operand) for operand in (x, other))
    return write.last(aten.neg.default, write.step(aten.maximum.default, first, second))


def _negated(write: Rewriter, x: Any) -> Any:
    held = write.held(x)
    return write.step(aten.neg.default, x) if held is None else write.constant(-held.detach())


def _interpolated(write: Rewriter, x: fx.Node, size: Any, *options: Any) -> fx.Node:
    """Interpolation with its output size and scales written out, one for each axis."""
    target = write.node.target.overloadpacket.default  # type: ignore[union-attr]
    value, axes = write.node.meta["val"], write.node.meta["val"].dim() - 2
    scales = options[-1]
    corners = options[:-1]
    each = [None] * axes if scales is None else list(scales)
    return write.last(target, x, [int(length) for length in value.shape[2:]], *corners, *each)


def _filled(write: Rewriter, *args: Any, **kwargs: Any) -> fx.Node:
    number = FILLED[write.node.target](write.node)
    if number is None:
        return write.last(write.node.target, *args, **kwargs)  # type: ignore[arg-type]
    return write.filled(number)


CANONICAL: Mapping[Any, Callable[..., fx.Node]] = {
    aten.squeeze.default: _squeezed,
    aten.view.default: _reshaped,
    aten._unsafe_view.default: _reshaped,
    aten.reshape.default: _reshaped,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.rsub.Tensor: _reversed_difference,
    aten.rsub.Scalar: _reversed_difference,
    aten.add.Tensor: _two(aten.add.Tensor),
    aten.sub.Tensor: _two(aten.sub.Tensor),
    aten.mul.Tensor: _two(aten.mul.Tensor),
    aten.div.Tensor: _two(aten.div.Tensor),
    aten.maximum.default: _two(aten.maximum.default),
    aten.max.other: _two(aten.maximum.default),
    aten.minimum.default: _smaller,
    aten.min.other: _smaller,
    aten.clamp_min.Tensor: _two(aten.maximum.default),
    aten.clamp_max.Tensor: _smaller,
    aten.amin.default: _smallest,
    aten.addcmul.default: _added_product,
    aten.addcdiv.default: _added_quotient,
    aten.lerp.Scalar: _between,
    aten.lerp.Tensor: _between,
    aten.einsum.default: lambda write, equation, operands, **_: einsum.written(write, equation, operands),
    aten.glu.default: _gated_unit,
    aten.expand_as.default: _as_node(aten.expand.default),
    aten.reshape_as.default: _as_node(aten.reshape.default),
    aten.view_as.default: _as_node(aten.reshape.default),
    aten.copy.default: lambda write, x, source, *_: write.last(aten.expand.default, source, write.sizes()),
    aten.upsample_linear1d.vec: _interpolated,
    aten.upsample_bilinear2d.vec: _interpolated,
    aten.upsample_trilinear3d.vec: _interpolated,
    aten.upsample_bicubic2d.vec: _interpolated,
    aten._upsample_bilinear2d_aa.vec: _interpolated,
    aten._upsample_bicubic2d_aa.vec: _interpolated,
    **dict.fromkeys(FILLED, _filled),
}
"""Operations that are written as others."""
