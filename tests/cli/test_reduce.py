"""netpaths reduce: the network it writes, the tables it prints, and every mistake in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from netpaths import Graph, Profile, cli, decouple, load_data, load_decoupled, load_model, save_decoupled
from netpaths.cli import reduce
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.removal import kept_filters
from netpaths.path import union
from netpaths.training import accuracy, train
from netpaths.zoo import save_weights

from .conftest import Call, Outcome

MODEL = "--model lenet5 --weights decoupled"
PROFILE = f"profile {MODEL} --data digits --limit 150 --allow-empty --quiet"
REDUCE = f"reduce {MODEL} --profile profile"
FULL = 16
"""Filters of LeNet-5's second convolution, the only one with a controller."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a LeNet-5, the same with controllers, its codes and its effective paths, and another network."""
    place = tmp_path_factory.mktemp("reduce")
    torch.manual_seed(0)
    model = load_model("lenet5")
    train(model, load_data("digits", limit=600), epochs=3)
    network = decouple(model, torch.zeros(1, 1, 28, 28))
    for layer in network.layers:
        own = network.controller(layer)
        nn.init.normal_(own.squeeze.weight, std=3)
        nn.init.normal_(own.excite.bias, -0.5)
    save_weights(model, place / "plain.safetensors", {"classes": 10})
    save_decoupled(network, place / "decoupled" / "model.safetensors", "lenet5", (1, 28, 28), 10)
    save_decoupled(decouple(model, torch.zeros(1, 1, 28, 28)), place / "other.safetensors", "lenet5", (1, 28, 28), 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert cli.run(f"{PROFILE} --method decoupling --out profile".split()) == 0
        assert cli.run(f"{PROFILE} --kind neuron --limit 20 --out paths".split()) == 0
    return place


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the current one."""
    monkeypatch.chdir(folder)
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with open(file) as stream:
        return list(csv.DictReader(stream))


def test_the_network_that_is_written_keeps_the_classes_filters(inside: Path, call: Call, tmp_path: Path) -> None:
    outcome = call(f"{REDUCE} --data digits --classes 5,3 --out {tmp_path}/run --json {tmp_path}/found.json")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    profile = Profile.load("profile/profile.safetensors")
    kept = union([profile[3], profile[5]])["conv2", "channel"].members().tolist()
    assert 0 < len(kept) < FULL
    before, after = load_decoupled("decoupled"), load_decoupled(tmp_path / "run")
    assert kept_filters(after) == {"conv2": kept}
    test = load_data("digits", "test")
    test = test.take([place for place, label in enumerate(test.labels) if label in (3, 5)])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["classes"] == [3, 5]
    assert found["filters"] == {"before": FULL, "after": len(kept)}
    assert found["accuracy"] == {"before": accuracy(before, test), "after": accuracy(after, test)}
    assert found["parameters"] == {
        name: sum(each.numel() for each in network.parameters())
        for name, network in (("before", before), ("after", after))
    }
    gone = FULL - len(kept)
    macs = 10 * 10 * 25 * 6 + 25 * 120 + 1  # a filter, its 5 × 5 places in the first linear layer, its row
    assert found["macs"]["before"] - found["macs"]["after"] == gone * macs
    graph = Graph(before, torch.zeros(1, 1, 28, 28))
    assert found["macs"]["before"] == Cost(graph).dense + Cost(graph).controllers
    assert found["layers"] == [{"layer": "conv2", "filters": FULL, "kept": len(kept), "share": len(kept) / FULL}]


def test_what_is_printed_and_written_beside_the_network(inside: Path, call: Call, tmp_path: Path) -> None:
    outcome = call(f"{REDUCE} --classes 1 --out {tmp_path}/run")
    assert outcome.code == 0, outcome.err
    assert "MACs of an image, everything on" in outcome.out
    assert "accuracy" not in outcome.out
    assert f"wrote {tmp_path}/run/model.safetensors" in outcome.out.replace("\n", "")
    quantities = rows(tmp_path / "run" / "reduction.csv")
    assert [row["quantity"] for row in quantities] == ["filters", "parameters", "macs"]
    (layer,) = rows(tmp_path / "run" / "layers.csv")
    assert (layer["layer"], layer["filters"], layer["kept"]) == ("conv2", "16", quantities[0]["after"])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["options"]["classes"] == "1"


def test_other_commands_read_the_result_and_reduce_it_again(inside: Path, call: Call, tmp_path: Path) -> None:
    assert call(f"{REDUCE} --classes 0,1,2 --out {tmp_path}/run").code == 0
    small = f"--model lenet5 --weights {tmp_path}/run"
    outcome = call(f"profile {small} --data digits --limit 80 --method decoupling --allow-empty --out {tmp_path}/again")
    assert outcome.code == 0, outcome.err
    made = Profile.load(tmp_path / "again" / "profile.safetensors")
    (width,) = made[0]["conv2", "channel"].shape
    assert width == len(kept_filters(load_decoupled(tmp_path / "run"))["conv2"])
    outcome = call(f"reduce {small} --profile {tmp_path}/again --classes 1 --out {tmp_path}/less --json -")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["filters"]["before"] == width
    first, second = (kept_filters(load_decoupled(tmp_path / name))["conv2"] for name in ("run", "less"))
    assert set(second) <= set(first)


def test_classes_by_name(inside: Path) -> None:
    profile = Profile.load("profile/profile.safetensors")
    names = ["zero", "one", "two", "3"]
    assert reduce.chosen_classes("two, zero,1,1", profile, names) == [0, 1, 2]
    assert reduce.chosen_classes("3", profile, ["3", "2", "1"]) == [3]  # a number is one, whatever classes are called


@pytest.fixture
def fails(inside: Path, call: Call, tmp_path: Path) -> Callable[..., Outcome]:
    """Run a command that must fail, with one line that holds ``expected``."""

    def run(command: str, *expected: str) -> Outcome:
        outcome = call(f"{command} --out {tmp_path}/out")
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("netpaths: error: ")
        assert outcome.err.count("\n") == 1, outcome.err
        assert all(text in outcome.err for text in expected), outcome.err
        assert not (tmp_path / "out").exists()
        return outcome

    return run


MISTAKES = {
    "plain weights": (
        "reduce --model lenet5 --weights plain.safetensors --profile profile --classes 1",
        "plain.safetensors holds no decoupled network; make one with netpaths decouple",
    ),
    "no weights": ("reduce --model lenet5 --profile profile --classes 1", "missing option '--weights'"),
    "no such weights": ("reduce --model lenet5 --weights none --profile profile --classes 1", "none"),
    "another model": (
        "reduce --model vgg11 --weights decoupled --profile profile --classes 1",
        "holds a decoupled lenet5, not vgg11; use --model lenet5",
    ),
    "profile of another network": (
        "reduce --model lenet5 --weights other.safetensors --profile profile --classes 1",
        "the profile was made for model",
    ),
    "profile of another method": (
        f"reduce {MODEL} --profile paths --classes 1",
        "holds effective paths; make one with netpaths profile --method decoupling",
    ),
    "no profile": (f"reduce {MODEL} --profile none --classes 1", "there is no file or run folder none"),
    "class without a path": (f"{REDUCE} --classes 1,12", "class 12 has no", "it covers"),
    "name without data": (f"{REDUCE} --classes cat", "--classes names 'cat'; without --data classes are numbers"),
    "unknown name": (f"{REDUCE} --data digits --classes five", "the data has no class 'five'; nearest: "),
    "no class": (f"{REDUCE} --classes ,", "--classes is ',', expected at least one class"),
    "images of another shape": (
        f"{REDUCE} --data digits --size 32 --classes 1",
        "images have shape (1, 32, 32), the network was decoupled for (1, 28, 28)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(fails: Callable[..., Outcome], mistake: str) -> None:
    fails(*MISTAKES[mistake])


def test_help_has_every_option_and_the_examples(call: Call) -> None:
    outcome = call("reduce --help")
    assert outcome.code == 0
    assert all(example in outcome.out for example in reduce.EXAMPLES)
    assert "reduce" in call("--help").out
