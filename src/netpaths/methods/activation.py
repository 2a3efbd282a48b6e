"""Paths by activation: the units that answer an image most strongly.

The score of a channel is the mean of |a| over its places, of a neuron |a|, over the mean of its node for this image so
that nodes compare. Without a share this is AAR, a baseline of Wang et al. (CVPR 2018); norm and scope are our
reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from netpaths.graph import Graph
from netpaths.methods.ranked import Ranked


@dataclass(frozen=True)
class Activation(Ranked):
    """Extract the units with the largest mean |a| over their node's mean for the image.

    relative: whether to divide by the node's mean; without it nodes of large values come first, and values are plain
    mean activations.
    """

    name: ClassVar[str] = "activation"

    relative: bool = True
    scored: ClassVar[str] = "how strongly it answers this image, over the mean of its layer"

    def score(self, graph: Graph, x: Tensor, nodes: Sequence[str]) -> list[Tensor]:
        """Mean |a|, over the node's mean where relative: (batch, *unit shape) for each of ``nodes``."""
        with torch.no_grad():
            trace = graph.run(x, record=nodes)
        strengths = [self._strength(trace[name].abs()) for name in nodes]
        return [_over_mean(own) for own in strengths] if self.relative else strengths

    def _strength(self, values: Tensor) -> Tensor:
        return values if self.kind == "neuron" or values.dim() == 2 else values.flatten(2).mean(2)


def _over_mean(values: Tensor) -> Tensor:
    """The values (batch, *unit shape) over each image's mean."""
    means = values.flatten(1).mean(1).reshape(-1, *(1 for _ in values.shape[1:]))
    return torch.where(means > 0, values / means, 0.0)
