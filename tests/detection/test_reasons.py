from __future__ import annotations

import numpy as np
import pytest

from netpaths.detection import CleanReference, JointSimilarity, departures
from netpaths.errors import BadInput

NAMES = (("a", 1), ("b", 1), ("a", 2), ("b", 2), ("c", 1))
REFERENCE = CleanReference(NAMES, np.array([0.9, 0.8, 0.5, 0.4, np.nan]), np.array([0.1, 0.2, 0.1, 0.0, np.nan]))


def test_order_and_distances_by_hand():
    found = departures([0.7, 0.9, 0.8, 0.401, 0.3], REFERENCE)
    assert [(each.layer, each.rank) for each in found] == [("a", 2), ("a", 1), ("b", 2), ("b", 1)]
    assert [each.z for each in found] == pytest.approx([3.0, -2.0, 1.0, 0.5])
    assert found[0].value == 0.8
    assert found[0].clean_mean == 0.5


def test_layers_without_information_are_left_out_and_limit_cuts():
    found = departures([np.nan, 0.9, 0.8, np.nan, 0.3], REFERENCE, limit=1)
    assert [(each.layer, each.rank) for each in found] == [("a", 2)]


def test_reference_is_the_clean_rows_statistics(make_features):
    features = make_features(missing=0.2)
    reference = JointSimilarity().fit(features).reference_
    clean = features.values[features.is_clean]
    np.testing.assert_allclose(reference.mean, np.nanmean(clean, axis=0))
    np.testing.assert_allclose(reference.sd, np.nanstd(clean, axis=0))


def test_the_spoilt_layer_comes_first(make_features):
    features = make_features()
    reference = JointSimilarity().fit(features).reference_
    row = features.values[0].copy()
    row[2] = 0.1
    first = departures(row, reference)[0]
    assert (first.layer, first.rank) == features.names[2]
    image = features.take([0])
    assert departures(image, reference) == departures(image.values[0], reference)


def test_mistakes_are_named(make_features):
    with pytest.raises(BadInput, match=r"one image of 5 features, got shape \(3,\)"):
        departures([0.0, 0.0, 0.0], REFERENCE)
    with pytest.raises(BadInput, match="expected 5 features"):
        departures(make_features().take([0]), REFERENCE)
