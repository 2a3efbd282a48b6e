"""Baselines restated by brute force, or by scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from netpaths.detection import (
    LocalIntrinsicDimensionality,
    Mahalanobis,
    NearestNeighbours,
    auroc,
    energy,
    feature_squeezing,
    maximum_softmax,
)
from netpaths.errors import BadInput, BadOption

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 30, (40, 7))
LABELS = np.arange(120) % 3
TRAIN = RNG.normal(size=(120, 6)) + 4 * np.eye(3, 6)[LABELS]
FAR = RNG.normal(size=(50, 6)) + 3
NEAR = RNG.normal(size=(60, 6)) + 4 * np.eye(3, 6)[np.arange(60) % 3]


def test_maximum_softmax_and_energy():
    np.testing.assert_allclose(maximum_softmax(LOGITS), 1 - softmax(LOGITS, axis=1).max(axis=1), atol=1e-12)
    np.testing.assert_allclose(energy(LOGITS), -logsumexp(LOGITS, axis=1))
    np.testing.assert_allclose(energy(LOGITS, 5.0), -5 * logsumexp(LOGITS / 5, axis=1))


def test_confident_logits_are_less_suspicious():
    logits = np.array([[9.0, 0, 0], [1.0, 0.9, 0.8]])
    for score in (maximum_softmax, energy):
        assert np.diff(score(logits)) > 0


def test_mahalanobis_by_hand():
    fitted = Mahalanobis().fit(TRAIN, LABELS)
    means = np.array([TRAIN[c == LABELS].mean(axis=0) for c in range(3)])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(TRAIN - means[LABELS]).covariance_)
    expected = [min((x - m) @ precision @ (x - m) for m in means) for x in FAR]
    np.testing.assert_allclose(fitted.score(FAR), expected)


def test_nearest_neighbours_against_sklearn():
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (TRAIN, FAR)]
    distances, _ = NearestNeighbors(n_neighbors=10).fit(unit[0]).kneighbors(unit[1])
    np.testing.assert_allclose(NearestNeighbours().fit(TRAIN).score(FAR), distances[:, -1], atol=1e-7)


def test_chunks_do_not_change_the_answer(monkeypatch):
    whole = NearestNeighbours(3).fit(TRAIN).score(FAR)
    monkeypatch.setattr("netpaths.detection.baselines.CHUNK", 500)
    np.testing.assert_allclose(NearestNeighbours(3).fit(TRAIN).score(FAR), whole, atol=1e-7)


def test_intrinsic_dimension_by_hand():
    distances, _ = NearestNeighbors(n_neighbors=20).fit(TRAIN).kneighbors(FAR)
    expected = [-1 / np.mean(np.log(row / row[-1])) for row in distances]
    np.testing.assert_allclose(LocalIntrinsicDimensionality().fit(TRAIN).score(FAR), expected)


@pytest.mark.parametrize("dimension", [2, 5])
def test_intrinsic_dimension_of_a_flat_sheet(dimension):
    rng, sheet, inside = np.random.default_rng(1), np.zeros((4000, 10)), np.zeros((100, 10))
    sheet[:, :dimension] = rng.uniform(-1, 1, (4000, dimension))
    inside[:, :dimension] = rng.uniform(-0.4, 0.4, (100, dimension))
    scores = LocalIntrinsicDimensionality(50).fit(sheet).score(inside)
    assert scores.mean() == pytest.approx(dimension, rel=0.15)


def test_far_features_are_more_suspicious():
    truth = np.arange(110) >= 60
    both = np.concatenate([NEAR, FAR])
    assert auroc(Mahalanobis().fit(TRAIN, LABELS).score(both), truth) > 0.9
    assert auroc(NearestNeighbours().fit(TRAIN).score(both), truth) > 0.7


@pytest.mark.parametrize(("bits", "medians"), [((5, 1), (2,)), ((), (2, 3)), ((4,), ())])
def test_feature_squeezing_by_hand(bits, medians):
    rng = np.random.default_rng(2)
    images, weights = rng.random((5, 3, 8, 8)).astype(np.float32), rng.normal(size=(192, 4))

    def logits_of(x):
        return x.reshape(len(x), -1) @ weights

    changes = []
    fewer = [np.round(images * (2**depth - 1)) / (2**depth - 1) for depth in bits]
    for squeezed in fewer + [_median_by_channel(images, size) for size in medians]:
        change = softmax(logits_of(squeezed), axis=1) - softmax(logits_of(images), axis=1)
        changes.append(np.abs(change).sum(axis=1))
    found = feature_squeezing(images, logits_of, bits, medians)
    np.testing.assert_allclose(found, np.max(changes, axis=0), atol=1e-4)


def _median_by_channel(images, size):
    return np.array([[median_filter(channel, size) for channel in image] for image in images])


def test_squeezing_what_is_already_squeezed_changes_nothing():
    flat = np.ones((2, 1, 6, 6)) * np.array([0.0, 1.0])[:, None, None, None]
    assert feature_squeezing(flat, lambda x: x.mean(axis=(2, 3)) @ np.ones((1, 3)), bits=(1,)).max() == 0


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="logits must be finite"):
        energy(np.full((2, 3), np.nan))
    with pytest.raises(BadOption, match="temperature must be positive"):
        energy(LOGITS, 0)
    with pytest.raises(BadOption, match="k must lie between 1 and the 120 training images, not 121"):
        NearestNeighbours(121).fit(TRAIN)
    with pytest.raises(BadOption, match="NearestNeighbours is not fitted"):
        NearestNeighbours().score(TRAIN)
    with pytest.raises(BadInput, match="must have 6 columns as fitted, not 2"):
        Mahalanobis().fit(TRAIN, LABELS).score(np.zeros((1, 2)))
    with pytest.raises(BadInput, match=r"labels must have shape \(120,\)"):
        Mahalanobis().fit(TRAIN, LABELS[:3])
    with pytest.raises(BadInput, match=r"values in \[0, 1\]"):
        feature_squeezing(np.full((1, 1, 2, 2), 255.0), lambda x: x)
    with pytest.raises(BadOption, match="at least one of them"):
        feature_squeezing(np.zeros((1, 1, 2, 2)), lambda x: x, bits=(), medians=())
