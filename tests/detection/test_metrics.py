from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from netpaths.detection import METRICS, all_metrics, aupr, auroc, fpr_at_tpr, tpr_at_fpr
from netpaths.errors import BadInput, BadOption


@st.composite
def scored(draw):
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = rng.random(n) < 0.5
    truth[:2] = True, False
    grid = draw(st.sampled_from([2, 5, 1000]))  # few values give many ties
    return rng.integers(0, grid, n) / 7.0 + 0.3 * truth, truth


@given(scored())
@settings(max_examples=150, deadline=None)
def test_metrics_agree_with_sklearn(case):
    scores, truth = case
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert aupr(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    for limit in (0.01, 0.05, 0.5):
        assert tpr_at_fpr(scores, truth, limit) == pytest.approx(tpr[fpr <= limit].max(), abs=1e-12)
    assert fpr_at_tpr(scores, truth) == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)


def test_auroc_is_the_share_of_ordered_pairs():
    scores, truth = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])
    assert auroc(scores, truth) == 3.5 / 4


def test_bootstrap_replicates_are_resampled_data():
    """Restated: sources drawn by the same generator, rows repeated, scikit-learn on the result."""
    rng = np.random.default_rng(3)
    sources = rng.integers(0, 12, 50)
    truth = rng.random(50) < 0.5
    scores = np.round(rng.random(50) + 0.2 * truth, 1)
    found = all_metrics(scores, truth, sources, bootstrap=40, seed=9)["auroc"]
    draws = np.random.default_rng(9).multinomial(12, np.full(12, 1 / 12), size=40)
    expected = []
    for times in draws:
        rows = np.repeat(np.arange(50), times[sources])
        expected.append(roc_auc_score(truth[rows], scores[rows]))
    np.testing.assert_allclose([found.low, found.high], np.percentile(expected, [2.5, 97.5]), atol=1e-12)


def test_siblings_widen_the_interval():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=100), np.arange(100) % 2 == 0
    scores = scores + truth
    repeated = np.tile(scores, 10), np.tile(truth, 10)
    alone = all_metrics(*repeated, bootstrap=300)["auroc"]
    grouped = all_metrics(*repeated, np.tile(np.arange(100), 10), bootstrap=300)["auroc"]
    single = all_metrics(scores, truth, bootstrap=300)["auroc"]
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high), abs=1e-12)


def test_interval_covers_the_truth_about_as_often_as_promised():
    """Two unit normals one apart have AUROC Φ(1/√2) = 0.7602."""
    rng, hits = np.random.default_rng(5), 0
    for run in range(120):
        truth = np.arange(120) < 60
        interval = all_metrics(rng.normal(size=120) + truth, truth, bootstrap=200, seed=run)["auroc"]
        hits += interval.low <= 0.7602 <= interval.high
    assert hits >= 0.88 * 120


def test_chunks_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(0)
    scores, truth = rng.random(30), np.arange(30) < 15
    whole = all_metrics(scores, truth, bootstrap=50, seed=1)
    monkeypatch.setattr("netpaths.detection.metrics.CHUNK", 100)
    assert all_metrics(scores, truth, bootstrap=50, seed=1) == whole


def test_without_bootstrap_there_is_no_interval():
    found = all_metrics([0.0, 1.0], [False, True], bootstrap=0)
    assert set(found) == set(METRICS)
    assert found["auroc"].value == 1
    assert np.isnan(found["auroc"].low)


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="got 2 and 0"):
        auroc([0.0, 1.0], [False, False])
    with pytest.raises(BadInput, match="finite"):
        auroc([0.0, float("nan")], [False, True])
    with pytest.raises(BadInput, match="equally long"):
        auroc([0.0], [False, True])
    with pytest.raises(BadInput, match="sources must have shape"):
        all_metrics([0.0, 1.0], [False, True], ["a"])
    with pytest.raises(BadOption, match="bootstrap must be"):
        all_metrics([0.0, 1.0], [False, True], bootstrap=-1)
