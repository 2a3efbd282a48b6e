"""Paths by weight norm: the channels whose weights are largest, whatever the image.

The score of a channel is ‖W_c‖₁, over the mean of its layer so that layers of different fan-in compare. Without a share
this is AWR, a baseline of Wang et al. (CVPR 2018); norm and scope are our reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from netpaths.errors import BadOption
from netpaths.graph import Graph
from netpaths.methods.ranked import Ranked
from netpaths.methods.units import unit_shapes


@dataclass(frozen=True)
class WeightNorm(Ranked):
    """Extract the units with the largest ‖W_c‖₁ over their layer's mean; all neurons of a channel share it.

    Raises BadOption for a node without a weight, such as the output of a residual block.
    """

    name: ClassVar[str] = "weight"
    scored: ClassVar[str] = "the size of its weights over the mean of its layer, whatever the image"

    def score(self, graph: Graph, x: Tensor, nodes: Sequence[str]) -> list[Tensor]:
        """‖W_c‖₁ over the layer's mean, the same for every image: (batch, *unit shape) for each of ``nodes``."""
        shapes = unit_shapes(graph, nodes, self.kind)
        return [_wide(_norms(graph, name), shape).expand(len(x), *shape) for name, shape in zip(nodes, shapes)]


def _norms(graph: Graph, name: str) -> Tensor:
    """‖W_c‖₁ of every channel of a layer over their mean, 0 where all weights are: (channels,)."""
    node = graph.node(name)
    if not node.layer:
        raise BadOption(f"{name} has no weight and so no weight norm; name convolution or linear layers instead")
    norms = node.weight.detach().flatten(1).abs().sum(1)
    return norms / norms.mean() if bool(norms.any()) else norms


def _wide(norms: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The norms with axes of one behind them, as many as ``shape`` has."""
    return norms.reshape(-1, *(1 for _ in shape[1:]))
