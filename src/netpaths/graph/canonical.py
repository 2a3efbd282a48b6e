"""From an exported module to named nodes: every operation on activations bound to its family."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import fx

from netpaths.errors import BadInput, UnsupportedOperation
from netpaths.graph.family import FAMILIES, Family
from netpaths.graph.layout import Layout, layout_of, number_at, shape_of_one
from netpaths.graph.module import DROPOUTS, Canonical, sleeps
from netpaths.graph.naming import NAME, module_of, node_name, operation_of
from netpaths.graph.node import Node

SOFTMAX = ("softmax", "log_softmax", "_softmax", "_log_softmax")
"""What a model may do to its logits at the end."""

SHOWN = 8
"""Kinds of refused operations a message lists."""


def activations(module: Canonical) -> list[fx.Node]:
    """What depends on the values of the input, in execution order; sizes do not."""
    found: dict[fx.Node, None] = {}
    for node in module.graph.nodes:
        value = node.meta.get("val")
        computed = node.op in ("call_function", "call_module") and isinstance(value, (torch.Tensor, tuple, list))
        if node.op == "placeholder" or (computed and any(source in found for source in node.all_input_nodes)):
            found[node] = None
    return list(found)


def bind_nodes(module: Canonical) -> dict[str, Node]:
    """The nodes of a module whose operations have names, in execution order.

    Raises UnsupportedOperation listing operations without a rule, grouped, before any work is done.
    """
    return _Binding(module).nodes


class _Binding:
    def __init__(self, module: Canonical) -> None:
        self.module = module
        self.nodes: dict[str, Node] = {}
        self._refused: list[tuple[str, str, str]] = []
        active = activations(module)
        self._batch = active[0].meta["val"].shape[0].node.expr
        self._names = {node: node_name(node) for node in active}
        self._layouts: dict[fx.Node, Layout] = {}
        for node in active:
            self._bind(node)
        if self._refused:
            raise UnsupportedOperation(refusals(self._refused))

    def _bind(self, fx_node: fx.Node) -> None:
        name, value = self._names[fx_node], fx_node.meta["val"]
        if fx_node.op == "placeholder":
            self._layouts[fx_node] = Layout()
            self.nodes[name] = Node(name, "input", "", None, (), shape_of_one(value, self._batch)[1:], (), {})
            return
        if sleeps(fx_node):
            self._pass(fx_node, fx_node.args[0])  # type: ignore[arg-type]
            return
        operation = operation_of(fx_node)
        sources = [source for source in fx_node.all_input_nodes if source in self._names]
        reason, layout = None, None
        try:
            layout = layout_of(value, self._batch) if isinstance(value, torch.Tensor) else None
        except UnsupportedOperation as error:
            reason = str(error)
        if operation in DROPOUTS:
            reason = "active in evaluation mode"
        elif isinstance(value, (tuple, list)):
            reason = "returns several tensors"
        elif reason is None and layout is None:
            reason = "mixes the images of a batch"
        elif any(source not in self._layouts for source in sources):
            return  # behind something that is refused already
        if reason is not None or layout is None:
            self._refuse(fx_node, operation, reason or "")
            return
        node = self._node(fx_node, name, operation, layout, sources)
        family = _family_of(operation, node)
        patterns = [parent.frozen for parent in node.parents]
        if all(patterns) and (family is None or family.weighted):
            family = FAMILIES["pattern"]
        if family is None:
            self._refuse(fx_node, operation, "")
            return
        node = replace(node, family=family, call=partial(self._run, fx_node) if family.remaps else None)
        reason = family.refuse(node)
        if reason:
            self._refuse(fx_node, operation, reason)
            return
        self._layouts[fx_node] = layout
        self.nodes[name] = node

    def _pass(self, fx_node: fx.Node, source: fx.Node) -> None:
        """Let an operation that does nothing stand for what it reads."""
        self._names[fx_node] = self._names[source]
        if source in self._layouts:
            self._layouts[fx_node] = self._layouts[source]

    def _node(self, fx_node: fx.Node, name: str, operation: str, layout: Layout, sources: Sequence[fx.Node]) -> Node:
        layouts = tuple(self._layouts[source] for source in sources)
        return Node(
            name,
            operation,
            module_of(fx_node),
            None,
            tuple(self._names[source] for source in sources),
            layout.shape(shape_of_one(fx_node.meta["val"], self._batch)),
            tuple(own.shape(shape_of_one(source.meta["val"], self._batch)) for own, source in zip(layouts, sources)),
            self._arguments(fx_node),
            layout=layout,
            input_layouts=layouts,
            parents=tuple(self.nodes[self._names[source]] for source in sources),
        )

    def _refuse(self, fx_node: fx.Node, operation: str, reason: str) -> None:
        self._refused.append((operation, reason, place_of(fx_node)))

    def _arguments(self, fx_node: fx.Node) -> dict[str, Any]:
        """Arguments by the names of the operation's schema; activations as names of nodes."""

        def resolve(node: fx.Node) -> Any:
            return self._names[node] if node in self._names else self.constant(node, 1)

        if fx_node.op == "call_module":
            return {"module": self.module.get_submodule(str(fx_node.target))}
        schema = getattr(fx_node.target, "_schema", None)
        if schema is None:
            given = inspect.signature(fx_node.target).bind(*fx_node.args, **fx_node.kwargs)  # type: ignore[arg-type]
            return dict(fx.map_arg(dict(given.arguments), resolve))
        bound = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
        bound.update(zip((argument.name for argument in schema.arguments), fx.map_arg(fx_node.args, resolve)))
        bound.update(fx.map_arg(dict(fx_node.kwargs), resolve))
        if "self" in bound:
            bound["input"] = bound.pop("self")
        return bound

    def constant(self, node: fx.Node, images: int) -> Any:
        """What a node that is no activation holds for a batch of ``images``."""
        if node.op == "get_attr":
            return attrgetter(str(node.target))(self.module)
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return number_at(value, self._batch, images)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: self.constant(source, images))
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]

    def _run(self, fx_node: fx.Node, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The operation on ``inputs`` (batch, *input shape), floating constants set to zero."""
        images = len(inputs[0])
        sources = [source for source in fx_node.all_input_nodes if source in self._names]
        given = {source: self._layouts[source].back(value) for source, value in zip(sources, inputs)}

        def resolve(node: fx.Node) -> Any:
            if node in given:
                return given[node]
            known = self.constant(node, images)
            floating = isinstance(known, torch.Tensor) and known.is_floating_point()
            return torch.zeros(known.shape, dtype=torch.float64) if floating else known

        args, kwargs = fx.map_arg((fx_node.args, fx_node.kwargs), resolve)
        return self._layouts[fx_node].images(fx_node.target(*args, **kwargs))  # type: ignore[operator]


def place_of(fx_node: fx.Node) -> str:
    """Where in the user's code an operation stands: module path, file and line, as far as they are known."""
    module = module_of(fx_node)
    lines = [
        line.strip()
        for line in (fx_node.meta.get("stack_trace") or "").splitlines()
        if line.strip().startswith("File") and "/torch/" not in line
    ]
    source = lines[-1].removeprefix("File ").split(", in ")[0].replace('"', "") if lines else ""
    return ", ".join(part for part in (module, source) if part)


def refusals(found: Sequence[tuple[str, str, str]]) -> str:
    """Refused operations (operation, reason, place) as a few lines: one a kind, with a count and an example."""
    counts = Counter((operation, reason) for operation, reason, _ in found)
    example = {(operation, reason): place for operation, reason, place in reversed(found)}
    lines = []
    for (name, reason), count in counts.most_common(SHOWN):
        place = example[name, reason]
        lines.append(f"{name}{f' ({reason})' if reason else ''}: {count}×{f', e.g. {place}' if place else ''}")
    rest = len(counts) - len(lines)
    if rest > 0:
        lines.append(f"and {rest} more kinds")
    return "operations without a rule:\n  " + "\n  ".join(lines)


def _family_of(operation: str, node: Node) -> Family | None:
    for family in FAMILIES.values():
        if operation in family.operations and family.takes(node):
            return family
    return None


def logits_of(module: Canonical, nodes: dict[str, Node]) -> str:
    """The node that holds the logits, with a softmax or log-softmax behind it cut off.

    Raises BadInput where the model returns anything but (batch, classes) with at least two classes.
    """
    output = next(node for node in module.graph.nodes if node.op == "output")
    result: Any = output.args[0]
    while sleeps(result) or operation_of(result) in SOFTMAX:
        result = result.args[0]
    name = node_name(result)
    if name not in nodes:
        raise BadInput("the model must return one tensor of logits (batch, classes); wrap it to pick one")
    node = nodes[name]
    if len(node.shape) != 1 or not node.layout.plain:
        raise BadInput(f"the model must return logits (batch, classes), it returns {('batch', *node.shape)}")
    if node.frozen:
        raise UnsupportedOperation("the logits are computed from a softmax or a statistic, through which no path goes")
    if node.shape[0] == 1:
        raise BadInput(
            "the model returns one logit: wrap it so that it returns one for each of its two classes, "
            "such as torch.cat([-z, z], 1) / 2 of its logit z"
        )
    output.args = (result,)
    module.graph.eliminate_dead_code()
    module.recompile()
    kept = {own.meta[NAME] for own in module.graph.nodes if NAME in own.meta}
    for gone in [own for own in nodes if own not in kept]:
        del nodes[gone]
    return name
