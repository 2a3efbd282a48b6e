"""Element-wise increasing activations pass neurons through; the next rule uses the activated value."""

from __future__ import annotations

import torch

from netpaths.graph import Family, Node
from netpaths.rules.affine import pass_through
from netpaths.rules.frozen import affine, element_wise
from netpaths.rules.rule import Layer, Selection, register


def select(layer: Layer) -> Selection:
    """Activations that keep the sign: the same neurons, the same direction."""
    return Selection((layer.active,))


def select_shifted(layer: Layer) -> Selection:
    """Increasing activations that do not keep the sign: the same neurons, upwards stays upwards."""
    return pass_through(layer, torch.ones((), device=layer.output.device))


def refuse(node: Node) -> str | None:
    """Options that make an activation fall somewhere, or change signs."""
    arguments = node.arguments
    slope = arguments.get("negative_slope", 0)
    if isinstance(slope, (int, float)) and slope < 0:
        return f"negative slope {slope}; supported: at least 0"
    weight = arguments.get("weight")
    if isinstance(weight, torch.Tensor) and bool((weight < 0).any()):
        return "a PReLU with negative slopes; supported: at least 0"
    for name in ("min_val", "min", "max_val", "max"):
        bound = arguments.get(name)
        if isinstance(bound, (str, torch.Tensor)):
            return "bounds that are tensors; supported: numbers"
        if bound is not None and (bound > 0 if name.startswith("min") else bound < 0):
            return f"bound {name}={bound}; supported: bounds around 0"
    if arguments.get("threshold", 0) != 0 or arguments.get("value", 0) != 0:
        return "a threshold other than 0"
    return None


def around_zero(node: Node) -> bool:
    """Whether a clamp is zero at zero, as everything is that is no clamp."""
    low, high = (next((node.arguments[name] for name in names if name in node.arguments), None) for names in BOUNDS)
    return not any(isinstance(bound, (int, float)) for bound in (low, high)) or (
        (low is None or low <= 0) and (high is None or high >= 0)
    )


BOUNDS = (("min_val", "min"), ("max_val", "max"))


register(
    Family(
        "activation",
        "increasing and zero at zero: ReLU, ReLU6, LeakyReLU, PReLU, hardtanh, tanh, ELU, SELU, CELU, softsign, clamp",
        "element-wise",
        operations=(
            "relu",
            "relu6",
            "leaky_relu",
            "prelu",
            "hardtanh",
            "elu",
            "selu",
            "celu",
            "tanh",
            "clamp",
            "clamp_min",
            "clamp_max",
            "threshold",
            "erf",
            "atan",
            "arctan",
            "asinh",
            "sinh",
            "log1p",
            "expm1",
            "softshrink",
            "hardshrink",
            "rrelu",
        ),
        takes=around_zero,
        refuse=refuse,
    ),
    select,
    element_wise,
)
register(
    Family(
        "shifted activation",
        "increasing but not zero at zero: sigmoid, hard sigmoid, softplus, log-sigmoid, clamps between other bounds",
        "element-wise",
        operations=("sigmoid", "hardsigmoid", "softplus", "log_sigmoid", "clamp", "clamp_min", "clamp_max"),
    ),
    select_shifted,
    element_wise,
)
register(
    Family(
        "conversion", "to another floating type or device", "element-wise", operations=("to", "_to_copy", "type_as")
    ),
    select,
    affine,
)
