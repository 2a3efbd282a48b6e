"""One detection experiment from a model to figures: profile, attacks, features, detectors, evaluation, ablation.

Every stage is a function from values to values; `netpaths.studies.effective_path` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from netpaths.ablation import Curve, ablation_curve
from netpaths.attacks import ATTACKS, AttackResult, attack
from netpaths.data import Images
from netpaths.detection import (
    DETECTORS,
    Detector,
    Evaluation,
    Features,
    Mahalanobis,
    NearestNeighbours,
    energy,
    evaluate_scores,
    feature_squeezing,
    images_needed,
    leave_one_attack_out,
    maximum_softmax,
    split_rows,
)
from netpaths.detection.extraction import About, extract_features, extract_kinds
from netpaths.errors import BadOption
from netpaths.graph import Graph
from netpaths.methods import EffectivePath
from netpaths.path import Path
from netpaths.profile import Profile

Floats = NDArray[np.float64]
MAIN = "joint"
Ablation = tuple[Literal["remove", "keep"], Literal["largest", "smallest", "random", "outside"]]
ABLATIONS: tuple[Ablation, ...] = (
    ("remove", "largest"),
    ("remove", "smallest"),
    ("remove", "random"),
    ("remove", "outside"),
    ("keep", "largest"),
    ("keep", "outside"),
)
"""Modes and orders of the ablation; "outside" is the control."""


class Progress(Protocol):
    """Takes a stage's title, how much of it is done, the total, and the unit of both."""

    def __call__(self, title: str, done: int, total: int, unit: str = "images") -> None: ...


@dataclass(frozen=True, eq=False)
class Subject:
    """What is studied: a model in evaluation mode, its graph and its data."""

    model: nn.Module
    graph: Graph
    train: Images
    test: Images


@dataclass(frozen=True)
class Plan:
    """What is done with it.

    method: the notion of path. attacks, controls: names in `netpaths.attacks.ATTACKS`. attacked: test images used.
    calibration: further clean test images for the threshold alone. fit: share of the attacked images that detectors
    learn from. kinds: kinds of sites compared, the first one for the main detectors. layers: nodes compared or None.
    seeds: one evaluation each, the first one reported in full. alpha: false-alarm rate. ablated: images ablated.
    profile_sizes: training images a class of further, smaller profiles to compare with. batch_size: images computed at
    once; random draws of attacks and controls depend on it. extracted: images whose paths are extracted at once, None
    for batch_size; nothing depends on it.
    """

    method: EffectivePath = field(default_factory=EffectivePath)
    attacks: tuple[str, ...] = ("fgsm", "bim", "deepfool", "cw", "jsma")
    controls: tuple[str, ...] = ("noise", "blur")
    attacked: int = 400
    calibration: int = 300
    fit: float = 0.4
    kinds: tuple[str, ...] = ("synapse", "weight")
    layers: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    alpha: float = 0.05
    ablated: int = 100
    profile_sizes: tuple[int, ...] = ()
    bootstrap: int = 1000
    batch_size: int = 64
    extracted: int | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def path_batch(self) -> int:
        """Images whose paths are extracted at once."""
        return self.batch_size if self.extracted is None else self.extracted

    def check(self) -> None:
        """Raise BadOption for unknown attacks and empty plans."""
        for name in (*self.attacks, *self.controls):
            if name not in ATTACKS:
                raise BadOption(f"unknown attack {name!r}; known: {', '.join(ATTACKS)}")
        if not self.attacks or not self.kinds or not self.seeds or self.attacked < 2:
            raise BadOption("a plan needs at least one attack, kind of site and seed, and two images")
        if self.calibration < images_needed(self.alpha):
            raise BadOption(
                f"a false-alarm rate of {self.alpha:g} needs at least {images_needed(self.alpha)} clean calibration "
                f"images, not {self.calibration}"
            )


def test_images(subject: Subject, plan: Plan) -> tuple[Images, Images]:
    """Test images to attack and further ones to calibrate on, each balanced over classes, without an overlap.

    Raises BadOption when the data has too few.
    """
    test = subject.test
    if len(test) < plan.attacked + images_needed(plan.alpha):
        raise BadOption(
            f"{len(test)} test images are too few to attack {plan.attacked} and calibrate at {plan.alpha:g} on "
            f"{images_needed(plan.alpha)} others"
        )
    order = balanced_order(test.labels)
    attacked, rest = order[: plan.attacked], order[plan.attacked : plan.attacked + plan.calibration]
    return test.take(np.sort(attacked)).in_memory(), test.take(np.sort(rest)).in_memory()


def attack_images(subject: Subject, plan: Plan, clean: Images, progress: Progress) -> dict[str, AttackResult]:
    """What every attack and control makes of the ``clean`` test images."""
    images, labels = clean[np.arange(len(clean))]
    results = {}
    for name in (*plan.attacks, *plan.controls):
        progress(f"attack {name}", 0, len(images))
        results[name] = attack(
            name,
            subject.model,
            images,
            labels,
            seed=plan.seeds[0],
            batch_size=plan.batch_size,
            progress=lambda done, total, title: progress(f"attack {title}", done, total),
            **plan.options.get(name, {}),
        )
    return results


def balanced_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The images ordered so that every class comes in turn: (n,) positions."""
    order = np.concatenate([np.arange(np.sum(labels == c)) for c in np.unique(labels)])
    by_class = np.concatenate([np.flatnonzero(labels == c) for c in np.unique(labels)])
    return by_class[np.argsort(order, kind="stable")]


def attack_row(result: AttackResult) -> dict[str, Any]:
    """One table row: options, success rate among originally correct images, mean distances of successes, seconds."""
    counted = result if result.control else result.successful()
    correct = int((result.clean_label == result.label).sum())

    def mean(values: NDArray[Any]) -> float:
        return float(values.mean()) if len(values) else float("nan")

    return {
        "name": result.name,
        "control": result.control,
        "options": dict(result.options),
        "tried": correct,
        "successful": int(result.success.sum()),
        "success_rate": float("nan") if result.control else result.success_rate,
        "l2": mean(counted.l2),
        "linf": mean(counted.linf),
        "l0": mean(counted.l0),
        "seconds": result.seconds,
    }


@dataclass(frozen=True, eq=False)
class Rows:
    """Everything the detectors see, row by row: clean images, successful attacks, controls, calibration images.

    features: kind of site → Features. images: (rows, channels, height, width). logits: (rows, classes).
    penultimate: (rows, width), what the last linear layer reads. held_back: (rows,) true for
    images kept for calibration.
    """

    features: Mapping[str, Features]
    images: torch.Tensor
    logits: Floats
    penultimate: Floats
    held_back: NDArray[np.bool_]

    @property
    def main(self) -> Features:
        """The features of the first kind."""
        return next(iter(self.features.values()))


def collect_rows(
    subject: Subject,
    plan: Plan,
    profile: Profile,
    clean: Images,
    calibration: Images,
    results: Mapping[str, AttackResult],
    progress: Progress,
) -> Rows:
    """Features, logits and penultimate activations of calibration images, clean images, attacks and controls."""
    batches = image_groups(clean, calibration, results)
    total, done, title = sum(len(images) for images, _ in batches), 0, "paths of clean and attacked images"
    parts: list[dict[str | None, Features]] = []
    progress(title, 0, total)
    for images, about in batches:
        start = done
        parts.append(
            extract_kinds(
                plan.method,
                subject.graph,
                profile,
                images,
                plan.kinds,
                about,
                plan.layers,
                plan.path_batch,
                lambda n, start=start: progress(title, start + n, total),  # type: ignore[misc]
            )
        )
        done += len(images)
    merged = {kind: Features.concat([part[kind] for part in parts]) for kind in plan.kinds}
    return gathered(subject.graph, plan, merged, batches, len(calibration))


Groups = Sequence[tuple[torch.Tensor, About]]
"""Sets of images with where they come from."""


def image_groups(clean: Images, calibration: Images, results: Mapping[str, AttackResult]) -> list[Any]:
    """Calibration images, clean images, successful attacks and controls: a list of (images, About)."""
    batches = [(own[np.arange(len(own))][0], About(own.labels, own.identifiers)) for own in (calibration, clean)]
    for name, result in results.items():
        counted = result if result.control else result.successful()
        if len(counted):
            sources = [clean.identifiers[index] for index in counted.source]
            batches.append((counted.images, About(counted.label, sources, name, result.control)))
    return batches


def gathered(graph: Graph, plan: Plan, features: Mapping[str, Features], groups: Groups, held_back: int) -> Rows:
    """Features of all ``groups`` with their images, logits and penultimate activations.

    held_back: how many of the first rows are kept for calibration.
    """
    images = torch.cat([part for part, _ in groups])
    logits, penultimate = activations(graph, images, plan.batch_size)
    return Rows(features, images, logits, penultimate, np.arange(len(images)) < held_back)


def split(plan: Plan, rows: Rows, seed: int) -> dict[str, NDArray[np.int64]]:
    """Row indices for fitting and testing, disjoint by source image, and for calibration."""
    shares = {"fit": plan.fit, "test": 1 - plan.fit}
    used = np.flatnonzero(~rows.held_back)
    parts = split_rows(rows.main.take(used), shares, seed, clean_only=())
    return {**{name: used[chosen] for name, chosen in parts.items()}, "calibration": np.flatnonzero(rows.held_back)}


def activations(graph: Graph, images: torch.Tensor, batch_size: int) -> tuple[Floats, Floats]:
    """Logits (n, classes) and the input of the last layer (n, width); maps are averaged over space."""
    last = graph.nodes[graph.layers[-1]].inputs[0]
    unlabelled = torch.zeros(len(images), dtype=torch.int64)
    traces = [step.trace for step in graph.stream([(images, unlabelled)], record=[last], most=batch_size)]
    logits = torch.cat([trace.logits.double() for trace in traces])
    inputs = torch.cat([trace[last].double() for trace in traces])
    return logits.numpy(), (inputs.flatten(2).mean(2) if inputs.dim() > 2 else inputs).numpy()


@dataclass(frozen=True, eq=False)
class Judged:
    """One evaluation: rows of the test part, fitted detectors, their scores and thresholds."""

    rows: Mapping[str, NDArray[np.int64]]
    detectors: Mapping[str, Detector]
    scores: Mapping[str, tuple[Floats, Floats]]
    evaluation: Evaluation


def judge(plan: Plan, rows: Rows, baselines: Mapping[str, Floats], seed: int, bootstrap: int) -> Judged:
    """Split by source image, fit every detector, and evaluate them and the baselines on the held-out part.

    baselines: the scores of every row by detectors that do not learn from these rows.
    """
    parts = split(plan, rows, seed)
    detectors = {}
    for kind, features in rows.features.items():
        usable = features.take(parts["fit"])
        usable = usable.take(usable.is_counted)
        for name, make in DETECTORS.items():
            if kind == plan.kinds[0] or name == MAIN:
                title = name if kind == plan.kinds[0] else f"{name} ({kind}s)"
                detectors[title] = (seeded(make, seed).fit(usable), features)
    scores = {
        title: (detector.score(features.take(parts["calibration"])), detector.score(features.take(parts["test"])))
        for title, (detector, features) in detectors.items()
    }
    for title, values in baselines.items():
        scores[title] = (values[parts["calibration"]], values[parts["test"]])
    calibration, test = rows.main.take(parts["calibration"]), rows.main.take(parts["test"])
    alphas = _feasible((0.01, plan.alpha), int((calibration.is_counted & calibration.is_clean).sum()))
    evaluation = evaluate_scores(scores, calibration, test, alphas, seed, bootstrap)
    return Judged(parts, {title: detector for title, (detector, _) in detectors.items()}, scores, evaluation)


def seeded(make: type[Detector], seed: int) -> Detector:
    """A detector with its defaults, seeded where it draws at random."""
    detector = make()
    return type(detector)(**{**detector.params(), **({"seed": seed} if "seed" in detector.params() else {})})


def _feasible(alphas: Sequence[float], images: int) -> tuple[float, ...]:
    """The false-alarm rates that so many calibration images can certify."""
    return tuple(alpha for alpha in sorted(set(alphas)) if images >= images_needed(alpha))


def baseline_scores(subject: Subject, plan: Plan, rows: Rows) -> dict[str, Floats]:
    """Suspicion of every row by detectors that look at logits, penultimate activations or the image alone.

    Those that learn do so from up to 2000 training images.
    """
    bank, bank_logits = training_activations(subject, min(2000, len(subject.train)), plan.batch_size)

    def logits_of(images: NDArray[np.float32]) -> Floats:
        return activations(subject.graph, torch.from_numpy(images), plan.batch_size)[0]

    return {
        "maximum softmax": maximum_softmax(rows.logits),
        "energy": energy(rows.logits),
        "Mahalanobis": Mahalanobis().fit(bank, bank_logits.argmax(1)).score(rows.penultimate),
        "nearest neighbours": NearestNeighbours().fit(bank).score(rows.penultimate),
        "feature squeezing": feature_squeezing(rows.images.clamp(0, 1).numpy(), logits_of),
    }


def training_activations(subject: Subject, count: int, batch_size: int) -> tuple[Floats, Floats]:
    """Penultimate activations (n, width) and logits (n, classes) of ``count`` training images of all classes."""
    chosen = subject.train.take(np.sort(balanced_order(subject.train.labels)[:count]))
    pairs = [activations(subject.graph, images, batch_size) for images, _ in chosen.batches(batch_size)]
    return np.concatenate([pair[1] for pair in pairs]), np.concatenate([pair[0] for pair in pairs])


def cost(subject: Subject, plan: Plan, profile: Profile, clean: Images, detector: Detector) -> dict[str, float]:
    """Milliseconds per image, medians of five runs at ``batch`` images: forward, paths of both ranks, whole check."""
    images = clean[np.arange(min(plan.batch_size, len(clean)))][0]
    count = len(images)

    def check() -> None:
        detector.score(extract_features(plan.method, subject.graph, profile, images, kind=plan.kinds[0]))

    def forward() -> None:
        with torch.no_grad():
            subject.graph.run(images)

    stages: dict[str, Callable[[], object]] = {
        "forward": forward,
        "paths": lambda: plan.method.extract_ranks(subject.graph, images, plan.method.ranks),
        "check": check,
    }
    return {"batch": float(count), **{name: median_seconds(work) * 1000 / count for name, work in stages.items()}}


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median wall clock of ``work`` over several repeats."""
    times = []
    for _ in range(repeats):
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
    return float(np.median(times))


def seed_rows(evaluations: Mapping[int, Evaluation]) -> list[dict[str, Any]]:
    """AUROC of every detector and attack per seed, with mean and standard deviation over seeds."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for seed, evaluation in evaluations.items():
        for row in evaluation.results:
            if row.kind in ("attack", "all", "worst case"):
                values.setdefault((row.detector, row.attack), {})[seed] = row.metrics["auroc"].value
    return [
        {
            "detector": detector,
            "attack": name,
            **{f"seed_{seed}": value for seed, value in found.items()},
            "mean": float(np.mean(list(found.values()))),
            "sd": float(np.std(list(found.values()))),
        }
        for (detector, name), found in values.items()
    ]


def unseen_attacks(plan: Plan, rows: Rows, seed: int) -> Evaluation:
    """Leave-one-attack-out: the linear detector fitted on all attacks but the one it is tested on."""
    splits = {name: rows.main.take(chosen) for name, chosen in split(plan, rows, seed).items()}
    detectors = {MAIN: DETECTORS[MAIN]()}
    return leave_one_attack_out(detectors, splits, alphas=(plan.alpha,), seed=seed, bootstrap=plan.bootstrap)


def ablate(subject: Subject, plan: Plan, clean: Images, progress: Progress) -> list[Curve]:
    """Accuracy when a share of each image's path is switched off, or kept alone, and of as many random weights."""
    chosen = clean.take(np.arange(min(plan.ablated, len(clean))))
    images, labels = chosen[np.arange(len(chosen))]
    method = replace(plan.method, contributions=True, kinds=("weight",))
    paths = [path for batch in images.split(plan.path_batch) for path in method.extract(subject.graph, batch)]  # type: ignore[no-untyped-call]
    return ablation_curves(subject.graph, images, labels, paths, "weight", ABLATIONS, plan.seeds[0], 16, progress)


def ablation_curves(
    graph: Graph,
    images: torch.Tensor,
    labels: torch.Tensor,
    paths: Sequence[Path],
    kind: str,
    cases: Sequence[Ablation],
    seed: int,
    batch_size: int,
    progress: Progress,
) -> list[Curve]:
    """A curve for every mode and order of ``cases``; everything else as in `netpaths.ablation.ablation_curve`."""
    curves = []
    for mode, order in cases:
        title = f"ablation, {mode} {order}"
        progress(title, 0, len(images))
        curves.append(
            ablation_curve(
                graph,
                images,
                labels,
                paths,
                kind,
                order,
                seed=seed,
                batch_size=batch_size,
                progress=lambda done, total, title=title: progress(title, done, total),  # type: ignore[misc]
                mode=mode,
            )
        )
    return curves
