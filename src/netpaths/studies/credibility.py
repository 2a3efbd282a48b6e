"""Whether a path through units can be believed: dead units, agreement between settings, and rivals of equal size.

The checks of the sheet and of Khakzar et al. (CVPR 2021) on paths of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from netpaths.ablation import keep_only, remove, scaled, strongest
from netpaths.detection.extraction import extracted
from netpaths.graph import Graph, PathMethod
from netpaths.methods import DistillationGuidedRouting
from netpaths.path import Path
from netpaths.report.routing_findings import WHOLE

TENTH = 0.1
"""Share of all units at which Khakzar et al. compare starts: 90% of them removed."""

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Shares of all units that are kept alone, or removed."""


def extract_all(
    method: PathMethod, graph: Graph, images: torch.Tensor, batch_size: int, note: Callable[[int], None]
) -> list[Path]:
    """The path of every image of ``images`` (n, *input shape); ``note`` is called with how many are done."""
    return [path for (path,) in extracted(lambda batch: [method.extract(graph, batch)], images, batch_size, note)]


def units(path: Path) -> int:
    """How many channels the path could select."""
    return sum(path[node, "channel"].total for node in path.nodes("channel"))


def dead_rows(graph: Graph, images: torch.Tensor, paths: Sequence[Path], batch_size: int) -> list[dict[str, Any]]:
    """Per node the share of selected channels that were never positive on the image, and of all channels.

    What a ReLU would pass on of such a channel is 0 everywhere: that a path selects it says nothing.
    """
    nodes = paths[0].nodes("channel")
    counts = {node: np.zeros(4) for node in nodes}
    places = torch.arange(len(images))
    for step in graph.stream([(images, places)], record=nodes, most=batch_size):
        for node in nodes:
            value = step.trace[node]
            dead = (value.flatten(2).amax(2) if value.dim() > 2 else value) <= 0
            chosen = torch.stack([path.channels(node) > 0 for path in paths[step.start : step.end]])
            counts[node] += [int((dead & chosen).sum()), int(chosen.sum()), int(dead.sum()), dead.numel()]
    counts[WHOLE] = np.sum(list(counts.values()), axis=0)
    return [
        {"layer": node, "dead of selected": _share(own[0], own[1]), "dead of all": _share(own[2], own[3])}
        for node, own in counts.items()
    ]


def agreement(first: Sequence[Path], second: Sequence[Path]) -> dict[str, float]:
    """Mean Jaccard of the selected channels of two paths of each image, and what two random choices would have.

    Chance: as many channels at every node as the two paths have, drawn independently: Σ ab/N over Σ (a + b − ab/N).
    """
    found = []
    for one, other in zip(first, second):
        shared, either, by_chance, size = 0.0, 0.0, 0.0, 0.0
        for node in one.nodes("channel"):
            mine, others = one[node, "channel"], other[node, "channel"]
            both = np.intersect1d(mine.members(), others.members()).size
            shared, either = shared + both, either + len(mine) + len(others) - both
            expected = len(mine) * len(others) / mine.total
            by_chance, size = by_chance + expected, size + len(mine) + len(others) - expected
        found.append((_share(shared, either), _share(by_chance, size)))
    jaccard, chance = np.nanmean(np.array(found), axis=0).tolist()
    return {"jaccard": jaccard, "chance": chance, "above chance": jaccard - chance}


def variants(method: DistillationGuidedRouting) -> dict[str, DistillationGuidedRouting]:
    """The method under one other setting each, by name."""
    return {
        "start: random": replace(method, start="random", seed=1),
        "steps × 2": replace(method, steps=2 * method.steps),
        "γ × 2": replace(method, gamma=2 * method.gamma),
        "γ / 2": replace(method, gamma=method.gamma / 2),
        "run to rest": replace(method, tolerance=1e-3, steps=200),
    }


def agreement_rows(graph: Graph, images: torch.Tensor, paths: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """The first entry of ``paths`` against every other, as selected and for the strongest tenth of the units.

    Two entries whose names begin with "start: random" are compared with each other as well. "prediction kept": the
    share of ``images`` whose class is the plain network's under the gates of the other entry.
    """
    kept = {other: _kept(graph, images, found) for other, found in paths.items()}
    name, own = next(iter(paths.items()))
    pairs = {other: (own, found) for other, found in paths.items() if other != name}
    random = [found for other, found in paths.items() if other.startswith("start: random")]
    if len(random) > 1:
        pairs["two random starts"] = (random[0], random[1])
    number = round(TENTH * units(own[0]))
    rows: list[dict[str, Any]] = []
    for setting, (first, second) in pairs.items():
        own_kept = {"prediction kept": kept[setting]} if setting in kept else {}
        rows.append({"setting": setting, "selected": "as found", **agreement(first, second), **own_kept})
        tops = ([strongest(path, number) for path in group] for group in (first, second))
        rows.append({"setting": setting, "selected": "strongest tenth", **agreement(*tops)})
    return rows


def _kept(graph: Graph, images: torch.Tensor, paths: Sequence[Path]) -> float:
    predicted = scaled(graph, images, paths, "channel").argmax(1).tolist()
    return float(np.mean([path.predicted == label for path, label in zip(paths, predicted)]))


def curve_rows(
    graph: Graph,
    images: torch.Tensor,
    labels: torch.Tensor,
    paths: Mapping[str, Sequence[Path]],
    note: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Accuracy with nothing but the strongest units of each notion of path, and without them, at equal sizes.

    paths: notion → one path with values per image; a notion that values fewer units than asked for gives all it has.
    """
    number = units(next(iter(paths.values()))[0])
    rows: list[dict[str, Any]] = []
    for done, (name, own) in enumerate(paths.items(), 1):
        for share in SHARES:
            chosen = [strongest(path, round(share * number)) for path in own]
            held = float(np.mean([sum(map(len, path.sites.values())) for path in chosen])) / number
            for mode, switch in (("keep", keep_only), ("remove", remove)):
                right = switch(graph, images, chosen, "channel").argmax(1) == labels
                rows.append(
                    {
                        "method": name,
                        "mode": mode,
                        "share": share,
                        "held": held,
                        "accuracy": float(right.double().mean()),
                    }
                )
        note(done)
    return rows


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
