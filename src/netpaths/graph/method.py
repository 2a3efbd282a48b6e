"""What a notion of path must offer; consumers see only this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from netpaths.path import Path

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph


class PathMethod(Protocol):
    """A notion of path: from a graph and images to one path per image."""

    def fit(self, graph: Graph, loader: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> PathMethod:
        """Learn what the method needs from training batches; most need nothing."""
        ...

    def extract(self, graph: Graph, x: torch.Tensor) -> list[Path]:
        """One path per image of ``x`` (batch, *input shape)."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Name and parameters, stored with every path and profile."""
        ...

    def check(self) -> None:
        """Raise BadOption for a parameter out of range."""
        ...

    def explain(self, seed: str) -> list[str]:
        """How a path of class ``seed`` is found, step by step, for someone who has not read the paper."""
        ...


@runtime_checkable
class RankedMethod(Protocol):
    """A notion of path with a seed, so that the runner-up class has a path of its own."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks whose paths are worth comparing with a profile."""
        ...

    def extract_ranks(self, graph: Graph, x: torch.Tensor, ranks: tuple[int, ...]) -> list[list[Path]]:
        """The paths of several ranks from one forward pass: a list (ranks) of lists (batch)."""
        ...
