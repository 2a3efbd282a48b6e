"""One operation of a traced network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch

from netpaths.graph.field import Field
from netpaths.graph.layout import Layout
from netpaths.graph.moves import Move

if TYPE_CHECKING:
    from netpaths.graph.family import Family


class Call(Protocol):
    """Runs the node's operation on given inputs."""

    def __call__(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class Node:
    """One operation with its arguments bound.

    name: the node's. operation: what the model calls, such as Conv2d or conv2d. module: dotted module name, "" for
    functions. family: the layer family, None for the network's input. inputs: names of the nodes it reads. shape,
    input_shapes: without the batch. arguments: everything else by parameter name; tensors are constants. layout,
    input_layouts: where the network's own tensors keep their images. parents: the nodes it reads, in an exported
    network.
    """

    name: str
    operation: str
    module: str
    family: Family | None
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    arguments: Mapping[str, Any]
    call: Call | None = None
    layout: Layout = dataclasses.field(default_factory=Layout)
    input_layouts: tuple[Layout, ...] = ()
    parents: tuple[Node, ...] = ()

    @property
    def layer(self) -> bool:
        """Whether it is a linear or convolution layer: these carry weights, and detectors look at them alone."""
        return self.family is not None and self.family.weighted

    @cached_property
    def frozen(self) -> bool:
        """Whether paths do not go through the node: a pattern, or what is computed from patterns alone."""
        if self.family is None or not self.parents:
            return False
        patterns = [parent.frozen for parent in self.parents]
        return self.family.frozen or all(patterns)

    @property
    def weight(self) -> torch.Tensor:
        """The weight (outputs, inputs of a group, *kernel), with batch norm folded in where the graph folded it."""
        weight = None if self.family is None else self.family.weight(self)
        if not isinstance(weight, torch.Tensor):
            raise TypeError(f"{self.name} has no weight")
        return weight

    @cached_property
    def weight_norms(self) -> torch.Tensor:
        """The Euclidean length of every output channel's weights: (out,) float64."""
        norms: torch.Tensor = torch.linalg.vector_norm(self.weight.detach().flatten(1), dim=1, dtype=torch.float64)
        return norms

    @cached_property
    def field(self) -> Field | None:
        """The receptive fields, or None where outputs do not combine inputs."""
        return None if self.family is None or self.family.field is None else self.family.field(self)

    @cached_property
    def moves(self) -> tuple[Move, ...]:
        """For every input of a remapping node, which of its elements each output copies.

        Found by running the operation itself on positions, twice with different offsets: what moves along is a
        copy, anything else is padding.
        """
        return tuple(Move.of(self._origin(index), self.input_shapes[index]) for index in range(len(self.inputs)))

    def _origin(self, index: int) -> torch.Tensor:
        if self.call is None:
            raise TypeError(f"{self.name} copies no input")
        size = torch.Size(self.input_shapes[index]).numel()
        first = self.call(self._positions(index, 1))[0].reshape(-1)
        second = self.call(self._positions(index, 1 + size))[0].reshape(-1)
        return torch.where(second - first == size, first - 1, -1.0).long()

    def _positions(self, index: int, offset: int) -> list[torch.Tensor]:
        positions = []
        for place, shape in enumerate(self.input_shapes):
            size = torch.Size(shape).numel()
            values = torch.arange(size, dtype=torch.float64) + offset if place == index else torch.zeros(size).double()
            positions.append(values.reshape(1, *shape).repeat(2, *(1 for _ in shape)))
        return positions
