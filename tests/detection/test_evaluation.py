from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from netpaths.detection import (
    Features,
    JointSimilarity,
    RandomForest,
    evaluate,
    evaluate_scores,
    leave_one_attack_out,
    split_by_source,
)
from netpaths.errors import BadInput, BadOption

ALPHAS = (0.05, 0.2)


@pytest.fixture(scope="module")
def splits(make_features):
    return split_by_source(make_features(sources=150, controls=("noise",), strength=0.5))


@pytest.fixture(scope="module")
def evaluation(splits):
    detectors = {"joint": JointSimilarity(), "forest": RandomForest(10)}
    return evaluate(detectors, splits, ALPHAS, bootstrap=50)


def find(evaluation, kind, detector="joint", attack=None):
    rows = [
        row
        for row in evaluation.results
        if (row.detector, row.kind) == (detector, kind) and attack in (None, row.attack)
    ]
    assert len(rows) == 1
    return rows[0]


def test_every_detector_meets_every_attack_and_control(evaluation):
    expected = [
        ("attack", "deepfool"),
        ("attack", "fgsm"),
        ("all", "all attacks"),
        ("worst case", "worst of all attacks"),
        ("control", "noise"),
        ("null", "clean against clean"),
    ]
    found = [(row.detector, row.kind, row.attack) for row in evaluation.results]
    assert found == [(name, *titles) for name in ("joint", "forest") for titles in expected]


def test_rows_are_what_a_plain_computation_gives(evaluation, splits):
    detector = JointSimilarity().fit(splits["fit"]).calibrate(splits["calibration"], 0.05)
    test = splits["test"]
    used = test.is_clean | (test.attacks == "fgsm")
    row = find(evaluation, "attack", attack="fgsm")
    expected = roc_auc_score(test.is_adversarial[used], detector.score(test.take(used)))
    assert row.metrics["auroc"].value == pytest.approx(expected, abs=1e-12)
    assert row.thresholds[0.05] == detector.threshold_
    assert row.caught[0.05].rate == detector.predict(test.take(test.attacks == "fgsm")).mean()
    assert row.false_alarms[0.05].rate == detector.predict(test.take(test.is_clean)).mean()
    assert row.metrics["auroc"].low <= expected <= row.metrics["auroc"].high


def test_worst_case_needs_all_attacks_caught(evaluation, splits):
    test, scores = splits["test"], JointSimilarity().fit(splits["fit"]).score(splits["test"])
    lowest: dict[str, float] = {}
    for source, score, adversarial in zip(test.sources, scores, test.is_adversarial):
        if adversarial:
            lowest[source] = min(score, lowest.get(source, np.inf))
    clean = scores[test.is_clean]
    row = find(evaluation, "worst case")
    truth = [False] * len(clean) + [True] * len(lowest)
    assert row.n == len(lowest)
    assert row.metrics["auroc"].value == pytest.approx(roc_auc_score(truth, [*clean, *lowest.values()]))
    share = np.mean([score > row.thresholds[0.05] for score in lowest.values()])
    assert row.caught[0.05].rate == pytest.approx(share)
    assert row.metrics["auroc"].value <= find(evaluation, "all").metrics["auroc"].value


def test_controls_and_null_are_near_chance(evaluation):
    assert find(evaluation, "control").metrics["auroc"].value == pytest.approx(0.5, abs=0.15)
    null = find(evaluation, "null").metrics["auroc"]
    assert null.value == pytest.approx(0.5, abs=0.02)
    assert null.low < 0.5 < null.high


def test_failed_attacks_and_wrong_images_do_not_count(make_features):
    features = make_features(sources=100)
    calibration, test = features.take(features.is_clean), make_features(sources=40, first=500)
    predicted = test.predicted.copy()
    failed = np.flatnonzero(test.attacks == "fgsm")[:7]
    wrong = np.flatnonzero(test.is_clean)[-4:]
    predicted[failed] = test.labels[failed]
    predicted[wrong] = 99
    test = replace(test, predicted=predicted)
    scores = {"mine": (np.zeros(len(calibration)), np.arange(len(test), dtype=float))}
    found = evaluate_scores(scores, calibration, test, ALPHAS, bootstrap=0)
    row = find(found, "attack", "mine", "fgsm")
    assert (row.n, row.n_clean) == (40 - 7 - 4, 40 - 4)
    assert find(found, "attack", "mine", "deepfool").n == 36
    assert found.config["sizes"]["test"] == {"sources": 36, "clean": 36, "rows": 36 + 29 + 36}


def test_what_does_not_count_takes_no_part_in_fitting(splits, make_features):
    stray = make_features(sources=30, first=9000, strength=-1.0)
    failed = replace(stray, predicted=np.where(stray.is_clean, stray.predicted, stray.labels))
    wrong = replace(stray, predicted=stray.labels + 1)
    right = failed.take(failed.is_adversarial)
    detectors = {"joint": JointSimilarity()}
    for extra in (right, wrong):
        spoilt = {**splits, "fit": Features.concat([splits["fit"], replace(extra, controls=("noise",))])}
        one, other = (evaluate(detectors, each, ALPHAS, bootstrap=0) for each in (splits, spoilt))
        np.testing.assert_equal(one.rows(), other.rows())


def test_held_out_attacks_are_judged_without_being_seen(splits):
    found = leave_one_attack_out({"joint": JointSimilarity()}, splits, ALPHAS, bootstrap=0)
    assert [(row.kind, row.attack) for row in found.results] == [
        ("held out", "deepfool"),
        ("held out", "fgsm"),
    ]
    fit, test = splits["fit"], splits["test"]
    detector = JointSimilarity().fit(fit.take(fit.attacks != "fgsm"))
    used = test.is_clean | (test.attacks == "fgsm")
    expected = roc_auc_score(test.is_adversarial[used], detector.score(test.take(used)))
    assert found.results[1].metrics["auroc"].value == pytest.approx(expected, abs=1e-12)


def test_same_seed_same_evaluation_and_detectors_are_left_alone(splits):
    detector = JointSimilarity()
    one, again = (evaluate({"joint": detector}, splits, ALPHAS, seed=4, bootstrap=20) for _ in range(2))
    np.testing.assert_equal(one.rows(), again.rows())
    assert not hasattr(detector, "names_")


def test_tables_hold_the_rows(evaluation, tmp_path):
    with open(evaluation.to_csv(tmp_path / "e.csv"), newline="") as stream:
        table = list(csv.DictReader(stream))
    value = json.loads(evaluation.to_json(tmp_path / "e.json").read_text())
    rows = evaluation.rows()
    assert len(table) == len(value["rows"]) == len(rows)
    for written, stored, row in zip(table, value["rows"], rows):
        assert float(written["auroc"]) == stored["auroc"] == row["auroc"]
        assert {"fpr_at_95_tpr_high", "caught_0.05", "false_alarms_0.2_low"} <= set(stored)
    assert table[5]["caught_0.05"] == ""
    assert value["rows"][5]["caught_0.05"] is None
    assert value["config"]["detectors"]["forest"] == {"detector": "forest", "trees": 10, "seed": 0}
    assert value["config"]["alphas"] == [0.05, 0.2]
    assert "numpy" in value["config"]["versions"]


def test_mistakes_are_named(splits, make_features):
    detectors = {"joint": JointSimilarity()}
    with pytest.raises(BadOption, match="no part 'test'"):
        evaluate(detectors, {key: splits[key] for key in ("fit", "calibration")})
    with pytest.raises(BadOption, match=r"source image image-\d+ is in both 'fit' and 'test'"):
        evaluate(detectors, {**splits, "test": splits["fit"]})
    with pytest.raises(BadOption, match="needs at least 99 clean calibration images, got 30"):
        evaluate(detectors, splits)
    only = make_features(sources=150, attacks=("fgsm",))
    with pytest.raises(BadOption, match="leaving out 'fgsm' leaves no attack"):
        leave_one_attack_out(detectors, split_by_source(only), ALPHAS)
    with pytest.raises(BadOption, match="nothing to evaluate"):
        evaluate({}, splits, ALPHAS)
    short = {"mine": (np.zeros(3), np.zeros(len(splits["test"])))}
    with pytest.raises(BadInput, match=r"mine needs one calibration score for each of 30 rows, not shape \(3,\)"):
        evaluate_scores(short, splits["calibration"], splits["test"], ALPHAS)


def test_a_test_part_without_attacks_still_has_its_null(make_features):
    clean = make_features(sources=60, attacks=())
    found = evaluate_scores(
        {"mine": (np.arange(30.0), np.arange(30.0))},
        clean.take(np.arange(30)),
        clean.take(np.arange(30, 60)),
        ALPHAS,
    )
    assert [row.kind for row in found.results] == ["null"]
    assert isinstance(clean, Features)
