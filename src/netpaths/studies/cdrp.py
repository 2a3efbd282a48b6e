"""The study of critical data routing paths (Wang et al., CVPR 2018): from a model to its findings.

Sparsity and accuracy beside AWR, AAR and rivals of equal size; ablation in the full model; t-SNE and clusters of
gates; detection with few training images; and the checks that say whether the paths can be believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.ablation import Curve
from netpaths.data import Images
from netpaths.errors import BadOption
from netpaths.files import write_json
from netpaths.graph import PathMethod
from netpaths.path import Path
from netpaths.report.routing_figures import Cluster
from netpaths.report.routing_findings import ACTIVATIONS, GATES, RoutingFindings
from netpaths.studies import credibility, gates, published, sparsity
from netpaths.studies.effective_path import Clock, describe_data, describe_model
from netpaths.studies.experiment import Progress, Subject, ablation_curves, balanced_order
from netpaths.studies.routing_plan import RoutingPlan
from netpaths.studies.vector_detection import Group, Material, collect, detection_rows

FILES = ("summary.json", "report.html", "figures", "tables")
ORDERS: tuple[Any, ...] = ("largest", "smallest", "random", "outside")
"""The paper's Top and Bottom modes, random within the path, and as many channels from the whole network."""

Rows = Sequence[Mapping[str, Any]]


def run(
    subject: Subject,
    plan: RoutingPlan,
    title: str,
    command: str,
    names: Mapping[str, str],
    progress: Progress,
) -> RoutingFindings:
    """Run every part; names: "model" and "data" as the user wrote them; progress: as for the other studies.

    Raises what its parts raise, and BadOption when the data has too few images.
    """
    plan.check()
    clock = Clock()
    train, test = _images(subject, plan)
    material = collect(subject, plan, train, test, progress)
    clock.lap("attacks and gates")
    detection = detection_rows(plan, material, progress)
    clock.lap("detection")
    clean = material.test["clean"]
    labels = torch.from_numpy(test.labels)
    table = _sparsity(subject, plan, clean, labels, progress)
    clock.lap("sparsity and rivals")
    sweep = _sweep(subject, plan, clean, progress)
    clock.lap("sweep over γ and steps")
    layers, points = _layers(plan, clean, test.labels, progress)
    clock.lap("t-SNE and separation")
    clusters, montage, shown = _clusters(plan, material, train, test)
    clock.lap("clusters")
    curves = _ablation(subject, plan, clean, labels, progress)
    clock.lap("ablation")
    agreement, rivals = _credibility(subject, plan, clean, labels, progress)
    clock.lap("agreement and curves over methods")
    return RoutingFindings(
        title=title,
        command=command,
        class_names=subject.test.classes,
        model=describe_model(subject, names["model"]),
        data=describe_data(subject, names["data"]) | {"evaluated": len(test), "learned from": len(train)},
        settings=_settings(plan, clean.paths[0]),
        sparsity=table,
        sweep=sweep,
        ablation=curves,
        layers=layers,
        points=points,
        labels=test.labels,
        clusters=clusters,
        montage=montage,
        shown=shown,
        attacks=material.attacks,
        detection=detection,
        dead=credibility.dead_rows(subject.graph, clean.images, clean.paths, plan.extracted),
        agreement=agreement,
        curves=rivals,
        published={
            "sparsity": published.SPARSITY,
            "detection": published.DETECTION,
            "agreement": [published.KHAKZAR],
        },
        seconds=clock.seconds,
    )


def _images(subject: Subject, plan: RoutingPlan) -> tuple[Images, Images]:
    """Training images, as many of every class, and test images, balanced over the classes; both in memory."""
    _, counts = np.unique(subject.train.labels, return_counts=True)
    if counts.min() < plan.per_class[-1]:
        raise BadOption(
            f"a class has {counts.min()} training images, the study asks for {plan.per_class[-1]}; give fewer a class"
        )
    wanted = plan.per_class[-1] * len(counts)
    if plan.evaluated // len(counts) + plan.per_class[-1] <= plan.clusters:
        raise BadOption(
            f"{plan.evaluated} test images of {len(counts)} classes and {plan.per_class[-1]} training images of each "
            f"are too few for {plan.clusters} clusters a class; evaluate more"
        )
    train = subject.train.take(balanced_order(subject.train.labels)[:wanted])
    test = subject.test.take(np.sort(balanced_order(subject.test.labels)[: plan.evaluated]))
    return train.in_memory(), test.in_memory()


def _sparsity(subject: Subject, plan: RoutingPlan, clean: Group, labels: torch.Tensor, progress: Progress) -> Rows:
    title = "sparsity and rivals"
    progress(title, 0, 1, "methods")
    return sparsity.table_rows(
        subject.graph,
        plan,
        clean.images,
        labels,
        clean.paths,
        lambda done, total: progress(title, done, total, "methods"),
    )


def _sweep(subject: Subject, plan: RoutingPlan, clean: Group, progress: Progress) -> Rows:
    title, chosen = "sweep over γ and steps", _spread(len(clean.images), plan.swept)
    progress(title, 0, len(plan.gammas), "penalties")
    return sparsity.sweep_rows(
        subject.graph, plan, clean.images[chosen], lambda done, total: progress(title, done, total, "penalties")
    )


def _spread(count: int, wanted: int) -> torch.Tensor:
    """``wanted`` positions below ``count``, evenly spaced: images are sorted by class in some data."""
    return torch.linspace(0, count - 1, min(wanted, count)).round().long()


def _layers(
    plan: RoutingPlan, clean: Group, labels: NDArray[np.int64], progress: Progress
) -> tuple[Rows, dict[str, NDArray[np.float64]]]:
    """Separation per layer of gates and of mean activations, and the t-SNE of the gates."""
    values = gates.unit_values(clean.paths)
    pooled = _pooled(clean, values)
    rows = [*gates.layer_rows(values, labels, GATES), *gates.layer_rows(pooled, labels, ACTIVATIONS)]
    tables = gates.with_whole(values)
    points: dict[str, NDArray[np.float64]] = {}
    progress("t-SNE", 0, len(tables), "layers")
    for node, table in tables.items():
        points[node] = gates.embedding(table, plan.seed)
        progress("t-SNE", len(points), len(tables), "layers")
    return rows, points


def _pooled(clean: Group, like: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The mean activations of the nodes of ``like``, whose columns stand in the same order."""
    widths = np.cumsum([values.shape[1] for values in like.values()])[:-1]
    return dict(zip(like, np.split(clean.rows[ACTIVATIONS].values, widths, axis=1)))


def _clusters(plan: RoutingPlan, material: Material, train: Images, test: Images) -> tuple[Rows, list[Cluster], str]:
    """Rows per class and cluster; the clusters and the name of the class with the most uneven spread of hard images."""
    parts = [(material.train["clean"], train.labels), (material.test["clean"], test.labels)]
    values = np.concatenate([gates.side_by_side(gates.unit_values(part.paths)) for part, _ in parts])
    logits = np.concatenate([part.logits for part, _ in parts])
    images = torch.cat([part.images for part, _ in parts])
    labels = np.concatenate([own for _, own in parts])
    rows: list[dict[str, Any]] = []
    found: list[gates.Groups] = []
    for label in np.unique(labels).tolist():
        own = labels == label
        if own.sum() > plan.clusters:
            found.append(gates.group(values[own], label, gates.hard_images(logits[own], labels[own]), plan.clusters))
            rows += found[-1].rows(str(test.classes[label]))
    if not found:
        raise BadOption(f"no class has more than {plan.clusters} images to cluster; evaluate more")
    shown = max(found, key=_unevenness)
    own = images[torch.from_numpy(labels == shown.label)]
    montage = [
        Cluster(
            _cluster_title(number, int((shown.members == number).sum())),
            own[torch.from_numpy(shown.members == number)].numpy(),
            shown.hard[shown.members == number],
        )
        for number in np.unique(shown.members).tolist()
    ]
    return rows, montage, str(test.classes[shown.label])


def _cluster_title(number: int, images: int) -> str:
    return f"cluster {number + 1}: {images} {'image' if images == 1 else 'images'}"


def _unevenness(group: gates.Groups) -> float:
    shares = [group.hard[group.members == number].mean() for number in np.unique(group.members)]
    return float(np.max(shares) - np.min(shares))


def _ablation(
    subject: Subject, plan: RoutingPlan, clean: Group, labels: torch.Tensor, progress: Progress
) -> list[Curve]:
    """Accuracy of the full model when a growing share of an image's critical channels is switched off."""
    chosen = _spread(len(clean.images), plan.ablated)
    paths = [clean.paths[place] for place in chosen.tolist()]
    return ablation_curves(
        subject.graph,
        clean.images[chosen],
        labels[chosen],
        paths,
        "channel",
        [("remove", order) for order in ORDERS],
        plan.seed,
        plan.extracted,
        progress,
    )


def _credibility(
    subject: Subject, plan: RoutingPlan, clean: Group, labels: torch.Tensor, progress: Progress
) -> tuple[Rows, Rows]:
    """Agreement of gates under other settings, and keep and remove curves beside rivals."""
    chosen = _spread(len(clean.images), plan.compared)
    images, own = clean.images[chosen], [clean.paths[place] for place in chosen.tolist()]

    def extract(name: str, method: PathMethod) -> list[Path]:
        progress(name, 0, len(images))
        return credibility.extract_all(
            method, subject.graph, images, plan.extracted, lambda done: progress(name, done, len(images))
        )

    paths: dict[str, Sequence[Path]] = {"as asked for": own}
    others = credibility.variants(plan.method) | {
        "start: random, another draw": replace(plan.method, start="random", seed=2)
    }
    for name, variant in others.items():
        paths[name] = extract(f"gates, {name}", variant)
    nodes = own[0].nodes("channel")
    notions: dict[str, Sequence[Path]] = {sparsity.DGR: own, "DGR, run to rest": paths["run to rest"]}
    for name, method in sparsity.rivals(nodes, 1.0, plan.points, plan.seed).items():
        try:
            notions[name] = extract(f"paths by {name}", method)
        except BadOption:
            continue  # a method without a score for these nodes; the table of sparsity says why
    title = "curves over methods"
    progress(title, 0, len(notions), "methods")
    rows = credibility.curve_rows(
        subject.graph, images, labels[chosen], notions, lambda done: progress(title, done, len(notions), "methods")
    )
    return credibility.agreement_rows(subject.graph, images, paths), rows


def _settings(plan: RoutingPlan, path: Path) -> dict[str, Any]:
    nodes = path.nodes("channel")
    return {
        "method": plan.method.describe(),
        "routed layers": list(nodes),
        "channels": credibility.units(path),
        "per_class": list(plan.per_class),
        "attack": plan.attack,
        "control": plan.control,
        "compared": plan.compared,
        "swept": plan.swept,
        "ablated": plan.ablated,
        "integration points": plan.points,
        "bootstrap": plan.bootstrap,
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
    }


def write_summary(findings: RoutingFindings, file: FilePath) -> FilePath:
    """Write the figures that documentation quotes as JSON, atomically."""
    named = ("command", "model", "data", "settings", "sparsity", "sweep", "layers", "clusters", "attacks")
    rest = ("detection", "dead", "agreement", "curves", "seconds")
    return write_json(
        file,
        {
            **{name: getattr(findings, name) for name in (*named, *rest)},
            "ablation": [row for curve in findings.ablation for row in curve.rows()],
        },
    )
