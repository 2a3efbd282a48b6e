"""The decoupled layers of a traced network, and which channels of a value are zero where a filter is off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from netpaths.decoupling.controller import ScatteringGate
from netpaths.errors import BadOption
from netpaths.graph import Graph

KEEPS_ZERO = ("activation", "conversion", "scaling", "negation", "average pooling", "max pooling")
"""Families whose output channel is zero where their input channel is."""


@dataclass(frozen=True)
class DecoupledLayer:
    """A convolution with a controller: the names of its node, of the controller's and of the gate's."""

    convolution: str
    controller: str
    gate: str


@dataclass(frozen=True)
class Piece:
    """Channels of a value that stand side by side: those of one decoupled layer, or such as are never off.

    layer: the convolution's node whose code says which are zero, or None. channels: how many. spread: elements of
    the value for each of them, 1 unless maps were flattened. places: where each of the layer's filters stands among
    the channels, ascending, None where they are the channels; no code covers the others, which are always zero.
    """

    layer: str | None
    channels: int
    spread: int = 1
    places: tuple[int, ...] | None = None


def is_decoupled(graph: Graph) -> bool:
    """Whether any layer of ``graph`` has a controller."""
    return any(_family(graph, name) == "gate" for name in graph.nodes)


def decoupled_layers(graph: Graph) -> tuple[DecoupledLayer, ...]:
    """The decoupled layers of ``graph`` from input to output; raises BadOption where there is none."""
    found = []
    for name, node in graph.nodes.items():
        if _family(graph, name) != "gate":
            continue
        features, code = node.inputs
        while not graph.nodes[features].layer:
            (features,) = graph.nodes[features].inputs
        found.append(DecoupledLayer(features, code, name))
    if not found:
        raise BadOption("the network has no controllers; make a decoupled one with netpaths decouple")
    return tuple(found)


def zero_channels(graph: Graph) -> Mapping[str, tuple[Piece, ...]]:
    """For every node the pieces of its output, which add up to its channels, or to its elements for a vector."""
    gates = {layer.gate: layer.convolution for layer in decoupled_layers(graph)}
    found: dict[str, tuple[Piece, ...]] = {}
    for name, node in graph.nodes.items():
        family, sources = _family(graph, name), [found[source] for source in node.inputs]
        dense = (Piece(None, node.shape[0] if node.shape else 1),)
        if family == "gate":
            found[name] = (Piece(gates[name], node.shape[0], places=_places(graph, name)),)
        elif family in KEEPS_ZERO and len(sources) == 1:
            found[name] = sources[0]
        elif family == "rearrangement":
            found[name] = _rearranged(graph, name, sources) or dense
        else:
            found[name] = dense
    return found


def _places(graph: Graph, gate: str) -> tuple[int, ...] | None:
    """Where a gate's channels stand in its output, None for side by side."""
    module = graph.nodes[gate].arguments["module"]
    return tuple(module.kept.tolist()) if isinstance(module, ScatteringGate) else None


def _rearranged(graph: Graph, name: str, sources: list[tuple[Piece, ...]]) -> tuple[Piece, ...] | None:
    """The pieces of whole inputs side by side, as in a concatenation of channels or a flattening; None otherwise."""
    node = graph.nodes[name]
    starts = [move.start for move in node.moves]
    if None in starts or sum(map(prod, node.input_shapes)) != prod(node.shape):
        return None
    parts = sorted(zip(starts, sources, node.input_shapes), key=lambda part: part[0] or 0)
    if len(node.shape) > 1 and any(shape[1:] != node.shape[1:] for shape in node.input_shapes):
        return None
    return tuple(
        replace(piece, spread=piece.spread * (prod(shape[1:]) if len(node.shape) == 1 else 1))
        for _, pieces, shape in parts
        for piece in pieces
    )


def _family(graph: Graph, name: str) -> str:
    family = graph.nodes[name].family
    return "" if family is None else family.name
