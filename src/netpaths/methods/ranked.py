"""Paths of the units with the largest scores: what every notion of path that ranks channels or neurons shares.

1. Every unit of the routed nodes has a score of at least 0 for the image.
2. Units are ranked by falling score, equal ones by position, over the network or within each node.
3. A share of them is the path. Or, without a share, units are removed from the smallest score upwards in small steps,
   and the last ones left while the network's top class is unchanged are the path.

Removal is the procedure behind AWR and AAR, the baselines of Wang et al. (CVPR 2018), with weight and activation norms
as scores. The paper publishes neither norm, step nor scope: all three are our reconstruction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import ceil, prod
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from netpaths.errors import BadOption
from netpaths.graph import Graph, ranked_classes
from netpaths.graph.gated import Gated
from netpaths.methods.units import by_node, routed_nodes, unit_paths, unit_shapes
from netpaths.path import Path

Own = TypeVar("Own", bound="Ranked")


@dataclass(frozen=True)
class Ranked(ABC):
    """Extract the units with the largest scores; a notion of path fills the one hole, `score`, and names it.

    share: of the units that are kept, in (0, 1], but never one of score 0; None removes units while the top class
    stays. kind: of units. layers: nodes to route, None for those of Wang et al. across: rank the units of the network
    together, or keep the same share of every layer. step: share of the units that one step removes, at least one unit.
    binary: give every unit the value 1 instead of its score.
    """

    name: ClassVar[str]
    scored: ClassVar[str]
    """What the score is, in plain words behind "a number:"; {seed} stands for the class."""

    share: float | None = 0.1
    kind: Literal["channel", "neuron"] = "channel"
    layers: tuple[str, ...] | None = None
    across: Literal["network", "layer"] = "network"
    step: float = 0.01
    binary: bool = False

    @abstractmethod
    def score(self, graph: Graph, x: Tensor, nodes: Sequence[str]) -> list[Tensor]:
        """Scores of at least 0, (batch, *unit shape) for each of ``nodes``."""

    def describe(self) -> dict[str, Any]:
        """Name and parameters as JSON values."""
        parameters = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"name": self.name, **parameters, "layers": None if self.layers is None else list(self.layers)}

    def explain(self, seed: str) -> list[str]:
        """How a path of class ``seed`` is found, step by step, for someone who has not read the paper."""
        together = "all routed layers together" if self.across == "network" else "every routed layer on its own"
        if self.share is None:
            left = (
                f"Remove them from the smallest number upwards, {100 * self.step:g}% at a time, and stop before the "
                f"network's answer would no longer be class {seed}. What is left is on the path."
            )
        else:
            left = f"Keep the {100 * self.share:g}% with the largest numbers: they are on the path."
        return [
            f"Give every {self.kind} of the routed layers a number: {self.scored.format(seed=seed)}.",
            f"Rank the {self.kind}s by it, {together}. {left}",
        ]

    def fit(self: Own, graph: Graph, loader: Iterable[tuple[Tensor, Tensor]]) -> Own:
        """Nothing to learn; returns itself."""
        return self

    def extract(self, graph: Graph, x: Tensor) -> list[Path]:
        """One path per image of ``x`` (batch, *input shape); raises BadInput and BadOption."""
        self.check()
        nodes = routed_nodes(graph, self.layers)
        sizes = [prod(shape) for shape in unit_shapes(graph, nodes, self.kind)]
        with torch.no_grad():
            logits = graph.run(x).logits
        scores = [part.flatten(1) for part in self.score(graph, x, nodes)]
        groups = [torch.cat(scores, dim=1)] if self.across == "network" else scores
        places = torch.cat([_places(group) for group in groups], dim=1)
        if self.share is None:
            kept = self._remove(graph.gated(nodes), x, places, ranked_classes(logits, 1)[:, 0])
        else:
            kept = places < self._limits(sizes, self.share).to(x.device)
        values = torch.cat(scores, dim=1) * kept
        return unit_paths(graph, nodes, self.kind, values, logits, self.describe(), not self.binary)

    def check(self) -> None:
        """Raise BadOption for a parameter out of range."""
        if self.share is not None and not _is_share(self.share):
            raise BadOption(f"share must lie in (0, 1], or be None to remove units, not {self.share!r}")
        if not _is_share(self.step):
            raise BadOption(f"step must lie in (0, 1], not {self.step!r}")
        if self.kind not in ("channel", "neuron"):
            raise BadOption(f"kind must be channel or neuron, not {self.kind!r}")
        if self.across not in ("network", "layer"):
            raise BadOption(f"across must be network or layer, not {self.across!r}")

    def _groups(self, sizes: Sequence[int]) -> Sequence[int]:
        """The sizes of the groups that are ranked together, given those of the nodes."""
        return [sum(sizes)] if self.across == "network" else sizes

    def _limits(self, sizes: Sequence[int], share: float) -> Tensor:
        """How many units the group of every unit keeps, at least one: (units,) int64."""
        return torch.cat([torch.full((size,), max(1, round(share * size))) for size in self._groups(sizes)])

    def _remove(self, network: Gated, x: Tensor, places: Tensor, classes: Tensor) -> Tensor:
        """The units left before the top class of an image first differs from its one of ``classes``: like ``places``.

        An image that lost its class leaves the batch. What no gate changes is then computed again for the others, as
        not all of it need belong to single images: sizes of the batch do not.
        """
        shapes = unit_shapes(network.graph, network.nodes, self.kind)
        sizes = [prod(shape) for shape in shapes]
        step = max(self.step, 1 / max(self._groups(sizes)))
        kept, going = torch.ones_like(places, dtype=torch.bool), torch.arange(len(x), device=x.device)
        start = network.start(x)
        for number in range(1, ceil(1 / step) + 1):
            if not len(going):
                break
            masks = places[going] < self._limits(sizes, 1 - number * step).to(x.device)
            with torch.no_grad():
                logits = network(start, by_node(masks.to(x.dtype), shapes))
            same = ranked_classes(logits, 1)[:, 0] == classes[going]
            kept[going[same]] = masks[same]
            if not bool(same.all()):
                going = going[same]
                start = network.start(x[going])
        return kept


def _places(scores: Tensor) -> Tensor:
    """Every unit's place by falling score, the first of equal ones first: (batch, units) int64."""
    order = scores.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value <= 1
