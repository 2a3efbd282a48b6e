"""Fold a batch norm into the convolution or linear layer whose only reader it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import fusion

from netpaths.graph.module import Canonical
from netpaths.graph.naming import node_name, operation_of

FOLDED_INTO = ("conv1d", "conv2d", "conv3d", "linear")
"""Operations with a filter for every channel that a norm scales."""


def fold_batch_norms(module: Canonical) -> dict[str, str]:
    """Fold every batch norm into the layer whose only reader it is: the names of the norms by those of their layers."""
    folded: dict[str, str] = {}
    for norm in list(module.graph.nodes):
        layer = norm.args[0] if operation_of(norm) == "batch_norm" else None
        if isinstance(layer, fx.Node) and _foldable(norm, layer):
            _fold(module, norm, layer)
            folded[node_name(norm)] = node_name(layer)
    module.graph.eliminate_dead_code()
    module.recompile()
    return folded


def _foldable(norm: fx.Node, layer: fx.Node) -> bool:
    """Whether all tensors of a norm and of the layer in front of it are constants, and nothing else reads the layer."""
    operation = operation_of(layer)
    if operation not in FOLDED_INTO or len(layer.users) != 1 or norm.args[5]:
        return False
    tensors = [source for source in (*norm.args[1:5], *layer.args[1:3]) if isinstance(source, fx.Node)]
    plain = operation != "linear" or len(layer.meta["val"].shape) == 2
    return plain and None not in norm.args[3:5] and all(source.op == "get_attr" for source in tensors)


def _fold(module: Canonical, norm: fx.Node, layer: fx.Node) -> None:
    """Exchange the layer's weight and bias and take the norm out."""
    scale, shift, mean, variance, weight, *rest = (_held(source) for source in (*norm.args[1:5], *layer.args[1:3]))
    fuse: Any = fusion.fuse_linear_bn_weights if operation_of(layer) == "linear" else fusion.fuse_conv_bn_weights
    scale = torch.ones_like(mean) if scale is None else scale
    shift = torch.zeros_like(mean) if shift is None else shift
    with torch.no_grad():
        fused = fuse(weight, rest[0] if rest else None, mean, variance, norm.args[7], scale, shift)
    with module.graph.inserting_before(layer):
        made = [
            module.hold(f"folded.{layer.name}.{word}", nn.Parameter(value.detach(), weight.requires_grad))
            for word, value in zip(("weight", "bias"), fused)
        ]
    layer.args = (layer.args[0], *made, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)


def _held(source: Any) -> Any:
    """The tensor that an argument stands for."""
    return source.meta["val"] if isinstance(source, fx.Node) else source
