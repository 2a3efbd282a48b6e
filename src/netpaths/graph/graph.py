"""A model as named nodes, and the only code that runs networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import fx, nn

from netpaths.errors import BadInput, UnknownNode
from netpaths.graph.canonical import bind_exported, fold_exported, logits_of
from netpaths.graph.copying import evaluation_copy, unwrapped
from netpaths.graph.exporting import export_module
from netpaths.graph.folding import fold_batch_norms
from netpaths.graph.gated import Gated
from netpaths.graph.naming import node_name
from netpaths.graph.node import Node
from netpaths.graph.tracing import (
    bind_nodes,
    check_faithful,
    check_weights,
    copy_model,
    record_values,
    trace_module,
)

Key = TypeVar("Key")
Made = TypeVar("Made")

Edit = Callable[[list[torch.Tensor], torch.Tensor], torch.Tensor]
"""Replaces a node's output, given the values of its inputs and the output."""


RECORDERS = 16
"""Compiled recorders a graph keeps, for as many sets of nodes; the oldest one goes first."""

GATED = 256
"""Networks with gates a graph keeps, likewise; a method that gates one node at a time needs one for each of them."""

FEW_RANKS = 3
"""Up to so many ranks are searched one by one instead of sorting all classes."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What a run recorded: logits (batch, classes) and, by node name, values (batch, *shape)."""

    logits: torch.Tensor
    values: Mapping[str, torch.Tensor]

    def __getitem__(self, node: str) -> torch.Tensor:
        if node not in self.values:
            raise UnknownNode(node, self.values, "nodes this run recorded")
        return self.values[node]

    @property
    def predicted(self) -> torch.Tensor:
        """The class with the largest logit, the first of equal ones: (batch,) int64."""
        return ranked_classes(self.logits, 1)[:, 0]


def ranked_classes(logits: torch.Tensor, ranks: int | None = None) -> torch.Tensor:
    """Classes by falling logit, lowest index first among equal ones: (batch, ``ranks`` or all classes) int64."""
    if ranks is not None and ranks <= FEW_RANKS:
        rest, found = logits.detach().clone(), []
        for _ in range(ranks):
            largest, classes = rest.max(dim=1)  # the first of equal ones
            found.append(classes)
            rest.scatter_(1, classes[:, None], -torch.inf)
        if not bool(torch.isneginf(largest).any()):  # what is left could be classes found before
            return torch.stack(found, dim=1)
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :ranks]


class Graph:
    """A model seen as named nodes, traced once with an example that gives the shapes."""

    def __init__(self, model: nn.Module, example: torch.Tensor, fold: bool = True) -> None:
        """Trace ``model``, which is only read and never changed.

        example: one batch (batch, *input shape), for shapes alone. fold: fold batch norms into the layer before.
        Raises BadWeights for NaN or infinite weights, BadInput when the model fails on the example, and
        UnsupportedOperation listing every operation without a rule, or when the traced network computes something else
        than the model.
        """
        model = unwrapped(model)
        check_weights(model)
        example = _pair_of_images(example)
        self.folded: Mapping[str, str] = {}
        self._export(model, example, fold)
        self.input = next(iter(self.nodes))
        self.input_shape = self.nodes[self.input].shape
        self.dtype = example.dtype
        self.classes = self.nodes[self.output].shape[0]
        self._recorders: dict[frozenset[str], fx.GraphModule] = {}
        self._gated: dict[tuple[str, ...], Gated] = {}

    def _trace(self, model: nn.Module, example: torch.Tensor, fold: bool) -> None:
        """Read the network as it is written, where every operation has a rule under that spelling."""
        reference = copy_model(model)
        self.module = trace_module(copy_model(model))
        self.folded = fold_batch_norms(self.module) if fold else {}
        values = record_values(self.module, example)
        self.nodes: Mapping[str, Node] = bind_nodes(self.module, values)
        self.output = self._find_output()
        check_faithful(self.module, reference, example, values[self.output])

    def _export(self, model: nn.Module, example: torch.Tensor, fold: bool) -> None:
        """Read what the network computes."""
        self.module = export_module(model, example)
        folded = fold_exported(self.module) if fold else {}
        nodes = bind_exported(self.module, model)
        self.folded = {norm.name: node_name(layer) for norm, layer in folded.items()}
        with torch.no_grad():
            answer = self.module(example)
        check_faithful(self.module, evaluation_copy(model), example, answer)
        self.output = logits_of(self.module, nodes)
        self.nodes = nodes

    def _find_output(self) -> str:
        result = next(node for node in self.module.graph.nodes if node.op == "output").args[0]
        if not isinstance(result, fx.Node) or result.name not in self.nodes:
            raise BadInput("the model must return one tensor of logits (batch, classes); wrap it to pick one")
        if len(self.nodes[result.name].shape) != 1:
            shape = ("batch", *self.nodes[result.name].shape)
            raise BadInput(f"the model must return logits (batch, classes), it returns {shape}")
        return result.name

    def __repr__(self) -> str:
        size = f"{len(self.nodes)} nodes, {len(self.layers)} layers"
        return f"Graph({size}, input {self.input_shape}, {self.classes} classes)"

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the linear and convolution layers, from input to output."""
        return tuple(name for name, node in self.nodes.items() if node.layer)

    def node(self, name: str) -> Node:
        """The node of this name; raises UnknownNode naming the nearest."""
        if name in self.nodes:
            return self.nodes[name]
        if name in self._spellings:
            return self.nodes[self._spellings[name]]
        hint = f"{name} was folded into {self.folded[name]}" if name in self.folded else ""
        raise UnknownNode(name, self.nodes, hint)

    @cached_property
    def _spellings(self) -> Mapping[str, str]:
        """Names of nodes by their spelling with underscores instead of dots."""
        return {name.replace(".", "_"): name for name in self.nodes}

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """For every node the nodes that read it."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, node in self.nodes.items():
            for source in node.inputs:
                found[source].append(name)
        return {name: tuple(users) for name, users in found.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over the operations, their wiring and every weight."""
        digest = hashlib.sha256()
        for node in self.module.graph.nodes:
            name = node_name(node)
            digest.update(f"{name}|{node.op}|{node.all_input_nodes}|{self._described(name)}".encode())
        tensors = [*self.module.named_parameters(), *self.module.named_buffers()]
        for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
            digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _described(self, name: str) -> str:
        if name not in self.nodes:
            return ""
        node = self.nodes[name]
        plain = {key: value for key, value in node.arguments.items() if not isinstance(value, torch.Tensor)}
        return f"{node.operation}|{node.shape}|{sorted(plain.items(), key=lambda pair: pair[0])}"

    def check(self, x: torch.Tensor) -> None:
        """Raise BadInput unless ``x`` is a finite batch (batch, *input shape) of the model's type."""
        expected = ("batch", *self.input_shape)
        if not isinstance(x, torch.Tensor) or tuple(x.shape[1:]) != self.input_shape:
            shape = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise BadInput(f"images have shape {shape}, this model takes {expected}")
        if x.dtype != self.dtype:
            raise BadInput(f"images are {x.dtype}, this model takes {self.dtype}")
        if bool(torch.isfinite(x.sum())):  # one pass without a copy; a sum of finite pixels may still overflow
            return
        bad = ~torch.isfinite(x).flatten(1).all(1)
        if bool(bad.any()):
            index = int(bad.nonzero()[0])
            raise BadInput(f"image {index} of the batch holds NaN or infinite pixels")

    def run(
        self,
        x: torch.Tensor,
        gates: Mapping[str, torch.Tensor] | None = None,
        record: Iterable[str] | Literal["all"] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> Trace:
        """Run the network on ``x`` (batch, *input shape).

        gates: factors for node outputs, broadcast against (batch, *shape); (channels,) and (batch, channels) gate
        channels. record: names of nodes whose values to keep, or "all". edits: functions replacing a node's
        output. Gradients flow where the caller enables them. Raises BadInput and UnknownNode.
        """
        self.check(x)
        gates, edits = gates or {}, edits or {}
        keep = set(self.nodes) if record == "all" else set(record)
        for name in [*gates, *edits, *keep]:
            self.node(name)
        if not gates and not edits:
            return Trace(*self._recorder(frozenset(keep))(x))
        runner = _Runner(self, gates, edits, keep)
        logits = runner.run(x)
        return Trace(logits, runner.values)

    def _recorder(self, keep: frozenset[str]) -> fx.GraphModule:
        """The network compiled to return its logits and, by name, the values of the nodes ``keep``."""

        def make() -> fx.GraphModule:
            copies: dict[fx.Node, fx.Node] = {}
            graph = fx.Graph()
            logits = graph.graph_copy(self.module.graph, copies)
            kept = {node_name(node): copy for node, copy in copies.items() if node_name(node) in keep}
            for name, copy in kept.items():
                if not self.nodes[name].layout.plain:
                    kept[name] = graph.call_function(self.nodes[name].layout.images, (copy,))
            graph.output((logits, kept))
            return fx.GraphModule(self.module, graph)

        return _kept(self._recorders, keep, RECORDERS, make)

    def gated(self, nodes: Sequence[str]) -> Gated:
        """The network with a factor at the output of each of ``nodes``; raises UnknownNode and BadOption."""
        key = tuple(nodes)
        return _kept(self._gated, key, GATED, lambda: Gated(self, key))

    def runner_up(self, image: torch.Tensor) -> int | None:
        """The class with the second largest logit of one image of the input shape; None for a single class."""
        with torch.no_grad():
            order = ranked_classes(self.run(image[None]).logits, min(2, self.classes))[0]
        return int(order[1]) if len(order) > 1 else None

    def operations(self) -> list[dict[str, Any]]:
        """One row per node: name, operation, family, output shape and number of weights."""
        return [
            {
                "node": node.name,
                "operation": node.operation,
                "family": node.family.name if node.family else "input",
                "shape": node.shape,
                "weights": node.weight.numel() if node.layer else 0,
            }
            for node in self.nodes.values()
        ]


def _kept(store: dict[Key, Made], key: Key, most: int, make: Callable[[], Made]) -> Made:
    """What ``store`` holds under ``key``, made where it is not there; of ``most`` things the oldest one goes first."""
    if key not in store:
        if len(store) == most:
            del store[next(iter(store))]
        store[key] = make()
    return store[key]


class _Runner(fx.Interpreter):
    def __init__(
        self, graph: Graph, gates: Mapping[str, torch.Tensor], edits: Mapping[str, Edit], keep: set[str]
    ) -> None:
        super().__init__(graph.module)
        self.nodes, self.gates, self.edits, self.keep = graph.nodes, gates, edits, keep
        self.values: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = node_name(n)
        if name not in self.nodes:
            return value
        layout = self.nodes[name].layout
        if name in self.edits:
            sources = [source for source in n.all_input_nodes if node_name(source) in self.nodes]
            inputs = [self.nodes[node_name(source)].layout.images(self.env[source]) for source in sources]
            value = layout.back(self.edits[name](inputs, layout.images(value)))
        if name in self.gates:
            whole = layout.images(value)
            value = layout.back(whole * _broadcast(name, self.gates[name], whole))
        if name in self.keep:
            self.values[name] = layout.images(value)
        return value


def _broadcast(name: str, gate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A channel gate (channels,) or (batch, channels) with axes of one behind it; a full gate as it is."""
    channels = value.shape[1]
    if gate.dim() < value.dim() and gate.shape in ((channels,), (value.shape[0], channels)):
        return gate.reshape(*gate.shape, *(1 for _ in value.shape[2:]))
    fits = gate.dim() <= value.dim() and all(
        own in (1, wanted) for own, wanted in zip(reversed(gate.shape), reversed(value.shape))
    )
    if not fits:
        raise BadInput(f"the gate of {name} has shape {tuple(gate.shape)}, its output {tuple(value.shape)}")
    return gate


def _pair_of_images(example: torch.Tensor) -> torch.Tensor:
    """The example's first image twice: two images show whether an operation keeps the batch apart."""
    if not isinstance(example, torch.Tensor) or example.dim() < 2 or example.shape[0] < 1:
        raise BadInput("the example must be one batch (batch, *input shape)")
    if example.dtype not in (torch.float32, torch.float64):
        raise BadInput(f"the example is {example.dtype}; supported: float32 and float64, so convert model and images")
    return example[:1].repeat(2, *(1 for _ in example.shape[1:]))
