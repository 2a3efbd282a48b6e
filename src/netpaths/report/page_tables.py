"""The tables of the report page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from netpaths.detection.calibration import Rate
from netpaths.detection.evaluation import Row
from netpaths.detection.metrics import Interval
from netpaths.report.findings import Example, Findings
from netpaths.report.names import attack_name, capitalised, detector_name
from netpaths.report.parts import Table, pairs
from netpaths.report.tables import count, duration, flat, interval, number, percent, rate, short, value_text

SKIPPED = ("versions", "fingerprint")


def network_table(operations: Sequence[Mapping[str, Any]], example: Example) -> Table:
    """One row per operation, with how many of its neurons are on the example's path."""
    path = example.path
    kind = "neuron" if "neuron" in path.kinds() else path.kinds()[0]
    nodes = path.nodes(kind)
    rows = []
    for operation in operations:
        node = str(operation["node"])
        shape = " × ".join(map(str, operation["shape"]))
        weights = int(operation["weights"])
        chosen = path[node, kind] if node in nodes else None
        share = f"{count(len(chosen))} of {count(chosen.total)}" if chosen is not None else "none"
        rows.append([node, str(operation["operation"]), shape, count(weights) if weights else "–", share])
    strong = frozenset(place for place, operation in enumerate(operations) if operation["weights"])
    columns = ("node", "operation", "output shape", "weights", f"{kind}s on the example’s path")
    return Table("The network, operation by operation", columns, rows, frozenset({3, 4}), strong)


def detectors_table(findings: Findings) -> Table:
    """One row per detector: all attacks pooled, the worst case, and the realised false-alarm rate."""
    alpha = findings.alpha
    detectors = _detectors(findings)
    rows = []
    for name in detectors:
        own = {row.kind: row for row in findings.evaluation.results if row.detector == name}
        pooled = own.get("all") or own.get("attack")
        worst = own.get("worst case")
        rows.append(
            [
                detector_name(name),
                interval(pooled.metrics["auroc"] if pooled else None),
                interval(worst.metrics["auroc"] if worst else None),
                rate(pooled.caught.get(alpha) if pooled else None),
                rate(pooled.false_alarms.get(alpha) if pooled else None),
            ]
        )
    columns = (
        "detector",
        "AUROC, all attacks",
        "AUROC, worst case",
        f"caught (threshold for {percent(alpha, 0)})",
        "false alarms",
    )
    strong = frozenset(place for place, name in enumerate(detectors) if name == findings.main_detector)
    return Table("Detectors compared", columns, rows, frozenset(range(1, 5)), strong)


def detector_tables(findings: Findings) -> list[Table]:
    """Per detector one row per attack: AUROC, TPR and realised false-alarm rate, each with its interval."""
    return [_detector_table(findings, name) for name in _detectors(findings)]


def _detectors(findings: Findings) -> list[str]:
    names = dict.fromkeys(row.detector for row in findings.evaluation.results)
    return sorted(names, key=lambda name: name != findings.main_detector)


def _detector_table(findings: Findings, detector: str) -> Table:
    shown = ("attack", "all", "worst case", "held out")
    own = [row for row in findings.evaluation.results if row.detector == detector and row.kind in shown]
    main = ", the main detector" if detector == findings.main_detector else ""
    columns = (
        "attack",
        "images",
        "AUROC",
        f"caught (threshold for {percent(findings.alpha, 0)})",
        "false alarms",
    )
    rows = [_detection_cells(row, findings.alpha) for row in own]
    strong = frozenset(place for place, row in enumerate(own) if row.kind == "all")
    threshold = findings.thresholds.get(detector, own[0].thresholds.get(findings.alpha) if own else None)
    caption = f"{capitalised(detector_name(detector))}{main} (threshold {number(threshold)})"
    return Table(caption, columns, rows, frozenset(range(1, 5)), strong)


def _detection_cells(row: Row, alpha: float) -> list[str]:
    title = attack_name(row.attack) + (", held out of fitting" if row.kind == "held out" else "")
    return [
        title,
        count(row.n),
        interval(row.metrics["auroc"]),
        rate(row.caught.get(alpha)),
        rate(row.false_alarms.get(alpha)),
    ]


def controls_table(findings: Findings) -> Table:
    """The main detector on what it must not react to: clean against clean, noise, blur."""
    rows = [
        [
            attack_name(row.attack),
            count(row.n),
            interval(row.metrics["auroc"]),
            rate((row.false_alarms if row.kind == "null" else row.caught).get(findings.alpha)),
        ]
        for row in findings.evaluation.results
        if row.detector == findings.main_detector and row.kind in ("null", "control")
    ]
    columns = ("control", "images", "AUROC against clean", "flagged at the threshold")
    return Table("Controls of the main detector", columns, rows, frozenset({1, 2, 3}))


def attacks_table(findings: Findings) -> Table:
    """One row per attack or control: options, success rate, size of the change, time."""
    columns = ("attack", "options", "tried", "successful", "success rate", "mean L2", "mean L∞", "mean L0", "time")
    rows = []
    for row in findings.attacks:
        control = row["name"] in findings.features.controls
        rows.append(
            [
                attack_name(str(row["name"])) + (" (control)" if control else ""),
                value_text(row.get("options")),
                count(row.get("tried", float("nan"))),
                "–" if control else count(row.get("successful", float("nan"))),
                "–" if control else percent(row.get("success_rate")),
                *(short(row.get(size)) for size in ("l2", "linf", "l0")),
                duration(row.get("seconds")),
            ]
        )
    return Table("Attacks and their options", columns, rows, frozenset(range(2, 9)))


def seeds_table(findings: Findings) -> Table:
    """AUROC of the main detector per attack: mean, deviation and every seed."""
    rows = [row for row in findings.seeds if row["detector"] == findings.main_detector]
    seeds = [key for key in (rows[0] if rows else {}) if key.startswith("seed_")]
    cells = [
        [
            attack_name(str(row["attack"])),
            f"{number(row['mean'])} ± {number(row['sd'])}",
            *(number(row[seed]) for seed in seeds),
        ]
        for row in rows
    ]
    columns = ("attack", "mean ± sd", *(seed.replace("_", " ") for seed in seeds))
    return Table("AUROC of the main detector over several splits", columns, cells, frozenset(range(1, len(columns))))


def unseen_table(findings: Findings) -> Table:
    """Detectors on an attack that was left out of fitting."""
    cells = [
        [
            attack_name(str(row["attack"])),
            detector_name(str(row["detector"])),
            interval(Interval(*(float(row[f"auroc{end}"]) for end in ("", "_low", "_high")))),
            rate(_flat_rate(row, "caught", findings.alpha)),
        ]
        for row in findings.unseen
    ]
    columns = ("attack left out", "detector", "AUROC", f"caught (threshold for {percent(findings.alpha, 0)})")
    return Table("Attacks that the detector had not seen in fitting", columns, cells, frozenset({2, 3}))


def _flat_rate(row: Mapping[str, Any], what: str, alpha: float) -> Rate | None:
    name = f"{what}_{alpha:g}"
    if name not in row or math.isnan(row[name]):
        return None
    found, n = float(row[name]), int(row["n"])
    return Rate(round(found * n), n, found, float(row[f"{name}_low"]), float(row[f"{name}_high"]))


def density_table(findings: Findings) -> Table:
    """Overall density per kind of element."""
    rows = [[f"{kind}s", percent(share)] for kind, share in findings.density.items()]
    return Table("Share of the network on any class path", ("kind", "share"), rows, frozenset({1}))


def costs_table(seconds: Mapping[str, float]) -> Table:
    """Wall-clock time per stage and in all."""
    rows = [[stage, duration(time)] for stage, time in seconds.items()]
    rows.append(["all stages", duration(sum(seconds.values()))])
    return Table("Wall-clock time", ("stage", "time"), rows, frozenset({1}), frozenset({len(rows) - 1}))


def cost_table(cost: Mapping[str, float]) -> Table:
    """Milliseconds per image of a forward pass, of path extraction and of a whole check, and their ratio."""
    names = {
        "forward": "forward pass alone",
        "paths": "forward pass and the paths of the predicted class and the runner-up",
        "check": "forward pass, paths, similarities and score",
    }
    rows = [
        [title, f"{number(cost[name], 2)} ms", f"{number(cost[name] / cost['forward'], 1)}×"]
        for name, title in names.items()
        if name in cost
    ]
    caption = f"Time per image, {count(int(cost.get('batch', 0)))} at once, medians of five runs"
    return Table(caption, ("work", "time", "of a forward pass"), rows, frozenset({1, 2}))


def provenance_tables(findings: Findings) -> list[Table]:
    """Model, data, settings and versions."""
    versions = findings.settings.get("versions") or findings.evaluation.config.get("versions") or {}
    settings = {name: value for name, value in findings.settings.items() if name not in SKIPPED}
    return [
        pairs("Model", _spelled({key: value for key, value in findings.model.items() if key not in SKIPPED})),
        pairs("Data", _spelled(findings.data)),
        pairs("Settings", flat(settings)),
        pairs("Versions", flat(versions)),
    ]


def _spelled(values: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in flat(values).items():
        if "accuracy" in name:
            found[name.replace("_", " ")] = percent(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name.replace("sizes.", "images: ").replace("_", " ")] = count(value)
        else:
            found[name.replace("_", " ")] = value_text(value)
    return found


def layers_table(example: Example) -> Table:
    """Per layer of one image's path: selected neurons, weights and synapses with their share."""
    path = example.path
    kinds = [kind for kind in ("neuron", "weight", "synapse", "channel") if kind in path.kinds()]
    rows = []
    for node in dict.fromkeys(site.node for site in path if site.node in path.layers or not path.layers):
        cells = [node]
        for kind in kinds:
            elements = path[node, kind] if node in path.nodes(kind) else None
            if elements is None or not elements.total:
                cells.append("–")
            else:
                cells.append(
                    f"{count(len(elements))} of {count(elements.total)} ({percent(len(elements) / elements.total)})"
                )
        busiest = [busiest_channel(example, node)] if "neuron" in kinds else []
        rows.append([*cells, *busiest, _similarity(example, node)])
    counted = ("busiest channel",) if "neuron" in kinds else ()
    columns = ("layer", *(f"{kind}s" for kind in kinds), *counted, "inside the class path")
    table_kinds = frozenset(range(1, len(columns)))
    return Table("The path, layer by layer", columns, rows, table_kinds)


def busiest_channel(example: Example, node: str) -> str:
    """The channel of a convolution with the most selected neurons; "–" for other layers."""
    if node not in example.path.nodes("neuron"):
        return "–"
    elements = example.path[node, "neuron"]
    if len(elements.shape) != 3 or not len(elements):
        return "–"
    sums = (elements.dense() > 0).flatten(1).sum(1)
    best = int(sums.argmax())
    return f"{best} ({count(int(sums[best]))} of {count(elements.shape[1] * elements.shape[2])})"


def _similarity(example: Example, node: str) -> str:
    return percent(example.similarity[node]) if node in example.similarity else "–"
