"""From the nodes of a network to the operations of a program that computes chosen filters alone.

A function for each family looks at a node once. It returns what writes the node's operation into a program, or None for
a node that torch must run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netpaths.graph import Graph, Node
from netpaths.runtime.convolution import lower_convolution
from netpaths.runtime.elementwise import lower_activation, lower_addition, lower_affine, lower_gate
from netpaths.runtime.foreign import Foreign
from netpaths.runtime.linear import lower_controller, lower_linear
from netpaths.runtime.placement import Operation
from netpaths.runtime.pooling import lower_pool
from netpaths.runtime.program import Program, Write
from netpaths.runtime.rearrangement import lower_rearrangement


@dataclass(eq=False)
class Lowering:
    """What is known of a network while its nodes are looked at.

    gated: by convolution node, the node of the code that says which filters to compute. fixed: by controller node, the
    filters that are on for every image.
    """

    graph: Graph
    foreign: Foreign
    gated: Mapping[str, str]
    fixed: Mapping[str, Tensor]

    def write(self, name: str) -> Write | None:
        """What writes the node, or None where torch must run it."""
        node = self.graph.nodes[name]
        family = "" if node.family is None else node.family.name
        if len(node.shape) not in (1, 2, 3) or not node.layout.plain:
            return None
        lower = FAMILIES.get(family)
        return None if lower is None else lower(self, node)

    def fusable(self, program: Program, name: str) -> Operation | None:
        """The operation that wrote the node's value, where its only reader may still change it."""
        operation = program.last.get(name)
        alone = len(self.graph.readers[name]) == 1 and name != self.graph.output
        return operation if operation is not None and operation.open and alone else None

    def probe(self, node: Node, filled: float) -> np.ndarray:
        """The node's output (*shape) where its input is filled with one number, in float64."""
        given = {name: torch.full((1, *self.graph.nodes[name].shape), filled).double() for name in node.inputs}
        return np.asarray(self.foreign.once(node.name, given)[0])


FAMILIES: Mapping[str, Callable[[Lowering, Node], Write | None]] = {
    "convolution": lower_convolution,
    "linear": lower_linear,
    "controller": lower_controller,
    "gate": lower_gate,
    "activation": lower_activation,
    "batch norm": lower_affine,
    "scaling": lower_affine,
    "subtraction": lower_affine,
    "negation": lower_affine,
    "addition": lower_addition,
    "max pooling": lower_pool,
    "average pooling": lower_pool,
    "rearrangement": lower_rearrangement,
}
"""What looks at a node, by its family."""
