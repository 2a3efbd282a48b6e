"""Paths by integrated gradients: what every unit adds to the predicted class while its node is faded in.

Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, applied to the output of one node as Khakzar
et al. (CVPR 2021) apply it to neurons. With f the logit of the predicted class and g a factor on each unit of the node,

    IG_u = ∫₀¹ ∂f/∂g_u at g = (α, …, α) dα          and so          Σ_u IG_u = f(α = 1) − f(α = 0)

Nodes are taken one at a time, with the rest of the network as it is: a node's units share what that node alone adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netpaths.errors import BadOption
from netpaths.gradients import ordinary, with_gradients
from netpaths.graph import Graph, ranked_classes
from netpaths.methods.contribution import gate_slopes
from netpaths.methods.ranked import Ranked
from netpaths.methods.units import unit_shapes


@dataclass(frozen=True)
class IntegratedGradients(Ranked):
    """Extract the units with the largest integrated gradient of the predicted class's logit, whatever its sign.

    points: on the way from 0 to the node's output, at least 1; each takes one pass for every node.
    """

    name: ClassVar[str] = "integrated-gradients"
    scored: ClassVar[str] = (
        "how much it adds to the score of class {seed}, or takes away, while its layer is faded in from nothing"
    )

    points: int = 20

    def check(self) -> None:
        """Raise BadOption for a parameter out of range."""
        super().check()
        if not isinstance(self.points, int) or self.points < 1:
            raise BadOption(f"points must be a whole number from 1, not {self.points!r}")

    @with_gradients()
    def score(self, graph: Graph, x: Tensor, nodes: Sequence[str]) -> list[Tensor]:
        """|IG|, in logits: (batch, *unit shape) for each of ``nodes``."""
        x = ordinary(x)
        with torch.no_grad():
            classes = ranked_classes(graph.run(x).logits, 1)[:, 0]
        return [integrated(graph, x, node, classes, self.kind, self.points).abs() for node in nodes]


def integrated(graph: Graph, x: Tensor, node: str, classes: Tensor, kind: str = "neuron", points: int = 20) -> Tensor:
    """IG of the logits of ``classes`` (batch,) along the output of ``node``, signed: (batch, *unit shape).

    By the midpoint rule: f is piecewise linear in α for a network of ReLUs, and its slope has jumps that a rule for
    smooth functions such as Gauss-Legendre makes nothing of.
    """
    network, (shape,) = graph.gated([node]), unit_shapes(graph, [node], kind)
    start, total = network.start(x), x.new_zeros(len(x), *shape)
    for point in range(points):
        gates = [torch.full_like(total, (point + 0.5) / points)]
        total += gate_slopes(network, start, gates, classes)[0]
    return total / points
