"""Paths by marginal contribution: the units whose removal costs the predicted class most, to first order.

Khakzar et al., "Neural Response Interpretation through the Lens of Critical Pathways", CVPR 2021. With f the logit of
the predicted class, a neuron's score is |a · ∂f/∂a| and a channel's |Σ a · ∂f/∂a| over its neurons. Both are the
derivative of f with respect to a factor of 1 on the unit's output, so that one pass gives the scores of all nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netpaths.gradients import ordinary, with_gradients
from netpaths.graph import Graph, ranked_classes
from netpaths.graph.gated import Gated
from netpaths.methods.ranked import Ranked
from netpaths.methods.units import unit_shapes


@dataclass(frozen=True)
class MarginalContribution(Ranked):
    """Extract the units with the largest |a · ∂f/∂a|, f the logit of the predicted class (Khakzar et al. 2021)."""

    name: ClassVar[str] = "contribution"
    scored: ClassVar[str] = (
        "how much the score of class {seed} would change without it, judged by what weakening it slightly does"
    )

    def score(self, graph: Graph, x: Tensor, nodes: Sequence[str]) -> list[Tensor]:
        """|Σ a · ∂f/∂a| over the unit's neurons, in logits: (batch, *unit shape) for each of ``nodes``."""
        network = graph.gated(nodes)
        gates = [x.new_ones(len(x), *shape) for shape in unit_shapes(graph, nodes, self.kind)]
        with with_gradients():
            return [slope.abs() for slope in gate_slopes(network, network.start(ordinary(x)), gates)]


def gate_slopes(
    network: Gated, start: tuple[object, ...], gates: Sequence[Tensor], classes: Tensor | None = None
) -> list[Tensor]:
    """The derivative of each image's logit with respect to its gates, a tensor like each of ``gates``.

    start: of the network for these images. classes: (batch,) whose logit, None for the predicted ones.
    """
    gates = [gate.detach().requires_grad_() for gate in gates]
    with torch.enable_grad():
        logits = network(start, gates)
        wanted = ranked_classes(logits, 1) if classes is None else classes[:, None]
        return list(torch.autograd.grad(logits.gather(1, wanted).sum(), gates, materialize_grads=True))
