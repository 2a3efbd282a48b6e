from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpaths.detection import Features, split_by_source, split_rows
from netpaths.errors import BadOption


@st.composite
def some_features(draw):
    sources = draw(st.integers(12, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    owner = np.concatenate([np.arange(sources), rng.integers(0, sources, draw(st.integers(0, 80)))])
    attacks = np.where(np.arange(len(owner)) < sources, "clean", rng.choice(["a", "b"], len(owner)))
    zeros = np.zeros(len(owner))
    labels = rng.integers(0, 4, sources)[owner]
    return Features(zeros[:, None], (("l", 1),), owner.astype(str), attacks, zeros, labels)


@given(some_features(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_no_source_is_on_both_sides_and_nothing_is_lost(features, seed):
    rows = split_rows(features, seed=seed, clean_only=())
    for one, other in combinations(rows.values(), 2):
        assert not set(features.sources[one]) & set(features.sources[other])
    np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(features)))


@given(some_features(), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_calibration_is_clean_and_the_rest_is_as_without(features, seed):
    parts, rows = split_by_source(features, seed=seed), split_rows(features, seed=seed, clean_only=())
    assert parts["calibration"].is_clean.all()
    assert len(parts["test"]) == len(rows["test"])


def test_every_label_is_shared_in_proportion(make_features):
    features = make_features(sources=500)
    rows = split_rows(features, {"fit": 3, "calibration": 2, "test": 5}, clean_only=())
    for name, share in (("fit", 0.3), ("calibration", 0.2), ("test", 0.5)):
        clean = rows[name][features.is_clean[rows[name]]]
        counts = np.bincount(features.labels[clean], minlength=5)
        assert abs(counts - share * 100).max() <= 2


def test_the_seed_decides(make_features):
    features = make_features()
    first, again, other = (split_rows(features, seed=seed)["fit"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sources_all_of_their_own_kind_are_still_shuffled():
    n = 40
    features = Features(
        np.zeros((n, 1)),
        (("l", 1),),
        np.arange(n).astype(str),
        np.array(["clean"] * n),
        np.arange(n),
        np.arange(n),
    )
    assert not np.array_equal(split_rows(features, seed=1)["fit"], split_rows(features, seed=2)["fit"])


def test_mistakes_are_named(make_features):
    with pytest.raises(BadOption, match="shares must be positive"):
        split_by_source(make_features(), {"fit": 0.5, "test": -0.5})
    with pytest.raises(BadOption, match="1 source images leave the part"):
        split_by_source(make_features(sources=1))
