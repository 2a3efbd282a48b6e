"""Synthetic findings on decoupled networks, of any number of layers, filters, classes and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netpaths.ablation import Curve
from netpaths.report.decoupling_findings import UNION, USUAL, DecouplingFindings, Floats
from netpaths.report.rivals_findings import RivalsFindings
from netpaths.report.routing_findings import WHOLE

NAN = float("nan")
Row = dict[str, Any]
INSIDE = {"images": 20, "own": 0.8, "nearest other": 0.7, "resembles": 0.4}
TARGETS = (0.9, 0.7, 0.6, 0.5, 0.3)
PARTS = {"cross entropy": 0.2, "information": 0.13, "alignment": 0.9, "sparsity": 0.05}
VARIANTS = ("all parts", "without information", "without alignment", "without sparsity", "cross entropy alone")


def names(classes: int) -> tuple[str, ...]:
    """Class names, those of CIFAR-10 first."""
    known = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return tuple(known[place] if place < len(known) else f"class {place}" for place in range(classes))


def layer_names(layers: int) -> list[str]:
    return [f"layer{1 + 3 * place // layers}_{place // 2}_conv{1 + place % 2}" for place in range(layers)]


def curve_rows(targets: Sequence[float] = TARGETS) -> list[Row]:
    dense = {"target": NAN, "accuracy": 0.917, "filters on": 1.0, "MACs": 1.0}
    return [dense] + [
        {
            "target": target,
            "accuracy": 0.915 - 0.06 * (1 - target) ** 2,
            "filters on": target + 0.02,
            "MACs": target**1.7 + 0.02,
        }
        for target in targets
    ]


def latency_rows(targets: Sequence[float] = TARGETS, batches: Sequence[int] = (1, 32), threads: int = 1) -> list[Row]:
    rows = []
    for batch in batches:
        for own in curve_rows(targets)[1:]:
            dense, share = 2.5 * batch**0.8, own["MACs"]
            runtime = dense * (0.22 + 0.6 * share) * batch**0.12
            times = {"dense ms": dense, "masked ms": 1.24 * dense, "runtime ms": runtime, "all on ms": 0.86 * dense}
            over = runtime / dense
            ratios = {"MACs": share, "over dense": over, "low": over - 0.02, "high": over + 0.03}
            ratios |= {"masked over dense": 1.24, "over all on": over / 0.86}
            rows.append({"target": own["target"], "batch": batch, "threads": threads, **times, **ratios})
    return rows


def history_rows(targets: Sequence[float] = TARGETS, epochs: int = 10) -> list[Row]:
    return [
        {
            "target": target,
            "epoch": epoch,
            "loss": sum(PARTS.values()),
            **{part: value / epoch for part, value in PARTS.items()},
            "accuracy": 0.915 - 0.06 * (1 - target) ** 2 - 0.1 / epoch,
            "kept": min(target + 0.02 + 0.2 / epoch, 1.0),
            "macs": min(target**1.7 + 0.02 + 0.3 / epoch, 1.05),
            "seconds": 60.0,
        }
        for target in targets
        for epoch in range(1, epochs + 1)
    ]


def loss_rows(variants: Sequence[str] = VARIANTS) -> list[Row]:
    return [
        {
            "loss": name,
            "accuracy": 0.911 - 0.004 * place,
            "filters on": 0.6,
            "MACs": 0.43 + 0.05 * place,
            "distinct paths": 0.97,
            "neighbours": 0.71 - 0.11 * place,
            "nats": 1.31 - 0.2 * place,
        }
        for place, name in enumerate(variants)
    ]


def shares(classes: int, filters: int, seed: int = 0) -> Floats:
    """Shares (classes, filters): some filters always on, some off, the rest for one or several classes."""
    rng = np.random.default_rng(seed)
    kind = rng.random(filters)
    level = rng.normal(0.3, 1.5, filters) + rng.normal(0, 1.3, (classes, filters))
    found = 1 / (1 + np.exp(-1.6 * level))
    found[:, kind < 0.25], found[:, kind > 0.85] = 1, 0
    return found


def correlations(filters: int, seed: int = 0) -> Floats:
    """Correlations (filters, filters) of codes from four hidden causes; every fifth filter never changes."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(300, 4))
    codes = causes[:, rng.integers(0, 4, filters)] * rng.choice([-1, 1], filters) + rng.normal(0, 0.7, (300, filters))
    found: Floats = np.atleast_2d(np.corrcoef((codes > 0).T.astype(np.float64)))
    found[::5], found[:, ::5] = NAN, NAN
    return found


def separation_rows(layers: Sequence[str]) -> list[Row]:
    return [
        {
            "values": "codes",
            "layer": name,
            "separation": -0.1 + 0.4 * place / len(layers),
            "neighbours": 0.2 + 0.6 * place / len(layers),
        }
        for place, name in enumerate([*layers, WHOLE])
    ]


def distinct_rows(layers: Sequence[str]) -> list[Row]:
    images, found = 1000, [min(1 + 52 * place, 1000) for place in range(len(layers) + 1)]
    return [
        {"layer": name, "images": images, "distinct": own, "share": own / images, "most common": 0.4}
        for name, own in zip([*layers, WHOLE], found)
    ]


def filter_rows(layers: Sequence[str]) -> list[Row]:
    return [
        {"layer": name, "filters": 16, "always off": 2, "always on": 4, "varying": 10, "class range": 0.4, "nats": 0.9}
        for name in layers
    ]


def curves() -> list[Curve]:
    levels = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
    return [
        Curve("remove", order, "channel", levels, tuple(0.91 - own * x for x in levels), tuple(400 * x for x in levels))
        for order, own in (("random", 0.8), ("outside", 0.7))
    ] + [
        Curve(
            "keep", "random", "channel", levels, tuple(0.1 + 0.81 * x for x in levels), tuple(400 * x for x in levels)
        )
    ]


def static_rows(classes: Sequence[str]) -> list[Row]:
    sets = [number for number in (1, 2, 5) if number <= len(classes)]
    return [
        {
            "classes": number,
            "filters kept": 0.6 + 0.05 * place,
            "parameters": 0.45 + 0.07 * place,
            "MACs": 0.5 + 0.06 * place,
            "accuracy": 0.951 - 0.01 * place,
            "before": 0.953 - 0.004 * place,
        }
        for place, number in enumerate(sets)
    ]


def make_findings(
    layers: int = 4, classes: int = 3, images: int = 60, rivals: RivalsFindings | None = None, epochs: int = 4
) -> DecouplingFindings:
    """Findings on a network whose layers have 16, 32 and 64 filters."""
    rng = np.random.default_rng(1)
    named, own = layer_names(layers), names(classes)
    widths = [16 * 2 ** (3 * place // layers) for place in range(layers)]
    labels = np.arange(images) % classes
    matrix = 0.6 + 0.3 * rng.random((classes, classes))
    np.fill_diagonal(matrix, 1)
    return DecouplingFindings(
        title="ResNet-20 on CIFAR-10",
        command="netpaths study decoupling --model resnet20 --out <folder>",
        classes=own,
        model={"name": "resnet20", "parameters": 272474},
        data={"name": "cifar10", "classes": classes},
        settings={"seed": 1, "epochs": epochs},
        main=0.6,
        curve=curve_rows(),
        latency=latency_rows(),
        history=history_rows(epochs=epochs),
        losses=loss_rows(),
        firing={name: shares(classes, width, place) for place, (name, width) in enumerate(zip(named, widths))},
        filters=filter_rows(named),
        alike={name: correlations(width, place) for place, (name, width) in enumerate(zip(named, widths))},
        pairs=[{"layer": name, "varying": 12, "pairs": 66, "near copies": 3, "opposites": 1} for name in named],
        distinct=distinct_rows(named),
        matrices={UNION: (matrix + matrix.T) / 2, USUAL: ((matrix + matrix.T) / 2) ** 2},
        within=[{"class": name, "class path": form, **INSIDE} for form in (UNION, USUAL) for name in own],
        layers=separation_rows(named),
        points={name: rng.normal(size=(images, 2)) + np.eye(classes, 2)[labels] * 4 for name in [*named, WHOLE]},
        labels=labels,
        ablation=curves(),
        static=static_rows(own),
        rivals=rivals,
        seconds={"training": 1840.0, "timing": 12.5},
    )
