"""Every command once: the chain on digits, the examples of every help text, JSON, help and version."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from netpaths import Profile, class_matrix, cli, load_path
from netpaths.cli import attack, bench, calibrate, check, compare, evaluate, profile, trace, train
from netpaths.detection import DETECTORS, Features, load_detector
from netpaths.files import stored_checksum

from .conftest import Call, tiny

MODULES = (train, profile, attack, calibrate, check, evaluate, trace, compare, bench)
MODEL = "--model lenet5 --weights runs/lenet5"
DONE = {train.EXAMPLES[0], attack.EXAMPLES[0], calibrate.EXAMPLES[0], *profile.EXAMPLES[:2]}
EXAMPLES = [example for module in MODULES for example in module.EXAMPLES if example not in DONE]


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file) as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_help_texts_run(inside: Path, call: Call, example: str) -> None:
    outcome = call(*tiny(example))
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert outcome.out.strip()


@pytest.mark.parametrize("module", MODULES)
def test_help_names_every_option_with_its_default_and_examples(call: Call, module: object) -> None:
    name = module.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    outcome = call(name, "--help")
    assert outcome.code == 0
    assert all(example in outcome.out for example in module.EXAMPLES)  # type: ignore[attr-defined]
    assert 2 <= len(module.EXAMPLES) <= 3  # type: ignore[attr-defined]
    options = outcome.out.partition("Options:")[2].partition("Examples:")[0]
    for option in re.split(r"\n  (?=--)", options)[1:]:
        takes_a_value = re.match(r"--[\w-]+ [A-Z<]", option) is not None
        told = any(mark in " ".join(option.split()) for mark in ("[default: ", "[required]", "--json"))
        assert told or not takes_a_value, option


def test_training_writes_weights_history_and_configuration(inside: Path) -> None:
    config = json.loads(Path("runs/lenet5/config.json").read_text())
    assert config["command"] == "train"
    assert config["options"]["epochs"] == 4
    assert config["options"]["seed"] == 0
    assert set(config["versions"]) == {"python", "netpaths", "torch", "numpy"}
    assert config["command_line"].startswith("netpaths train --model lenet5")
    history = _rows(Path("runs/lenet5/history.csv"))
    assert len(history) == 4
    assert float(history[-1]["test_accuracy"]) > 0.5


def test_the_profile_covers_every_class_and_its_tables_agree_with_it(inside: Path) -> None:
    made = Profile.load("runs/profile/profile.safetensors")
    assert list(made) == list(range(10))
    assert made.seen == 100
    assert not Path("runs/profile/profile.partial.safetensors").exists()
    rows = {(row["layer"], row["kind"]): float(row["density"]) for row in _rows(Path("runs/profile/density.csv"))}
    overall = made.overall()
    for kind in ("neuron", "synapse", "weight"):
        assert rows["overall", kind] == pytest.approx(overall.density(kind))
        assert rows["conv2" if kind != "neuron" else "pool2", kind] == pytest.approx(
            overall.densities(kind)["conv2" if kind != "neuron" else "pool2"]
        )
    growth = [float(row["synapse"]) for row in _rows(Path("runs/profile/growth.csv"))]
    assert growth == sorted(growth)
    assert growth[-1] == pytest.approx(rows["overall", "synapse"])


def test_a_profile_of_weights_alone_has_counts(inside: Path) -> None:
    made = Profile.load("runs/weights/profile.safetensors")
    assert made.overall().kinds() == ("weight",)
    assert made.frequency(0, ("fc3", "weight")).max() == 1


def test_attacks_are_written_with_their_table(inside: Path, call: Call) -> None:
    rows = {row["attack"]: row for row in _rows(Path("runs/attacks/attacks.csv"))}
    assert set(rows) == {"fgsm", "deepfool"}
    assert int(rows["fgsm"]["images"]) == 40
    assert 0 < float(rows["deepfool"]["success rate"]) <= 1
    assert float(rows["deepfool"]["l2"]) < float(rows["fgsm"]["l2"])


def test_a_finished_attack_is_kept_when_the_run_is_repeated(inside: Path, call: Call) -> None:
    file = Path("runs/attacks/adversarial-deepfool.safetensors")
    before = file.stat().st_mtime_ns
    assert call(*tiny(attack.EXAMPLES[0])).code == 0
    assert file.stat().st_mtime_ns == before


def test_the_detector_is_calibrated_on_clean_images_apart_from_the_test_images(inside: Path) -> None:
    detector, header = load_detector("runs/detector/detector.safetensors")
    features = Features.load("runs/detector/features.safetensors")
    assert (detector.name, detector.fpr_) == ("joint", 0.2)
    assert header["layers"] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert set(features.attacks) == {"clean", "fgsm", "deepfool"}
    assert (features.predicted != features.labels)[features.is_adversarial].all()
    rows = _rows(Path("runs/detector/evaluation.csv"))
    assert {row["kind"] for row in rows} == {"attack", "all", "worst case", "null"}


def test_check_says_for_every_image_whether_and_why(inside: Path, call: Call) -> None:
    common = f"{MODEL} --profile runs/profile --detector runs/detector"
    outcome = call(f"check photos photo.png {common} --json -")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert [Path(row["image"]).name for row in found["images"]] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "4.png",
        "photo.png",
    ]
    for row in found["images"]:
        assert row["flagged"] == (row["score"] > found["threshold"])
        assert len(row["reasons"]) == 3
    assert found["images"][0]["score"] == found["images"][-1]["score"]


def test_check_can_fail_on_a_flagged_image(inside: Path, call: Call, tmp_path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    common = f"check {tmp_path} {MODEL} --profile runs/profile --detector runs/detector"
    assert call(common).code == 0
    outcome = call(f"{common} --fail-on-flag")
    assert outcome.code == 1
    assert "1 of 1 images flagged" in outcome.out
    assert "conv1 rank 1" in outcome.out


def test_trace_writes_the_path_it_prints(inside: Path, call: Call, tmp_path: Path) -> None:
    outcome = call(
        f"trace photo.png {MODEL} --profile runs/profile --rank 2 --out {tmp_path / 'run'} "
        f"--json {tmp_path / 'trace.json'}"
    )
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "trace.json").read_text())
    path = load_path(tmp_path / "run" / "path.safetensors")
    assert path.seed == found["seed"] != path.predicted == found["predicted"]
    assert len(found["class_similarity"]) == 10
    selected = {(row["node"], row["kind"]): row["selected"] for row in found["layers"]}
    assert selected == {(site.node, site.kind): len(part) for site, part in path.items()}
    budget = found["budget"]
    assert budget["pixels"] + budget["biases"] + budget["constants"] == pytest.approx(budget["logit"], rel=1e-4)
    carried = f"The logit of {budget['logit']:.3g} is {budget['pixels']:.3g} from pixels"
    assert carried in outcome.out
    assert carried in (tmp_path / "run" / "trace.html").read_text()


def test_compare_measures_every_pair_of_classes(inside: Path, call: Call, tmp_path: Path) -> None:
    outcome = call(f"compare runs/profile --out {tmp_path / 'run'} --json -")
    found = json.loads(outcome.out)
    matrix = np.array(found["matrix"])
    assert matrix.shape == (10, 10)
    assert np.allclose(matrix, matrix.T)
    assert found["summary"][0]["similarity"] == pytest.approx(matrix[np.tril_indices(10, -1)].mean())
    assert (tmp_path / "run" / "similarity.png").stat().st_size > 1000
    two = json.loads(call("compare runs/profile runs/weights --kind weight --json -").out)
    assert np.allclose(np.diag(two["matrix"]), 1)


def test_compare_of_what_is_usual_leaves_out_the_rest(inside: Path, call: Call) -> None:
    outcome = call("compare runs/weights --kind weight --usual 0.5 --json -")
    found = json.loads(outcome.out)
    profile = Profile.load("runs/weights/profile.safetensors")
    assert np.array_equal(found["matrix"], class_matrix(profile.usual(0.5), "weight"))
    whole = json.loads(call("compare runs/weights --kind weight --json -").out)
    assert not np.allclose(found["matrix"], whole["matrix"])


def test_evaluate_reports_every_detector_attack_and_seed(inside: Path, call: Call) -> None:
    outcome = call("evaluate --features runs/detector --fpr 0.2 --seeds 2 --bootstrap 20 --json -")
    rows = json.loads(outcome.out)["rows"]
    assert {row["detector"] for row in rows} == set(DETECTORS)
    assert {row["seed"] for row in rows} == {0, 1}
    assert {row["kind"] for row in rows} == {"attack", "all", "worst case", "null", "held out"}


def test_the_same_run_may_be_repeated_and_another_needs_force(inside: Path, call: Call, tmp_path: Path) -> None:
    command = f"profile {MODEL} --data digits --limit 20 --out {tmp_path / 'run'} --allow-empty"
    assert call(command).code == 0
    first = stored_checksum(tmp_path / "run" / "profile.safetensors")
    assert call(f"{command} --quiet").code == 0
    assert stored_checksum(tmp_path / "run" / "profile.safetensors") == first
    outcome = call(f"{command} --theta 0.9")
    assert outcome.code == 2
    assert "holds another run (theta was 0.5, now 0.9)" in outcome.err
    assert call(f"{command} --theta 0.9 --force").code == 0
    assert stored_checksum(tmp_path / "run" / "profile.safetensors") != first


def test_batch_size_does_not_change_a_profile(inside: Path, call: Call, tmp_path: Path) -> None:
    for size in (7, 50):
        call(f"profile {MODEL} --data digits --limit 50 --batch-size {size} --out {tmp_path / str(size)} --allow-empty")
    first, second = (Profile.load(tmp_path / size / "profile.safetensors") for size in ("7", "50"))
    assert first.equals(second)


def test_version_and_bare_call(call: Call) -> None:
    assert re.fullmatch(r"netpaths \d+\.\d+\.\d+\n", call("--version").out)
    outcome = call("--help")
    assert outcome.code == 0
    for module in MODULES:
        assert re.search(rf"^  {module.__name__.rpartition('.')[2]} ", outcome.out, re.MULTILINE)
    assert cli.run([]) == 0
