"""Element-wise increasing activations pass neurons through; the next rule uses the activated value."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from netpaths.graph import Family, Node
from netpaths.rules.affine import pass_through
from netpaths.rules.frozen import element_wise
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


def refuse_dropout(node: Node) -> str | None:
    """Dropout that stays on in evaluation mode is random; whole numbers have no sign to follow."""
    kind = node.arguments.get("dtype")
    if isinstance(kind, torch.dtype) and not kind.is_floating_point:
        return f"turns activations into {kind}"
    return "active in evaluation mode" if node.arguments.get("training") else None


LEAKY = "input negative_slope=0.01 inplace=False"
HARD = "input min_val=-1.0 max_val=1.0 inplace=False"
CURVED = "input alpha=1.0 inplace=False"
FUNCTIONS: dict[Any, str] = {
    F.relu: "input inplace=False",
    torch.relu: "input",
    F.relu6: "input inplace=False",
    F.leaky_relu: LEAKY,
    F.hardtanh: HARD,
    F.elu: CURVED,
    F.selu: "input inplace=False",
    F.celu: CURVED,
    F.softsign: "input",
    torch.tanh: "input",
    F.tanh: "input",
    torch.clamp: "input min=None max=None",
}

register(
    Family(
        "activation",
        "increasing and zero at zero: ReLU, ReLU6, LeakyReLU, PReLU, hardtanh, tanh, ELU, SELU, CELU, softsign, clamp",
        modules={
            nn.ReLU: "",
            nn.ReLU6: "",
            nn.LeakyReLU: "negative_slope",
            nn.PReLU: "weight",
            nn.Hardtanh: "min_val max_val",
            nn.Tanh: "",
            nn.ELU: "",
            nn.SELU: "",
            nn.CELU: "",
            nn.Softsign: "",
            nn.Threshold: "threshold value",
        },
        functions=FUNCTIONS,
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
        takes=lambda node: not node.parents or around_zero(node),
        methods={"relu": "input", "tanh": "input", "clamp": "input min=None max=None"},
        refuse=refuse,
    ),
    select,
    element_wise,
)
register(
    Family(
        "shifted activation",
        "increasing but not zero at zero: sigmoid, hard sigmoid, softplus, log-sigmoid, clamps between other bounds",
        modules={nn.Sigmoid: "", nn.Hardsigmoid: "", nn.Softplus: "", nn.LogSigmoid: ""},
        functions={
            torch.sigmoid: "input",
            F.sigmoid: "input",
            F.hardsigmoid: "input inplace=False",
            F.softplus: "input",
            F.logsigmoid: "input",
        },
        operations=("sigmoid", "hardsigmoid", "softplus", "log_sigmoid", "clamp", "clamp_min", "clamp_max"),
        methods={"sigmoid": "input"},
    ),
    select_shifted,
    element_wise,
)
register(
    Family(
        "identity",
        "dropout in evaluation mode, identity, copies",
        modules={nn.Dropout: "", nn.Dropout1d: "", nn.Dropout2d: "", nn.AlphaDropout: "", nn.Identity: ""},
        functions={
            F.dropout: "input p=0.5 training=True inplace=False",
            F.dropout2d: "input p=0.5 training=True inplace=False",
            F.alpha_dropout: "input p=0.5 training=False inplace=False",
        },
        operations=("to", "_to_copy", "type_as"),
        methods={"contiguous": "input", "clone": "input", "detach": "input", "float": "input"},
        refuse=refuse_dropout,
    ),
    select,
    element_wise,
)
register(
    Family(
        "softmax",
        "softmax and log-softmax as the last operation: the seed passes to the logit",
        modules={nn.Softmax: "dim", nn.LogSoftmax: "dim"},
        functions={
            F.softmax: "input dim=None",
            F.log_softmax: "input dim=None",
            torch.softmax: "input dim=None",
            torch.log_softmax: "input dim=None",
        },
        methods={"softmax": "input dim=None", "log_softmax": "input dim=None"},
        refuse=lambda node: None if node.arguments.get("dim") in (1, -1, None) else "not over the classes",
        last=True,
    ),
    select,
    element_wise,
)
