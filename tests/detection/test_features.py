from __future__ import annotations

import csv
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpaths.detection import Features
from netpaths.errors import BadFile, BadInput, BadOption

FIELDS = ("values", "sources", "attacks", "predicted", "labels")


def assert_same(one: Features, other: Features) -> None:
    assert one.names == other.names
    assert one.controls == other.controls
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert getattr(one, field).dtype.kind == getattr(other, field).dtype.kind


def test_masks_partition_the_rows(make_features):
    features = make_features(controls=("noise",))
    kinds = np.stack([features.is_clean, features.is_adversarial, features.is_control])
    assert (kinds.sum(axis=0) == 1).all()
    assert features.attack_names == ("deepfool", "fgsm")
    assert features.control_names == ("noise",)


def test_values_are_frozen(make_features):
    features = make_features()
    with pytest.raises(ValueError, match="read-only"):
        features.values[0, 0] = 0
    with pytest.raises(FrozenInstanceError):
        features.names = ()


@given(st.lists(st.integers(0, 179), min_size=1, max_size=30))
def test_take_then_concat_is_take(rows):
    features = _three()
    parts = [features.take([row]) for row in rows]
    assert_same(Features.concat(parts), features.take(rows))


def _three() -> Features:
    rng = np.random.default_rng(0)
    n = 180
    return Features(
        values=rng.random((n, 2)),
        names=(("a", 1), ("a", 2)),
        sources=np.arange(n).astype(str),
        attacks=np.array(["clean", "fgsm", "noise"])[np.arange(n) % 3],
        predicted=np.zeros(n),
        labels=np.zeros(n),
        controls=("noise",),
    )


def test_counted_rows_by_hand():
    rows = [  # source, attack, label, predicted, counted
        ("right", "clean", 1, 1, True),
        ("right", "fgsm", 1, 2, True),
        ("right", "pgd", 1, 1, False),  # the attack failed
        ("right", "noise", 1, 1, True),
        ("wrong", "clean", 1, 3, False),  # misclassified to begin with
        ("wrong", "fgsm", 1, 2, False),
        ("wrong", "noise", 1, 3, False),
        ("garbage", "random", -1, 4, True),  # no original
    ]
    source, attack, label, predicted, counted = (np.array(column) for column in zip(*rows))
    features = Features(np.zeros((len(rows), 1)), (("a", 1),), source, attack, predicted, label, controls=("noise",))
    np.testing.assert_array_equal(features.is_counted, counted)


def test_save_and_load_are_identical(tmp_path, make_features):
    features = make_features(controls=("noise", "blur"), missing=0.2)
    assert_same(Features.load(features.save(tmp_path / "f.safetensors")), features)


def test_corrupt_and_foreign_files_are_refused(tmp_path, make_features):
    path = make_features().save(tmp_path / "f.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadFile, match="corrupt"):
        Features.load(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFile, match="truncated"):
        Features.load(path)
    with pytest.raises(BadFile, match="no features file"):
        Features.load(tmp_path / "absent")


def test_csv_holds_every_row(tmp_path, make_features):
    features = make_features(sources=3, missing=0.3)
    with open(features.to_csv(tmp_path / "f.csv"), newline="") as stream:
        rows = list(csv.DictReader(stream))
    column = [float(row["conv1 rank 1"] or "nan") for row in rows]
    np.testing.assert_array_equal(column, features.values[:, 0])
    assert rows[4]["attack"] == "fgsm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(4)}, r"shape \(images, features\), not \(4,\)"),
        ({"values": np.full((180, 2), np.inf)}, "finite, or NaN"),
        ({"names": (("a", 1),)}, "2 feature columns need 2"),
        ({"names": (("a", 1), ("a", 1))}, "2 different"),
        ({"labels": np.zeros(3)}, r"labels must have shape \(180,\)"),
        ({"controls": ("clean",)}, "cannot be a control"),
    ],
)
def test_wrong_fields_are_named(change, message):
    with pytest.raises(BadInput, match=message):
        replace(_three(), **change)


def test_wrong_combinations_are_named():
    features = _three()
    with pytest.raises(BadOption, match=r"mask must have shape \(180,\)"):
        features.take(np.ones(3, dtype=bool))
    with pytest.raises(BadOption, match="below 180"):
        features.take([180])
    with pytest.raises(BadOption, match="at least one"):
        Features.concat([])
    with pytest.raises(BadInput, match="feature 1 must be a rank 2, found b rank 2"):
        Features.concat([features, replace(features, names=(("a", 1), ("b", 2)))])
    with pytest.raises(BadInput, match="noise is an attack in one part and a control in another"):
        Features.concat([features, replace(features, controls=())])
