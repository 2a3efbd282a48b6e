"""A model as named nodes, and the only code that runs networks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import fx, nn

from netpaths.errors import BadInput, known_as, spells
from netpaths.gradients import full_precision
from netpaths.graph.canonical import activations, bind_nodes, logits_of
from netpaths.graph.copying import evaluation_copy, unwrapped
from netpaths.graph.cutting import part
from netpaths.graph.exporting import export_module
from netpaths.graph.faithful import check_faithful, check_weights
from netpaths.graph.folding import fold_batch_norms
from netpaths.graph.gated import Gated
from netpaths.graph.module import sleeps
from netpaths.graph.naming import name_nodes, node_name
from netpaths.graph.node import Node
from netpaths.graph.replacing import Call, replaced
from netpaths.graph.rewriting import Backward, rewritten
from netpaths.graph.streaming import Batches, Step, streamed

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
        return self.values[known_as(node, self.values, "nodes this run recorded")]

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

    @full_precision()
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
        self.module = export_module(model, example)
        name_nodes([node for node in activations(self.module) if not sleeps(node)], model)
        self.folded: Mapping[str, str] = fold_batch_norms(self.module) if fold else {}
        nodes = bind_nodes(self.module)
        check_faithful(self.module, evaluation_copy(model), example)
        self.output = logits_of(self.module, nodes)
        self.nodes: Mapping[str, Node] = nodes
        self.input = next(iter(self.nodes))
        self.input_shape = self.nodes[self.input].shape
        self.dtype = example.dtype
        self.classes = self.nodes[self.output].shape[0]
        self._recorders: dict[frozenset[str], fx.GraphModule] = {}
        self._gated: dict[tuple[str, ...], Gated] = {}

    def __repr__(self) -> str:
        size = f"{len(self.nodes)} nodes, {len(self.layers)} layers"
        return f"Graph({size}, input {self.input_shape}, {self.classes} classes)"

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the linear and convolution layers, from input to output."""
        return tuple(name for name, node in self.nodes.items() if node.layer)

    def node(self, name: str) -> Node:
        """The node of this name, spelled with dots or underscores; raises UnknownNode naming the nearest."""
        if name in self.nodes:  # a pass asks for hundreds of names
            return self.nodes[name]
        gone = [norm for norm in self.folded if spells(name, norm)]
        hint = f"{gone[0]} was folded into {self.folded[gone[0]]}" if gone else ""
        return self.nodes[known_as(name, self.nodes, hint)]

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

    @full_precision()
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
        gates = {self.node(name).name: gate for name, gate in (gates or {}).items()}
        edits = {self.node(name).name: edit for name, edit in (edits or {}).items()}
        keep = set(self.nodes if record == "all" else (self.node(name).name for name in record))
        if not gates and not edits:
            logits, values = self._recorder(frozenset(keep))(x)
            return Trace(logits, {name: self.nodes[name].layout.images(value) for name, value in values.items()})
        changing = _Changing(gates, edits, keep)
        return Trace(replaced(self, x, changing), changing.values)

    def _recorder(self, keep: frozenset[str]) -> fx.GraphModule:
        """The network compiled to return its logits and, by name, the values of the nodes ``keep``."""

        def make() -> fx.GraphModule:
            nodes = self.module.graph.nodes
            logits = next(node for node in nodes if node.op == "output").args[0]
            kept = {node_name(node): node for node in nodes if node_name(node) in keep}
            return part(self.module, (logits, kept))

        return _kept(self._recorders, keep, RECORDERS, make)

    def gated(self, nodes: Sequence[str]) -> Gated:
        """The network with a factor at the output of each of ``nodes``; raises UnknownNode and BadOption."""
        key = tuple(self.node(name).name for name in nodes)
        return _kept(self._gated, key, GATED, lambda: Gated(self, key))

    def rewrite(self, rules: Mapping[str, Backward]) -> Callable[[torch.Tensor], torch.Tensor]:
        """Images to logits, with other backward rules at chosen nodes.

        rules: by name of a node, or of a family for all its nodes; a rule returns the gradients of a node's inputs,
        given that of its output, its inputs and its output. Raises UnknownNode, and BadOption for a family that the
        network does not have.
        """
        return rewritten(self, rules)

    def stream(
        self,
        loader: Batches,
        record: Iterable[str] | Literal["all"] = (),
        start: int = 0,
        most: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Step]:
        """One pass over ``loader``, batches (images, labels): what a run of each records, without gradients.

        record: as in `run`. start: how many images to skip, where a stopped pass goes on. most: images that run at
        once, None as many as a batch has; no more than one batch's values are held. progress: called behind every
        step with the number of images done. Images move to the graph's device. Raises BadInput and UnknownNode.
        """
        return streamed(self, loader, record, start, most, progress)

    def snapshot(self) -> Graph:
        """A graph with weights of its own, as they are now, which no training of the model changes."""
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module).requires_grad_(False)
        twin.nodes = bind_nodes(twin.module)
        twin._recorders, twin._gated = {}, {}
        twin.__dict__.pop("fingerprint", None)
        return twin

    @cached_property
    def device(self) -> torch.device:
        """Where the network computes."""
        held = next(iter((*self.module.parameters(), *self.module.buffers())), None)
        return torch.device("cpu") if held is None else held.device

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


class _Changing:
    """What a run puts in place of a node's output: edited, then gated; what it keeps stands in ``values``."""

    def __init__(self, gates: Mapping[str, torch.Tensor], edits: Mapping[str, Edit], keep: set[str]) -> None:
        self.gates, self.edits, self.keep = gates, edits, keep
        self.values: dict[str, torch.Tensor] = {}

    def __call__(self, call: Call) -> torch.Tensor:
        name, layout, value = call.node.name, call.node.layout, call.run(call.inputs)
        if name in self.edits:
            inputs = [own.images(given) for own, given in zip(call.node.input_layouts, call.inputs)]
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
