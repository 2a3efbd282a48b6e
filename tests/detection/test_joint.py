"""The optimum of joint similarity, by its KKT conditions and by solvers that share nothing with ours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from netpaths.detection import JointSimilarity
from netpaths.errors import BadOption


def problem(seed: int, n: int = 80, d: int = 6):
    """Values, truth and names; some columns say nothing or the opposite, so that some weights are 0."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < rng.uniform(0.2, 0.8)
    truth[:2] = True, False
    ranks = rng.integers(1, 3, d)
    pull = rng.uniform(-0.2, 0.4, d) * np.where(ranks == 1, -1, 1)
    values = np.clip(rng.normal(0.6, 0.15, (n, d)) + pull * truth[:, None], 0, 1)
    return values, truth, [(f"layer{i}", int(rank)) for i, rank in enumerate(ranks)]


def signed_and_share(values, truth, names):
    signs = np.where([rank == 1 for _, rank in names], -1.0, 1.0)
    return values * signs, np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())


def objective(weights, intercept, values, truth, names, strength, l1_ratio):
    signed, share = signed_and_share(values, truth, names)
    margin = np.where(truth, 1, -1) * (signed @ weights + intercept)
    penalty = l1_ratio * np.abs(weights).sum() + (1 - l1_ratio) / 2 * (weights**2).sum()
    return share @ np.log1p(np.exp(-margin)) + strength * penalty


@given(st.integers(0, 10_000), st.sampled_from([1e-4, 1e-3, 1e-2, 0.1]), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_kkt_conditions_hold(seed, strength, l1_ratio):
    values, truth, names = problem(seed)
    detector = JointSimilarity(l1_ratio, strength).fit(values, truth, names)
    weights = detector.weights_
    signed, share = signed_and_share(values, truth, names)
    residual = share * (expit(signed @ weights + detector.intercept_) - truth)
    slope = signed.T @ residual + strength * (l1_ratio + (1 - l1_ratio) * weights)
    assert (weights >= 0).all()
    assert abs(residual.sum()) < 1e-6
    assert np.abs(slope[weights > 0]).max(initial=0) < 1e-6
    assert slope[weights == 0].min(initial=0) > -1e-6


@pytest.mark.parametrize("seed", range(4))
def test_accelerated_projected_gradient_reaches_the_same_weights(seed):
    strength, l1_ratio = 0.02, 0.5
    values, truth, names = problem(seed)
    detector = JointSimilarity(l1_ratio, strength).fit(values, truth, names)
    signed, share = signed_and_share(values, truth, names)
    design = np.column_stack([signed, np.ones(len(signed))])
    step = 4 / (np.linalg.norm(design * np.sqrt(share)[:, None], 2) ** 2 + 4 * strength)
    point = ahead = np.zeros(design.shape[1])
    for turn in range(40_000):
        slope = design.T @ (share * (expit(design @ ahead) - truth))
        slope[:-1] += strength * (l1_ratio + (1 - l1_ratio) * ahead[:-1])
        following = ahead - step * slope
        following[:-1] = np.maximum(following[:-1], 0)
        ahead = following + turn / (turn + 3) * (following - point)
        point = following
    np.testing.assert_allclose(detector.weights_, point[:-1], atol=1e-5)
    assert detector.intercept_ == pytest.approx(point[-1], abs=1e-5)
    assert (detector.weights_ == 0).any()
    assert (detector.weights_ > 0).any()


def test_sklearn_agrees_where_the_bounds_are_idle():
    """With pure ridge and informative columns every weight is positive: the bounds are idle."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) < 60
    values = rng.normal(0.5, 0.2, (200, 4)) - 0.2 * truth[:, None]
    detector = JointSimilarity(l1_ratio=0.0, strength=0.01).fit(values, truth, [(f"l{i}", 1) for i in range(4)])
    free = LogisticRegression(C=1 / (0.01 * len(truth)), class_weight="balanced", tol=1e-10, max_iter=5000)
    free.fit(-values, truth)
    assert (detector.weights_ > 0).all()
    np.testing.assert_allclose(detector.weights_, free.coef_[0], atol=1e-5)
    assert detector.intercept_ == pytest.approx(free.intercept_[0], abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_no_nearby_point_is_better(seed):
    values, truth, names = problem(seed)
    detector = JointSimilarity(strength=0.003).fit(values, truth, names)
    arguments = (values, truth, names, 0.003, 0.5)
    best = objective(detector.weights_, detector.intercept_, *arguments)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-2, 1.0):
        for _ in range(50):
            weights = np.maximum(detector.weights_ + size * rng.normal(size=len(names)), 0)
            intercept = detector.intercept_ + size * rng.normal()
            assert objective(weights, intercept, *arguments) >= best - 1e-12


def test_score_is_the_formula(make_features):
    features = make_features()
    detector = JointSimilarity().fit(features)
    first = np.array([rank == 1 for _, rank in features.names])
    similarity = features.values[:, first] @ detector.weights_[first]
    similarity -= features.values[:, ~first] @ detector.weights_[~first]
    np.testing.assert_allclose(detector.score(features), -similarity, atol=1e-12)


def test_no_information_counts_as_the_clean_mean(make_features):
    features = make_features(missing=0.1)
    detector = JointSimilarity().fit(features)
    clean = np.nanmean(features.values[features.is_clean], axis=0)
    np.testing.assert_allclose(detector.fill_, clean)
    blind = np.full((1, len(features.names)), np.nan)
    np.testing.assert_allclose(detector.score(blind), detector.score(clean[None]))


def test_a_layer_known_only_for_attacks_gets_no_weight(make_features):
    features = make_features()
    values = features.values.copy()
    values[features.is_clean, 5] = np.nan
    values[features.is_adversarial, 5] = 0.8
    detector = JointSimilarity().fit(values, features.is_adversarial, features.names)
    assert detector.weights_[5] == 0


def test_duplicating_rows_and_rebalancing_classes_change_nothing(make_features):
    features = make_features()
    more_clean = np.concatenate([np.arange(len(features)), np.flatnonzero(features.is_clean)])
    one, other = JointSimilarity().fit(features), JointSimilarity().fit(features.take(more_clean))
    np.testing.assert_allclose(one.weights_, other.weights_, rtol=1e-4, atol=1e-4)


def test_mistakes_are_named(make_features):
    features = make_features()
    with pytest.raises(BadOption, match=r"'column 0' has none; pass names"):
        JointSimilarity().fit(features.values, features.is_adversarial)
    with pytest.raises(BadOption, match="l1_ratio must lie between 0 and 1, not 2"):
        JointSimilarity(l1_ratio=2).fit(features)
    with pytest.raises(BadOption, match="strength must be a positive number"):
        JointSimilarity(strength=0).fit(features)
