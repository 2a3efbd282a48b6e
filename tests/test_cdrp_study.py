"""The study of critical data routing paths on digits: what it leaves, what it says, and that it can be repeated."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from netpaths import Graph, cli, load_data
from netpaths.detection import DETECTORS, Features
from netpaths.errors import BadOption
from netpaths.methods import Activation, DistillationGuidedRouting
from netpaths.report.routing_findings import ACTIVATIONS, GATES
from netpaths.studies import cdrp, published, vector_detection
from netpaths.studies.credibility import extract_all
from netpaths.studies.experiment import Subject
from netpaths.studies.routing_plan import RoutingPlan
from netpaths.studies.vector_detection import Group, Material
from netpaths.zoo import save_weights
from trained import trained

METHOD = DistillationGuidedRouting(steps=30, gamma=0.1)
PLAN = RoutingPlan(
    method=METHOD, evaluated=40, per_class=(1, 2), swept=4, compared=4, ablated=8, points=2, clusters=4, seed=3
)
OPTIONS = (
    "--steps 30 --gamma 0.1 --evaluated 40 --per-class 1,2 --swept 4 --compared 4 --ablated 8 --points 2 --seed 3 "
    "--device cpu --quiet"
)
FIGURES = ("sweep", "curves", "agreement", "ablation", "separation", "embedding", "montage", "per-class")
TABLES = (
    "sparsity",
    "published_agreement",
    "published_detection",
    "published_sparsity",
    "agreement",
    "dead",
    "rival_curves",
    "ablation",
    "separation",
    "clusters",
    "detection",
    "attacks",
)
CLASSIFIERS = ("forest", "adaboost", "boosting")


def quiet(title: str, done: int, total: int, unit: str = "images") -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True)
class Done:
    """A finished run: its folder, and the file of the network's weights."""

    folder: Path
    weights: Path

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text()

    def table(self, name: str) -> list[dict[str, str]]:
        with open(self.folder / f"{name}.csv") as stream:
            return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained LeNet as a file."""
    return save_weights(trained().model, tmp_path_factory.mktemp("weights") / "lenet5.safetensors")


@pytest.fixture(scope="module")
def done(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run of the command."""
    folder = tmp_path_factory.mktemp("study") / "run"
    command = f"study cdrp --model lenet5 --weights {weights} --data digits {OPTIONS} --out {folder}"
    assert cli.run(shlex.split(command)) == 0
    return Done(folder, weights)


@pytest.fixture(scope="module")
def subject() -> Subject:
    own = trained()
    return Subject(own.model, own.graph, load_data("digits", "train"), load_data("digits", "test"))


@pytest.fixture(scope="module")
def material(subject: Subject) -> Material:
    """Clean, attacked and noisy digits with their gates: 20 training and 40 test images."""
    train, test = cdrp._images(subject, PLAN)
    return vector_detection.collect(subject, PLAN, train, test, quiet)


# --- what a run leaves -----------------------------------------------------------------------------------------------


def test_every_figure_has_its_picture_its_drawing_and_its_numbers(done: Done) -> None:
    found = {file.name for file in (done.folder / "figures").iterdir()}
    assert found == {f"{name}.{ending}" for name in FIGURES for ending in ("png", "svg", "csv")}
    for name in FIGURES:
        assert done.table(f"figures/{name}")
        with Image.open(done.folder / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300
        assert ElementTree.parse(done.folder / "figures" / f"{name}.svg").getroot().tag.endswith("svg")


def test_every_table_is_there_with_the_summary_s_numbers(done: Done) -> None:
    assert {file.name for file in (done.folder / "tables").iterdir()} == {f"{name}.csv" for name in TABLES}
    summary = done.summary
    for name in ("sparsity", "agreement", "dead", "detection", "ablation", "clusters", "attacks"):
        rows = done.table(f"tables/{name}")
        assert len(rows) == len(summary[name]) > 0
        for row, expected in zip(rows, summary[name]):
            for key, value in expected.items():
                if isinstance(value, float):
                    assert float(row[key]) == pytest.approx(value)
                elif isinstance(value, str):
                    assert row[key] == value
    assert {file.name for file in done.folder.iterdir()} == {
        "config.json", "summary.json", "report.html", "figures", "tables"
    }  # fmt: skip


def test_the_summary_has_every_part(done: Done) -> None:
    summary = done.summary
    assert set(summary) == {
        "command", "model", "data", "settings", "sparsity", "sweep", "layers", "clusters", "attacks", "detection",
        "dead", "agreement", "curves", "ablation", "seconds",
    }  # fmt: skip
    assert summary["model"]["fingerprint"] == trained().graph.fingerprint
    assert (summary["data"]["evaluated"], summary["data"]["learned from"]) == (40, 20)
    settings = summary["settings"]
    assert settings["method"] == json.loads(json.dumps(METHOD.describe()))
    assert (settings["routed layers"], settings["channels"]) == (["conv1", "conv2"], 22)
    assert (settings["per_class"], settings["attack"], settings["control"]) == ([1, 2], "targeted-bim", "noise")
    assert len(summary["sweep"]) == len(PLAN.gammas) * len(PLAN.steps)
    assert {row["order"] for row in summary["ablation"]} == {"largest", "smallest", "random", "outside"}
    assert {row["layer"] for row in summary["layers"]} == {"conv1", "conv2", "whole path"}
    assert [row["layer"] for row in summary["dead"]] == ["conv1", "conv2", "whole path"]
    assert all(seconds >= 0 for seconds in summary["seconds"].values())
    assert len({row["class"] for row in summary["clusters"]}) == 10
    assert sum(row["images"] for row in summary["clusters"]) == 60


def test_the_page_needs_nothing_else(done: Done) -> None:
    assert not re.search(r"""(?:src|href|srcset|action|poster|data)\s*=\s*["']?\s*(?:https?:)?//""", done.page)
    assert not re.search(r"@import|url\(\s*[\"']?(?!data:|#)|<(?:script|iframe|object|embed)\b[^>]*\ssrc", done.page)
    images = re.findall(r"<img\b[^>]*?\ssrc=\"([^\"]*)", done.page)
    assert len(images) == len(FIGURES)
    assert all(uri.startswith("data:image/") for uri in images)
    linked = set(re.findall(r"<a href=\"([^#\"][^\"]*)\"", done.page))
    assert linked == {f"figures/{name}.csv" for name in FIGURES} | {f"tables/{name}.csv" for name in TABLES}


def test_the_page_answers_and_names_the_papers_figures(done: Done) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", done.page))
    gates = next(row for row in done.summary["sparsity"] if row["method"] == "DGR")
    assert f"Gates learned for each of 40 test images keep {100 * gates['sparsity']:.1f}%" in text
    assert text.count("The paper’s figures (Wang et al. 2018, supplement, ImageNet)") == 2
    assert "Khakzar et al. (CVPR 2021), from their paper" in text
    for cells in ("AlexNet DGR 0.558 0.772 0.224", "ResNet-50 DGR 0.754 0.891 0.120", "VGG-16 forest 50 0.929"):
        assert cells in text
    assert "reconstructed" in text
    assert f"netpaths study cdrp --model lenet5 --weights {done.weights}" in text


# --- the paper's numbers ---------------------------------------------------------------------------------------------


def test_published_sparsity_is_the_supplements() -> None:
    """Percent there, shares here."""
    typed = {
        ("AlexNet", "full"): (55.81, 78.65, 100, 0),
        ("AlexNet", "AWR"): (55.81, 73.68, 93.20, 0.31),
        ("AlexNet", "AAR"): (55.81, 71.71, 88.13, 1.03),
        ("AlexNet", "DGR"): (55.81, 77.21, 22.43, 4.67),
        ("ResNet-50", "full"): (75.42, 92.58, 100, 0),
        ("ResNet-50", "AAR"): (75.42, 87.32, 72.32, 1.34),
        ("ResNet-50", "DGR"): (75.42, 89.14, 12.02, 4.50),
    }
    found = {
        (row["model"], row["method"]): tuple(100 * row[key] for key in ("top-1", "top-5", "sparsity", "sd"))
        for row in published.SPARSITY
    }
    assert list(found) == list(typed)
    for key, expected in typed.items():
        assert found[key] == pytest.approx(expected)


def test_published_detection_is_the_supplements(done: Done) -> None:
    typed = {
        ("AlexNet", "forest"): {1: 0.722, 5: 0.733, 10: 0.777},
        ("AlexNet", "adaboost"): {1: 0.742, 5: 0.751, 10: 0.763},
        ("AlexNet", "boosting"): {1: 0.753, 5: 0.759, 10: 0.785},
        ("VGG-16", "forest"): {1: 0.879, 5: 0.894, 10: 0.904, 50: 0.929},
        ("VGG-16", "adaboost"): {1: 0.888, 5: 0.906, 10: 0.910, 50: 0.908},
        ("VGG-16", "boosting"): {1: 0.905, 5: 0.919, 10: 0.915, 50: 0.922},
        ("ResNet-50", "forest"): {1: 0.912, 5: 0.919, 10: 0.921},
        ("ResNet-50", "adaboost"): {1: 0.915, 5: 0.920, 10: 0.920},
        ("ResNet-50", "boosting"): {1: 0.926, 5: 0.932, 10: 0.935},
    }
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in published.DETECTION:
        found.setdefault((row["model"], row["classifier"]), {})[row["images per class"]] = row["auroc"]
    assert found == typed
    assert published.KHAKZAR == {"share": 0.1, "jaccard": 0.024, "chance": 0.053}
    assert len(done.table("tables/published_sparsity")) == 7


def test_the_defaults_are_the_papers() -> None:
    plan = RoutingPlan()
    method = plan.method
    assert (method.steps, method.lr, method.momentum, method.gamma, method.limit) == (30, 0.1, 0.9, 0.05, 10)
    assert (method.start, method.choose, method.tolerance, method.temperature) == ("ones", "best", None, 1)
    assert (plan.attack, plan.control) == ("targeted-bim", "noise")
    assert {1, 5, 10, 50} == set(plan.per_class)


# --- what it measures ------------------------------------------------------------------------------------------------


def test_noise_is_as_large_as_the_attack(done: Done) -> None:
    rows = {(row["name"], row["images"]): row for row in done.summary["attacks"]}
    assert set(rows) == {("targeted-bim", "train"), ("targeted-bim", "test"), ("noise", "test")}
    noise, attack = rows["noise", "test"], rows["targeted-bim", "test"]
    assert attack["linf"] > 0.05
    assert noise["options"]["linf"] == attack["linf"]
    assert 0.9 * attack["linf"] < noise["linf"] <= attack["linf"] + 1e-6


def test_every_classifier_has_its_areas_and_controls(done: Done) -> None:
    rows = done.summary["detection"]
    found = {(row["values"], row["images per class"], row["classifier"]): row for row in rows}
    wanted = {(what, number, name) for what in (GATES, ACTIVATIONS) for number in (1, 2) for name in CLASSIFIERS}
    assert set(found) == {*wanted, ("softmax", 0, "1 − maximum")}
    for key, row in found.items():
        assert 0 <= row["low"] <= row["auroc"] <= row["high"] <= 1
        assert 0 <= row["noise"] <= 1
        assert 0 <= row["attack against noise"] <= 1
        assert row["null"] is None if key[0] == "softmax" else 0 <= row["null"] <= 1


def test_the_same_seed_gives_the_same_study_and_leaves_the_model_alone(done: Done, subject: Subject) -> None:
    """The command against the function behind it: but for wall clock all numbers are the same."""
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    command = str(done.summary["command"])
    findings = cdrp.run(subject, PLAN, "lenet5 on digits", command, {"model": "lenet5", "data": "digits"}, quiet)
    repeated = cdrp.write_summary(findings, done.folder.parent / "again.json")
    assert timeless(json.loads(repeated.read_text())) == timeless(done.summary)
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.model.state_dict().items())
    assert Graph(subject.model, trained().x[:1]).fingerprint == done.summary["model"]["fingerprint"]
    assert not any(module.training for module in subject.model.modules())
    assert all(parameter.grad is None for parameter in subject.model.parameters())


def timeless(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without the seconds that anything took."""
    attacks = [{key: value for key, value in row.items() if key != "seconds"} for row in summary["attacks"]]
    return {**{key: value for key, value in summary.items() if key != "seconds"}, "attacks": attacks}


# --- detection by vectors --------------------------------------------------------------------------------------------


def gates_of(images: torch.Tensor, batch_size: int) -> np.ndarray:
    """Rows of gates as the detectors see them: (n, 22)."""
    paths = extract_all(METHOD, trained().graph, images, batch_size, lambda count: None)
    return np.stack([np.concatenate([path.channels(node).numpy() for node in ("conv1", "conv2")]) for path in paths])


def test_gates_of_an_image_depend_on_it_alone(material: Material) -> None:
    """Learned again, behind its attacked twin, alone, or the other way round: an image has the gates it has."""
    clean, attacked = material.test["clean"], material.test["targeted-bim"]
    rows = clean.rows[GATES].values
    assert rows.shape == (40, 22)
    assert np.array_equal(gates_of(clean.images, PLAN.extracted), rows)
    gates_of(attacked.images, PLAN.extracted)
    assert np.array_equal(gates_of(clean.images, PLAN.extracted), rows)
    assert np.allclose(gates_of(clean.images, 1), rows, atol=1e-4)
    assert np.allclose(gates_of(clean.images.flip(0), 7)[::-1], rows, atol=1e-4)
    mixed = torch.cat([attacked.images[:3], clean.images[:4], attacked.images[3:5]])
    assert np.allclose(gates_of(mixed, 9)[3:7], rows[:4], atol=1e-4)
    assert len(np.unique(rows.round(5), axis=0)) == 40


def test_rows_say_where_they_come_from(material: Material, subject: Subject) -> None:
    for part, data in ((material.train, subject.train), (material.test, subject.test)):
        labels = dict(zip(data.identifiers, data.labels.tolist()))
        for name, group in part.items():
            for features in group.rows.values():
                assert set(features.attacks) == {name}
                assert features.labels.tolist() == [labels[str(source)] for source in features.sources]
                assert features.predicted.tolist() == group.logits.argmax(1).tolist()
            assert trained().graph.run(group.images).predicted.tolist() == group.logits.argmax(1).tolist()
    adversarial = material.test["targeted-bim"].rows[GATES]
    assert (adversarial.predicted != adversarial.labels).all()
    assert material.test["noise"].rows[GATES].is_control.all()
    assert set(material.train) == {"clean", "targeted-bim"}


def test_mean_activations_are_the_channels_means(material: Material) -> None:
    group = material.test["noise"]
    with torch.no_grad():
        trace = trained().graph.run(group.images, record=["conv1", "conv2"])
    expected = torch.cat([trace[node].abs().mean((2, 3)) for node in ("conv1", "conv2")], dim=1)
    assert np.allclose(group.rows[ACTIVATIONS].values, expected.numpy(), atol=1e-6)
    assert group.rows[ACTIVATIONS].names == group.rows[GATES].names
    relative = Activation(1.0).extract(trained().graph, group.images[:1])[0].channels("conv2")
    assert not torch.allclose(relative, expected[0, 6:])


PLAIN = replace(PLAN, bootstrap=20)


@pytest.fixture(scope="module")
def judged(material: Material) -> list[dict[str, Any]]:
    return vector_detection.detection_rows(PLAIN, material, quiet)


def counted(group: Group, what: str, correct: set[str]) -> Features:
    """The rows of a group that count: correct clean images, their noisy versions and successful attacks."""
    features = group.rows[what]
    return features.take([place for place, source in enumerate(features.sources) if str(source) in correct])


def correct(group: Group) -> set[str]:
    features = group.rows[GATES]
    return {str(s) for s, p, y in zip(features.sources, features.predicted, features.labels) if p == y}


def test_areas_by_hand(material: Material, judged: Sequence[Mapping[str, Any]], subject: Subject) -> None:
    """Fitted on the first images of every class and their attacked versions, judged by scikit-learn's area."""
    for what, number in ((GATES, 1), (ACTIVATIONS, 2)):
        chosen, taken = set(), dict.fromkeys(range(10), 0)
        for identifier, label in zip(subject.train.identifiers, subject.train.labels.tolist()):
            if taken[label] < number:
                taken[label] += 1
                chosen.add(identifier)
        known = correct(material.train["clean"]) & chosen
        fit = Features.concat([counted(group, what, known) for group in material.train.values()])
        detector = DETECTORS["adaboost"](seed=PLAN.seed).fit(fit)
        row = find(judged, what, number, "adaboost")
        assert row["fitted on"] == len(fit)
        scores = {
            name: detector.score(counted(group, what, correct(material.test["clean"])))
            for name, group in material.test.items()
        }
        assert row["auroc"] == pytest.approx(area(scores["targeted-bim"], scores["clean"]))
        assert row["noise"] == pytest.approx(area(scores["noise"], scores["clean"]))
        assert row["attack against noise"] == pytest.approx(area(scores["targeted-bim"], scores["noise"]))


def area(suspicious: np.ndarray, ordinary: np.ndarray) -> float:
    truth = np.arange(len(suspicious) + len(ordinary)) < len(suspicious)
    return float(roc_auc_score(truth, np.concatenate([suspicious, ordinary])))


def find(rows: Sequence[Mapping[str, Any]], what: str, number: int, classifier: str) -> Mapping[str, Any]:
    (row,) = (
        row for row in rows if (row["values"], row["images per class"], row["classifier"]) == (what, number, classifier)
    )
    return row


def test_the_softmax_row_is_the_area_of_one_minus_the_largest_probability(
    material: Material, judged: Sequence[Mapping[str, Any]]
) -> None:
    known = correct(material.test["clean"])
    scores = {}
    for name, group in material.test.items():
        keep = [str(source) in known for source in group.rows[GATES].sources]
        scores[name] = 1 - torch.softmax(torch.from_numpy(group.logits[keep]), dim=1).amax(1).numpy()
    row = find(judged, "softmax", 0, "1 − maximum")
    assert row["auroc"] == pytest.approx(area(scores["targeted-bim"], scores["clean"]))
    assert row["noise"] == pytest.approx(area(scores["noise"], scores["clean"]))
    assert np.isnan(row["null"])


def shifted(material: Material, amount: float) -> Material:
    """The same with other values of everything that is not clean."""

    def moved(groups: Mapping[str, Group]) -> Mapping[str, Group]:
        return {
            name: group
            if name == "clean"
            else replace(
                group,
                rows={what: replace(own, values=own.values + amount) for what, own in group.rows.items()},
            )
            for name, group in groups.items()
        }

    return Material(moved(material.train), moved(material.test), material.attacks)


def test_the_null_is_of_clean_images_alone(material: Material, judged: Sequence[Mapping[str, Any]]) -> None:
    """Whatever the attacked images are, clean against clean is the same; the areas are not."""
    others = vector_detection.detection_rows(PLAIN, shifted(material, 50.0), quiet)
    for own, other in zip(judged, others):
        if own["values"] == "softmax":
            continue
        assert 0 <= own["null"] <= 1
        assert other["null"] == own["null"]
        assert other["auroc"] == 1
    assert any(row["auroc"] < 1 for row in judged if row["values"] == GATES)
    assert len({row["null"] for row in judged if row["values"] != "softmax"}) > 3


def test_without_a_successful_attack_nothing_is_fitted(material: Material) -> None:
    part = Material({"clean": material.train["clean"]}, {"clean": material.test["clean"]}, [])
    rows = vector_detection.detection_rows(PLAIN, part, quiet)
    assert len(rows) == 13
    assert all(np.isnan(row["auroc"]) for row in rows)


def test_noise_is_as_large_as_the_attack_on_test_images(subject: Subject) -> None:
    """An attack of another size for every image: what counts is the mean of its successes on test images."""
    train, test = (part.take(np.arange(8)).in_memory() for part in (subject.train, subject.test))
    plan = replace(PLAN, method=replace(METHOD, steps=2), attack="fgsm-minimal")
    found = vector_detection.collect(subject, plan, train, test, quiet)
    sizes = [row["linf"] for row in found.attacks[:2]]
    assert abs(sizes[0] - sizes[1]) > 1e-4
    attacked, clean = found.test["fgsm-minimal"], found.test["clean"]
    places = [clean.rows[GATES].sources.tolist().index(source) for source in attacked.rows[GATES].sources]
    largest = (attacked.images - clean.images[places]).abs().flatten(1).amax(1)
    assert found.attacks[2]["options"]["linf"] == pytest.approx(float(largest.mean()), abs=1e-6)
    noise = (found.test["noise"].images - clean.images).abs().flatten(1).amax(1)
    assert float(noise.max()) <= float(largest.mean()) + 1e-6


def test_noise_needs_an_attack_to_be_as_large_as() -> None:
    own = trained()
    images = load_data("digits", "test").take(np.arange(20)).in_memory()
    plan = replace(PLAN, attack="fgsm", options={"fgsm": {"epsilon": 0.0}})
    with pytest.raises(
        BadOption, match="no fgsm on test images succeeded, and noise is to be as large; use a stronger"
    ):
        vector_detection.collect(Subject(own.model, own.graph, images, images), plan, images, images, quiet)


# --- plans and mistakes ----------------------------------------------------------------------------------------------


def test_images_are_balanced_and_as_many_as_asked_for(subject: Subject) -> None:
    train, test = cdrp._images(subject, replace(PLAN, per_class=(1, 5), evaluated=50))
    assert np.bincount(train.labels).tolist() == [5] * 10
    assert np.bincount(test.labels).tolist() == [5] * 10
    first = [np.flatnonzero(subject.train.labels == label)[:5] for label in range(10)]
    expected = {subject.train.identifiers[place] for place in np.concatenate(first).tolist()}
    assert set(train.identifiers) == expected


def test_a_quick_plan_is_never_larger() -> None:
    for plan in (RoutingPlan(), PLAN, replace(PLAN, evaluated=8, swept=4, compared=4, ablated=4, points=1)):
        quick = plan.quick()
        quick.check()
        for name in ("evaluated", "swept", "compared", "ablated", "clusters", "points", "bootstrap"):
            assert getattr(quick, name) <= getattr(plan, name)
        assert set(quick.per_class) <= set(plan.per_class)
        assert (quick.method, quick.seed, quick.attack) == (plan.method, plan.seed, plan.attack)
        assert set(quick.gammas) <= set(RoutingPlan().gammas)


STUDY = "study cdrp --model lenet5 --weights WEIGHTS --data digits --quiet --out OUT"
MISTAKES = {
    "unknown attack": ("--attack targeted-bmi", "there is no attack 'targeted-bmi'; nearest: targeted-bim"),
    "attack that is a control": ("--attack noise", "the attack is noise and the control noise; they must be one of"),
    "attack option": ("--attack fgsm:epsilom=1 --evaluated 40", "fgsm has no option 'epsilom'"),
    "attack without an effect": (
        "--attack fgsm:epsilon=0.0 --evaluated 40 --per-class 3 --steps 2",
        "no fgsm on test images succeeded",
    ),
    "too few training images": (
        "--limit 30 --per-class 1,5",
        "a class has 3 training images, the study asks for 5; give fewer a class",
    ),
    "too few images to cluster": (
        "--evaluated 20 --per-class 2",
        "20 test images of 10 classes and 2 training images of each are too few for 4 clusters a class",
    ),
    "images a class that fall": ("--per-class 5,1", "training images a class must be ascending numbers from 1"),
    "images a class twice": ("--per-class 5,5", "training images a class must be ascending numbers from 1"),
    "no images a class": ("--per-class ,", "training images a class must be ascending numbers from 1"),
    "images a class in words": ("--per-class 1,five", "--per-class is '1,five', expected whole numbers with commas"),
    "images a class as an exponent": ("--per-class 1²", "--per-class is '1²', expected whole numbers with commas"),
    "no image": ("--evaluated 0", "'--evaluated'"),
    "unknown layer": ("--layers convo1 --evaluated 40 --per-class 3", "there is no node 'convo1'; nearest: conv1"),
    "gates": ("--gamma -1", "gamma of routing is -1.0, which is out of range"),
    "largest gate": ("--largest-gate 0.5", "limit of routing is 0.5, which is out of range"),
    "momentum": ("--momentum 1", "momentum of routing is 1.0, which is out of range"),
    "tolerance": ("--tolerance 0", "tolerance of routing is 0.0, which is out of range"),
}


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A folder that must stay away."""
    yield tmp_path / "out"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(weights: Path, out: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    options, expected = MISTAKES[mistake]
    words = shlex.split(f"{STUDY.replace('WEIGHTS', str(weights)).replace('OUT', str(out))} {options}")
    assert cli.run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("netpaths: error: ")
    assert error.count("\n") == 1, error
    assert expected in error
