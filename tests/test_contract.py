"""What every notion of path owes every consumer; a new notion adds one row to METHODS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import pytest
import torch

from netpaths import (
    EffectivePath,
    Path,
    PathMethod,
    Profile,
    image_class_similarity,
    jaccard,
    layer_jaccard,
    load_path,
    save_path,
    total_similarity,
)
from netpaths.ablation import keep_only, random_path, remove
from netpaths.errors import BadInput
from netpaths.methods import (
    Activation,
    CalculationPath,
    DistillationGuidedRouting,
    IntegratedGradients,
    MarginalContribution,
    RandomUnits,
    WeightNorm,
)
from trained import Trained, decoupled, trained


@dataclass(frozen=True)
class Row:
    """A method, the kinds of sites it declares, kinds to ablate, and what it can do.

    binary: values are all 1. whole: paths reach back to the input and the prediction hangs on them: keeping one keeps
    it and removing one changes it, far more often than chance would. telling: an image's path lies in its own class
    path rather than in another's. own: an image has a path of its own. routed: the nodes with units are all that it
    looks at. network: what it is tried on.
    """

    method: PathMethod
    kinds: tuple[str, ...]
    ablated: tuple[str, ...]
    binary: bool = True
    whole: bool = True
    telling: bool = True
    own: bool = True
    routed: bool = False
    network: Callable[[], Trained] = trained


EFFECTIVE = ("neuron", "synapse", "weight")

ACTIVATED = ("relu1", "relu2", "relu3", "relu4")
"""Every hidden layer; the convolutions that are routed by default have 22 channels, too few to tell classes apart."""


def channels(method: PathMethod, **abilities: Any) -> Row:
    """A method that selects channels."""
    return Row(method, ("channel",), ("channel",), **{"binary": False, "routed": True, **abilities})


def neurons(method: PathMethod, **abilities: bool) -> Row:
    """A method that selects neurons at some nodes."""
    return Row(method, ("neuron",), ("neuron",), **{"binary": False, "routed": True, **abilities})


METHODS: dict[str, Row] = {
    "effective": Row(EffectivePath(), EFFECTIVE, EFFECTIVE),
    "effective, theta 0.9": Row(EffectivePath(0.9), EFFECTIVE, EFFECTIVE),
    "effective, neuron target": Row(EffectivePath(target="neuron"), EFFECTIVE, ("synapse",)),
    "effective, all ties": Row(EffectivePath(ties="all", merge="all"), EFFECTIVE, ("synapse",)),
    "effective, last 3": Row(EffectivePath(last=3), EFFECTIVE, ("synapse",), whole=False),
    "effective, contributions": Row(EffectivePath(contributions=True), EFFECTIVE, ("weight",), binary=False),
    "effective, weights": Row(EffectivePath(kinds=("weight",)), ("weight",), ("weight",)),
    "routing": channels(DistillationGuidedRouting(), whole=False, telling=False),
    "routing, converged": channels(DistillationGuidedRouting(steps=200, tolerance=1e-3), whole=False, telling=False),
    "routing, every layer": channels(DistillationGuidedRouting(layers=ACTIVATED), whole=False),
    "activation": channels(Activation(0.2, layers=ACTIVATED, across="layer")),
    "activation, neurons": neurons(Activation(0.2, "neuron", ACTIVATED, "layer")),
    "activation, removal": channels(Activation(None), whole=False, telling=False),
    "contribution": channels(MarginalContribution(layers=ACTIVATED, across="layer")),
    "contribution, neurons": neurons(MarginalContribution(0.1, "neuron", ACTIVATED, "layer")),
    "contribution, binary": channels(MarginalContribution(layers=ACTIVATED, across="layer", binary=True), binary=True),
    "integrated gradients": channels(IntegratedGradients(layers=ACTIVATED, across="layer")),
    "decoupling": channels(CalculationPath(), binary=True, whole=False, telling=False, network=decoupled),
    "weight": channels(WeightNorm(0.3), whole=False, telling=False, own=False),
    "random": channels(RandomUnits(0.3, layers=ACTIVATED, across="layer"), whole=False, telling=False),
}
EXPLAINING = [name for name, row in METHODS.items() if row.whole]
TELLING = [name for name, row in METHODS.items() if row.telling]


@pytest.fixture(params=METHODS)
def row(request: pytest.FixtureRequest) -> Row:
    return METHODS[request.param]


@pytest.fixture(params=EXPLAINING)
def whole_row(request: pytest.FixtureRequest) -> Row:
    return METHODS[request.param]


@pytest.fixture(params=TELLING)
def telling_row(request: pytest.FixtureRequest) -> Row:
    return METHODS[request.param]


@pytest.fixture
def lenet(request: pytest.FixtureRequest) -> Trained:
    (name,) = {"row", "whole_row", "telling_row"} & set(request.fixturenames)
    found: Row = request.getfixturevalue(name)
    return found.network()


def build(row: Row, lenet: Trained, count: int = 300) -> Profile:
    loader = [lenet.train[start : start + 100] for start in range(0, count, 100)]
    return Profile.build(row.method, lenet.graph, loader)


def extract(row: Row, lenet: Trained, count: int = 12) -> list[Path]:
    return row.method.fit(lenet.graph, []).extract(lenet.graph, lenet.x[:count])


# --- the value -------------------------------------------------------------------------------------------------------


def test_declared_kinds(row: Row, lenet: Trained) -> None:
    for path, label in zip(extract(row, lenet), lenet.labels.tolist()):
        assert path.kinds() == row.kinds
        assert path.seed == path.predicted == label
        assert path.fingerprint == lenet.graph.fingerprint
        assert path.layers == (path.nodes(row.kinds[0]) if row.routed else lenet.graph.layers)
        for kind in row.kinds:
            assert sum(len(path[node, kind]) for node in path.nodes(kind)) > 0
        for site, part in path.items():
            assert part.binary == row.binary
            assert len(part) <= part.total <= part.size, site


def test_description_is_json(row: Row, lenet: Trained) -> None:
    description = dict(row.method.describe())
    assert isinstance(description["name"], str)
    assert dict(extract(row, lenet, 1)[0].method) == description


def test_explanation_is_sentences(row: Row) -> None:
    steps = row.method.explain("7")
    assert steps
    assert all(step[0].isupper() and step.endswith(".") for step in steps)


def test_self_similarity(row: Row, lenet: Trained) -> None:
    for path in extract(row, lenet):
        for kind in row.kinds:
            assert jaccard(path, path, kind) == 1.0
            assert set(layer_jaccard(path, path, kind).values()) == {1.0}
            assert set(image_class_similarity(path, path, kind).values()) == {1.0}
            assert total_similarity(path, path, kind) == 1.0


def test_similarity_is_symmetric_and_below_one(row: Row, lenet: Trained) -> None:
    pairs = list(pairwise(extract(row, lenet)))
    for kind in row.kinds:
        alike = [jaccard(first, second, kind) for first, second in pairs]
        assert alike == [jaccard(second, first, kind) for first, second in pairs]
        assert all(0 < each <= 1 for each in alike)
        assert sum(each < 1 for each in alike) >= (len(pairs) // 2 if row.own else 0)
        assert row.own or set(alike) == {1.0}


def test_union_laws(row: Row, lenet: Trained) -> None:
    a, b, c = extract(row, lenet, 3)
    assert (a | a).equals(a)
    assert (a | b).equals(b | a)
    assert ((a | b) | c).equals(a | (b | c))
    assert (a & (a | b)).equals(a)
    for part in (a, b):
        assert set(image_class_similarity(part, a | b, row.kinds[-1]).values()) == {1.0}


def test_save_load(row: Row, lenet: Trained, tmp_path: FilePath) -> None:
    for path in extract(row, lenet, 3):
        again = load_path(save_path(path, tmp_path / "path"))
        assert again.equals(path)
        assert dict(again.method) == dict(path.method)


def test_projection(row: Row, lenet: Trained) -> None:
    for path in extract(row, lenet, 3):
        channels = path.project("channel")
        assert channels.kinds() == ("channel",)
        for node in channels.nodes("channel"):
            assert channels.channels(node).shape == lenet.graph.node(node).shape[:1]
        assert 0 < channels.density("channel") <= 1


# --- extraction ------------------------------------------------------------------------------------------------------


def test_batch_is_singles(row: Row, lenet: Trained) -> None:
    batch = extract(row, lenet)
    for image, path in zip(lenet.x, batch):
        single = row.method.extract(lenet.graph, image[None])[0]
        assert set(single) == set(path)
        for site in path:
            assert agreement(single, path, site) >= 0.99, site


def agreement(first: Path, second: Path, site: Any) -> float:
    """The share of members in both; float32 logits of another batch size round differently."""
    smaller, larger = first[site].overlap(second[site])
    return smaller / larger if larger else 1.0


def test_extracting_again_gives_the_same(row: Row, lenet: Trained) -> None:
    assert all(a.equals(b) for a, b in zip(extract(row, lenet), extract(row, lenet)))


def test_empty_batch(row: Row, lenet: Trained) -> None:
    assert row.method.extract(lenet.graph, lenet.x[:0]) == []


def test_model_untouched(row: Row, lenet: Trained) -> None:
    before = snapshot(lenet.model)
    extract(row, lenet, 2)
    broken = lenet.x[:2].clone()
    broken[1, 0, 3, 3] = float("nan")
    with pytest.raises(BadInput, match="image 1 of the batch holds NaN"):
        row.method.extract(lenet.graph, broken)
    after = snapshot(lenet.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, module in model.named_modules():
        found[f"{name} mode"] = torch.tensor(module.training)
        found[f"{name} hooks"] = torch.tensor(len(module._forward_hooks) + len(module._forward_pre_hooks))
    for name, parameter in model.named_parameters():
        found[f"{name} flags"] = torch.tensor([parameter.requires_grad, parameter.grad is None])
    return found


# --- profiles --------------------------------------------------------------------------------------------------------


def test_profile_laws(row: Row, lenet: Trained, tmp_path: FilePath) -> None:
    loader = [lenet.train[start : start + 50] for start in range(0, 150, 50)]
    whole = Profile.build(row.method, lenet.graph, loader)
    shards = [Profile.build(row.method, lenet.graph, [batch]) for batch in loader]
    assert shards[0].merge(shards[1]).merge(shards[2]).equals(whole)
    assert shards[2].merge(shards[0]).merge(shards[1]).equals(whole)
    assert Profile.load(whole.save(tmp_path / "profile"), lenet.graph.fingerprint).equals(whole)
    for kind in row.kinds:
        curve = whole.growth(kind)
        assert curve == sorted(curve)


def test_own_class_beats_the_others(telling_row: Row, lenet: Trained) -> None:
    profile = build(telling_row, lenet)
    paths = extract(telling_row, lenet, 40)
    for kind in (kind for kind in telling_row.kinds if kind != "neuron"):
        own, best_other = [], []
        for path in paths:
            shares = {label: total_similarity(path, profile[label], kind) for label in profile}
            own.append(shares.pop(int(path.predicted or 0)))
            best_other.append(max(shares.values()))
        wins = sum(a > b for a, b in zip(own, best_other))
        assert wins >= 0.95 * len(paths), kind
        assert mean(own) > mean(best_other) + 0.1, kind


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# --- causes ----------------------------------------------------------------------------------------------------------


def agreements(lenet: Trained, paths: list[Path], kind: str, keep: bool) -> float:
    """The share of images that keep their prediction."""
    logits = (keep_only if keep else remove)(lenet.graph, lenet.x[: len(paths)], paths, kind)
    return float((logits.argmax(1) == lenet.labels[: len(paths)]).double().mean())


def test_keeping_the_path_keeps_the_prediction(whole_row: Row, lenet: Trained) -> None:
    paths = extract(whole_row, lenet, 48)
    drawn = [random_path(path, lenet.graph, seed) for seed, path in enumerate(paths)]
    for kind in whole_row.ablated:
        kept, by_chance = agreements(lenet, paths, kind, True), agreements(lenet, drawn, kind, True)
        assert kept >= 0.9, kind
        assert kept >= by_chance + 0.5, kind


def test_removing_the_path_changes_the_prediction(whole_row: Row, lenet: Trained) -> None:
    """The causal test: as many random elements of every layer hardly change anything."""
    paths = extract(whole_row, lenet, 48)
    drawn = [random_path(path, lenet.graph, seed) for seed, path in enumerate(paths)]
    for kind in (kind for kind in whole_row.ablated if kind != "neuron"):
        changed, by_chance = (1 - agreements(lenet, part, kind, False) for part in (paths, drawn))
        assert changed >= 0.4, kind
        assert changed >= by_chance + 0.4, kind
