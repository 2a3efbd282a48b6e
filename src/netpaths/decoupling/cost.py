"""What a decoupled network has to compute: multiply–accumulates of the chosen filters and of the controllers.

A convolution costs k² H W · (channels of its input that are on) · (filters that are on), as in Li et al. (ECCV 2020);
a linear layer, accordingly, what its inputs that are on cost. A controller costs one addition for every element that
it pools and its two small matrices. Activations, pools, additions and batch norm (folded) are not counted, as is usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

from netpaths.decoupling.controller import Controller
from netpaths.decoupling.layers import DecoupledLayer, Piece, decoupled_layers, zero_channels
from netpaths.graph import Graph

Codes = Mapping[str, torch.Tensor]
"""By convolution node, which filters are on: (batch, filters), 0 or 1."""


@dataclass(frozen=True)
class LayerCost:
    """Multiply–accumulates of one linear or convolution layer with everything on, the pieces of its input, the
    layer whose code says which of its outputs are computed (itself, or None), and its groups of channels."""

    macs: int
    inputs: tuple[Piece, ...]
    layer: str | None
    groups: int


class Cost:
    """Counts multiply–accumulates of a decoupled network; raises BadOption for one without controllers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.decoupled: Sequence[DecoupledLayer] = decoupled_layers(graph)

    @cached_property
    def layers(self) -> Mapping[str, LayerCost]:
        """The cost of every linear and convolution layer by node name."""
        pieces, own = zero_channels(self.graph), {layer.convolution for layer in self.decoupled}
        return {
            name: LayerCost(
                _macs(self.graph, name),
                pieces[self.graph.nodes[name].inputs[0]],
                name if name in own else None,
                self.graph.nodes[name].arguments.get("groups", 1),
            )
            for name in self.graph.layers
        }

    @cached_property
    def dense(self) -> int:
        """Multiply–accumulates of an image in the network without controllers."""
        return sum(layer.macs for layer in self.layers.values())

    @cached_property
    def controllers(self) -> int:
        """Multiply–accumulates, and additions of the pooling, of all controllers for an image."""
        total = 0
        for layer in self.decoupled:
            node = self.graph.nodes[layer.controller]
            module: Controller = node.arguments["module"]
            total += prod(node.input_shapes[0]) + module.squeeze.weight.numel() + module.excite.weight.numel()
        return total

    def by_layer(self, codes: Codes) -> dict[str, torch.Tensor]:
        """Multiply–accumulates of every layer: (batch,) float64 by node name, controllers left out."""
        return {name: layer.macs * _share(layer, codes) for name, layer in self.layers.items()}

    def of(self, codes: Codes) -> torch.Tensor:
        """Multiply–accumulates of every image, controllers included: (batch,) float64."""
        return torch.stack(list(self.by_layer(codes).values())).sum(0) + self.controllers

    def most(self) -> int:
        """Multiply–accumulates of an image for which every filter is on, controllers included."""
        widths = {layer.convolution: self.graph.nodes[layer.convolution].shape[0] for layer in self.decoupled}
        return round(float(self.of({name: torch.ones(1, width) for name, width in widths.items()})))


def _macs(graph: Graph, name: str) -> int:
    """Outputs times weights of each: padding counts, as is usual."""
    node = graph.nodes[name]
    return prod(node.shape) * node.weight[0].numel()


def _share(layer: LayerCost, codes: Codes) -> torch.Tensor:
    """The share of a layer's products that are computed, an output reading its own group: (batch,) float64."""
    some = next(iter(codes.values()))
    inputs = torch.cat([_on(piece, some, codes) for piece in layer.inputs], dim=1)
    outputs = some.new_ones(len(some), layer.groups) if layer.layer is None else codes[layer.layer]
    read, made = (_grouped(each, layer.groups) for each in (inputs, outputs))
    whole = sum(piece.channels * piece.spread for piece in layer.inputs) / layer.groups
    return (read * made).mean(1) / (whole * outputs.shape[1] / layer.groups)


def _on(piece: Piece, some: torch.Tensor, codes: Codes) -> torch.Tensor:
    """How many elements of each channel are on: (batch, channels)."""
    if piece.layer is None:
        return piece.spread * some.new_ones(len(some), piece.channels)
    code = codes[piece.layer]
    if piece.places is None:
        return piece.spread * code
    places = torch.tensor(piece.places, device=code.device)
    return code.new_zeros(len(code), piece.channels).index_copy(1, places, piece.spread * code)


def _grouped(values: torch.Tensor, groups: int) -> torch.Tensor:
    """Sums over each group of channels: (batch, groups) float64."""
    return values.double().reshape(len(values), groups, -1).sum(2)
