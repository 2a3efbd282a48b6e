"""One spelling for one operation: what exported graphs write in several ways is brought to one here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from netpaths.errors import UnsupportedOperation

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
    aten.slice.Tensor: _whole,
}
"""Operations whose value is their first argument, and when."""


def pieces(whole: fx.Node, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """One of an operation's several results as an operation of its own: target and arguments."""
    target = whole.target
    name = getattr(getattr(target, "overloadpacket", None), "__name__", str(target))
    source = args[0]
    if name in ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"):
        dim = int(kwargs.get("dim", args[2] if len(args) > 2 else 0))
        sizes = [int(piece.shape[dim]) for piece in whole.meta["val"]]
        start = sum(sizes[:index])
        return aten.slice.Tensor, (source, dim, start, start + sizes[index])
    if name in ("unbind",):
        return aten.select.int, (source, int(kwargs.get("dim", args[1] if len(args) > 1 else 0)), index)
    if index == 0 and name == "_native_batch_norm_legit_no_training":
        x, weight, bias, mean, variance, momentum, eps = args
        return aten.batch_norm.default, (x, weight, bias, mean, variance, False, momentum, eps, False)
    if index == 0 and name == "native_layer_norm":
        return aten.layer_norm.default, (*args[:4], args[4])
    if index == 0 and name in ("max", "min") and len(args) > 1:
        return (aten.amax if name == "max" else aten.amin).default, (source, [args[1]], *args[2:])
    if index == 0 and name == "max_pool2d_with_indices":
        return aten.max_pool2d.default, args
    raise UnsupportedOperation(f"{name} returns several tensors")


def _squeezed(write: Rewriter, x: fx.Node, *_: Any) -> fx.Node:
    """Squeeze without axes also takes a batch of one; its axes are known."""
    ones = [axis for axis, size in enumerate(x.meta["val"].shape) if isinstance(size, int) and size == 1]
    return write.call(aten.squeeze.dims, x, ones)


def _matmul(write: Rewriter, x: fx.Node, other: fx.Node) -> fx.Node:
    """A product with a constant matrix is a linear layer."""
    weight = write.held(other)
    if weight is not None and weight.dim() == 2:
        return write.call(aten.linear.default, x, write.constant(weight.detach().t().contiguous()))
    return write.call(aten.matmul.default, x, other)


def _addmm(write: Rewriter, bias: fx.Node, x: fx.Node, other: fx.Node, beta: float = 1, alpha: float = 1) -> fx.Node:
    weight, added = write.held(other), write.held(bias)
    if weight is None or added is None or added.dim() != 1:
        return write.call(aten.addmm.default, bias, x, other, beta=beta, alpha=alpha)
    matrix = write.constant((weight.detach().t() * alpha).contiguous())
    return write.call(aten.linear.default, x, matrix, write.constant(added.detach() * beta))


def _reversed_difference(write: Rewriter, x: fx.Node, other: Any, alpha: float = 1) -> fx.Node:
    return write.call(aten.sub.Tensor, other, x) if alpha == 1 else write.call(aten.rsub.Tensor, x, other, alpha)


def _reshaped(write: Rewriter, x: fx.Node, shape: Any) -> fx.Node:
    """Copies of layout are gone, so that a view may have to copy; one that joins the last axes names no sizes."""
    before, after = (tuple(map(str, node.meta["val"].shape)) for node in (x, write.node))
    kept = len(after) - 1
    if 0 < kept < len(before) - 1 and before[:kept] == after[:kept]:
        return write.call(aten.flatten.using_ints, x, kept, -1)
    return write.call(aten.reshape.default, x, shape)


CANONICAL: Mapping[Any, Callable[..., fx.Node]] = {
    aten.squeeze.default: _squeezed,
    aten.view.default: _reshaped,
    aten._unsafe_view.default: _reshaped,
    aten.reshape.default: _reshaped,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.rsub.Tensor: _reversed_difference,
    aten.rsub.Scalar: _reversed_difference,
}
"""Operations that are written as others."""
