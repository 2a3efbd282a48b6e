"""Every mistake of a user: exit code 2, one line on stderr that names it, and nothing half-written."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from netpaths import Profile
from netpaths.cli import attacked
from netpaths.zoo import load_model, save_weights

from .conftest import Call, Outcome

MODEL = "--model lenet5 --weights runs/lenet5"
PROFILE = f"profile {MODEL} --data digits --limit 20"
UNRULED = """
from torch import nn

class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(1).values

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 20), Sorted(), nn.Linear(20, 10))
"""


@pytest.fixture
def fails(inside: Path, call: Call, tmp_path: Path) -> Callable[..., Outcome]:
    """Run a command that must fail; ``OUT`` in it is a folder that must stay away."""

    def run(command: str, *expected: str) -> Outcome:
        out = tmp_path / "out"
        outcome = call(command.replace("OUT", str(out)))
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("netpaths: error: ")
        assert outcome.err.count("\n") == 1, outcome.err
        for text in expected:
            assert text in outcome.err
        assert not out.exists(), list(out.iterdir())
        return outcome

    return run


Fails = Callable[..., Outcome]
WATCH = f"{MODEL} --profile runs/profile --detector runs/detector"
ATTACKED = f"{MODEL} --profile runs/profile --attacks runs/attacks"
MISTAKES = {
    "corrupt image": (f"trace broken.png {MODEL} --out OUT", "broken.png is not a readable image"),
    "corrupt image in a check": (f"check photo.png broken.png {WATCH}", "broken.png is not a readable image"),
    "missing image": (f"check photo.png none.png {WATCH}", "there is no image none.png"),
    "folder without images": (f"check data {WATCH}", "there are no images in data"),
    "other channels": ("profile --model resnet20 --data digits --out OUT", "(1, 28, 28), resnet20 takes (3, 32, 32)"),
    "other size": (f"{PROFILE} --size 32 --out OUT", "(1, 32, 32), lenet5 takes (1, 28, 28)", "--size 28"),
    "other architecture": (
        "profile --model lenet300-100 --weights runs/lenet5 --data digits --out OUT",
        "does not fit the model",
        "misshapen: fc1.weight (120, 400) instead of (300, 784)",
    ),
    "unknown layer": (
        f"calibrate {ATTACKED} --fpr 0.2 --layers conv1,convo2 --out OUT",
        "no node 'convo2'; nearest: conv2",
    ),
    "no layer": (
        f"calibrate {ATTACKED} --fpr 0.2 --layers relu1 --out OUT",
        "relu1 is no layer that the paths compare",
    ),
    "kind that the profile lacks": (
        f"calibrate {MODEL} --profile runs/weights --attacks runs/attacks --fpr 0.2 --kind synapse --out OUT",
        "the profile's paths have weight",
    ),
    "profile of another model": (
        "trace photo.png --model lenet5 --seed 1 --profile runs/profile --out OUT",
        "the profile was made for model",
    ),
    "detector of another model": (
        "check photo.png --model lenet5 --seed 1 --profile runs/profile --detector runs/detector",
        "detector.safetensors was made for model",
    ),
    "detector of another profile": (
        f"check photo.png {MODEL} --profile runs/weights --detector runs/detector",
        "was made for another profile",
    ),
    "attacks on another model": (
        "calibrate --model lenet5 --seed 1 --profile runs/profile --attacks runs/attacks --fpr 0.2 --out OUT",
        "images were made against model",
    ),
    "usual without counts": ("compare runs/profile --usual 0.5 --out OUT", "this profile has no counts"),
    "usual share": ("compare runs/weights --usual 2 --out OUT", "images is 2.0, expected a number in (0, 1]"),
    "foreign profile": ("compare runs/detector/detector.safetensors --out OUT", "is not a netpaths profile"),
    "weights as a profile": ("compare runs/lenet5/model.safetensors --out OUT", "is not a netpaths profile"),
    "folder without a profile": ("compare runs/lenet5 --out OUT", "there is no profile.safetensors in runs/lenet5"),
    "missing data folder": (
        f"profile {MODEL} --data mnist:nowhere --out OUT",
        "there is no train-images-idx3-ubyte.gz",
        "nowhere",
    ),
    "unknown data": (f"profile {MODEL} --data digit --out OUT", "there is no data 'digit'"),
    "unknown model": ("profile --model lenet --data digits --out OUT", "no model 'lenet'; nearest: lenet5"),
    "missing model": ("profile --data digits --out OUT", "missing option '--model'; expected lenet5"),
    "missing weights": ("profile --model lenet5 --weights none.safetensors --data digits --out OUT", "no weights file"),
    "unknown command": ("profil", "no such command 'profil'", "'profile'"),
    "unknown option": (f"{PROFILE} --thet 1 --out OUT", "no such option", "--theta"),
    "unknown attack": (f"attack {MODEL} --data digits --attack fgms --out OUT", "no attack 'fgms'; nearest: fgsm"),
    "unknown attack option": (
        f"attack {MODEL} --data digits --attack fgsm:epsilom=1 --out OUT",
        "fgsm has no option 'epsilom'; it has epsilon",
    ),
    "attack option out of range": (
        f"attack {MODEL} --data digits --attack fgsm:epsilon=2 --out OUT",
        "epsilon of fgsm",
    ),
    "attack option without a value": (f"attack {MODEL} --data digits --attack fgsm:epsilon --out OUT", "OPTION=VALUE"),
    "unknown detector": (f"calibrate {ATTACKED} --detector join --out OUT", "no detector 'join'; nearest: joint"),
    "too few images for the rate": (
        f"calibrate {ATTACKED} --fpr 0.001 --out OUT",
        "needs 999 clean calibration images",
    ),
    "rate out of range": (f"calibrate {ATTACKED} --fpr 1 --out OUT", "must lie between 0 and 1"),
    "theta out of range": (f"{PROFILE} --theta 0 --out OUT", "--theta is 0, expected a share above 0 and at most 1"),
    "theta that is no number": (f"{PROFILE} --theta nan --out OUT", "--theta is nan"),
    "last below one": (f"{PROFILE} --last 0 --out OUT", "invalid value for '--last'"),
    "unknown kind": (f"{PROFILE} --kind neurons --out OUT", "--kind is 'neurons', expected some of neuron"),
    "unknown device": (f"{PROFILE} --device gpu --out OUT", "there is no device 'gpu'"),
    "no images": (f"profile {MODEL} --data digits --limit 0 --out OUT", "invalid value for '--limit'"),
    **{
        f"batch size {text} of {command.split()[0]}": (
            f"{command} --batch-size {text}",
            f"'--batch-size': expected a whole number of at least 1, or auto, not '{text}' (see netpaths",
        )
        for command in (
            f"{PROFILE} --out OUT",
            f"check photo.png {WATCH}",
            f"calibrate {ATTACKED} --out OUT",
            f"evaluate {ATTACKED} --out OUT",
            f"study effective-path {MODEL} --data digits --out OUT",
        )
        for text in ("0", "-3", "many")
    },
    "automatic batch size of training": ("train --model lenet5 --data digits --batch-size auto --out OUT", "integer"),
    "no batch of attacks": (f"attack {MODEL} --data digits --batch-size 0 --out OUT", "'--batch-size'", "equal to 1"),
    "epochs that are no number": ("train --model lenet5 --data digits --epochs x --out OUT", "valid integer"),
    "learning rate": ("train --model lenet5 --data digits --limit 20 --lr 0 --out OUT", "lr is 0.0"),
    "no source": (f"trace {MODEL}", "give either an image file, or --data with --index"),
    "index beyond the data": (f"trace --data digits --index 9999 {MODEL} --out OUT", "the data has 540 images"),
    "unknown split": (f"trace --data digits --index 1 --split val {MODEL} --out OUT", "split is 'val'"),
    "rank beyond the classes": (f"trace photo.png --rank 11 {MODEL} --out OUT", "rank must lie between 1 and"),
    "options against the profile": (
        f"trace photo.png --theta 0.9 {MODEL} --profile runs/profile",
        "--theta is 0.9 but the profile was made with 0.5",
    ),
    "nothing to evaluate": ("evaluate", "give --features, or all of --model, --profile and --attacks"),
    "folder that is a file": (f"{PROFILE} --out photo.png", "photo.png is a file; a run needs a folder"),
    "folder of something else": (f"{PROFILE} --out photos", "photos is not empty and holds no run"),
    "folder of another run": (f"{PROFILE} --out runs/lenet5", "runs/lenet5 holds another run (netpaths train)"),
    "no attack run": (
        f"calibrate {MODEL} --profile runs/profile --attacks photos --out OUT",
        "not the folder of an attack",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(fails: Fails, mistake: str) -> None:
    fails(*MISTAKES[mistake])


def test_weights_that_are_nan_truncated_or_foreign(fails: Fails, tmp_path: Path) -> None:
    state = load_file("runs/lenet5/model.safetensors")
    state["conv2.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(Path("runs/lenet5/model.safetensors").read_bytes()[:1000])
    for name, text in {"nan": "conv2.weight holds NaN or infinite values", "cut": "is truncated"}.items():
        fails(f"profile --model lenet5 --weights {tmp_path / name}.safetensors --data digits --out OUT", text)


def test_nan_weights_of_a_users_own_model(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(NAN)
    fails(f"profile --model {tmp_path}/own.py:net --data digits --out OUT", "'1.weight' holds NaN or infinite values")


NAN = """
from torch import nn

def net():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    net[1].weight.data[0, 0] = float("nan")
    return net
"""


def test_an_unsupported_operation_names_node_operation_and_what_is_supported(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(UNRULED)
    for command in ("profile", "train", "attack"):
        fails(
            f"{command} --model {tmp_path}/own.py:net --data digits --out OUT",
            "operations without a rule",
            "sort",
            "e.g. 2,",
            "own.py, line",
        )


def test_a_users_file_without_the_function(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(UNRULED)
    fails(f"profile --model {tmp_path}/own.py:nett --data digits --out OUT", "has no function 'nett'")
    fails(f"profile --model {tmp_path}/other.py:net --data digits --out OUT", "there is no file")


def test_nan_pixels_of_attacked_images(fails: Fails, tmp_path: Path) -> None:
    folder = tmp_path / "attacks"
    folder.mkdir()
    for file in Path("runs/attacks").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    clean = attacked.load(folder / "clean.safetensors")
    clean.images[3, 0, 5, 5] = float("inf")
    attacked.save(folder / "clean.safetensors", clean)
    command = f"calibrate {MODEL} --profile runs/profile --attacks {folder} --fpr 0.2 --out OUT"
    fails(command, "expected 0 to 1")


def test_labels_beyond_the_models_outputs(fails: Fails, tmp_path: Path) -> None:
    save_weights(load_model("lenet5", classes=5), tmp_path / "five.safetensors", {"classes": 5})
    command = f"profile --model lenet5 --weights {tmp_path}/five.safetensors --data digits --out OUT"
    fails(command, "labels go from 0 to 9, the model has 5 classes")


def test_a_truncated_or_flipped_profile(fails: Fails, tmp_path: Path) -> None:
    data, file = bytearray(Path("runs/profile/profile.safetensors").read_bytes()), tmp_path / "profile.safetensors"
    for length in (0, 4, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        fails(f"compare {file} --out OUT", "profile.safetensors is truncated")
    for place in np.random.default_rng(0).integers(0, len(data), 25):
        data[place] ^= 1 << int(place) % 8
        file.write_bytes(data)
        data[place] ^= 1 << int(place) % 8
        fails(f"compare {file} --out OUT", "profile.safetensors")


def test_a_class_without_a_correct_image_fails_after_the_profile_is_written(
    inside: Path, call: Call, tmp_path: Path
) -> None:
    command = f"profile --model lenet5 --seed 3 --data digits --limit 60 --out {tmp_path / 'run'}"
    outcome = call(command)
    assert outcome.code == 2
    assert outcome.err.startswith("netpaths: error: no correctly classified training image for class ")
    assert outcome.err.count("\n") == 1
    made = Profile.load(tmp_path / "run" / "profile.safetensors")
    assert 0 < len(made) < 10
    assert made.seen == 60
    missing = [label for label in range(10) if label not in made]
    assert ", ".join(map(str, missing[:8])) in outcome.err
    files = {"config.json", "profile.safetensors", "density.csv", "growth.csv"}
    assert {file.name for file in (tmp_path / "run").iterdir()} == files
    assert "the other classes are in" in outcome.err
    assert call(f"{command} --allow-empty --force").code == 0
    trace = call(f"check photo.png {WATCH.replace('--weights runs/lenet5', '--seed 3')}")
    assert trace.code == 2


def test_debug_shows_the_traceback_and_the_line(inside: Path, call: Call) -> None:
    outcome = call(f"trace broken.png {MODEL} --debug")
    assert outcome.code == 2
    assert "Traceback (most recent call last)" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("netpaths: error: broken.png is not a readable image")


def test_a_bug_is_one_line_with_another_exit_code(inside: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("netpaths.cli.subject.load_network", broken)
    outcome = call(f"trace photo.png {MODEL}")
    assert outcome.code == 3
    assert (
        outcome.err == "netpaths: internal error: ZeroDivisionError: division by zero (--debug shows the traceback)\n"
    )


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(inside: Path, tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: config.json fits, the profile does not."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    words = [sys.executable, "-m", "netpaths.cli", *PROFILE.split(), "--out", str(tmp_path / "out"), "--allow-empty"]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=small_files, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("netpaths: error: cannot write ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_pixels_that_are_nan_are_refused_by_the_graph() -> None:
    from netpaths import Graph
    from netpaths.errors import BadInput

    graph = Graph(load_model("lenet5"), torch.zeros(1, 1, 28, 28))
    for value in (float("nan"), float("inf")):
        images = torch.zeros(3, 1, 28, 28)
        images[2, 0, 1, 1] = value
        with pytest.raises(BadInput, match="image 2 of the batch holds NaN or infinite pixels"):
            graph.run(images)
