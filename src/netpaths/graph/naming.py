"""Names that a user knows: a node is called like the module that computes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from torch import fx, nn

NAME = "netpaths_name"
"""Where an fx node keeps the name of its node."""


def node_name(fx_node: fx.Node) -> str:
    """The name a user knows an fx node by, "" for what is no node of the graph."""
    return str(fx_node.meta.get(NAME, ""))


def operation_of(fx_node: fx.Node) -> str:
    """The operation's name: conv2d, add, …; of a module its class's, in small letters."""
    if fx_node.op == "call_module":
        return type(fx_node.graph.owning_module.get_submodule(str(fx_node.target))).__name__.lower()  # type: ignore[union-attr]
    packet = getattr(fx_node.target, "overloadpacket", fx_node.target)
    return str(getattr(packet, "__name__", packet))


def module_of(fx_node: fx.Node) -> str:
    """The dotted path of the innermost module that runs an operation, "" for the model itself."""
    if fx_node.op == "call_module":
        return str(fx_node.target)
    stack = list((fx_node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].").removeprefix("L['self']") if stack else ""


def name_nodes(active: Sequence[fx.Node], model: nn.Module) -> None:
    """Give every fx node in ``active`` a name, kept in its ``meta``; what has one keeps it.

    The operation of a module whose children compute nothing is called by the module's path (``layer4.2.conv3``); of
    several, the one with weights, or the first, and the others by what they compute (``norm.permute``). Operations
    that a larger module writes itself are called by its path and what they compute (``layer4.2.add``). What would
    have a name that is taken gets a number (``features.1#2``). A wrapper whose class says in ``network`` which of its
    modules is the network itself adds nothing to the paths.
    """
    paths = {module_of(node) for node in active}
    leaves = {path for path in paths if path and not any(other.startswith(f"{path}.") for other in paths)}
    inner = _inner(model)
    groups: dict[tuple[str, int], list[fx.Node]] = defaultdict(list)
    for node in active:
        if node.op != "placeholder":
            stack = node.meta.get("nn_module_stack") or {}
            groups[module_of(node), hash(tuple(stack))].append(node)
    wanted: dict[fx.Node, str] = {}
    for (path, _), nodes in groups.items():
        weighted = [node for node in nodes if any(source.op == "get_attr" for source in node.all_input_nodes)]
        main = (weighted or nodes)[0] if path in leaves else None
        for node in nodes:
            short = path.removeprefix(inner) if path != inner[:-1] else ""
            wanted[node] = short if node is main else ".".join(part for part in (short, operation_of(node)) if part)
    taken: dict[str, int] = defaultdict(int)
    for node in active:
        name = wanted.get(node, str(node.target))
        taken[name] += 1
        node.meta.setdefault(NAME, name if taken[name] == 1 else f"{name}#{taken[name]}")


def _inner(model: nn.Module) -> str:
    """The path of the network inside of its wrappers with a dot behind it, "" for a model without."""
    name = getattr(type(model), "network", None)
    child = model._modules.get(name) if isinstance(name, str) else None
    return "" if child is None else f"{name}.{_inner(child)}"
