"""What a study says of paths of channels, against random draws, hand-made networks, plain loops and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, silhouette_samples
from torch import Tensor, nn

from netpaths import Graph, Path, Site, load_model
from netpaths.ablation import random_path
from netpaths.detection.metrics import paired_difference
from netpaths.errors import BadInput
from netpaths.methods import DistillationGuidedRouting, MarginalContribution, RandomUnits
from netpaths.path import Elements
from netpaths.studies import credibility, gates, sparsity
from netpaths.studies.routing_plan import RoutingPlan
from trained import trained

NODES = ("conv1", "conv2")
UNITS = 6 + 16


def path_of(sizes: Mapping[str, int], selected: Mapping[str, Sequence[int]], values: Any = None) -> Path:
    """A path of channels: of every node's ``sizes`` channels those ``selected``."""
    sites = {}
    for node, size in sizes.items():
        members = np.array(selected[node], np.int64)
        own = None if values is None else np.array(values[node], np.float32)
        sites[Site(node, "channel")] = Elements.of((size,), members, own)
    return Path(sites, layers=tuple(sizes))


def quiet(*counts: int) -> None:
    """Progress that nobody sees."""


# --- agreement -------------------------------------------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    """Image 1: 1 + 2 shared of 3 + 4. Image 2: the same path twice. By chance: Σ ab/N over Σ (a + b − ab/N)."""
    sizes = {"a": 4, "b": 10}
    one, other = path_of(sizes, {"a": [0, 1], "b": [2, 3, 9]}), path_of(sizes, {"a": [1, 3], "b": [0, 2, 9]})
    found = credibility.agreement([one, one], [other, one])
    shared, either = 2 * 2 / 4 + 3 * 3 / 10, 2 + 2 - 1 + 3 + 3 - 0.9
    assert found["jaccard"] == pytest.approx((3 / 7 + 1) / 2)
    assert found["chance"] == pytest.approx(shared / either)
    assert found["above chance"] == pytest.approx(found["jaccard"] - found["chance"])


def test_paths_without_a_common_channel_agree_less_than_by_chance() -> None:
    sizes = {"a": 8}
    found = credibility.agreement([path_of(sizes, {"a": [0, 1, 2, 3]})], [path_of(sizes, {"a": [4, 5, 6, 7]})])
    assert found["jaccard"] == 0
    assert found["above chance"] == pytest.approx(-2 / 6)


@pytest.mark.parametrize("chosen", [((30, 50, 7), (20, 80, 40)), ((12, 12, 12), (12, 12, 12))])
def test_chance_is_what_random_choices_have(chosen: tuple[Sequence[int], Sequence[int]]) -> None:
    """Paths drawn anew, as many channels of every node, agree on average as much as said: within 2%."""
    sizes, rng = {"a": 64, "b": 200, "c": 90}, np.random.default_rng(0)

    def draw(numbers: Sequence[int]) -> Path:
        picked = [rng.choice(size, number, replace=False) for size, number in zip(sizes.values(), numbers)]
        return path_of(sizes, {node: np.sort(own).tolist() for node, own in zip(sizes, picked)})

    first, second = ([draw(numbers) for _ in range(1500)] for numbers in chosen)
    found = credibility.agreement(first, second)
    assert found["jaccard"] == pytest.approx(found["chance"], rel=0.02)
    overlaps = [
        sum(len(set(one[site].members().tolist()) & set(other[site].members().tolist())) for site in one)
        / sum(len(set(one[site].members().tolist()) | set(other[site].members().tolist())) for site in one)
        for one, other in zip(first, second)
    ]
    assert found["jaccard"] == pytest.approx(np.mean(overlaps))


def test_agreement_rows_compare_all_with_the_first_and_two_random_starts() -> None:
    """Gates of 1 to 2 over all channels, and the same in another order: alike as found, apart in the strongest."""
    own, sizes = trained(), {"conv1": 6, "conv2": 16}
    every, images = {node: list(range(size)) for node, size in sizes.items()}, own.x[:5]
    values = np.linspace(1, 2, UNITS)
    plain, turned = (
        [
            replace(path_of(sizes, every, dict(zip(NODES, np.split(row, [6])))), predicted=label)
            for label in own.labels[:5]
        ]
        for row in (values, values[::-1])
    )
    rows = credibility.agreement_rows(
        own.graph,
        images,
        {"own": plain, "start: random": turned, "γ × 2": plain, "start: random, another draw": turned},
    )
    found = {(row["setting"], row["selected"]): row["jaccard"] for row in rows}
    assert found == {
        ("start: random", "as found"): 1,
        ("start: random", "strongest tenth"): 0,
        ("γ × 2", "as found"): 1,
        ("γ × 2", "strongest tenth"): 1,
        ("start: random, another draw", "as found"): 1,
        ("start: random, another draw", "strongest tenth"): 0,
        ("two random starts", "as found"): 1,
        ("two random starts", "strongest tenth"): 1,
    }
    tops = [row for row in rows if row["selected"] == "strongest tenth"]
    assert tops[1]["chance"] == pytest.approx((2 * 2 / 16) / (2 + 2 - 2 * 2 / 16))
    assert tops[0]["chance"] == 0  # two of conv2 against two of conv1
    for row in rows:
        gates_of = {"γ × 2": values}.get(row["setting"], values[::-1]).copy()
        parts = dict(zip(NODES, (torch.from_numpy(part).float() for part in np.split(gates_of, [6]))))
        with torch.no_grad():
            same = own.graph.run(images, gates=parts).predicted == own.labels[:5]
        if row["selected"] == "as found" and row["setting"] != "two random starts":
            assert row["prediction kept"] == pytest.approx(float(same.double().mean()))
        else:
            assert "prediction kept" not in row


def test_a_prediction_lost_under_the_gates_is_counted() -> None:
    own, sizes = trained(), {"conv1": 6, "conv2": 16}
    path = path_of(sizes, {"conv1": [], "conv2": []}, {"conv1": [], "conv2": []})
    images = own.x[:30]
    with torch.no_grad():
        constant = int(own.graph.run(images[:1], gates={"conv2": torch.zeros(16)}).predicted)
    none = [replace(path, predicted=int(label)) for label in own.labels[:30]]
    full = DistillationGuidedRouting(steps=1).extract(own.graph, images)
    rows = credibility.agreement_rows(own.graph, images, {"own": full, "none": none, "again": full})
    kept = {row["setting"]: row["prediction kept"] for row in rows if row["selected"] == "as found"}
    assert kept == {"none": pytest.approx(float((own.labels[:30] == constant).double().mean())), "again": 1}
    assert kept["none"] < 1


def test_every_variant_has_one_other_setting() -> None:
    method = DistillationGuidedRouting(steps=12, gamma=0.08, layers=("conv1",))
    own = method.describe()
    changed = {
        name: {option: value for option, value in variant.describe().items() if value != own[option]}
        for name, variant in credibility.variants(method).items()
    }
    assert changed == {
        "start: random": {"start": "random", "seed": 1},
        "steps × 2": {"steps": 24},
        "γ × 2": {"gamma": 0.16},
        "γ / 2": {"gamma": 0.04},
        "run to rest": {"tolerance": 1e-3, "steps": 200},
    }


# --- dead channels ---------------------------------------------------------------------------------------------------


class Signs(nn.Module):
    """Channels of two pixels x: x, −x and 0; then two units 1 − Σ and Σ of what a ReLU passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 3, 1, bias=False), nn.ReLU()
        self.fc, self.last = nn.Linear(6, 2), nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).reshape(3, 1, 1, 1))
            self.fc.weight.copy_(torch.tensor([[-1.0] * 6, [1.0] * 6]))
            self.fc.bias.copy_(torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.fc(self.act(self.conv(x)).flatten(1)))
        return logits


def test_dead_channels_by_hand() -> None:
    """Pixels (1, 2): −x and 0 are dead, and 1 − 3. (1, −1): 0 alone, and 1 − 2. (0, 0): all, and Σ = 0."""
    images = torch.tensor([[1.0, 2.0], [1.0, -1.0], [0.0, 0.0]]).reshape(3, 1, 1, 2)
    graph = Graph(Signs(), images)
    sizes = {"conv": 3, "fc": 2}
    paths = [
        path_of(sizes, {"conv": [0, 1], "fc": [0]}),
        path_of(sizes, {"conv": [0, 1, 2], "fc": [1]}),
        path_of(sizes, {"conv": [], "fc": [0, 1]}),
    ]
    expected = [
        {"layer": "conv", "dead of selected": 2 / 5, "dead of all": 6 / 9},
        {"layer": "fc", "dead of selected": 2 / 4, "dead of all": 3 / 6},
        {"layer": "whole path", "dead of selected": 4 / 9, "dead of all": 9 / 15},
    ]
    for batch_size in (1, 2, 3):
        assert credibility.dead_rows(graph, images, paths, batch_size) == expected
    nothing = [path_of(sizes, {"conv": [], "fc": []})] * 3
    assert all(math.isnan(row["dead of selected"]) for row in credibility.dead_rows(graph, images, nothing, 2))


def test_units_are_the_channels_to_choose_from() -> None:
    assert credibility.units(path_of({"a": 4, "b": 10}, {"a": [1], "b": []})) == 14
    own = trained()
    assert credibility.units(RandomUnits(0.1).extract(own.graph, own.x[:1])[0]) == UNITS


def test_paths_of_all_images_come_batch_by_batch() -> None:
    own, seen = trained(), []
    found = credibility.extract_all(RandomUnits(0.3), own.graph, own.x[:7], 3, seen.append)
    assert seen == [3, 6, 7]
    assert all(path.equals(other) for path, other in zip(found, RandomUnits(0.3).extract(own.graph, own.x[:7])))
    assert len(found) == 7


# --- curves over methods ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves() -> list[dict[str, Any]]:
    """Every channel of 60 digits valued by its contribution, and at random."""
    own, notes = trained(), []
    assert torch.equal(own.graph.run(own.x[:60]).predicted, own.labels[:60])
    paths = {
        "contribution": MarginalContribution(share=1.0).extract(own.graph, own.x[:60]),
        "random": RandomUnits(share=1.0).extract(own.graph, own.x[:60]),
        "few": RandomUnits(share=0.25).extract(own.graph, own.x[:60]),
    }
    rows = credibility.curve_rows(own.graph, own.x[:60], own.labels[:60], paths, notes.append)
    assert notes == [1, 2, 3]
    return rows


def column(rows: Sequence[Mapping[str, Any]], method: str, mode: str, key: str) -> list[float]:
    return [row[key] for row in rows if (row["method"], row["mode"]) == (method, mode)]


def test_curves_hold_what_they_ask_for_as_far_as_there_is(curves: list[dict[str, Any]]) -> None:
    asked = list(credibility.SHARES)
    for mode in ("keep", "remove"):
        assert column(curves, "random", mode, "share") == asked
        held = column(curves, "random", mode, "held")
        assert held == pytest.approx([round(share * UNITS) / UNITS for share in asked])
        assert all(few < more for few, more in pairwise(held))
        some = column(curves, "few", mode, "held")
        assert some == pytest.approx([min(round(share * UNITS), round(0.25 * UNITS)) / UNITS for share in asked])
        contributing = column(curves, "contribution", mode, "held")
        assert contributing == sorted(contributing)
        assert all(own <= other + 1e-12 for own, other in zip(contributing, held))


def test_what_contributes_is_worth_more_than_what_is_drawn(curves: list[dict[str, Any]]) -> None:
    """Kept alone it keeps more, removed it costs more, at every share and by far in the mean."""
    for mode, sign in (("keep", 1), ("remove", -1)):
        own, random = (np.array(column(curves, name, mode, "accuracy")) for name in ("contribution", "random"))
        assert (sign * (own - random) >= 0).all()
        assert sign * (own - random).mean() > 0.1


def test_curves_are_what_gates_of_one_and_zero_give(curves: list[dict[str, Any]]) -> None:
    own = trained()
    path = MarginalContribution(share=1.0)
    scores = torch.cat(path.score(own.graph, own.x[:60], NODES), dim=1)
    places = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    for share in (0.1, 0.5):
        for mode in ("keep", "remove"):
            inside = places < round(share * UNITS)
            masks = (inside if mode == "keep" else ~inside).float().split([6, 16], dim=1)
            with torch.no_grad():
                logits = own.graph.run(own.x[:60], gates=dict(zip(NODES, masks))).logits
            expected = float((logits.argmax(1) == own.labels[:60]).double().mean())
            found = dict(
                zip(
                    column(curves, "contribution", mode, "share"),
                    column(curves, "contribution", mode, "accuracy"),
                )
            )
            assert found[share] == pytest.approx(expected)


# --- separation, clusters, hard images, t-SNE ------------------------------------------------------------------------


def blobs(sizes: Sequence[int], apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around as many centres as ``sizes``, ``apart`` from each other, in random order, with their centre."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.eye(len(sizes), 5)[owner] * apart + rng.normal(size=(len(owner), 5)), owner


@pytest.mark.parametrize("apart", [0.0, 2.0, 30.0])
def test_separation_is_silhouette_and_nearest_neighbour(apart: float) -> None:
    values, labels = blobs((12, 20, 1, 9), apart)
    distance = np.sqrt(((values[:, None] - values[None]) ** 2).sum(2))
    found = gates.separation(values, labels)
    assert found["separation"] == pytest.approx(float(silhouette_samples(values, labels).mean()))
    assert found["separation"] == pytest.approx(float(np.mean(list(silhouettes(distance, labels)))))
    same = [
        labels[np.argmin(np.where(np.arange(len(row)) == place, np.inf, row))] for place, row in enumerate(distance)
    ]
    assert found["neighbours"] == pytest.approx(float((np.array(same) == labels).mean()))
    if apart == 30:
        assert found["neighbours"] == pytest.approx(41 / 42)


def silhouettes(distance: np.ndarray, labels: np.ndarray) -> Any:
    """(b − a) / max(a, b) of every row, 0 for one alone in its class: Rousseeuw 1987."""
    for place, row in enumerate(distance):
        means = {label: row[labels == label].sum() / (labels == label).sum() for label in np.unique(labels)}
        own = (labels == labels[place]).sum()
        a, b = row[labels == labels[place]].sum() / max(own - 1, 1), min(means[k] for k in means if k != labels[place])
        yield (b - a) / max(a, b) if own > 1 else 0.0


def test_separation_is_unknown_without_two_classes_or_a_difference() -> None:
    values, _ = blobs((4, 4), 1.0)
    for table, labels in (
        (values, np.zeros(8, int)),
        (values, np.arange(8)),
        (np.ones((8, 5)), np.arange(8) % 2),
    ):
        found = gates.separation(table, labels)
        assert math.isnan(found["separation"])
        assert math.isnan(found["neighbours"])
    assert not math.isnan(gates.separation(values, np.arange(8) // 2)["separation"])


def test_layer_rows_end_with_the_whole_path() -> None:
    values, labels = blobs((10, 10), 4.0)
    noise = np.random.default_rng(1).normal(size=(20, 3))
    rows = gates.layer_rows({"near": noise, "deep": values}, labels, "gates")
    assert [(row["values"], row["layer"]) for row in rows] == [
        ("gates", name) for name in ("near", "deep", "whole path")
    ]
    assert rows[1]["separation"] > rows[0]["separation"]
    whole = gates.separation(np.concatenate([noise, values], axis=1), labels)
    assert (rows[2]["separation"], rows[2]["neighbours"]) == (whole["separation"], whole["neighbours"])


def test_unit_values_are_the_dense_channels() -> None:
    sizes = {"a": 3, "b": 2}
    paths = [
        path_of(sizes, {"a": [0, 2], "b": []}, {"a": [0.5, 2.0], "b": []}),
        path_of(sizes, {"a": [1], "b": [0]}, {"a": [0.25], "b": [4.0]}),
    ]
    found = gates.unit_values(paths)
    assert found["a"].tolist() == [[0.5, 0, 2.0], [0, 0.25, 0]]
    assert found["b"].tolist() == [[0, 0], [4.0, 0]]
    assert list(gates.unit_values(paths, ["b"])) == ["b"]
    assert gates.side_by_side(found).tolist() == [[0.5, 0, 2.0, 0, 0], [0, 0.25, 0, 4.0, 0]]


def test_groups_are_found_the_largest_first() -> None:
    values, owner = blobs((6, 14, 9), 40.0)
    hard = owner == 2
    hard[np.flatnonzero(owner == 1)[:7]] = True
    found = gates.group(values, 5, hard, 3)
    assert (found.members == np.array([2, 0, 1])[owner]).all()
    assert found.silhouette == pytest.approx(float(silhouette_samples(values, owner).mean()))
    rows = found.rows("five")
    assert [row["images"] for row in rows] == [14, 9, 6]
    assert [row["hard"] for row in rows] == [7, 9, 0]
    assert [row["share hard"] for row in rows] == [0.5, 1, 0]
    assert [row["cluster"] for row in rows] == [1, 2, 3]
    assert {(row["class"], row["share hard in the class"]) for row in rows} == {("five", 16 / 29)}


def test_few_images_have_fewer_groups() -> None:
    values = np.array([[0.0], [0.1], [9.0]])
    found = gates.group(values, 0, np.zeros(3, bool), 8)
    assert found.members.tolist() == [0, 0, 1]
    assert math.isnan(gates.group(values[:2], 0, np.zeros(2, bool), 8).silhouette)


def test_hard_images_by_hand() -> None:
    """Wrong ones, and of 20 the 2 least sure of their class, which may be wrong ones; never fewer than one image."""
    margins = np.linspace(1, 3, 20)
    margins[[4, 9, 13]] = -1, -2, -0.5
    logits, labels = np.stack([margins, np.zeros(20)], axis=1), np.zeros(20, np.int64)
    assert np.flatnonzero(gates.hard_images(logits, labels)).tolist() == [4, 9, 13]
    right = np.where(margins < 0, 5, margins)
    found = gates.hard_images(np.stack([right, np.zeros(20)], axis=1), labels)
    assert np.flatnonzero(found).tolist() == [0, 1]
    assert gates.hard_images(np.array([[3.0, 1.0], [2.0, 1.0]]), np.zeros(2, np.int64)).tolist() == [False, True]


def test_hard_images_go_by_probability_not_by_logit() -> None:
    """A third class takes probability from the second image although its own logit is the same."""
    logits = np.array([[1.0, 0.0, -9.0], [1.0, 0.0, 0.9], [1000.0, 0.0, 0.0]] + [[5.0, 0.0, 0.0]] * 9)
    assert np.flatnonzero(gates.hard_images(logits, np.zeros(12, np.int64))).tolist() == [1]


def test_the_embedding_is_seeded_and_keeps_groups_together() -> None:
    values, owner = blobs((15, 15), 60.0)
    points = gates.embedding(values, 3)
    assert points.shape == (30, 2)
    assert points.dtype == np.float64
    assert np.array_equal(points, gates.embedding(values, 3))
    assert gates.separation(points, owner)["neighbours"] == 1
    assert gates.embedding(values[:, :1], 0).shape == (30, 2)
    assert gates.embedding(values[:3], 0).shape == (3, 2)


def test_rows_that_are_all_alike_have_one_place() -> None:
    assert np.array_equal(gates.embedding(np.full((7, 4), 0.5), 0), np.zeros((7, 2)))


# --- sparsity --------------------------------------------------------------------------------------------------------

PLAN = RoutingPlan(
    method=DistillationGuidedRouting(steps=40, gamma=0.1),
    gammas=(0.05, 0.1, 0.2),
    steps=(1, 20, 40, 60),
    points=2,
    extracted=16,
)


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, Any]]:
    """The table of sparsity over 24 digits, by method, six of them with another label than the network gives."""
    own, notes = trained(), []
    labels = own.labels[:24].clone()
    labels[:6] = (labels[:6] + 1) % 10
    paths = credibility.extract_all(PLAN.method, own.graph, own.x[:24], 16, quiet)
    rows = sparsity.table_rows(
        own.graph, PLAN, own.x[:24], labels, paths, lambda done, total: notes.append((done, total))
    )
    assert notes == [(done, 7) for done in range(1, 8)]
    return {row["method"]: row for row in rows}


def test_the_table_has_every_method(table: dict[str, dict[str, Any]]) -> None:
    rivals = ["contribution", "integrated gradients", "activation", "weight norm", "random"]
    assert list(table) == ["full network", "DGR", "AWR", "AAR", *rivals, "random, as many in every layer"]
    full = table["full network"]
    assert full == {
        "method": "full network",
        "top-1": 18 / 24,
        "top-5": full["top-5"],
        "prediction kept": 1.0,
        "sparsity": 1.0,
        "sd": 0.0,
    }
    assert all(row["top-1"] <= row["top-5"] <= 1 for row in table.values())


def test_gates_and_removals_keep_the_prediction_by_construction(table: dict[str, dict[str, Any]]) -> None:
    assert table["DGR"]["gated prediction kept"] == 1
    assert table["DGR"]["gated top-1"] == table["full network"]["top-1"]
    assert 0 < table["DGR"]["sparsity"] < 0.7
    for name in ("AWR", "AAR"):
        assert table[name]["prediction kept"] == 1
        assert table[name]["top-1"] == table["full network"]["top-1"]
        assert 0 < table[name]["sparsity"] < 1


def test_rivals_are_as_large_as_the_gates(table: dict[str, dict[str, Any]]) -> None:
    size = round(table["DGR"]["sparsity"] * UNITS) / UNITS
    for name in ("weight norm", "random"):
        assert table[name]["sparsity"] == pytest.approx(size)
        assert table[name]["sd"] == 0
    for name in ("contribution", "integrated gradients", "activation"):
        assert 0 < table[name]["sparsity"] <= size + 1e-12
    same = table["random, as many in every layer"]
    assert (same["sparsity"], same["sd"]) == (table["DGR"]["sparsity"], table["DGR"]["sd"])


def test_the_hard_row_is_what_is_left_of_the_network() -> None:
    """Top-1 with the selected channels alone, by gates of one and zero; "as many in every layer" likewise."""
    own = trained()
    paths = credibility.extract_all(PLAN.method, own.graph, own.x[:24], 16, quiet)
    rows = sparsity.table_rows(own.graph, PLAN, own.x[:24], own.labels[:24], paths, quiet)
    found = {row["method"]: row for row in rows}
    same = [random_path(path, own.graph, PLAN.seed + place) for place, path in enumerate(paths)]
    for name, chosen in (("DGR", paths), ("random, as many in every layer", same)):
        masks = {node: torch.stack([path.channels(node) > 0 for path in chosen]).float() for node in NODES}
        with torch.no_grad():
            logits = own.graph.run(own.x[:24], gates=masks).logits
        top = logits.argsort(dim=1, descending=True)[:, :5]
        assert found[name]["top-1"] == pytest.approx(float((top[:, 0] == own.labels[:24]).double().mean()))
        assert found[name]["top-5"] == pytest.approx(
            np.mean([label in row for label, row in zip(own.labels[:24].tolist(), top.tolist())])
        )
    assert found["DGR"]["sd"] == pytest.approx(np.std([path.density("channel") for path in paths]))


def test_a_residual_network_has_no_weight_norms() -> None:
    torch.manual_seed(0)
    model = load_model("resnet20").eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    graph = Graph(model, images[:1])
    plan = RoutingPlan(method=DistillationGuidedRouting(steps=2), points=1)
    paths = plan.method.extract(graph, images)
    labels = graph.run(images).predicted
    found = {row["method"]: row for row in sparsity.table_rows(graph, plan, images, labels, paths, quiet)}
    reason = "has no weight and so no weight norm; name convolution or linear layers instead"
    for name in ("AWR", "weight norm"):
        assert set(found[name]) == {"method", "left out"}
        assert reason in found[name]["left out"]
    assert found["AAR"]["prediction kept"] == 1
    assert found["random"]["sparsity"] == pytest.approx(found["DGR"]["sparsity"], abs=1 / credibility.units(paths[0]))


def test_sparsity_falls_with_steps_and_with_the_penalty() -> None:
    own, notes = trained(), []
    rows = sparsity.sweep_rows(own.graph, PLAN, own.x[:20], lambda done, total: notes.append((done, total)))
    assert notes == [(1, 3), (2, 3), (3, 3)]
    found = np.array([row["sparsity"] for row in rows]).reshape(3, 4)
    masses = np.array([row["sum of gates"] for row in rows]).reshape(3, 4)
    assert [(row["gamma"], row["steps"]) for row in rows] == [(g, s) for g in PLAN.gammas for s in PLAN.steps]
    assert (found[:, 0] == 1).all()
    assert masses[:, 0] == pytest.approx(UNITS)
    assert all(row["accuracy"] == 1 for row in rows if row["steps"] == 1)
    for falling in (found, masses):
        assert (np.diff(falling, axis=1) <= 0).all()
        assert (falling[:, -1] < falling[:, 1]).all()
        assert (np.diff(falling[:, 1:], axis=0) <= 0).all()
        assert falling[2, -1] < falling[0, -1]
    paths = DistillationGuidedRouting(steps=40, gamma=0.2).extract(own.graph, own.x[:20])
    assert found[2, 2] == pytest.approx(np.mean([path.density("channel") for path in paths]))


# --- difference of two areas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_paired_difference_is_brute_force(seed: int) -> None:
    """Sources drawn with replacement bring all their rows, and both scores are judged on the same draws."""
    rng = np.random.default_rng(seed)
    sources = rng.integers(0, 25, 60)
    truth = rng.random(60) < 0.5
    own = rng.integers(0, 12, 60) / 4 + truth
    other = rng.integers(0, 12, 60) / 4 + 0.3 * truth
    found = paired_difference(own, other, truth, [f"image {source}" for source in sources], 150, seed, 0.9)
    assert found.value == pytest.approx(area(own, truth) - area(other, truth))
    names = np.unique([f"image {source}" for source in sources])
    count = len(names)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=150)
    differences = []
    for times in draws:
        rows = [
            row
            for name, often in zip(names, times)
            for row in np.flatnonzero(sources == int(name.split()[1])).tolist() * often
        ]
        differences.append(roc_auc_score(truth[rows], own[rows]) - roc_auc_score(truth[rows], other[rows]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(differences, [5, 95])))
    assert found.low < found.value < found.high


def area(scores: np.ndarray, truth: np.ndarray) -> float:
    """The share of pairs of an attacked and a clean row in which the attacked one scores higher; ties half."""
    pairs = [(a > c) + (a == c) / 2 for a in scores[truth] for c in scores[~truth]]
    return float(np.mean(pairs))


def test_differences_by_hand() -> None:
    """Of six pairs the first scores order all, the second four and a half."""
    truth = np.array([True, True, False, False, False])
    first, second = np.array([5.0, 4, 1, 2, 3]), np.array([5.0, 2, 1, 2, 3])
    assert paired_difference(first, second, truth, bootstrap=0).value == pytest.approx(1 - 4.5 / 6)
    assert paired_difference(second, first, truth, bootstrap=0).value == pytest.approx(4.5 / 6 - 1)
    assert math.isnan(paired_difference(first, second, truth, bootstrap=0).low)


def test_equal_scores_do_not_differ() -> None:
    """Nor do scores in the same order; what both share cancels in every draw."""
    rng = np.random.default_rng(0)
    truth, scores = np.arange(40) % 2 == 0, rng.normal(size=40)
    for other in (scores, np.exp(scores), 3 * scores - 7):
        found = paired_difference(scores, other, truth, bootstrap=200)
        assert (found.value, found.low, found.high) == (0, 0, 0)
    with pytest.raises(BadInput, match="equally long"):
        paired_difference(scores, scores[:-1], truth)
