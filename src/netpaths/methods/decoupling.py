"""Calculation paths: the filters that the controllers of a decoupled network switch on for an image.

Li et al., "Interpretable Neural Network Decoupling", ECCV 2020. In a decoupled network every convolution but the stem
has a controller that chooses, from the layer's input, which of its filters compute. An image's path is the codes of all
controllers side by side. Unlike other paths it is no reading of a computation but a part of it: filters that are not on
the path contribute nothing, so keeping the path alone changes no logit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from netpaths.decoupling.layers import decoupled_layers
from netpaths.graph import Graph
from netpaths.methods.units import unit_paths
from netpaths.path import Path


@dataclass(frozen=True)
class CalculationPath:
    """Read the codes of a decoupled network (Li et al. 2020): channels of its convolutions, each on or off.

    `netpaths.decouple` makes such a network. There is nothing to choose.
    """

    def describe(self) -> dict[str, Any]:
        """The name as a JSON value."""
        return {"name": "decoupling"}

    def explain(self, seed: str) -> list[str]:
        """How a path of class ``seed`` is found, step by step, for someone who has not read the paper."""
        return [
            "In front of every convolution but the first, a small network looks at the convolution’s input and "
            "switches each of its filters on or off, for this image alone.",
            f"The filters that were on while the network decided for class {seed} are on the path. The others "
            "computed nothing that the answer could depend on.",
        ]

    def fit(self, graph: Graph, loader: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> CalculationPath:
        """Nothing to learn: the network holds its controllers; returns itself."""
        return self

    def check(self) -> None:
        """There is no parameter that could be out of range."""

    def extract(self, graph: Graph, x: torch.Tensor) -> list[Path]:
        """One path per image of ``x`` (batch, *input shape).

        Raises BadInput, and BadOption for a network without controllers.
        """
        layers = decoupled_layers(graph)
        with torch.no_grad():
            trace = graph.run(x, record=[layer.controller for layer in layers])
        codes = torch.cat([trace[layer.controller] for layer in layers], dim=1)
        nodes = [layer.convolution for layer in layers]
        return unit_paths(graph, nodes, "channel", codes, trace.logits, self.describe(), valued=False)
