from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from netpaths.detection import conformal_threshold, images_needed, realised
from netpaths.errors import BadInput, BadOption


@given(st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.3, 0.5]))
def test_threshold_is_the_named_order_statistic(n, fpr):
    scores = np.random.default_rng(n).permutation(n).astype(float)
    rank = math.ceil(round((n + 1) * (1 - fpr), 9))
    if rank > n:
        with pytest.raises(BadOption):
            conformal_threshold(scores, fpr)
    else:
        assert conformal_threshold(scores, fpr) == sorted(scores)[rank - 1]


@pytest.mark.parametrize(("fpr", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.03, 33), (0.5, 1)])
def test_the_number_of_images_needed_is_exact(fpr, needed):
    assert images_needed(fpr) == needed
    conformal_threshold(np.zeros(needed), fpr)
    with pytest.raises(BadOption, match=f"at least {needed} clean calibration images, got {needed - 1}"):
        conformal_threshold(np.zeros(needed - 1), fpr)


@pytest.mark.parametrize(("n", "fpr"), [(99, 0.05), (150, 0.1), (37, 0.2)])
def test_exchangeable_scores_are_flagged_at_the_promised_rate(n, fpr):
    rng, runs = np.random.default_rng(0), 20_000
    scores = np.sort(rng.standard_normal((runs, n)), axis=1)
    threshold = scores[:, 0] * 0 + [conformal_threshold(row, fpr) for row in scores]
    flagged = (rng.standard_normal(runs) > threshold).mean()
    exact = math.floor(round((n + 1) * fpr, 9)) / (n + 1)
    assert flagged == pytest.approx(exact, abs=4 * math.sqrt(exact / runs))
    assert exact <= fpr


def test_ties_are_never_flagged_too_often():
    scores = np.repeat([0.0, 1.0], 100)
    assert not (scores > conformal_threshold(scores, 0.05)).any()


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_is_clopper_pearson(case):
    count, n = case
    rate = realised(np.arange(n) < count)
    expected = binomtest(count, n).proportion_ci(0.95, method="exact")
    assert (rate.count, rate.n, rate.rate) == (count, n, count / n)
    assert rate.low == pytest.approx(expected.low, abs=1e-9)
    assert rate.high == pytest.approx(expected.high, abs=1e-9)


def test_mistakes_are_named():
    with pytest.raises(BadOption, match=r"between 0 and 1, such as 0\.01, not 1\.5"):
        conformal_threshold(np.zeros(9), 1.5)
    with pytest.raises(BadInput, match="without NaN"):
        conformal_threshold([float("nan")] * 9, 0.5)
    with pytest.raises(BadInput, match="at least one flag"):
        realised([])
    with pytest.raises(BadOption, match="confidence"):
        realised([True], confidence=95)
