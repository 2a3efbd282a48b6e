"""Detection as Wang et al. (CVPR 2018) do it: classifiers on whole vectors of channel values, few training images.

Clean training images and their attacked versions are fitted on; clean and attacked test images are told apart. Beside
the gates stand what needs no gates: the same classifiers on the mean activation of the same channels, and the softmax.
Two controls go with every figure: noise as large as the attack, which is no attack, and clean images against clean
images, which nothing can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.attacks import attack
from netpaths.data import Images
from netpaths.detection import DETECTORS, Features, maximum_softmax
from netpaths.detection.extraction import About, vector_features
from netpaths.detection.metrics import Interval, all_metrics
from netpaths.errors import BadOption
from netpaths.methods import Activation
from netpaths.path import Path
from netpaths.report.routing_findings import ACTIVATIONS, GATES
from netpaths.studies.credibility import extract_all
from netpaths.studies.experiment import Progress, Subject, activations, attack_row, balanced_order, seeded
from netpaths.studies.routing_plan import RoutingPlan

Floats = NDArray[np.float64]
ENSEMBLES = ("forest", "adaboost", "boosting")
"""The paper's three classifiers: random forest, AdaBoost, gradient boosting."""


@dataclass(frozen=True, eq=False)
class Group:
    """One set of images: clean, attacked or control. rows: what the values are → one row of them per image.

    images: (n, channels, height, width). paths: their gates. logits: (n, classes).
    """

    images: torch.Tensor
    paths: Sequence[Path]
    rows: Mapping[str, Features]
    logits: Floats


@dataclass(frozen=True, eq=False)
class Material:
    """Training and test images, each clean, attacked, and the test images with noise; attacks as table rows."""

    train: Mapping[str, Group]
    test: Mapping[str, Group]
    attacks: Sequence[Mapping[str, Any]]


def collect(subject: Subject, plan: RoutingPlan, train: Images, test: Images, progress: Progress) -> Material:
    """Attack the images and learn the gates of all of them; ``train`` and ``test`` are in memory.

    Raises BadOption where noise should be as large as the attack, and no attack on test images succeeded.
    """
    attacked: dict[str, Mapping[str, Group]] = {}
    made: list[dict[str, Any]] = []
    for part, images in (("train", train), ("test", test)):
        groups = {
            "clean": _group(subject, plan, images[:][0], About(images.labels, images.identifiers), part, progress)
        }
        for name in (plan.attack, plan.control) if part == "test" else (plan.attack,):
            title = f"attack {name} on {part} images"
            progress(title, 0, len(images))
            options = dict(plan.options.get(name, {}))
            if name == plan.control and name == "noise" and not options:
                if np.isnan(made[-1]["linf"]):
                    raise BadOption(
                        f"no {plan.attack} on test images succeeded, and noise is to be as large; use a stronger "
                        "attack or more images"
                    )
                options = {"linf": float(made[-1]["linf"]), "l2": None}
            result = attack(
                name,
                subject.model,
                *images[:],
                seed=plan.seed,
                batch_size=plan.batch_size,
                progress=lambda done, total, _, title=title: progress(title, done, total),  # type: ignore[misc]
                **options,
            )
            made.append({"images": part, **attack_row(result)})
            counted = result if result.control else result.successful()
            if len(counted):
                sources = [images.identifiers[index] for index in counted.source]
                about = About(counted.label, sources, name, result.control)
                groups[name] = _group(subject, plan, counted.images, about, part, progress)
        attacked[part] = groups
    return Material(attacked["train"], attacked["test"], made)


def _group(
    subject: Subject, plan: RoutingPlan, images: torch.Tensor, about: About, part: str, progress: Progress
) -> Group:
    title, graph = f"gates of {part} images, {about.attack}", subject.graph
    progress(title, 0, len(images))
    paths = extract_all(plan.method, graph, images, plan.extracted, lambda done: progress(title, done, len(images)))
    plain = Activation(share=1.0, layers=paths[0].nodes("channel"), relative=False)
    pooled = extract_all(plain, graph, images, plan.extracted, lambda done: None)
    rows = {GATES: vector_features(paths, about), ACTIVATIONS: vector_features(pooled, about)}
    return Group(images, paths, rows, activations(graph, images, plan.extracted)[0])


def detection_rows(plan: RoutingPlan, material: Material, progress: Progress) -> list[dict[str, Any]]:
    """AUROC of the classifiers per number of training images a class, and of the softmax, with their controls."""
    rows: list[dict[str, Any]] = []
    title, total = "detectors", len(plan.per_class) * 2
    progress(title, 0, total, "fits")
    for what in (GATES, ACTIVATIONS):
        train = Features.concat([group.rows[what] for group in material.train.values()])
        test = Features.concat([group.rows[what] for group in material.test.values()])
        test = test.take(test.is_counted)
        for number in plan.per_class:
            fit = train.take(np.isin(train.sources, _first(material.train["clean"].rows[what], number)))
            fit = fit.take(fit.is_counted)
            for name in ENSEMBLES:
                rows.append(_row(plan, what, number, name, fit, test))
            progress(title, len(rows) // len(ENSEMBLES), total, "fits")
    return [*rows, _softmax_row(plan, material)]


def _first(clean: Features, number: int) -> Any:
    """The sources of the first ``number`` images of every class."""
    order = balanced_order(clean.labels)
    return clean.sources[order[: number * len(np.unique(clean.labels))]]


def _row(plan: RoutingPlan, what: str, number: int, name: str, fit: Features, test: Features) -> dict[str, Any]:
    named = {"values": what, "images per class": number, "classifier": name}
    if not fit.is_adversarial.any() or not fit.is_clean.any():
        return {**named, "auroc": float("nan")}
    detector = seeded(DETECTORS[name], plan.seed).fit(fit)
    scores = detector.score(test)
    return {**named, "fitted on": len(fit), **_figures(plan, scores, test), "null": _null(plan, name, fit, test)}


def _figures(plan: RoutingPlan, scores: Floats, test: Features) -> dict[str, Any]:
    """AUROC of attacks against clean images with its interval, of noise against those, and of attacks against noise."""
    found = _auroc(plan, scores, test, test.is_adversarial, test.is_clean)
    noise = _auroc(plan, scores, test, test.is_control, test.is_clean)
    apart = _auroc(plan, scores, test, test.is_adversarial, test.is_control)
    values = {"auroc": found.value, "low": found.low, "high": found.high}
    return {**values, "noise": noise.value, "attack against noise": apart.value}


def _auroc(plan: RoutingPlan, scores: Floats, test: Features, suspicious: Any, ordinary: Any) -> Interval:
    used = suspicious | ordinary
    if not suspicious.any() or not ordinary.any():
        return Interval(float("nan"))
    return all_metrics(scores[used], suspicious[used], test.sources[used], plan.bootstrap, plan.seed)["auroc"]


def _null(plan: RoutingPlan, name: str, fit: Features, test: Features) -> float:
    """Clean against clean: fitted on clean images of which half, at random, are called attacked; near 0.5 or broken."""
    rng = np.random.default_rng(plan.seed)
    clean, tested = fit.take(fit.is_clean), test.take(test.is_clean)
    truth, told = (rng.permutation(np.arange(len(part)) % 2 == 0) for part in (clean, tested))
    if len(clean) < 4:
        return float("nan")
    detector = seeded(DETECTORS[name], plan.seed).fit(clean.values, truth, clean.names)
    return all_metrics(detector.score(tested.values), told, bootstrap=0)["auroc"].value


def _softmax_row(plan: RoutingPlan, material: Material) -> dict[str, Any]:
    test = Features.concat([group.rows[GATES] for group in material.test.values()])
    scores = maximum_softmax(np.concatenate([group.logits for group in material.test.values()]))
    named = {"values": "softmax", "images per class": 0, "classifier": "1 − maximum", "fitted on": 0}
    return {**named, **_figures(plan, scores[test.is_counted], test.take(test.is_counted)), "null": float("nan")}
