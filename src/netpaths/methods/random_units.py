"""Random paths: the control that every other notion of path over units must beat. Our own construction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from netpaths.graph import Graph
from netpaths.methods.ranked import Ranked
from netpaths.methods.units import by_node, unit_shapes


@dataclass(frozen=True)
class RandomUnits(Ranked):
    """Extract units at random: for one ``seed`` an image always has the same path, whatever batch it is in."""

    name: ClassVar[str] = "random"
    scored: ClassVar[str] = "one drawn at random, always the same for the same image"

    seed: int = 0

    def score(self, graph: Graph, x: Tensor, nodes: Sequence[str]) -> list[Tensor]:
        """Uniform in (0, 1], drawn anew for every image: (batch, *unit shape) for each of ``nodes``."""
        shapes = unit_shapes(graph, nodes, self.kind)
        units = sum(prod(shape) for shape in shapes)
        drawn = x.new_empty(len(x), units)
        for image, row in zip(x, drawn):
            row.copy_(1 - torch.rand(units, generator=self._generator(image)))
        return by_node(drawn, shapes)

    def _generator(self, image: Tensor) -> torch.Generator:
        """A generator seeded with SHA-256 over the seed and the image's bytes."""
        digest = hashlib.sha256(f"{self.seed}|".encode())
        digest.update(image.detach().cpu().contiguous().numpy().tobytes())
        return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big"))
