"""The value everything else works with: a path is a mapping from sites to selected elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from netpaths.errors import BadOption, known_as, spells
from netpaths.path import elements
from netpaths.path.budget import Budget
from netpaths.path.elements import Elements


class Names(tuple[str, ...]):
    """Names of nodes."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or any(spells(name, own) for own in self)


KINDS = ("neuron", "synapse", "weight", "channel", "routing")


class Site(NamedTuple):
    """Where elements are selected: a graph node and the kind of its elements."""

    node: str
    kind: str


@dataclass(frozen=True, eq=False)
class Path(Mapping[Site, Elements]):
    """An immutable mapping Site → Elements: one image's path, a class path, or any union of paths.

    sites: the mapping. seed: the class whose logit the path explains, None for an aggregate. predicted: the class
    with the largest logit. fingerprint: hexadecimal digest of the graph it was extracted from. method: name and
    parameters of the method that made it. layers: the nodes that are compared and shown, from input to output: the
    linear and convolution layers, or those that the method looks at alone. budget: what carries the explained logit,
    or None where it was not asked for and for an aggregate.
    """

    sites: Mapping[Site, Elements]
    seed: int | None = None
    predicted: int | None = None
    fingerprint: str = ""
    method: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    budget: Budget | None = None

    def __post_init__(self) -> None:
        sites = {site if type(site) is Site else Site(*site): part for site, part in self.sites.items()}
        object.__setattr__(self, "sites", MappingProxyType(sites))

    def __getitem__(self, site: Site | tuple[str, str]) -> Elements:
        found = self.sites.get(Site(*site))
        if found is None:
            node, kind = site
            known = self.nodes(kind)
            if not known:
                raise BadOption(f"this path has no {kind} sites; it has: {', '.join(self.kinds())}")
            return self.sites[Site(known_as(node, known, f"nodes with a {kind} site"), kind)]
        return found

    def __contains__(self, site: object) -> bool:
        return site in self.sites

    def get(self, site: Any, default: Any = None) -> Any:
        """The elements of ``site``, or ``default`` where the path does not have it."""
        return self.sites.get(site, default)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)

    def __repr__(self) -> str:
        counts = ", ".join(f"{sum(len(self[s]) for s in self if s.kind == kind)} {kind}s" for kind in self.kinds())
        return f"Path({counts or 'empty'}; seed={self.seed}, predicted={self.predicted})"

    def kinds(self) -> tuple[str, ...]:
        """The kinds of elements it selects."""
        return tuple(kind for kind in KINDS if any(site.kind == kind for site in self.sites))

    def nodes(self, kind: str) -> tuple[str, ...]:
        """The nodes with a site of this kind, from input to output; ``in`` takes underscores instead of dots."""
        return Names(site.node for site in self.sites if site.kind == kind)

    def neurons(self, node: str) -> torch.Tensor:
        """The selected neurons of ``node``: a boolean (or float) tensor of the node's output shape."""
        return self[node, "neuron"].dense()

    def weights(self, node: str) -> torch.Tensor:
        """The selected weights of ``node``: a tensor of the weight's shape."""
        return self[node, "weight"].dense()

    def synapses(self, node: str) -> torch.Tensor:
        """The selected synapses of ``node``: (out…, in_per_group, kh, kw) for a convolution, (out, in) for linear."""
        return self[node, "synapse"].dense()

    def channels(self, node: str) -> torch.Tensor:
        """The channels of ``node``: a tensor (channels,)."""
        return self[node, "channel"].dense()

    def restrict(self, nodes: Iterable[str] | None = None, kinds: Iterable[str] | None = None) -> Path:
        """The part of the path at these nodes and kinds; raises UnknownNode for a node it does not have."""
        kinds = self.kinds() if kinds is None else tuple(kinds)
        known = dict.fromkeys(site.node for site in self.sites)
        keep = set(known if nodes is None else (known_as(node, known) for node in nodes))
        return replace(self, sites={s: e for s, e in self.sites.items() if s.node in keep and s.kind in kinds})

    def binary(self) -> Path:
        """The same selection with every value 1."""
        return replace(self, sites={site: _binary(part) for site, part in self.sites.items()})

    def project(self, kind: str) -> Path:
        """The path as channels: a channel takes the largest value of its neurons (or weights, or synapses).

        Raises BadOption for any other kind: finer elements cannot be recovered from coarser ones.
        """
        if kind != "channel":
            raise BadOption(f"a path projects onto channels, not {kind!r}")
        for source in ("channel", "neuron", "weight", "synapse"):
            nodes = self.nodes(source)
            if nodes:
                return replace(self, sites={Site(node, "channel"): _channels(self[node, source]) for node in nodes})
        return replace(self, sites={})

    def density(self, kind: str) -> float:
        """Selected elements over all elements of this kind, over every site (Qiu et al. 2019, Eq. 4)."""
        parts = [part for site, part in self.sites.items() if site.kind == kind]
        if not parts:
            raise BadOption(f"this path has no {kind} sites; it has: {', '.join(self.kinds())}")
        return sum(len(part) for part in parts) / sum(part.total for part in parts)

    def densities(self, kind: str) -> dict[str, float]:
        """Selected elements over all elements of this kind, per node."""
        return {node: len(self[node, kind]) / self[node, kind].total for node in self.nodes(kind)}

    def __or__(self, other: Path) -> Path:
        return union([self, other])

    def __and__(self, other: Path) -> Path:
        return intersect(self, other)

    def __sub__(self, other: Path) -> Path:
        return subtract(self, other)

    def equals(self, other: Path) -> bool:
        """Whether both select the same elements with the same values."""
        return set(self.sites) == set(other.sites) and all(
            part.shape == other[site].shape
            and np.array_equal(part.members(), other[site].members())
            and np.array_equal(part.member_values(), other[site].member_values())
            for site, part in self.sites.items()
        )


def union(paths: Iterable[Path]) -> Path:
    """The union of paths, site by site; where values differ the larger one. Class paths are such unions.

    Raises BadOption for no path, or for paths of different graphs.
    """
    paths = list(paths)
    if not paths:
        raise BadOption("a union needs at least one path")
    sites: dict[Site, list[Elements]] = {}
    for path in paths:
        _check_graph(paths[0], path)
        for site, part in path.sites.items():
            sites.setdefault(site, []).append(part)
    return _aggregate(paths, {site: elements.union(parts) for site, parts in sites.items()})


def intersect(first: Path, second: Path) -> Path:
    """What both paths select; where values differ the smaller one. Sites of one alone are empty."""
    return _pairwise(first, second, elements.intersect)


def subtract(first: Path, second: Path) -> Path:
    """What the first path selects and the second does not."""
    return _pairwise(first, second, elements.subtract)


def _pairwise(first: Path, second: Path, combine: Callable[[Elements, Elements], Elements]) -> Path:
    _check_graph(first, second)
    sites = {}
    for site in [*first.sites, *(site for site in second.sites if site not in first.sites)]:
        mine, others = first.sites.get(site), second.sites.get(site)
        nothing = np.empty(0, np.int64)
        like = mine or others
        empty = None if like is None else Elements.of(like.shape, nothing, total=like.total)
        left, right = mine or empty, others or empty
        if left is not None and right is not None:
            sites[site] = combine(left, right)
    return _aggregate([first, second], sites)


def _aggregate(paths: list[Path], sites: Mapping[Site, Elements]) -> Path:
    first = paths[0]
    seeds = {path.seed for path in paths}
    predicted = {path.predicted for path in paths}
    return Path(
        sites,
        seed=first.seed if len(seeds) == 1 else None,
        predicted=first.predicted if len(predicted) == 1 else None,
        fingerprint=first.fingerprint,
        method=first.method,
        layers=first.layers,
    )


def _check_graph(first: Path, second: Path) -> None:
    if first.fingerprint != second.fingerprint:
        raise BadOption(
            f"paths come from different models: {first.fingerprint[:12] or 'unknown'} and "
            f"{second.fingerprint[:12] or 'unknown'}"
        )


def _binary(part: Elements) -> Elements:
    if part.binary:
        return part
    return Elements.of(part.shape, part.members(), total=part.total)


def _channels(part: Elements) -> Elements:
    channels = part.shape[0] if part.shape else 1
    block = max(part.size // channels, 1)
    owner = part.members() // block
    values = np.zeros(channels, np.float32)
    np.maximum.at(values, owner, part.member_values())
    chosen = np.unique(owner)
    return Elements.of((channels,), chosen, None if part.binary else values[chosen])
