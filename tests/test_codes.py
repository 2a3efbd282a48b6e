"""What codes say, counted by hand and by enumeration."""

from __future__ import annotations

from itertools import combinations
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from netpaths import CalculationPath, Path, Profile, jaccard
from netpaths.report.decoupling_findings import UNION, USUAL
from netpaths.report.routing_findings import WHOLE
from netpaths.similarity import total_similarity
from netpaths.studies import codes
from netpaths.studies.gates import unit_values
from trained import decoupled

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def profile() -> Profile:
    own = decoupled()
    loader = [own.train[start : start + 50] for start in range(0, 300, 50)]
    return Profile.build(CalculationPath(), own.graph, loader, counts=True)


def predictions(paths: list[Path]) -> NDArray[np.int64]:
    return np.array([path.predicted for path in paths])


def test_firing_is_the_share_of_a_classs_correct_images(profile: Profile) -> None:
    own = decoupled()
    images, labels = own.train[:300]
    paths = CalculationPath().extract(own.graph, images)
    rates = codes.firing(profile)
    assert set(rates) == {"conv1", "conv2"}
    for row, label in enumerate(profile):
        used = [path for path, given in zip(paths, labels.tolist()) if given == label == path.predicted]
        for node, found in rates.items():
            wanted = np.mean([path.channels(node).numpy() for path in used], axis=0)
            assert found[row] == pytest.approx(wanted)


def test_filters_are_counted() -> None:
    rates = {"a": np.array([[0, 1, 0.5, 1, 0.2], [0, 1, 0.9, 0.6, 0.2]])}
    (row,) = codes.filter_rows(rates, {"a": 0.25})
    assert row == {
        "layer": "a",
        "filters": 5,
        "always off": 1,
        "always on": 1,
        "varying": 3,
        "class range": pytest.approx((0.4 + 0.4 + 0) / 3),
        "nats": 0.25,
    }
    (row,) = codes.filter_rows({"b": np.array([[0.0, 1.0]])}, {})
    assert np.isnan(row["class range"])
    assert np.isnan(row["nats"])


def test_alike_filters_are_correlated_ones() -> None:
    first = RNG.integers(0, 2, 40).astype(float)
    other = RNG.integers(0, 2, 40).astype(float)
    values = np.stack([first, np.ones(40), 1 - first, other, first], axis=1)
    matrix = codes.alike({"a": values})["a"]
    for one, two in combinations((0, 2, 3, 4), 2):
        assert matrix[one, two] == pytest.approx(np.corrcoef(values[:, one], values[:, two])[0, 1])
    assert np.isnan(matrix[1]).all()
    (row,) = codes.pair_rows({"a": matrix})
    assert row == {"layer": "a", "varying": 4, "pairs": 6, "near copies": 1, "opposites": 2}
    (still,) = codes.pair_rows(codes.alike({"a": np.ones((4, 3))}))
    assert (still["varying"], still["pairs"]) == (0, 0)


def test_distinct_paths_are_a_set() -> None:
    values: dict[str, NDArray[np.float64]] = {
        "a": np.array([[0, 1], [0, 1], [1, 1], [0, 1]], dtype=float),
        "b": np.array([[1], [0], [1], [1]], dtype=float),
    }
    rows = {row["layer"]: row for row in codes.distinct_rows(values)}
    whole = [tuple(np.concatenate([values["a"][i], values["b"][i]])) for i in range(4)]
    assert [rows[name]["distinct"] for name in ("a", "b", WHOLE)] == [2, 2, len(set(whole))]
    assert rows["a"]["most common"] == 0.75
    assert rows[WHOLE]["share"] == codes.distinct_share(values) == len(set(whole)) / 4


def test_nats_bound_what_a_code_says() -> None:
    labels = np.repeat(np.arange(4), 100)
    exact = np.eye(4)[labels]
    pairs = np.eye(2)[labels // 2]
    silent = np.ones((400, 3))
    chance = RNG.integers(0, 2, (400, 3)).astype(float)
    values = {"exact": exact, "pairs": pairs, "silent": silent, "chance": chance}
    found = codes.nats(values, labels, values, labels)
    assert found["exact"] == pytest.approx(log(4), abs=0.15)
    assert found["exact"] <= log(4)
    assert found["pairs"] == pytest.approx(log(2), abs=0.05)
    assert found["pairs"] <= log(2)
    assert found["silent"] == 0
    assert 0 <= found["chance"] < 0.05
    assert found["pairs"] < found[WHOLE] <= log(4)


@pytest.mark.parametrize("form", [UNION, USUAL])
def test_class_paths_against_similarities_one_by_one(profile: Profile, form: str) -> None:
    own = decoupled()
    paths = CalculationPath().extract(own.graph, own.x[:60])
    labels = own.labels[:60].numpy()
    class_paths = profile.paths if form == UNION else profile.usual()
    names = [str(label) for label in range(10)]
    rows = codes.class_path_rows(unit_values(paths), predictions(paths), labels, class_paths, form, names)
    assert [(int(row["class"]), row["class path"]) for row in rows] == [(label, form) for label in profile]
    for row in rows:
        label = int(row["class"])
        mine = [path for path, given in zip(paths, labels) if given == label == path.predicted]
        inside, resembling = [], []
        for path in mine:
            shares = {other: total_similarity(path, class_paths[other], "channel") for other in profile}
            inside.append((shares.pop(label), max(shares.values())))
            alike = {other: jaccard(path, class_paths[other], "channel") for other in profile}
            best = [other for other in profile if alike[other] == max(alike.values())]
            resembling.append((label in best) / len(best))
        assert row["images"] == len(mine) > 0
        assert (row["own"], row["nearest other"]) == pytest.approx(tuple(np.mean(inside, axis=0)))
        assert row["resembles"] == pytest.approx(np.mean(resembling))


def test_a_class_without_correct_images_is_no_information(profile: Profile) -> None:
    own = decoupled()
    paths = CalculationPath().extract(own.graph, own.x[:5])
    predicted, names = predictions(paths), [str(label) for label in range(10)]
    rows = codes.class_path_rows(unit_values(paths), predicted, (predicted + 1) % 10, profile.paths, UNION, names)
    assert all(row["images"] == 0 and np.isnan([row["own"], row["resembles"]]).all() for row in rows)


def test_shares_inside_class_paths_by_enumeration(profile: Profile) -> None:
    own = decoupled()
    paths = CalculationPath().extract(own.graph, own.x[:30])
    labels = own.labels[:30].numpy()
    names = [str(label) for label in range(10)]
    for row in codes.class_path_rows(unit_values(paths), predictions(paths), labels, profile.paths, UNION, names):
        label = int(row["class"])
        shares: list[tuple[float, float]] = []
        for path, given in zip(paths, labels.tolist()):
            if given == label == path.predicted:
                bits = np.concatenate([path.channels(node).numpy() for node in path.nodes("channel")])
                inside = {
                    other: (
                        bits & np.concatenate([profile[other].channels(node).numpy() for node in path.nodes("channel")])
                    ).sum()
                    / bits.sum()
                    for other in profile
                }
                shares.append((inside.pop(label), max(inside.values())))
        assert row["images"] == len(shares)
        if shares:
            assert (row["own"], row["nearest other"]) == pytest.approx(tuple(np.mean(shares, axis=0)))


def test_values_are_the_codes() -> None:
    own = decoupled()
    paths = CalculationPath().extract(own.graph, own.x[:5])
    values = unit_values(paths)
    assert {node: table.shape for node, table in values.items()} == {"conv1": (5, 6), "conv2": (5, 16)}
    assert all(set(np.unique(table)) <= {0.0, 1.0} for table in values.values())
