"""What a notion of path must offer; consumers see only this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch

from netpaths.graph import Graph
from netpaths.path import Path


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
