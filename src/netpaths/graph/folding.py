"""Fold a batch norm into the convolution or linear layer whose only reader it is."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from netpaths.graph.copying import shared_tensors

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


def fold_batch_norms(module: fx.GraphModule) -> dict[str, str]:
    """Fold every batch norm that can be folded, in place in the traced copy.

    Returns a mapping from the folded norm's node name to the layer's. Weights become new tensors; the user's model
    keeps its own.
    """
    folded = {}
    for norm in list(module.graph.nodes):
        statistics = _statistics(module, norm)
        layer = norm.args[0] if statistics and norm.args else None
        if statistics is None or not isinstance(layer, fx.Node) or len(layer.users) != 1:
            continue
        owner = _leaf(module, layer, LAYERS)
        if owner is None:
            continue
        name = f"folded_{layer.name}"
        module.add_submodule(name, _fuse(owner, statistics))
        layer.target = name
        norm.replace_all_uses_with(layer)
        folded[norm.name] = layer.name
        module.graph.erase_node(norm)
    module.graph.eliminate_dead_code()
    module.recompile()
    return folded


def _leaf(module: fx.GraphModule, node: fx.Node, classes: tuple[type[nn.Module], ...]) -> Any:
    if node.op != "call_module":
        return None
    owner = module.get_submodule(str(node.target))
    return owner if type(owner) in classes else None


def _statistics(module: fx.GraphModule, node: fx.Node) -> tuple[Any, ...] | None:
    """Running mean and variance, eps, scale and shift of a batch norm in evaluation mode, else None."""
    owner = _leaf(module, node, NORMS)
    if owner is not None:
        if owner.running_mean is None:
            return None
        return owner.running_mean, owner.running_var, owner.eps, owner.weight, owner.bias
    if node.op != "call_function" or node.target is not nn.functional.batch_norm:
        return None
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    bound = {**dict(zip(names, node.args)), **node.kwargs}
    tensors = [_constant(module, bound.get(name)) for name in ("running_mean", "running_var", "weight", "bias")]
    if bound.get("training") or tensors[0] is None or tensors[1] is None:
        return None
    return tensors[0], tensors[1], bound.get("eps", 1e-5), tensors[2], tensors[3]


def _constant(module: fx.GraphModule, argument: Any) -> torch.Tensor | None:
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    owner, _, name = str(argument.target).rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    return value if isinstance(value, torch.Tensor) else None


def _fuse(owner: nn.Module, statistics: tuple[Any, ...]) -> nn.Module:
    fused = copy.deepcopy(owner, shared_tensors(owner))
    fuse = fuse_linear_bn_weights if isinstance(owner, nn.Linear) else fuse_conv_bn_weights
    mean, variance, eps, scale, shift = statistics
    scale = torch.ones_like(mean) if scale is None else scale
    shift = torch.zeros_like(mean) if shift is None else shift
    with torch.no_grad():
        weight, bias = fuse(owner.weight, owner.bias, mean, variance, eps, scale, shift)  # type: ignore[arg-type]
    fused.weight, fused.bias = weight, bias
    return fused
