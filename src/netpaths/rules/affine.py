"""Per-element affine maps a·x + b with constant a and b: batch norm that could not be folded, scaling, shifting.

Neurons pass through. A neuron is explained in the direction of its reader: where a is negative the producer's
direction turns round, so that extraction gives the same synapses and weights whether or not a batch norm was folded
(with the target "contributions"; the target "neuron" is the neuron's value, which holds the shift b once folded). The
artifact turns a neuron round where the map changes the sign of its value, whatever the sign of a; the two agree for
a > 0.
"""

from __future__ import annotations

import torch

from netpaths import kernels
from netpaths.graph import Family, Node
from netpaths.rules.frozen import affine, shifted
from netpaths.rules.rule import Active, Layer, Selection, register


def pass_through(layer: Layer, scale: torch.Tensor) -> Selection:
    """Active neurons of an affine or increasing map; ``scale`` broadcasts against (batch, *shape), sign matters."""
    active = layer.active
    turned = kernels.turned(layer.inputs[0].detach(), layer.output.detach(), scale < 0, active.mask, active.reversed)
    return Selection((Active(active.mask, turned, active.amount),))


def select_batch_norm(layer: Layer) -> Selection:
    """Pass neurons through, turned round where the norm's scale is negative."""
    weight = layer.node.arguments["weight"]
    if weight is None:
        return pass_through(layer, torch.ones((), device=layer.output.device))
    axes = [1 if axis != layer.node.layout.split_axis(1) else -1 for axis in range(layer.output.dim())]
    return pass_through(layer, weight.detach().reshape(axes))


def refuse_batch_norm(node: Node) -> str | None:
    """Statistics of the batch would mix images."""
    if node.arguments.get("running_mean") is None or node.arguments.get("training"):
        return "normalises with the statistics of the batch; supported: running statistics"
    return "normalises the axis of images" if node.layout.axis == 1 else None


def select_scaled(layer: Layer) -> Selection:
    """Pass neurons through, turned round where the constant factor is negative."""
    factor = layer.node.arguments["other"]
    if isinstance(factor, str):
        factor = layer.node.arguments["input"]
    factor = torch.as_tensor(factor, device=layer.output.device)
    if layer.node.parents and factor.dim() and not layer.node.layout.plain:
        whole = layer.node.layout.back(layer.output[:1]).shape
        factor = layer.node.layout.images(factor.expand(whole))
    return pass_through(layer, factor)


def select_difference(layer: Layer) -> Selection:
    """Pass neurons through; what is subtracted from a constant turns round."""
    turned = not isinstance(layer.node.arguments["input"], str)
    return pass_through(layer, torch.tensor(-1.0 if turned else 1.0, device=layer.output.device))


def select_negated(layer: Layer) -> Selection:
    """Pass neurons through, turned round."""
    return pass_through(layer, torch.tensor(-1.0, device=layer.output.device))


def refuse_spread(node: Node) -> str | None:
    """A constant larger than the activation copies it."""
    if len(node.inputs) == 1 and node.shape != node.input_shapes[0]:
        return f"spreads its input of shape {node.input_shapes[0]} over {node.shape}; supported: equal shapes"
    return None


def refuse_product(node: Node) -> str | None:
    """A product or quotient of two activations is not affine."""
    if _two_activations(node):
        return "combines two activations; supported: a constant and an activation"
    if ("truediv" in node.operation or node.operation == "div") and not isinstance(node.arguments["input"], str):
        return "divides a constant by an activation"
    if node.arguments.get("rounding_mode"):
        return "rounds its quotient"
    return refuse_spread(node)


def refuse_difference(node: Node) -> str | None:
    """The difference of two activations has no rule."""
    if node.arguments.get("alpha", 1) != 1:
        return "a factor alpha other than 1"
    if _two_activations(node):
        return "combines two activations; supported: a constant and an activation"
    return refuse_spread(node)


def _two_activations(node: Node) -> bool:
    return all(isinstance(node.arguments[name], str) for name in ("input", "other"))


register(
    Family(
        "batch norm",
        "running statistics; folded into the layer before where that layer has no other reader",
        "element-wise",
        operations=("batch_norm",),
        refuse=refuse_batch_norm,
    ),
    select_batch_norm,
    shifted,
)
register(
    Family(
        "scaling",
        "products with and quotients by constants",
        "element-wise",
        operations=("mul", "div"),
        takes=lambda node: not _two_activations(node),
        refuse=refuse_product,
    ),
    select_scaled,
    affine,
)
register(
    Family(
        "subtraction",
        "of a constant, or from a constant",
        "element-wise",
        operations=("sub",),
        takes=lambda node: not _two_activations(node),
        refuse=refuse_difference,
    ),
    select_difference,
    affine,
)
register(
    Family(
        "negation",
        "minus",
        "element-wise",
        operations=("neg",),
    ),
    select_negated,
    affine,
)
