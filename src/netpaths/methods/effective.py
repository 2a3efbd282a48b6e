"""Effective path: the smallest sets of neurons, synapses and weights that carry a prediction.

Qiu et al., "Adversarial Defense Through Network Profiling Based Path Extraction", CVPR 2019, section 3.1:

1. The seed is the logit of rank r; r = 1 is the predicted class.
2. Every active output neuron chooses the smallest set of inputs whose contributions cover θ of its target.
3. The chosen weights, synapses and input neurons join the path; the input neurons are active in the layer before.
4. A neuron read by several nodes is active when any of them chose it.

Layer by layer from the logits to the pixels, for a whole batch at once. Where the paper is silent the rules follow
the released artifact; every departure stands in the rule's own file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from netpaths import kernels
from netpaths.errors import BadOption
from netpaths.gradients import full_precision
from netpaths.graph import Field, Graph, Node, Trace, ranked_classes
from netpaths.kernels import Chosen
from netpaths.methods.budget import budgets
from netpaths.path import Elements, Path, Site
from netpaths.rules import RULES, Active, Layer, Selector

Packed = dict[int, tuple[torch.Tensor, list[Elements]]]
"""Sets already made from masks, by the mask's identity; the mask is kept so that no other can take its place."""


@dataclass(frozen=True)
class EffectivePath:
    """Extract effective paths (Qiu et al. 2019).

    theta: share of every active neuron's target that the chosen contributions cover, in (0, 1]. rank: the logit to
    explain, 1 for the largest. last: stop after that many linear and convolution layers from the output, None for
    all. target, ties, merge, attention, gates: see `netpaths.rules.Selector`; with attention="all" the entries of
    patterns that the path follows are sites of the kind "routing", counted apart from synapses. kinds: the other kinds
    of sites to keep. contributions: give every element the sum of the contributions it carried, instead of 1. budget:
    say on every path what carries its logit, which costs a forward and a backward pass.
    """

    theta: float = 0.5
    rank: int = 1
    last: int | None = None
    target: Literal["contributions", "neuron"] = "contributions"
    ties: Literal["first", "all"] = "first"
    merge: Literal["select", "all"] = "select"
    kinds: tuple[str, ...] = ("neuron", "synapse", "weight")
    contributions: bool = False
    attention: Literal["values", "all"] = "values"
    gates: Literal["signal", "both"] = "signal"
    budget: bool = False

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks whose paths are worth comparing with a profile."""
        return (1, 2)

    def describe(self) -> dict[str, Any]:
        """Name and parameters as JSON values."""
        parameters = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"name": "effective", **parameters, "kinds": list(self.kinds)}

    def explain(self, seed: str) -> list[str]:
        """How a path of class ``seed`` is found, step by step, for someone who has not read the paper."""
        return [
            f"Start at the output: the score of class {seed}. It is a sum: every unit of the layer before, times the "
            "weight between the two.",
            f"Keep the smallest set of those inputs that together make up at least {100 * self.theta:g}% of the sum. "
            "The inputs kept (neurons), the weights used, and the single connections (synapses) are on the path.",
            "Do the same for every unit just kept, layer by layer, until the pixels are reached.",
        ]

    def fit(self, graph: Graph, loader: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> EffectivePath:
        """Nothing to learn; returns itself."""
        return self

    def extract(self, graph: Graph, x: torch.Tensor) -> list[Path]:
        """One path per image of ``x`` (batch, *input shape); raises BadInput and BadOption."""
        return self.extract_ranks(graph, x, (self.rank,))[0]

    def extract_ranks(self, graph: Graph, x: torch.Tensor, ranks: tuple[int, ...]) -> list[list[Path]]:
        """The paths of several ranks from one forward pass: a list (ranks) of lists (batch)."""
        self._check(graph, ranks)
        return self.select(graph, self.forward(graph, x), ranks)

    def forward(self, graph: Graph, x: torch.Tensor) -> Trace:
        """Run ``x`` (batch, *input shape) and keep the values that the selection reads; raises BadInput."""
        with torch.no_grad():
            kept = _recorded(graph, self._needed(graph))
            return graph.run(x, record=kept | {graph.input} if self.budget else kept)

    @full_precision()
    def select(self, graph: Graph, trace: Trace, ranks: tuple[int, ...] = (1,)) -> list[list[Path]]:
        """The paths of what `forward` recorded: a list (ranks) of lists (batch)."""
        self._check(graph, ranks)
        needed, order = self._needed(graph), ranked_classes(trace.logits, max(ranks, default=1))
        with torch.no_grad():
            return [self._paths(graph, trace, needed, order, rank) for rank in ranks]

    def check(self) -> None:
        """Raise BadOption for a parameter out of range."""
        self._selector().check()
        if self.last is not None and self.last < 1:
            raise BadOption(f"last must be at least 1, not {self.last}")
        if not self.kinds:
            raise BadOption("effective paths need at least one kind of site: neuron, synapse or weight")
        for kind in self.kinds:
            if kind not in ("neuron", "synapse", "weight"):
                raise BadOption(f"effective paths have neuron, synapse and weight sites, not {kind!r}")

    def _check(self, graph: Graph, ranks: tuple[int, ...]) -> None:
        self.check()
        for rank in ranks:
            if not isinstance(rank, int) or not 1 <= rank <= graph.classes:
                raise BadOption(f"rank must lie between 1 and the model's {graph.classes} classes, not {rank!r}")

    def _selector(self) -> Selector:
        return Selector(self.theta, self.target, self.ties, self.merge, self.attention, self.gates)

    def _needed(self, graph: Graph) -> tuple[str, ...]:
        """Nodes to select at, from input to output: those that reach the output over at most ``last`` layers."""
        if self.last is None or self.last >= len(graph.layers):
            return tuple(name for name in graph.nodes if graph.nodes[name].family is not None)
        allowed = set(graph.layers[-self.last :])
        kept: set[str] = set()
        for name, node in reversed(list(graph.nodes.items())):
            readers = [reader for reader in graph.readers[name] if reader in kept]
            if (name == graph.output or readers) and (not node.layer or name in allowed) and node.family is not None:
                kept.add(name)
        return tuple(name for name in graph.nodes if name in kept)

    def _paths(self, graph: Graph, trace: Trace, needed: tuple[str, ...], order: torch.Tensor, rank: int) -> list[Path]:
        seeds = order[:, rank - 1]
        active: dict[str, list[Active]] = defaultdict(list)
        active[graph.output].append(_seed(trace.logits, seeds, self.contributions))
        rows: list[tuple[Site, list[Elements]]] = []
        packed: Packed = {}
        for name in reversed(needed):
            node = graph.nodes[name]
            if name not in active:
                continue
            own = Active.merged(active.pop(name))
            inputs = tuple(trace.values[source] for source in node.inputs)
            selection = RULES[node.family.name](  # type: ignore[union-attr]
                Layer(node, inputs, trace.values[name], own, self._selector())
            )
            if selection.synapses is not None and node.field is not None:
                rows += self._synapse_sites(node, node.field, selection.synapses)
            rows += self._neuron_sites(node, own, packed)
            if selection.routing is not None:
                rows.append((Site(name, "routing"), Elements.each_of(selection.routing)))
            for source, part in zip(node.inputs, selection.inputs):
                active[source].append(part)
        rest = [name for name in graph.nodes if name in active and name not in needed]
        for name in reversed(rest):
            rows += self._neuron_sites(graph.nodes[name], Active.merged(active[name]), packed)
        paths = self._assemble(graph, rows, order, seeds, rank)
        return self._budgeted(graph, trace, paths, active[graph.input]) if self.budget else paths

    def _budgeted(self, graph: Graph, trace: Trace, paths: list[Path], pixels: list[Active]) -> list[Path]:
        """The paths with what carries their logits; ``pixels`` of the input that were reached."""
        reached = Active.merged(pixels).mask if pixels else None
        seeds = torch.tensor([path.seed for path in paths], device=trace.logits.device)
        found = budgets(graph, trace.values[graph.input], seeds, reached)
        return [replace(path, budget=budget) for path, budget in zip(paths, found)]

    def _assemble(
        self,
        graph: Graph,
        rows: list[tuple[Site, list[Elements]]],
        order: torch.Tensor,
        seeds: torch.Tensor,
        rank: int,
    ) -> list[Path]:
        place = {name: index for index, name in enumerate(graph.nodes)}
        rows = sorted(rows, key=lambda row: place[row[0].node])
        method = replace(self, rank=rank).describe()
        return [
            Path(
                {site: parts[image] for site, parts in rows},
                seed=int(seeds[image]),
                predicted=int(order[image, 0]),
                fingerprint=graph.fingerprint,
                method=method,
                layers=graph.layers,
            )
            for image in range(len(seeds))
        ]

    def _neuron_sites(self, node: Node, active: Active, packed: Packed) -> Iterator[tuple[Site, list[Elements]]]:
        """The node's neurons; a mask that passed through several nodes is packed once."""
        if "neuron" not in self.kinds:
            return
        if self.contributions and active.amount is not None:
            parts = [_valued(mask, amount) for mask, amount in zip(active.mask, active.amount)]
        else:
            if id(active.mask) not in packed:
                packed[id(active.mask)] = (active.mask, Elements.each_of(active.mask))
            parts = packed[id(active.mask)][1]
        yield Site(node.name, "neuron"), parts

    def _synapse_sites(self, node: Node, field: Field, chosen: Chosen) -> Iterator[tuple[Site, list[Elements]]]:
        values = chosen.values.clamp(min=0).cpu().numpy() if chosen.values is not None else None
        bounds = chosen.bounds.cpu().numpy()
        if "synapse" in self.kinds:
            indices = chosen.synapses.cpu().numpy()
            yield Site(node.name, "synapse"), _split(field.synapse_shape, indices, values, bounds, field.synapses)
        if "weight" in self.kinds and node.layer:
            yield Site(node.name, "weight"), _weights(node, field, chosen, values)


def _recorded(graph: Graph, needed: tuple[str, ...]) -> set[str]:
    return {*needed, *(source for name in needed for source in graph.nodes[name].inputs)}


def _seed(logits: torch.Tensor, seeds: torch.Tensor, amounts: bool) -> Active:
    mask = torch.zeros_like(logits, dtype=torch.bool)
    mask[torch.arange(len(seeds), device=logits.device), seeds] = True
    return Active(mask, None, (logits.abs() * mask).float() if amounts else None)


def _valued(mask: torch.Tensor, amount: torch.Tensor) -> Elements:
    members = Elements.from_dense(mask).members()
    return Elements.of(tuple(mask.shape), members, amount.cpu().reshape(-1).numpy()[members])


def _split(
    shape: tuple[int, ...],
    indices: np.ndarray[Any, np.dtype[np.int64]],
    values: np.ndarray[Any, np.dtype[np.float32]] | None,
    bounds: np.ndarray[Any, np.dtype[np.int64]],
    total: int | None,
) -> list[Elements]:
    return [
        Elements.of(shape, indices[start:stop], None if values is None else values[start:stop], total)
        for start, stop in pairwise(bounds)
    ]


def _weights(
    node: Node, field: Field, chosen: Chosen, values: np.ndarray[Any, np.dtype[np.float32]] | None
) -> list[Elements]:
    places = field.out_shape[1] * field.out_shape[2]
    if field.parts > 1:
        return _shared_weights(node, field, chosen, values)
    stops, kept = (tensor.cpu().numpy() for tensor in kernels.weights(chosen, places))
    parts = _split(tuple(node.weight.shape), kept, None, stops, None)
    if values is None:
        return parts
    keys = (chosen.synapses // chosen.shape[2] // places * chosen.shape[2] + chosen.positions()).cpu().numpy()
    bounds = pairwise(chosen.bounds.tolist())
    return [_summed(part, keys[start:stop], values[start:stop]) for part, (start, stop) in zip(parts, bounds)]


def _shared_weights(
    node: Node, field: Field, chosen: Chosen, values: np.ndarray[Any, np.dtype[np.float32]] | None
) -> list[Elements]:
    """Weights that several parts of an image share, such as a linear layer's over its tokens."""
    places, own = field.out_shape[1] * field.out_shape[2], torch.Size(field.out_shape).numel()
    output = chosen.synapses // chosen.shape[2] % own
    keys = (output // places * chosen.shape[2] + chosen.positions()).cpu().numpy()
    shape = tuple(node.weight.shape)
    found = []
    for start, stop in pairwise(chosen.bounds.tolist()):
        part = Elements.of(shape, np.unique(keys[start:stop]), None, None)
        found.append(part if values is None else _summed(part, keys[start:stop], values[start:stop]))
    return found


def _summed(
    part: Elements, keys: np.ndarray[Any, np.dtype[np.int64]], values: np.ndarray[Any, np.dtype[np.float32]]
) -> Elements:
    members = part.members()
    sums = np.bincount(np.searchsorted(members, keys), weights=values, minlength=members.size)
    return Elements.of(part.shape, members, sums.astype(np.float32), part.total)
