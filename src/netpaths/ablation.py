"""Ablation: keep or drop a share of a path and measure what the network still predicts.

Elements are ranked within each site, so that the same share is switched off everywhere: largest contribution first,
smallest first, or at random. A switched-off neuron or channel is multiplied by 0; a switched-off weight or synapse
contributes nothing to its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.errors import BadOption
from netpaths.graph import Field, Graph
from netpaths.graph.graph import Edit
from netpaths.path import Elements, Path, Site

Order = Literal["largest", "smallest", "random"]
ORDERS: tuple[Order, ...] = ("largest", "smallest", "random")


def part(path: Path, share: float, order: Order = "largest", seed: int = 0) -> Path:
    """The first ``share`` of every site's elements in ``order``: the part that is switched off first.

    share in [0, 1]. "largest" and "smallest" rank by the path's values; a binary path has none, so they raise
    BadOption naming ``EffectivePath(contributions=True)``. "random" is drawn from ``seed``.
    """
    if not 0 <= share <= 1:
        raise BadOption(f"a share lies between 0 and 1, not {share}")
    if order not in ORDERS:
        raise BadOption(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    generator = np.random.default_rng(seed)
    sites = {site: _first(elements, share, order, generator) for site, elements in path.sites.items()}
    return Path(sites, path.seed, path.predicted, path.fingerprint, path.method, path.layers)


def random_path(path: Path, graph: Graph, seed: int = 0) -> Path:
    """A path with as many elements at every site as ``path``, drawn at random among those that exist."""
    generator = np.random.default_rng(seed)
    sites = {}
    for site, elements in path.sites.items():
        pool = _existing(graph, site, elements)
        drawn = generator.choice(pool, len(elements), replace=False, shuffle=False)
        sites[site] = Elements.of(elements.shape, np.sort(drawn).astype(np.int64), total=elements.total)
    return Path(sites, path.seed, path.predicted, path.fingerprint, path.method, path.layers)


def remove(graph: Graph, x: torch.Tensor, paths: Sequence[Path], kind: str) -> torch.Tensor:
    """Logits (batch, classes) with the elements of each image's path switched off.

    x: (batch, *input shape). paths: one per image, or a single one for all. kind: neuron, channel, weight or synapse;
    synapses and weights at linear and convolution layers. Raises BadOption for another number of paths.
    """
    return _run(graph, x, paths, kind, keep=False)


def scaled(graph: Graph, x: torch.Tensor, paths: Sequence[Path], kind: str) -> torch.Tensor:
    """Logits (batch, classes) with every neuron or channel of the paths' nodes times its value; 0 where not selected.

    A path of gates acts as when it was learned; of a binary path this is `keep_only`. Raises BadOption.
    """
    if kind not in ("neuron", "channel"):
        raise BadOption(f"neurons and channels can be scaled, not {kind!r}")
    paths = _one_each(x, paths)
    nodes = _nodes(graph, paths, kind)
    gates = {name: torch.stack([path[name, kind].dense() for path in paths]).to(x) for name in nodes}
    with torch.no_grad():
        return graph.run(x, gates=gates).logits


def strongest(path: Path, number: int) -> Path:
    """The ``number`` elements of the largest values, over all sites together; equal ones in the path's order.

    Raises BadOption for a binary path, which has no values.
    """
    parts = list(path.sites.items())
    if any(part.binary and len(part) for _, part in parts):
        raise BadOption("this path has no values to rank by; extract it with scores, gates or contributions")
    values = np.concatenate([part.member_values() for _, part in parts]) if parts else np.empty(0)
    chosen = np.zeros(values.size, bool)
    chosen[np.argsort(-values, kind="stable")[: max(number, 0)]] = True
    kept = np.split(chosen, np.cumsum([len(part) for _, part in parts])[:-1])
    sites = {
        site: Elements.of(part.shape, part.members()[own], part.member_values()[own], part.total)
        for (site, part), own in zip(parts, kept)
    }
    return replace(path, sites=sites)


def keep_only(graph: Graph, x: torch.Tensor, paths: Sequence[Path], kind: str) -> torch.Tensor:
    """Logits (batch, classes) with everything but the elements of each image's path switched off; biases stay."""
    return _run(graph, x, paths, kind, keep=True)


@dataclass(frozen=True)
class Curve:
    """Accuracy against the share of the path switched off, or kept: shares (n,), accuracy (n,), elements (n,)."""

    mode: str
    order: str
    kind: str
    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    elements: tuple[float, ...]

    def rows(self) -> list[dict[str, object]]:
        """One row per share, for tables."""
        return [
            {"mode": self.mode, "order": self.order, "kind": self.kind, "share": share, "accuracy": a, "elements": e}
            for share, a, e in zip(self.shares, self.accuracy, self.elements)
        ]


def ablation_curve(
    graph: Graph,
    x: torch.Tensor,
    labels: torch.Tensor,
    paths: Sequence[Path],
    kind: str = "weight",
    order: Order | Literal["outside"] = "largest",
    shares: Iterable[float] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
    *,
    mode: Literal["remove", "keep"] = "remove",
) -> Curve:
    """Accuracy on ``x`` when a growing share of each image's path is switched off, or is all that is kept.

    order: "largest", "smallest" or "random" within the path, or "outside": the same number of elements drawn at
    random from the whole network, the control. mode: "remove" the share, or "keep" nothing but it. progress: called
    after every batch with the number of images done and of all. Returns a Curve.
    """
    if mode not in ("remove", "keep"):
        raise BadOption(f"mode must be remove or keep, not {mode!r}")
    shares, switch = tuple(shares), remove if mode == "remove" else keep_only
    hits, sizes = np.zeros(len(shares)), np.zeros(len(shares))
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        own = [path.restrict(kinds=[kind]) for path in paths[rows]]
        for index, share in enumerate(shares):
            parts = [_part_or_control(graph, path, share, order, seed + start + i) for i, path in enumerate(own)]
            predicted = switch(graph, x[rows], parts, kind).argmax(1)
            hits[index] += int((predicted == labels[rows]).sum())
            sizes[index] += sum(len(elements) for path in parts for elements in path.sites.values())
        if progress is not None:
            progress(start + len(own), len(x))
    return Curve(mode, order, kind, shares, tuple((hits / len(x)).tolist()), tuple((sizes / len(x)).tolist()))


def _part_or_control(graph: Graph, path: Path, share: float, order: str, seed: int) -> Path:
    if order != "outside":
        return part(path, share, order, seed)  # type: ignore[arg-type]
    return random_path(part(path, share, "random", seed), graph, seed)


def _first(elements: Elements, share: float, order: Order, generator: np.random.Generator) -> Elements:
    members, values = elements.members(), elements.member_values()
    number = round(share * members.size)
    if order == "random":
        ranked = generator.permutation(members.size)
    elif elements.binary and members.size:
        raise BadOption(f"order {order!r} ranks by values and this path has none; extract it with contributions=True")
    else:
        ranked = np.argsort(-values if order == "largest" else values, kind="stable")
    chosen = np.sort(ranked[:number])
    return Elements.of(elements.shape, members[chosen], None if elements.binary else values[chosen], elements.total)


def _existing(graph: Graph, site: Site, elements: Elements) -> NDArray[np.int64]:
    if site.kind != "synapse" or elements.total == elements.size:
        return np.arange(elements.size)
    field = graph.node(site.node).field
    if field is None:
        return np.arange(elements.size)
    rows, cols = field.rows >= 0, field.cols >= 0
    inside = rows[:, None, None, :, None] & cols[None, :, None, None, :]
    inside = inside.expand(field.out_shape[1], field.out_shape[2], field.per_group, *inside.shape[3:])
    places = inside.reshape(-1).nonzero()[:, 0].numpy()
    block = inside.numel()
    return np.asarray((np.arange(field.out_shape[0])[:, None] * block + places).reshape(-1), np.int64)


def _run(graph: Graph, x: torch.Tensor, paths: Sequence[Path], kind: str, keep: bool) -> torch.Tensor:
    paths = _one_each(x, paths)
    nodes = _nodes(graph, paths, kind)
    gates: dict[str, torch.Tensor] = {}
    edits: dict[str, Edit] = {}
    for name in nodes:
        parts = [path[name, kind] for path in paths]
        if kind in ("neuron", "channel"):
            gates[name] = _gate(parts, keep).to(x)
        elif kind == "weight":
            edits[name] = _weight_edit(graph, name, parts, keep)
        else:
            edits[name] = _synapse_edit(graph, name, parts, keep)
    with torch.no_grad():
        return graph.run(x, gates=gates, edits=edits).logits


def _one_each(x: torch.Tensor, paths: Sequence[Path]) -> Sequence[Path]:
    if len(paths) not in (1, len(x)):
        raise BadOption(f"{len(x)} images need {len(x)} paths or one for all, not {len(paths)}")
    return list(paths) * len(x) if len(paths) == 1 else paths


def _nodes(graph: Graph, paths: Sequence[Path], kind: str) -> tuple[str, ...]:
    nodes = paths[0].nodes(kind)
    if kind in ("weight", "synapse"):
        nodes = tuple(node for node in nodes if graph.node(node).layer)
    if not nodes:
        raise BadOption(f"the paths have no {kind} sites to switch off; they have: {', '.join(paths[0].kinds())}")
    return nodes


def _gate(parts: Sequence[Elements], keep: bool) -> torch.Tensor:
    masks = torch.stack([part.dense() > 0 for part in parts])
    return masks if keep else ~masks


def _weight_edit(graph: Graph, name: str, parts: Sequence[Elements], keep: bool) -> Edit:
    """The layer with each image's own masked weight, as one grouped convolution or batched product."""
    node = graph.node(name)
    weight, bias = node.weight.detach(), node.arguments.get("bias")
    masked = torch.where(_gate(parts, keep).to(weight.device), weight, torch.zeros_like(weight))

    def linear(inputs: list[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        value = torch.einsum("bi,boi->bo", inputs[0], masked)
        return value if bias is None else value + bias

    def convolution(inputs: list[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        difference = weight - masked
        if not bool(difference.any()):
            return output
        return output - _grouped(node.field, inputs[0], difference, output)

    return linear if weight.dim() == 2 else convolution


def _grouped(field: Field | None, inputs: torch.Tensor, weight: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """A convolution without bias by each image's own weight (batch, out, in, …): through its receptive fields."""
    if field is None:
        raise BadOption("only layers with receptive fields have weights")
    batch = inputs.shape[0]
    maps = inputs.reshape(batch, field.groups, -1, *field.in_shape[1:])
    padded = torch.nn.functional.pad(maps, (0, 1, 0, 1))
    result = output.new_zeros(batch, field.groups, field.out_shape[0] // field.groups, *field.out_shape[1:])
    kernels = weight.reshape(batch, field.groups, -1, field.per_group, field.rows.shape[1], field.cols.shape[1])
    for i in range(field.rows.shape[1]):
        for j in range(field.cols.shape[1]):
            window = padded[..., field.rows[:, i], :][..., field.cols[:, j]]
            result += torch.einsum("bgchw,bgoc->bgohw", window, kernels[..., i, j])
    return result.reshape(output.shape)


def _synapse_edit(graph: Graph, name: str, parts: Sequence[Elements], keep: bool) -> Edit:
    """Add or subtract the contributions of the synapses, one sparse sum for the batch."""
    node = graph.node(name)
    field = node.field
    if field is None:
        raise BadOption(f"{name} has no synapses to switch off")
    synapses = [torch.from_numpy(part.members()) for part in parts]
    owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(s) for s in synapses]))
    flat = torch.cat(synapses)
    outputs, places = torch.Size(field.out_shape).numel(), field.out_shape[1] * field.out_shape[2]
    target = owner * outputs + flat // field.size
    source = owner * torch.Size(field.in_shape).numel() + field.sources(flat)
    weights = node.weight.detach().reshape(-1)[flat // field.size // places * field.size + flat % field.size]
    bias = node.arguments.get("bias")

    def edit(inputs: list[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        amounts = inputs[0].reshape(-1)[source] * weights
        carried = torch.zeros(output.numel(), dtype=output.dtype).index_add_(0, target, amounts).reshape(output.shape)
        if not keep:
            return output - carried
        return carried if bias is None else carried + bias.detach().reshape(-1, *(1 for _ in output.shape[2:]))

    return edit
