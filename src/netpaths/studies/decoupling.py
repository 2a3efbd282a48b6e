"""The study of decoupled networks (Li et al., ECCV 2020): from a model to its findings.

Accuracy, operations and measured time against the share of filters kept; which parts of the loss matter; what filters
fire for, how alike they are and how many paths there are; class paths; removal of filters that classes never use; and
detection of attacks on codes beside effective path and CDRP.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.ablation import Curve
from netpaths.benchmark.decoupling import macs_share, speed_row, speeds
from netpaths.data import Images
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.files import save_decoupled
from netpaths.decoupling.insertion import Decoupled, decouple
from netpaths.decoupling.observed import Observed
from netpaths.decoupling.removal import remove_unused
from netpaths.decoupling.training import Recipe, evaluate, train_decoupled
from netpaths.errors import BadOption
from netpaths.files import write_json
from netpaths.graph import Graph
from netpaths.methods import CalculationPath
from netpaths.path import Path, union
from netpaths.profile import Profile
from netpaths.report.decoupling_findings import UNION, USUAL, DecouplingFindings
from netpaths.report.rivals_findings import RivalsFindings
from netpaths.similarity import class_matrix
from netpaths.studies import codes, gates, head_to_head
from netpaths.studies.credibility import extract_all
from netpaths.studies.decoupling_plan import DecouplingPlan
from netpaths.studies.effective_path import Clock, describe_data, describe_model
from netpaths.studies.experiment import Progress, Subject, ablation_curves, balanced_order
from netpaths.training import accuracy, device_of, in_mode
from netpaths.zoo import Restricted

FILES = ("model.safetensors", "networks", "summary.json", "report.html", "figures", "tables")
ORDERS: tuple[Any, ...] = (("remove", "random"), ("remove", "outside"), ("keep", "random"))
"""A path's filters switched off, as many filters that were off anyway or anywhere, and a share of the path alone."""

CODES = "codes"
TIMED = 4
"""Batches of different images in every round of the timing."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Names:
    """model, data: as the user wrote them. normalize: as given. title, command: of the run."""

    model: str
    data: str
    normalize: Any
    title: str
    command: str


@dataclass(frozen=True, eq=False)
class Trained:
    """A decoupled network after training, and one row of figures per epoch."""

    network: Decoupled
    history: Sequence[Mapping[str, float]]


def run(
    subject: Subject, plan: DecouplingPlan, folder: FilePath, names: Names, progress: Progress
) -> DecouplingFindings:
    """Run every part and raise what parts raise; a stopped study goes on from the networks in ``folder``/networks.

    Networks are trained where the subject's is; everything else is done on the CPU, whose time is measured.
    """
    plan.check()
    clock = Clock()
    subject = replace(subject, train=subject.train.in_memory(), test=subject.test.in_memory())
    found = {target: _target(subject, plan, folder, target, progress) for target in plan.targets}
    trained = dict(sorted(found.items(), reverse=True))
    main = trained[plan.main].network
    there, subject = subject, _on_cpu(subject)
    _save(subject, trained, plan, folder, names)
    clock.lap("training")
    losses = _losses(there, plan, folder, progress)
    clock.lap("loss ablation")
    curve = [_dense(subject), *(_point(target, own) for target, own in trained.items())]
    latency = _latency(subject, plan, trained, progress)
    clock.lap("timing")
    own = Subject(main, Graph(main, subject.train[:1][0]), subject.train, subject.test)
    profile = _profile(own, plan, progress)
    forms = {UNION: profile.paths, USUAL: profile.usual()}
    static = _static(own, plan, profile, progress)
    clock.lap("class paths and removal")
    read = _read(own, plan, profile, forms, progress)
    clock.lap("codes")
    curves = _ablation(own, plan, progress)
    clock.lap("ablation")
    rivals = _rivals(own, plan, names, progress)
    clock.lap("detection")
    return DecouplingFindings(
        title=names.title,
        command=names.command,
        classes=subject.test.classes,
        model=describe_model(subject, names.model),
        data=describe_data(subject, names.data) | {"evaluated": plan.evaluated},
        settings=_settings(plan, main),
        main=plan.main,
        curve=curve,
        latency=latency,
        history=[{"target": target, **row} for target, each in trained.items() for row in each.history],
        losses=losses,
        matrices={form: class_matrix(class_paths, "channel") for form, class_paths in forms.items()},
        ablation=curves,
        static=static,
        rivals=rivals,
        seconds=clock.seconds,
        **read,
    )


def _on_cpu(subject: Subject) -> Subject:
    """The subject with its network on the CPU; the network itself where it is there already."""
    if device_of(subject.model).type == "cpu":
        return subject
    model = copy.deepcopy(subject.model).cpu()
    return replace(subject, model=model, graph=Graph(model, subject.train[:1][0]))


def _target(subject: Subject, plan: DecouplingPlan, folder: FilePath, target: float, progress: Progress) -> Trained:
    """The network trained for a share of filters."""
    return _trained(subject, plan.at(target), plan, folder, f"kept-{target:g}", progress)


def _trained(
    subject: Subject, recipe: Recipe, plan: DecouplingPlan, folder: FilePath, name: str, progress: Progress
) -> Trained:
    """The network trained with ``recipe``, from its checkpoint where there is one; on the CPU."""
    example = subject.train[:1][0].to(device_of(subject.model))
    network = decouple(subject.model, example, bias=plan.bias, level=plan.level, seed=plan.seed)
    title = f"training, {name}"
    history = train_decoupled(
        network,
        subject.train,
        recipe,
        subject.test,
        subject.model,
        checkpoint=folder / "networks" / f"{name}.checkpoint.safetensors",
        progress=lambda done, total, message: progress(title, done, total, "batches"),
    )
    return Trained(network.cpu(), history)


def _save(
    subject: Subject, trained: Mapping[float, Trained], plan: DecouplingPlan, folder: FilePath, names: Names
) -> None:
    """Every network under networks/, the main one also as the run's own."""
    shape, model = subject.train.shape, subject.model
    restricted = model.classes.tolist() if isinstance(model, Restricted) else None
    with torch.no_grad():
        inner = model.model if isinstance(model, Restricted) else model
        classes = int(inner(subject.train[:1][0]).shape[1])
    for target, own in trained.items():
        files = [folder / "networks" / f"kept-{target:g}.safetensors"]
        files += [folder / "model.safetensors"] if target == plan.main else []
        for file in files:
            save_decoupled(own.network, file, names.model, shape, classes, names.normalize, restricted)


def _dense(subject: Subject) -> dict[str, Any]:
    return {"target": float("nan"), "accuracy": accuracy(subject.model, subject.test), "filters on": 1.0, "MACs": 1.0}


def _point(target: float, trained: Trained) -> dict[str, Any]:
    row = trained.history[-1]
    return {"target": target, "accuracy": row["accuracy"], "filters on": row["kept"], "MACs": row["macs"]}


def _losses(subject: Subject, plan: DecouplingPlan, folder: FilePath, progress: Progress) -> Rows:
    """Accuracy, operations and what codes say, for networks trained without some parts of the loss."""
    if not plan.ablated_epochs:
        return []
    rows: Rows = []
    for name, recipe in plan.variants().items():
        file = f"loss-{name.replace(' ', '-')}"
        own = _trained(subject, recipe, plan, folder, file, progress)
        told = own.history[-1]
        train, test = (_codes(own.network, part) for part in _looked_at(subject, plan))
        values, labels = test
        bounds = codes.nats(train[0], train[1], values, labels)
        neighbours = gates.separation(gates.side_by_side(values), labels)["neighbours"]
        rows.append(
            {
                "loss": name,
                "accuracy": told["accuracy"],
                "filters on": told["kept"],
                "MACs": told["macs"],
                "distinct paths": codes.distinct_share(values),
                "neighbours": neighbours,
                "nats": float(np.mean([value for node, value in bounds.items() if node in values])),
            }
        )
    return rows


def _looked_at(subject: Subject, plan: DecouplingPlan) -> tuple[Images, Images]:
    """Training images of the class paths, and test images, both balanced over the classes."""
    classes = len(np.unique(subject.train.labels))
    train = subject.train.take(np.sort(balanced_order(subject.train.labels)[: plan.profiled * classes]))
    test = subject.test.take(np.sort(balanced_order(subject.test.labels)[: plan.evaluated]))
    return train, test


def _codes(network: Decoupled, images: Images) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """By layer the codes (images, filters), and the labels (images,)."""
    observed = Observed(network)
    with torch.no_grad(), in_mode(network, training=False):
        parts = [observed(batch).codes for batch, _ in images.batches(250)]
    return {name: torch.cat([part[name] for part in parts]).double().numpy() for name in parts[0]}, images.labels


def _latency(subject: Subject, plan: DecouplingPlan, trained: Mapping[float, Trained], progress: Progress) -> Rows:
    """Milliseconds of a batch: dense and masked in torch, the chosen filters alone, and the same kernels with all."""
    rows: Rows = []
    title, total = "timing", len(trained) * len(plan.batches)
    progress(title, 0, total, "settings")
    for (target, own), batch in itertools.product(trained.items(), plan.batches):
        images = subject.test[: TIMED * batch][0]
        found = speed_row(speeds(subject.graph.module, own.network, images.split(batch), plan.repeats))  # type: ignore[no-untyped-call]
        ratios = {"over dense": "ratio", "low": "ratio low", "high": "ratio high"}
        rows.append(
            {
                "target": target,
                "batch": batch,
                "threads": torch.get_num_threads(),
                **{name: value for name, value in found.items() if name not in ratios.values()},
                **{name: found[other] for name, other in ratios.items()},
                "MACs": macs_share(Graph(own.network, images[:1]), images),
            }
        )
        progress(title, len(rows), total, "settings")
    return rows


def _network(own: Subject) -> Decoupled:
    """The main decoupled network, as the studies' subject holds it."""
    return cast(Decoupled, own.model)


def _profile(own: Subject, plan: DecouplingPlan, progress: Progress) -> Profile:
    """Class paths with counts; raises EmptyClass where no image of a class is classified correctly."""
    train, _ = _looked_at(own, plan)
    title = "class paths"
    progress(title, 0, len(train))
    profile = Profile.build(
        CalculationPath(),
        own.graph,
        train.batches(plan.extracted),
        counts=True,
        progress=lambda so_far: progress(title, so_far.seen, len(train)),
        source=train.digest,
    )
    profile.require(np.unique(train.labels).tolist())
    return profile


def _read(
    own: Subject, plan: DecouplingPlan, profile: Profile, forms: Mapping[str, Mapping[int, Path]], progress: Progress
) -> dict[str, Any]:
    """What the codes of test images say. forms: class paths by what they are."""
    train, test = _looked_at(own, plan)
    title = "codes of test images"
    progress(title, 0, len(test))
    images = test[:][0]
    paths = extract_all(
        CalculationPath(), own.graph, images, plan.extracted, lambda done: progress(title, done, len(images))
    )
    values, predicted = gates.unit_values(paths), np.array([path.predicted for path in paths])
    bounds = codes.nats(*_codes(_network(own), train), values, test.labels)
    rates, matrices = codes.firing(profile), codes.alike(values)
    shown = np.sort(balanced_order(test.labels)[: plan.shown])
    points: dict[str, NDArray[np.float64]] = {}
    tables = gates.with_whole({node: table[shown] for node, table in values.items()})
    progress("t-SNE", 0, len(tables), "layers")
    for node, table in tables.items():
        points[node] = gates.embedding(table, plan.seed)
        progress("t-SNE", len(points), len(tables), "layers")
    return {
        "firing": rates,
        "filters": codes.filter_rows(rates, bounds),
        "alike": matrices,
        "pairs": codes.pair_rows(matrices),
        "distinct": codes.distinct_rows(values),
        "within": [
            row
            for form, class_paths in forms.items()
            for row in codes.class_path_rows(values, predicted, test.labels, class_paths, form, own.test.classes)
        ],
        "layers": gates.layer_rows(values, test.labels, CODES),
        "points": points,
        "labels": test.labels[shown],
    }


def _static(own: Subject, plan: DecouplingPlan, profile: Profile, progress: Progress) -> Rows:
    """Networks without the filters that the first so many classes never use, measured on images of these classes."""
    rows: Rows = []
    sizes = [size for size in plan.sets if size <= len(profile)]
    title, before = "removal", _parameters(own.model)
    progress(title, 0, len(sizes), "sets")
    for size in sizes:
        labels = list(profile)[:size]
        path = union([profile[label] for label in labels])
        smaller = remove_unused(_network(own), path)
        test = own.test.take(np.flatnonzero(np.isin(own.test.labels, labels)))
        kept = sum(len(path[node, "channel"]) for node in path.nodes("channel"))
        whole = sum(path[node, "channel"].total for node in path.nodes("channel"))
        found, was = evaluate(smaller, test), evaluate(_network(own), test)
        rows.append(
            {
                "classes": size,
                "filters kept": kept / whole,
                "parameters": _parameters(smaller) / before,
                "accuracy": found["accuracy"],
                "before": was["accuracy"],
                "MACs": _most(smaller, test) / _most(own.model, test),
            }
        )
        progress(title, len(rows), len(sizes), "sets")
    return rows


def _parameters(network: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _most(network: torch.nn.Module, images: Images) -> int:
    """Multiply–accumulates of an image with every filter on, controllers included."""
    return Cost(Graph(network, images[:1][0])).most()


def _ablation(own: Subject, plan: DecouplingPlan, progress: Progress) -> list[Curve]:
    """Accuracy when a growing share of an image's filters is switched off, and of filters anywhere."""
    chosen = own.test.take(np.sort(balanced_order(own.test.labels)[: plan.ablated]))
    images, labels = chosen[:]
    paths: list[Path] = extract_all(CalculationPath(), own.graph, images, plan.extracted, lambda done: None)
    return ablation_curves(own.graph, images, labels, paths, "channel", ORDERS, plan.seed, plan.extracted, progress)


def _rivals(own: Subject, plan: DecouplingPlan, names: Names, progress: Progress) -> RivalsFindings | None:
    """Detection on codes beside the other notions of path, in the decoupled network."""
    if plan.rivals is None:
        return None
    return head_to_head.run(
        own, plan.rivals, names.title, names.command, {"model": names.model, "data": names.data}, progress
    )


def _settings(plan: DecouplingPlan, network: Decoupled) -> dict[str, Any]:
    return {
        "decoupled layers": len(network.layers),
        "filters": sum(network.widths.values()),
        "recipe": plan.recipe,
        "targets": list(plan.targets),
        "loss ablation epochs": plan.ablated_epochs,
        "bias": plan.bias,
        "level": plan.level,
        "profiled": plan.profiled,
        "evaluated": plan.evaluated,
        "ablated": plan.ablated,
        "repeats": plan.repeats,
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
    }


def write_summary(findings: DecouplingFindings, file: FilePath) -> FilePath:
    """Write the figures that documentation quotes as JSON, atomically."""
    named = (
        "command",
        "model",
        "data",
        "settings",
        "main",
        "curve",
        "latency",
        "history",
        "losses",
        "filters",
        "pairs",
    )
    rest = ("distinct", "within", "layers", "static", "seconds")
    found = {name: getattr(findings, name) for name in (*named, *rest)}
    found["ablation"] = [row for curve in findings.ablation for row in curve.rows()]
    if findings.rivals is not None:
        own = findings.rivals
        parts = ("settings", "attacks", "differences", "unseen", "cost")
        found["rivals"] = {**{name: getattr(own, name) for name in parts}, "evaluation": own.evaluation.rows()}
    return write_json(file, found)


def check_data(subject: Subject, plan: DecouplingPlan) -> None:
    """Raise BadOption when a class has too few images for the plan."""
    _, counts = np.unique(subject.train.labels, return_counts=True)
    if counts.min() < plan.profiled:
        raise BadOption(f"a class has {counts.min()} training images, --fired asks for {plan.profiled}; give fewer")
