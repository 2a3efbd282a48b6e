"""Take filters out of a decoupled network for good: those that no image of some classes switches on.

A filter goes with its row of the convolution, its channel of the batch norm and its row of the controller. Where all
that reads the gate's output can do with fewer channels — convolutions without groups, linear layers and controllers,
behind operations that keep a zero channel zero — their columns for it go too. Anywhere else, such as in front of a
residual addition, the gate puts its channels back to where they were among zeros (`ScatteringGate`). The wiring of the
network stays as it is.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter

import torch
from torch import Tensor, fx, nn

from netpaths.decoupling.controller import Gate, ScatteringGate
from netpaths.decoupling.insertion import Decoupled
from netpaths.decoupling.layers import KEEPS_ZERO, DecoupledLayer, Piece, decoupled_layers, zero_channels
from netpaths.errors import BadOption
from netpaths.graph import Graph, Node
from netpaths.graph.module import MODE
from netpaths.graph.naming import node_name
from netpaths.path import Path

CONVOLUTIONS = ("conv1d", "conv2d")
FILTERWISE = (*CONVOLUTIONS, "batch_norm", "prelu")
"""Between a layer's input and its gate: operations whose tensors have a row for every filter."""

SIDE_BY_SIDE = ("cat", "flatten")
"""Rearrangements that name no number of channels."""


def remove_unused(network: Decoupled, path: Path) -> Decoupled:
    """A copy of ``network`` without the filters that are not on ``path``, in evaluation mode.

    path: channels of every decoupled layer, such as the union of class paths of `CalculationPath`. For images whose
    codes lie on the path the logits stay as they are, to rounding; for others they are those of ``network`` with the
    missing filters switched off. Whole stay convolutions with groups, layers that share a weight with another call, and
    layers whose convolution or batch norm is no module. A layer none of whose filters is on the path keeps its first,
    as a convolution needs one. Raises BadOption for a path of other layers or filters.
    """
    return keep_filters(network, _used(network, path))


def keep_filters(network: Decoupled, kept: Mapping[str, Sequence[int]]) -> Decoupled:
    """A copy of ``network`` with the filters ``kept`` alone, as `remove_unused` makes it.

    kept: by layer, positions among the filters that it has, ascending; a layer that is left out keeps all. Raises
    BadOption for no such layer or filter.
    """
    smaller = copy.deepcopy(network).eval()
    for layer, filters in kept.items():
        _check(smaller, layer, filters)
    _Removal(smaller, kept).apply()
    return smaller


def kept_filters(network: Decoupled) -> dict[str, list[int]]:
    """For every layer that lost filters those that it kept, as positions among the filters that it once had."""
    kept = {layer: network.gate(layer).kept for layer in network.layers}
    return {layer: filters.tolist() for layer, filters in kept.items() if filters is not None}


def _used(network: Decoupled, path: Path) -> dict[str, list[int]]:
    """By layer the filters on ``path``."""
    widths = {layer: (width,) for layer, width in network.widths.items()}
    given = {layer: path[layer, "channel"].shape for layer in path.nodes("channel")}
    if given != widths:
        wanted = ", ".join(f"{layer} ({width})" for layer, (width,) in widths.items())
        raise BadOption(f"the path is of another network; its channels must be those of {wanted}")
    return {layer: path[layer, "channel"].members().tolist() for layer in widths}


def _check(network: Decoupled, layer: str, filters: Sequence[int]) -> None:
    if layer not in network.layers:
        raise BadOption(f"{layer} is no decoupled layer; these are {', '.join(network.layers)}")
    width = network.widths[layer]
    if list(filters) != sorted({each for each in filters if 0 <= each < width}):
        raise BadOption(f"filters of {layer} must be ascending positions below {width}")


class _Removal:
    """Narrows the modules of ``network``, in place."""

    def __init__(self, network: Decoupled, kept: Mapping[str, Sequence[int]]) -> None:
        self.network = network
        self.place = network.controller(network.layers[0]).excite.weight
        self.graph = Graph(network, self.place.new_zeros(1, *network.input_shape), fold=False)
        self.pieces = zero_channels(self.graph)
        self.rows = {
            layer: self._positions(kept[layer.convolution] or [0])
            for layer in decoupled_layers(self.graph)
            if self._loses(layer, kept.get(layer.convolution))
        }

    def apply(self) -> None:
        """Take columns away, then rows, then exchange gates."""
        closed = {layer.convolution: rows for layer, rows in self.rows.items() if self.thin[layer.gate]}
        for node in [node for node in self.graph.nodes.values() if self._takes(node)]:
            self._narrow_columns(node, closed)
        for layer, rows in self.rows.items():
            for node in self._chain(layer):
                self._narrow_filters(node, rows)
            excite = self.network.controller(layer.convolution).excite
            for name in ("weight", "bias"):
                _put(excite, name, getattr(excite, name).detach()[rows])
            excite.out_features = len(rows)
            self._exchange(layer, rows)

    def _positions(self, filters: Iterable[int]) -> Tensor:
        return torch.tensor(list(filters), dtype=torch.int64, device=self.place.device)

    def _loses(self, layer: DecoupledLayer, filters: Sequence[int] | None) -> bool:
        """Whether a layer loses any filter."""
        if filters is None or max(len(filters), 1) == self.network.widths[layer.convolution]:
            return False
        return all(self._filterwise(node) for node in self._chain(layer))

    def _chain(self, layer: DecoupledLayer) -> list[Node]:
        """The nodes between a gate and its convolution, that included."""
        found = [self.graph.nodes[self.graph.nodes[layer.gate].inputs[0]]]
        while found[-1].name != layer.convolution:
            found.append(self.graph.nodes[found[-1].inputs[0]])
        return found

    def _filterwise(self, node: Node) -> bool:
        """Whether a node between convolution and gate can lose filters."""
        if node.operation in FILTERWISE:
            return self._alone(node) and node.arguments.get("groups", 1) == 1
        return not node.layer and not _has_wide(node)

    @cached_property
    def thin(self) -> Mapping[str, bool]:
        """For every node whether all that reads its value can do with fewer channels."""
        found: dict[str, bool] = {}
        for name in reversed(tuple(self.graph.nodes)):
            readers = [self.graph.nodes[reader] for reader in self.graph.readers[name]]
            passed = all(self._takes(reader) or (self._passes(reader) and found[reader.name]) for reader in readers)
            found[name] = passed and name != self.graph.output
        return found

    def _takes(self, node: Node) -> bool:
        """Whether a node has a column for every channel that it reads."""
        if node.operation == "controller":
            return True
        mixes = node.operation in (*CONVOLUTIONS, "linear") and node.arguments.get("groups", 1) == 1
        return mixes and self._alone(node)

    def _passes(self, node: Node) -> bool:
        """Whether a node's output has fewer channels where its input has."""
        if _family(node) in KEEPS_ZERO:
            return not _has_wide(node)
        covered = any(piece.layer is not None for piece in self.pieces[node.name])
        return covered and node.operation in SIDE_BY_SIDE

    @cached_property
    def _calls(self) -> Mapping[str, fx.Node]:
        """The network's own operations by name."""
        return {node_name(node): node for node in self.network.graph.nodes}

    def _tensors(self, node: Node) -> list[str]:
        """The names of the tensors that an operation reads."""
        sources = self._calls[node.name].all_input_nodes
        return [str(source.target) for source in sources if source.op == "get_attr" and source.target != MODE]

    @cached_property
    def _uses(self) -> Counter[int]:
        """How many operations read each tensor, by its id."""
        found: Counter[int] = Counter()
        for node in self.network.graph.nodes:
            if node.op == "get_attr":
                found[id(attrgetter(str(node.target))(self.network))] += len(node.users)
        return found

    def _alone(self, node: Node) -> bool:
        """Whether an operation's tensors are attributes that no other operation reads."""
        held = [attrgetter(name)(self.network) for name in self._tensors(node)]
        constants = sum(isinstance(value, Tensor) for value in node.arguments.values())
        return len(held) == constants and all(self._uses[id(tensor)] == 1 for tensor in held)

    def _narrow_columns(self, node: Node, closed: Mapping[str, Tensor]) -> None:
        """Keep the columns of a node's module for the channels that are left of what it reads."""
        pieces = self.pieces[node.inputs[0]]
        if not any(piece.layer in closed for piece in pieces):
            return
        start, columns = 0, []
        for piece in pieces:
            columns.append(start + self._left(piece, closed))
            start += piece.channels * piece.spread
        kept = torch.cat(columns)
        if node.operation == "controller":
            squeeze = self.network.controller(node.name.removeprefix("controllers.")).squeeze
            _put(squeeze, "weight", squeeze.weight.detach()[:, kept])
            squeeze.in_features = len(kept)
        else:
            self._replace(self._tensors(node)[0], kept, 1)

    def _left(self, piece: Piece, closed: Mapping[str, Tensor]) -> Tensor:
        """The elements of a piece that are left, from 0: (left,) int64."""
        elements = self._positions(range(piece.channels * piece.spread)).reshape(piece.channels, piece.spread)
        rows = closed.get(piece.layer or "")
        return (elements if rows is None else elements[rows]).flatten()

    def _narrow_filters(self, node: Node, rows: Tensor) -> None:
        """Keep the rows of an operation between convolution and gate, where it has one for every filter."""
        for name in self._tensors(node):
            if attrgetter(name)(self.network).numel() > 1 or node.operation != "prelu":
                self._replace(name, rows, 0)

    def _replace(self, name: str, kept: Tensor, axis: int) -> None:
        """Leave of one of the network's tensors what is ``kept`` along an axis."""
        owner, _, last = name.rpartition(".")
        module = self.network.get_submodule(owner)
        _put(module, last, getattr(module, last).detach().index_select(axis, kept))

    def _exchange(self, layer: DecoupledLayer, rows: Tensor) -> None:
        """The gate of a layer that has ``rows`` of its filters left."""
        name = layer.convolution
        old, width = self.network.gate(name), self.graph.nodes[name].shape[0]
        kept = rows if old.kept is None else old.kept[rows]
        scattered = old.width if isinstance(old, ScatteringGate) else width
        made = Gate(kept) if self.thin[layer.gate] else ScatteringGate(kept, scattered)
        self.network.add_submodule(f"gates.{name}", made.eval())


def _family(node: Node) -> str:
    return "" if node.family is None else node.family.name


def _has_wide(node: Node) -> bool:
    """Whether a node reads a constant with more than one element, such as a slope for every channel."""
    return any(isinstance(value, Tensor) and value.numel() > 1 for value in node.arguments.values())


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Exchange a parameter or a buffer."""
    old = getattr(module, name)
    setattr(module, name, nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value)
