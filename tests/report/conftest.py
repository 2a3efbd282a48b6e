"""Findings of a tiny random network on random images, and synthetic features: everything a report shows, in seconds."""

from __future__ import annotations

from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from torch import nn

from netpaths.ablation import Curve, ablation_curve
from netpaths.detection import CLEAN, AdaBoost, Features, JointSimilarity, departures, evaluate, split_by_source
from netpaths.graph import Graph
from netpaths.methods import EffectivePath
from netpaths.profile import Profile
from netpaths.report import Example, Findings, Flagged, write_report, write_trace_report
from netpaths.similarity import class_matrix, image_class_similarity, total_similarity

CLASSES = ("cat", "dog", "a <b>bold</b> & long class name")
LAYERS = ("conv1", "conv2", "fc")
ALPHA = 0.05
COMMAND = "netpaths demo --out <folder>"


class Tiny(nn.Module):
    """Two convolutions and a linear layer for (batch, 3, 8, 8) images and three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.fc = nn.Linear(5 * 6 * 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(x, 1))
        return logits


def make_features(sources: int = 120, missing: float = 0.05) -> Features:
    """Synthetic similarities: two attacks and a control, with some values missing and one column empty."""
    rng = np.random.default_rng(3)
    names = tuple((layer, rank) for rank in (1, 2) for layer in LAYERS)
    labels = np.arange(sources) % 3
    parts = []
    for attack, drop in ((CLEAN, 0.0), ("fgsm", 0.12), ("cw", 0.2), ("noise", 0.01)):
        near = np.clip(rng.normal(0.9 - drop, 0.05, (sources, 3)), 0, 1)
        far = np.clip(rng.normal(0.5 + drop, 0.08, (sources, 3)), 0, 1)
        values = np.concatenate([near, far], axis=1)
        values[rng.random(values.shape) < missing] = np.nan
        values[:, 5] = np.nan
        attacked = attack in ("fgsm", "cw")
        parts.append(
            Features(
                values=values,
                names=names,
                sources=np.array([f"image-{i}" for i in range(sources)]),
                attacks=np.array([attack] * sources),
                predicted=(labels + 1) % 3 if attacked else labels,
                labels=labels,
                controls=("noise",),
            )
        )
    return Features.concat(parts)


@pytest.fixture(scope="session")
def graph() -> Graph:
    torch.manual_seed(0)
    return Graph(Tiny().eval(), torch.rand(1, 3, 8, 8))


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def profile(graph: Graph, images: torch.Tensor) -> Profile:
    """Class paths of the images, shared out between the classes at will."""
    found = Profile(graph.fingerprint)
    found.update(EffectivePath().extract(graph, images), [i % 3 for i in range(len(images))])
    return found


@pytest.fixture(scope="session")
def example(graph: Graph, images: torch.Tensor, profile: Profile) -> Example:
    path = EffectivePath().extract(graph, images[:1])[0]
    similarity = {**image_class_similarity(path, profile[path.predicted]), "conv1": float("nan")}
    return Example(images[0], path, 1, similarity, {label: total_similarity(path, profile[label]) for label in profile})


@pytest.fixture(scope="session")
def findings(graph: Graph, images: torch.Tensor, profile: Profile, example: Example) -> Findings:
    features = make_features()
    splits = split_by_source(features, {"fit": 0.3, "calibration": 0.35, "test": 0.35})
    detectors = {"joint": JointSimilarity(), "adaboost": AdaBoost(trees=5)}
    evaluation = evaluate(detectors, splits, alphas=(ALPHA,), bootstrap=50)
    fitted = {name: each.clone().fit(splits["fit"]) for name, each in detectors.items()}
    for each in fitted.values():
        each.calibrate(splits["calibration"], fpr=ALPHA)
    test = splits["test"]
    scores = {name: each.score(test) for name, each in fitted.items()}
    row = int(np.flatnonzero(test.is_adversarial)[np.argmax(scores["joint"][test.is_adversarial])])
    reasons = [tuple(each) for each in departures(test.take([row]), fitted["joint"].reference_)]
    threshold = float(fitted["joint"].threshold_ or 0)
    flagged = Flagged(example, (images[0] * 0.9).clamp(0, 1), "fgsm", float(scores["joint"][row]), threshold, reasons)
    overall = profile.overall()
    return Findings(
        title="A report <for> tests",
        command=COMMAND,
        class_names=CLASSES,
        model={"name": "tiny", "parameters": 1234, "fingerprint": graph.fingerprint, "accuracy": 0.875},
        data={"name": "noise", "classes": 3, "sizes": {"train": 12, "test": 120}},
        settings={"seed": 7, "method": EffectivePath().describe()},
        operations=graph.operations(),
        example=example,
        class_matrix=class_matrix(profile.paths),
        densities={kind: overall.densities(kind) for kind in ("synapse", "weight")},
        density={kind: overall.density(kind) for kind in ("synapse", "weight")},
        growth={kind: profile.growth(kind) for kind in ("synapse", "weight")},
        attacks=attack_rows(),
        features=test,
        scores=scores,
        thresholds={name: float(each.threshold_ or 0) for name, each in fitted.items()},
        main_detector="joint",
        alpha=ALPHA,
        evaluation=evaluation,
        flagged=[flagged],
        ablation=_curves(graph, images),
        seconds={"training": 3.25, "evaluation": 83.0},
    )


def attack_rows() -> list[dict[str, object]]:
    """Rows of the attacks table; the control has no successes and so no mean distances."""
    nan = float("nan")
    fgsm = {"name": "fgsm", "options": {"eps": 0.1}, "tried": 120, "successful": 90, "success_rate": 0.75}
    noise = {"name": "noise", "options": {"linf": 0.1}, "tried": 120, "successful": 0, "success_rate": nan}
    return [
        {**fgsm, "l2": 1.25, "linf": 0.1, "l0": 192.0, "seconds": 1.5},
        {**noise, "l2": nan, "linf": nan, "l0": nan, "seconds": 0.1},
    ]


def _curves(graph: Graph, images: torch.Tensor) -> list[Curve]:
    paths = EffectivePath(contributions=True).extract(graph, images)
    labels = torch.tensor([path.predicted for path in paths])
    return [
        ablation_curve(graph, images, labels, paths, order=order, shares=(0.0, 0.1, 0.5, 1.0))
        for order in ("largest", "smallest", "random", "outside")
    ]


@pytest.fixture(scope="session")
def report(findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """The report page, written once; keep the folder with --basetemp to look at it."""
    return write_report(findings, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def trace(findings: Findings, example: Example, tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """The trace page, written once."""
    folder = tmp_path_factory.mktemp("trace")
    return write_trace_report(example, findings.operations, CLASSES, folder, "One image", COMMAND, {"theta": 0.5})
