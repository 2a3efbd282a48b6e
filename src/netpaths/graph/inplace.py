"""Writing in place, undone in a traced copy: every operation makes a new value, so that recorded ones survive.

An operation that writes into its first input changes it for everything that reads it later: these readers are led to
the operation's result, and its counterpart out of place takes its position.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from netpaths.errors import UnsupportedOperation

OUT_OF_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    torch.relu_: torch.relu,
    nn.functional.relu_: nn.functional.relu,
    nn.functional.leaky_relu_: nn.functional.leaky_relu,
    nn.functional.hardtanh_: nn.functional.hardtanh,
    nn.functional.elu_: nn.functional.elu,
}
"""In-place functions and their counterparts."""

FUNCTIONS = ("getitem", "chunk", "split", "narrow", "dropout", "dropout2d", "alpha_dropout", "contiguous", "detach")
SHAPES = ("view", "reshape", "flatten", "transpose", "permute", "squeeze", "unsqueeze")
MODULES = ("Flatten", "Unflatten", "Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout")
VIEWS = frozenset((*FUNCTIONS, *SHAPES, *MODULES))
"""Names of operations whose result may share memory with their first input in evaluation mode."""


def make_out_of_place(graph: fx.Graph, model: nn.Module) -> None:
    """Replace every operation of ``graph`` that writes in place; ``model`` is the traced copy.

    Raises UnsupportedOperation where something written through a view is read later under another name.
    """
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        if not node.args or not isinstance(node.args[0], fx.Node) or not _make_pure(node, model):
            continue
        later = set(nodes[place + 1 :])
        written = node.args[0]
        _check_views(nodes[:place], node, written, later, model)
        written.replace_all_uses_with(node, delete_user_cb=later.__contains__)
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]


def _make_pure(node: fx.Node, model: nn.Module) -> bool:
    """Exchange an operation for its counterpart out of place; whether it wrote into its first input."""
    if node.op == "call_module":
        return getattr(model.get_submodule(str(node.target)), "inplace", False) is True
    if node.op == "call_method":
        name = str(node.target)
        if not name.endswith("_") or name.endswith("__"):
            return False
        if hasattr(torch.Tensor, name[:-1]):
            node.target = name[:-1]
        return True
    if node.target in OUT_OF_PLACE:
        node.target = OUT_OF_PLACE[node.target]
        return True
    return _drop_flag(node)


def _drop_flag(node: fx.Node) -> bool:
    """Set the argument ``inplace`` of a function to False; whether it was True."""
    if node.op != "call_function" or not hasattr(node.target, "__code__"):
        return False
    names = node.target.__code__.co_varnames[: node.target.__code__.co_argcount]
    if "inplace" not in names:
        return False
    place = names.index("inplace")
    written = bool(node.args[place] if place < len(node.args) else node.kwargs.get("inplace"))
    node.args = tuple(False if index == place else value for index, value in enumerate(node.args))
    node.kwargs = {name: False if name == "inplace" else value for name, value in node.kwargs.items()}
    return written


def _check_views(
    earlier: Sequence[fx.Node], node: fx.Node, written: fx.Node, later: set[fx.Node], model: nn.Module
) -> None:
    memory = _memory(written, model)
    for other in earlier:
        if other is not written and _memory(other, model) is memory and later & set(other.users):
            raise UnsupportedOperation(
                f"{node.name} writes in place into {written.name}, which shares its memory with {other.name}, and "
                f"{other.name} is read later; write out of place instead"
            )


def _memory(node: fx.Node, model: nn.Module) -> fx.Node:
    """The node whose memory ``node`` may be a view of."""
    while _name(node, model) in VIEWS and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _name(node: fx.Node, model: nn.Module) -> str:
    if node.op == "call_module":
        return type(model.get_submodule(str(node.target))).__name__
    if node.op in ("call_function", "call_method"):
        return str(getattr(node.target, "__name__", node.target))
    return ""
