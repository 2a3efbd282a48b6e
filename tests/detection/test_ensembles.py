"""Exported trees against the scikit-learn estimators they came from."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, RandomForestClassifier

from netpaths.detection import AdaBoost, GradientBoosting, RandomForest
from netpaths.errors import BadOption

CASES = [
    (RandomForest, RandomForestClassifier, 100, lambda model, x: model.predict_proba(x)[:, 1]),
    (GradientBoosting, GradientBoostingClassifier, 100, lambda model, x: model.decision_function(x)),
    (AdaBoost, AdaBoostClassifier, 50, lambda model, x: model.decision_function(x)),
]


@pytest.mark.parametrize(("detector", "estimator", "trees", "output"), CASES)
@pytest.mark.parametrize("strength", [0.3, 30.0])
def test_scores_equal_sklearn(detector, estimator, trees, output, strength, make_features):
    """Strength 30 separates the classes, where boosting may stop early."""
    features = make_features(strength=strength)
    ours = detector(seed=3).fit(features)
    theirs = estimator(n_estimators=trees, random_state=3).fit(features.values, features.is_adversarial)
    rng = np.random.default_rng(1)
    elsewhere = np.concatenate([features.values, rng.uniform(-1, 2, (200, 8))])
    np.testing.assert_allclose(ours.score(elsewhere), output(theirs, elsewhere), rtol=0, atol=1e-12)
    assert ours.trees == trees


@pytest.mark.parametrize("detector", [RandomForest, GradientBoosting, AdaBoost])
def test_values_on_a_threshold_go_the_same_way(detector, make_features):
    """float32 comparison: the thresholds themselves are the hard inputs."""
    features = make_features(strength=0.3)
    ours = detector(trees=10).fit(features)
    estimator, output = next((case[1], case[3]) for case in CASES if case[0] is detector)
    theirs = estimator(n_estimators=10, random_state=0).fit(features.values, features.is_adversarial)
    rows = np.repeat(ours.trees_.threshold[:, None], len(features.names), axis=1)
    near = np.concatenate([rows, np.nextafter(rows, 9), np.nextafter(rows, -9)])
    np.testing.assert_allclose(ours.score(near), output(theirs, near), rtol=0, atol=1e-12)


@pytest.mark.parametrize("detector", [RandomForest, GradientBoosting, AdaBoost])
def test_no_information_counts_as_the_median(detector, make_features):
    features = make_features(missing=0.15)
    fitted = detector(trees=10).fit(features)
    median = np.nanmedian(features.values, axis=0)
    filled = np.where(np.isnan(features.values), median, features.values)
    np.testing.assert_array_equal(fitted.score(features), fitted.score(filled))


@pytest.mark.parametrize("detector", [RandomForest, GradientBoosting, AdaBoost])
def test_the_seed_decides(detector, make_features):
    features = make_features(strength=0.3)
    one, again = (detector(trees=10, seed=5).fit(features).score(features) for _ in range(2))
    np.testing.assert_array_equal(one, again)


def test_wrong_size_is_named(make_features):
    with pytest.raises(BadOption, match="trees must be at least 1, not 0"):
        RandomForest(trees=0).fit(make_features())


def test_values_that_say_nothing_score_alike() -> None:
    """Half of the images are attacked and all look the same: no stump is better than chance."""
    values, truth = np.ones((8, 3)), np.arange(8) % 2 == 0
    detector = AdaBoost().fit(values, truth, (("a", 1), ("b", 1), ("c", 1)))
    assert detector.score(values).tolist() == [0.0] * 8
