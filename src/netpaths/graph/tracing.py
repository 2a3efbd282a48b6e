"""From a model to a list of nodes: copy, trace, make out of place, bind every call to a family.

The user's model is only read: the copy shares its parameters and buffers, drops its hooks and runs in evaluation mode.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from netpaths.errors import BadInput, BadWeights, NetpathsError, UnsupportedOperation
from netpaths.graph.copying import shared_tensors
from netpaths.graph.family import FAMILIES, find_family
from netpaths.graph.inplace import make_out_of_place
from netpaths.graph.node import Node


class _Tracer(fx.Tracer):
    """Stops at torch.nn modules and at module classes a rule was registered for."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        registered = any(type(m) in family.modules for family in FAMILIES.values())
        return registered or super().is_leaf_module(m, module_qualified_name)


def check_weights(model: nn.Module) -> None:
    """Raise BadWeights naming the first parameter or buffer with NaN or infinite values."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadWeights(f"the model's {name!r} holds NaN or infinite values; load sound weights first")


def copy_model(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without hooks whose parameters and buffers are the original's own tensors."""
    try:
        twin = copy.deepcopy(model, shared_tensors(model))
    except Exception as error:
        raise UnsupportedOperation(f"{type(model).__name__} cannot be copied: {error}") from error
    for module in twin.modules():
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            getattr(module, hooks).clear()
    return twin.eval()


def trace_module(model: nn.Module) -> fx.GraphModule:
    """The model as an fx graph without in-place operations, assertions or dead code.

    Raises UnsupportedOperation when the model's control flow depends on its input's values.
    """
    try:
        graph = _Tracer().trace(model, _defaults(model))
    except NetpathsError:
        raise
    except Exception as error:
        line = str(error).strip().splitlines()
        hint = (
            "; its forward must not branch on the values of its input" if isinstance(error, fx.proxy.TraceError) else ""
        )
        raise UnsupportedOperation(
            f"{type(model).__name__} cannot be traced: {line[0] if line else type(error).__name__}{hint}"
        ) from error
    for node in list(graph.nodes):
        if node.op == "call_function" and getattr(node.target, "__name__", "") in ("_assert", "_assert_is_none"):
            graph.erase_node(node)
    make_out_of_place(graph, model)
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _defaults(model: nn.Module) -> dict[str, Any]:
    """The forward's arguments besides the images, at their defaults."""
    parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def check_faithful(module: fx.GraphModule, reference: nn.Module, example: torch.Tensor, logits: torch.Tensor) -> None:
    """Raise UnsupportedOperation unless the traced network computes what the model does.

    Both run on the example's image beside a random one: that shows writing in place through names that tracing does
    not see, and operations that mix the images of a batch. An image that differs is followed by other random ones:
    where a network decides by a threshold, rounding alone can make it decide otherwise, but not for every image.
    logits: the traced network's, on the example.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((RANDOM, *example.shape[1:]), generator=generator, dtype=example.dtype).to(example.device)
    pairs = [torch.stack([example[0], noise[0]]), noise[1:3], noise[3:]]
    found, expected, tolerance = _compared(module, reference, pairs[0])
    if not _close(found, expected, tolerance) and not all(
        _close(*_compared(module, reference, pair)) for pair in pairs[1:]
    ):
        raise UnsupportedOperation(
            "the traced network computes something else than the model, probably because it writes into a value that "
            "is also read under another name; use operations that return new values"
        )
    if not bool(((found[0] - logits[0]).abs() <= tolerance).all()):
        raise UnsupportedOperation("the model mixes the images of a batch: an image's logits depend on its neighbours")


RANDOM = 5
"""Random images that a traced network is tried on, all but the first where it differs from the model."""


def _compared(
    module: fx.GraphModule, reference: nn.Module, pair: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The logits of the traced network and of the model, and how far they may be apart."""
    with torch.no_grad():
        found, expected = module(pair.clone()), reference(pair.clone())
    return found, expected, 1e-3 * (1 + float(expected.abs().max()))


def _close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    return bool(((expected - found).abs() <= tolerance).all())


def record_values(module: fx.GraphModule, example: torch.Tensor) -> dict[str, Any]:
    """Every node's value on ``example``, by name."""
    values: dict[str, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n.name] = super().run_node(n)
            return values[n.name]

    try:
        with torch.no_grad():
            Recorder(module).run(example)
    except Exception as error:
        text = str(error).split("\n")[0]
        raise BadInput(f"the model fails on the example of shape {tuple(example.shape)}: {text}") from error
    return values


def bind_nodes(module: fx.GraphModule, values: Mapping[str, Any]) -> dict[str, Node]:
    """Bind every operation on activations to its family, in execution order.

    Raises UnsupportedOperation listing every operation without a rule, before any work is done.
    """
    nodes: dict[str, Node] = {}
    refused: list[str] = []
    for fx_node in module.graph.nodes:
        if fx_node.op == "placeholder" and not nodes:
            shape = tuple(values[fx_node.name].shape[1:])
            nodes[fx_node.name] = Node(fx_node.name, "input", "", None, (), shape, (), {})
        elif fx_node.op in ("call_module", "call_function", "call_method") and _reads(fx_node, nodes):
            _bind(module, fx_node, values, nodes, refused)
    refused += [f"{name} ({node.operation}: inside the network; supported: last)" for name, node in _not_last(nodes)]
    if refused:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedOperation(f"unsupported operations: {'; '.join(refused)}. Supported: {known}")
    return nodes


def _not_last(nodes: Mapping[str, Node]) -> list[tuple[str, Node]]:
    """Nodes that only have a rule as the last operation, and are read by another."""
    read = {source for node in nodes.values() for source in node.inputs}
    return [(name, node) for name, node in nodes.items() if node.family and node.family.last and name in read]


def _bind(
    module: fx.GraphModule, fx_node: fx.Node, values: Mapping[str, Any], nodes: dict[str, Node], refused: list[str]
) -> None:
    value = values[fx_node.name]
    operation = _operation(module, fx_node)
    inputs = _reads(fx_node, nodes)
    if not isinstance(value, torch.Tensor) and (_is_split(fx_node) or not _holds_tensors(value)):
        return
    found = _family_of(module, fx_node)
    if not all(isinstance(values[name], torch.Tensor) for name in inputs):
        nodes[fx_node.name] = Node(fx_node.name, operation, "", None, (), (), (), {})
        return
    if found is None or not isinstance(value, torch.Tensor):
        refused.append(f"{fx_node.name} ({operation}{'' if found is None else ': returns several tensors'})")
        nodes[fx_node.name] = Node(fx_node.name, operation, "", None, (), (), (), {})
        return
    family, signature = found
    node = Node(
        fx_node.name,
        operation,
        str(fx_node.target) if fx_node.op == "call_module" else "",
        family,
        tuple(inputs),
        tuple(value.shape[1:]),
        tuple(tuple(values[name].shape[1:]) for name in inputs),
        _arguments(module, fx_node, signature, values, nodes),
        partial(_run_call, module, fx_node, _constants(fx_node, values, nodes), tuple(inputs))
        if family.remaps
        else None,
    )
    batch = values[next(iter(nodes))].shape[0]
    reason = "mixes the images of a batch" if value.dim() == 0 or value.shape[0] != batch else family.refuse(node)
    if reason:
        refused.append(f"{fx_node.name} ({operation}: {reason})")
    nodes[fx_node.name] = node


def _reads(fx_node: fx.Node, nodes: Mapping[str, Node]) -> list[str]:
    """Names of the activations the node depends on, in argument order; tuples such as chunks are looked through."""
    names: list[str] = []
    for source in fx_node.all_input_nodes:
        if source.name in nodes:
            names.append(source.name)
        elif _is_split(source):
            names.extend(_reads(source, nodes))
    return names


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(part, torch.Tensor) for part in value)


def _is_split(fx_node: fx.Node) -> bool:
    if fx_node.op == "call_module":
        return False
    found = find_family(fx_node.target)
    return found is not None and found[0].remaps and getattr(fx_node.target, "__name__", fx_node.target) in SPLITS


SPLITS = ("chunk", "split")
"""Operations returning several pieces; a piece is read through the indexing that follows."""


def _constants(fx_node: fx.Node, values: Mapping[str, Any], nodes: Mapping[str, Node]) -> dict[str, Any]:
    """Values of what the node reads besides activations: sizes, constants."""
    found: dict[str, Any] = {}
    for source in fx_node.all_input_nodes:
        if _is_split(source):
            found.update(_constants(source, values, nodes))
        elif source.name not in nodes:
            found[source.name] = values[source.name]
    return found


def _run_call(
    module: fx.GraphModule,
    fx_node: fx.Node,
    values: Mapping[str, Any],
    inputs: tuple[str, ...],
    tensors: Sequence[torch.Tensor],
) -> torch.Tensor:
    given = dict(zip(inputs, tensors))

    def value_of(node: fx.Node) -> Any:
        if node.name in given:
            return given[node.name]
        if _is_split(node) and any(name in given for name in (source.name for source in node.all_input_nodes)):
            return execute(node)
        known = values[node.name]
        return known.double() * 0 if isinstance(known, torch.Tensor) and known.is_floating_point() else known

    def execute(node: fx.Node) -> Any:
        args = fx.map_arg(node.args, value_of)
        kwargs = fx.map_arg(node.kwargs, value_of)
        if node.op == "call_module":
            return module.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    result = execute(fx_node)
    if not isinstance(result, torch.Tensor):
        raise TypeError(f"{fx_node.name} returned no tensor")
    return result


def _operation(module: fx.GraphModule, fx_node: fx.Node) -> str:
    if fx_node.op == "call_module":
        return type(module.get_submodule(str(fx_node.target))).__name__
    return str(getattr(fx_node.target, "__name__", fx_node.target))


def _family_of(module: fx.GraphModule, fx_node: fx.Node) -> Any:
    if fx_node.op == "call_module":
        return find_family(type(module.get_submodule(str(fx_node.target))))
    return find_family(fx_node.target)


def _arguments(
    module: fx.GraphModule, fx_node: fx.Node, signature: str, values: Mapping[str, Any], nodes: Mapping[str, Node]
) -> dict[str, Any]:
    """Arguments by name; constants as values, activations as their node names."""

    def resolve(node: fx.Node) -> Any:
        return node.name if node.name in nodes else values[node.name]

    if fx_node.op == "call_module":
        owner = module.get_submodule(str(fx_node.target))
        return {name: getattr(owner, name, None) for name in signature.split()}
    bound: dict[str, Any] = {}
    for place, token in enumerate(signature.split()):
        name, has_default, default = token.partition("=")
        if has_default:
            bound[name] = ast.literal_eval(default)
        if name.startswith("*"):
            bound[name[1:]] = fx.map_arg(fx_node.args[place:], resolve)
        elif place < len(fx_node.args):
            bound[name] = fx.map_arg(fx_node.args[place], resolve)
        elif name in fx_node.kwargs:
            bound[name] = fx.map_arg(fx_node.kwargs[name], resolve)
    return bound
