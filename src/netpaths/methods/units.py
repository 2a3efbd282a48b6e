"""Which nodes have gates, and from gates or scores to paths: what every notion of path over units shares.

A unit is a channel, or a neuron. By default the nodes are those of Wang et al. (CVPR 2018): the output of every
residual block where a network has residual blocks, of every convolution otherwise; linear layers are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import torch

from netpaths.errors import BadOption
from netpaths.graph import Graph, ranked_classes
from netpaths.path import Elements, Path, Site


def routed_nodes(graph: Graph, layers: Sequence[str] | None = None) -> tuple[str, ...]:
    """The nodes whose units are selected, from input to output: ``layers``, or those of the paper.

    A block's output is its sum, after the activation where one alone reads it. The layer that gives the logits is
    never routed by default. Raises UnknownNode, and BadOption for no node or one twice.
    """
    if layers is not None:
        if not layers or len(set(layers)) < len(layers):
            raise BadOption(f"layers must name at least one node, each once, not {', '.join(layers) or 'none'}")
        wanted = {graph.node(name).name for name in layers}
        return tuple(name for name in graph.nodes if name in wanted)
    found = _blocks(graph) or tuple(
        name
        for name in graph.layers[:-1]
        if graph.nodes[name].family.name == "convolution"  # type: ignore[union-attr]
    )
    if not found:
        raise BadOption(f"the network has no convolution to route before its last layer; name layers: {graph.layers}")
    return found


def _blocks(graph: Graph) -> tuple[str, ...]:
    """The output of every residual block: a sum of two values computed here, or the activation that alone reads it."""
    found = []
    for name, node in graph.nodes.items():
        if node.family is not None and node.family.name == "addition" and len(node.inputs) > 1:
            readers = graph.readers[name]
            activated = len(readers) == 1 and _activates(graph, readers[0])
            found.append(readers[0] if activated else name)
    return tuple(name for name in found if name != graph.output)


def _activates(graph: Graph, name: str) -> bool:
    family = graph.nodes[name].family
    return family is not None and family.name in ("activation", "shifted activation")


def unit_shapes(graph: Graph, nodes: Sequence[str], kind: str) -> list[tuple[int, ...]]:
    """The shape of every node's units: (channels,), or the node's output shape for neurons."""
    if kind not in ("channel", "neuron"):
        raise BadOption(f"units are channels or neurons, not {kind!r}")
    shapes = [graph.nodes[name].shape for name in nodes]
    return [shape[:1] if kind == "channel" else shape for shape in shapes]


def by_node(values: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Values side by side, (batch, units), as one tensor (batch, *shape) for each of ``shapes``."""
    bounds = pairwise(accumulate((prod(shape) for shape in shapes), initial=0))
    return [values[:, start:stop].reshape(len(values), *shape) for (start, stop), shape in zip(bounds, shapes)]


def unit_paths(
    graph: Graph,
    nodes: Sequence[str],
    kind: str,
    values: torch.Tensor,
    logits: torch.Tensor,
    method: Mapping[str, Any],
    valued: bool = True,
) -> list[Path]:
    """One path per image with every unit whose value is positive.

    values: (batch, units) of all nodes side by side, as `unit_shapes` says; what is not positive is no member.
    logits: (batch, classes) of the plain network, for the prediction. valued: whether elements keep their values, or
    count 1.
    """
    parts = by_node(values.detach().float().cpu(), unit_shapes(graph, nodes, kind))
    columns = [Elements.each_positive(part, valued) for part in parts]
    predicted = ranked_classes(logits, 1)[:, 0].tolist()
    sites = [Site(node, kind) for node in nodes]
    return [
        Path(
            {site: own[image] for site, own in zip(sites, columns)},
            seed=label,
            predicted=label,
            fingerprint=graph.fingerprint,
            method=method,
            layers=tuple(nodes),
        )
        for image, label in enumerate(predicted)
    ]
