"""One contract for every detector: sign, calibration, saving, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from netpaths.detection import DETECTORS, Detector, auroc, load_detector, save_detector
from netpaths.errors import BadFile, BadInput, BadOption, ModelMismatch
from netpaths.files import load_tensors, save_tensors

SIZES = {"joint": {}, "forest": {"trees": 20}, "boosting": {"trees": 20}, "adaboost": {"trees": 10}}
MODEL, OTHER = "a1b2c3d4e5f6" + "0" * 52, "ffeeddccbbaa" + "0" * 52
ABOUT = {
    "model_fingerprint": MODEL,
    "layers": ["conv1", "conv2", "fc1", "fc2"],
    "method": {"name": "effective", "theta": 0.5},
    "profile_checksum": "77" * 32,
}


@pytest.fixture(params=sorted(SIZES))
def unfitted(request) -> Detector:
    return DETECTORS[request.param](**SIZES[request.param])


@pytest.fixture
def fitted(unfitted, make_features) -> Detector:
    clean = make_features(sources=120, attacks=(), seed=1, first=1000)
    return unfitted.fit(make_features(missing=0.05)).calibrate(clean, fpr=0.05)


def test_registry_names_are_the_classes_own():
    assert sorted(DETECTORS) == sorted(SIZES)
    assert all(detector.name == name for name, detector in DETECTORS.items())


def test_larger_is_more_suspicious(fitted, make_features):
    unseen = make_features(seed=2, first=2000)
    assert auroc(fitted.score(unseen), unseen.is_adversarial) > 0.9


def test_batch_equals_singles(fitted, make_features):
    unseen = make_features(sources=20, seed=2)
    singles = [fitted.score(unseen.take([row]))[0] for row in range(len(unseen))]
    np.testing.assert_array_equal(fitted.score(unseen), singles)


def test_false_alarms_stay_near_the_agreed_rate(fitted, make_features):
    unseen = make_features(sources=2000, attacks=(), seed=7, first=5000)
    assert fitted.predict(unseen).mean() < 0.12
    np.testing.assert_array_equal(fitted.predict(unseen), fitted.score(unseen) > fitted.threshold_)


def test_features_and_arrays_are_the_same(unfitted, make_features):
    features = make_features()
    one = unfitted.fit(features)
    other = unfitted.clone().fit(features.values, features.is_adversarial, features.names)
    np.testing.assert_array_equal(one.score(features), other.score(features.values))


def test_controls_take_no_part_in_fitting(unfitted, make_features):
    features = make_features(controls=("noise",))
    one = unfitted.fit(features)
    other = unfitted.clone().fit(features.take(~features.is_control))
    np.testing.assert_array_equal(one.score(features), other.score(features))


def test_fitting_again_forgets_the_threshold(fitted, make_features):
    fitted.fit(make_features())
    with pytest.raises(BadOption, match="has no threshold yet; call calibrate"):
        fitted.predict(make_features())


def test_saved_and_loaded_score_identically(fitted, tmp_path, make_features):
    path = save_detector(tmp_path / "d.safetensors", fitted, **ABOUT, extra={"note": "x"})
    loaded, header = load_detector(path, MODEL)
    unseen = make_features(seed=2, missing=0.1)
    np.testing.assert_array_equal(loaded.score(unseen), fitted.score(unseen))
    np.testing.assert_array_equal(loaded.predict(unseen), fitted.predict(unseen))
    np.testing.assert_array_equal(loaded.reference_.mean, fitted.reference_.mean)
    np.testing.assert_array_equal(loaded.reference_.sd, fitted.reference_.sd)
    assert (loaded.threshold_, loaded.fpr_, loaded.names_) == (fitted.threshold_, 0.05, fitted.names_)
    assert loaded.params() == fitted.params()
    assert {key: header[key] for key in ABOUT} == ABOUT
    assert header["threshold"] == fitted.threshold_
    assert set(header["versions"]) == {"netpaths", "torch", "numpy", "scikit-learn", "python"}
    again = save_detector(tmp_path / "again.safetensors", loaded, **ABOUT, extra={"note": "x"})
    np.testing.assert_equal(load_tensors(again, "detector", 2, dict), load_tensors(path, "detector", 2, dict))


def test_an_uncalibrated_detector_and_an_unseen_layer_survive_saving(unfitted, tmp_path, make_features):
    features = make_features()
    values = features.values.copy()
    values[:, 2] = np.nan
    unfitted.fit(values, features.is_adversarial, features.names)
    loaded, _ = load_detector(save_detector(tmp_path / "d", unfitted, **ABOUT))
    assert loaded.threshold_ is None
    assert np.isnan(loaded.reference_.mean[2])
    np.testing.assert_array_equal(loaded.score(values), unfitted.score(values))


def test_another_model_is_refused(fitted, tmp_path):
    path = save_detector(tmp_path / "d", fitted, **ABOUT)
    with pytest.raises(ModelMismatch, match="made for model a1b2c3d4e5f6, this model is ffeeddccbbaa"):
        load_detector(path, OTHER)


def test_a_corrupt_file_is_refused(fitted, tmp_path):
    path = save_detector(tmp_path / "d", fitted, **ABOUT)
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(bytes(content))
    with pytest.raises(BadFile, match="corrupt"):
        load_detector(path)


def test_an_incomplete_file_is_refused(fitted, tmp_path):
    path = save_detector(tmp_path / "d", fitted, **ABOUT)
    arrays, header = load_tensors(path, "detector", 2, dict)
    save_tensors(path, "detector", 2, {"fill": arrays["fill"]}, header)
    with pytest.raises(BadFile, match="not a complete detector file: KeyError"):
        load_detector(path)
    save_tensors(path, "detector", 2, arrays, {**header, "detector": "oracle"})
    with pytest.raises(BadFile, match="unknown detector 'oracle'; known: adaboost, boosting, forest, joint"):
        load_detector(path)


def test_unfitted_detectors_say_so(unfitted, tmp_path, make_features):
    for use in (unfitted.score, unfitted.predict, unfitted.calibrate):
        with pytest.raises(BadOption, match="is not fitted; call fit"):
            use(make_features())
    with pytest.raises(BadOption, match="is not fitted"):
        save_detector(tmp_path / "d", unfitted, **ABOUT)


def test_wrong_input_is_named(fitted, make_features):
    features = make_features()
    swapped = features.take(np.arange(5))
    with pytest.raises(BadInput, match="fitted with 8 features, found 3"):
        fitted.score(np.zeros((2, 3)))
    with pytest.raises(BadInput, match=r"shape \(images, features\)"):
        fitted.score(np.zeros(8))
    with pytest.raises(BadInput, match="infinity"):
        fitted.score(np.full((1, 8), np.inf))
    with pytest.raises(BadInput, match=r"expected 8 features \(conv1 rank 1, .*…\), found 1"):
        fitted.score(_columns(swapped, [0]))
    with pytest.raises(BadInput, match="feature 0 must be conv1 rank 1, found conv2 rank 1"):
        fitted.score(_columns(swapped, [1, 0, 2, 3, 4, 5, 6, 7]))
    with pytest.raises(BadInput, match="clean images only, 120 of 180"):
        fitted.calibrate(features)
    with pytest.raises(BadOption, match="needs at least 99 clean calibration images, got 60"):
        fitted.calibrate(features.take(features.is_clean), fpr=0.01)


def _columns(features, columns):
    names = tuple(features.names[i] for i in columns)
    return replace(features, values=features.values[:, columns], names=names)


def test_wrong_truth_is_named(unfitted, make_features):
    features = make_features()
    with pytest.raises(BadOption, match="pass is_adversarial"):
        unfitted.fit(features.values)
    with pytest.raises(BadInput, match="must be 180 booleans"):
        unfitted.fit(features.values, np.ones(3, dtype=bool))
    with pytest.raises(BadOption, match="clean and adversarial images, got 60 and 0"):
        unfitted.fit(features.take(features.is_clean))
    with pytest.raises(BadInput, match="8 feature columns need 8 names, not 1"):
        unfitted.fit(features.values, features.is_adversarial, [("a", 1)])


def test_importing_and_loading_need_neither_scikit_learn_nor_scipy(tmp_path, make_features):
    features = make_features()
    forest = DETECTORS["forest"](trees=5).fit(features)
    path = save_detector(tmp_path / "d", forest, **ABOUT)
    code = f"""
import json, sys, numpy as np
from netpaths.detection import load_detector
detector, header = load_detector({str(path)!r})
score = detector.score(np.full((1, 8), 0.5)).tolist()
print(json.dumps([score, [name for name in ("sklearn", "scipy") if name in sys.modules]]))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    score, loaded = json.loads(answer.stdout)
    assert loaded == []
    assert score == forest.score(np.full((1, 8), 0.5)).tolist()


def test_saving_an_unregistered_detector_is_refused(tmp_path, make_features):
    class Mine(DETECTORS["joint"]):
        name = "mine"

    with pytest.raises(BadOption, match="Mine is not in DETECTORS under 'mine'"):
        save_detector(tmp_path / "d", Mine().fit(make_features()), **ABOUT)
