"""netpaths decouple on the command line: what it leaves, that it resumes, that every command reads it, and mistakes."""

from __future__ import annotations

import csv
import json
import signal
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from netpaths import Graph, Profile, load_data, load_decoupled
from netpaths.cli import decouple
from netpaths.decoupling.loss import Objective
from netpaths.decoupling.training import Recipe, evaluate

from .conftest import Call, stopped

DATA = "--data digits --limit 160"
MODEL = "--model lenet5 --weights runs/lenet5"
COMMAND = f"decouple {MODEL} {DATA} --layers conv1,conv2 --epochs 3 --batch-size 16 --lr 0.02 --pace 3"


@pytest.fixture(scope="session")
def run(world: Path) -> Path:
    """A finished run."""
    from netpaths import cli

    folder = world / "runs" / "decoupled-here"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        assert cli.run([*COMMAND.split(), "--out", str(folder), "--quiet"]) == 0
    return folder


def test_its_normalisation_is_part_of_it(run: Path, call: Call, tmp_path: Path) -> None:
    command = f"profile --model lenet5 --weights {run} --normalize none {DATA} --method decoupling --out {tmp_path}/p"
    outcome = call(command)
    assert outcome.code == 2
    assert "holds a decoupled network with its normalisation; leave --normalize out" in outcome.err.replace("\n", " ")
    assert not (tmp_path / "p").exists()


def test_what_a_run_leaves(run: Path) -> None:
    assert {file.name for file in run.iterdir()} == {
        "config.json",
        "model.safetensors",
        "history.csv",
        "checkpoint.safetensors",
    }
    with open(run / "history.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    network = load_decoupled(run)
    found = evaluate(network, load_data("digits", "test", limit=160))
    for name, value in found.items():
        assert float(rows[-1][name]) == pytest.approx(value), name


def test_defaults_are_the_recipes(world: Path) -> None:
    names = {"epochs": "EPOCHS", "batch_size": "BATCH", "lr": "LR", "pace": "PACE", "hold": "HOLD"}
    names |= {"momentum": "MOMENTUM", "weight_decay": "DECAY", "ramp": "RAMP", "settle": "SETTLE"}
    recipe, objective = Recipe(), Objective()
    assert {field.name for field in fields(Recipe)} == {
        *(*names, "milestones", "objective", "shift", "flip", "cutmix", "seed")
    }
    assert all(getattr(decouple, constant) == getattr(recipe, name) for name, constant in names.items())
    names = {name: name.upper() for name in ("information", "alignment", "sparsity", "kept")}
    assert all(getattr(decouple, constant) == getattr(objective, name) for name, constant in names.items())
    assert recipe.milestones == ()


def test_every_command_reads_it(run: Path, inside: Path, call: Call, tmp_path: Path) -> None:
    model = f"--model lenet5 --weights {run}"
    made = call(f"profile {model} {DATA} --method decoupling --allow-empty --out {tmp_path / 'profile'}")
    assert made.code == 0, made.err
    profile = Profile.load(tmp_path / "profile" / "profile.safetensors")
    network = load_decoupled(run)
    assert profile.fingerprint == Graph(network, torch.zeros(1, 1, 28, 28)).fingerprint
    assert profile.method == {"name": "decoupling"}
    traced = call(f"trace photo.png {model} --profile {tmp_path / 'profile'} --out {tmp_path / 'trace'}")
    assert traced.code == 0, traced.err
    assert "small network looks at the convolution" in (tmp_path / "trace" / "trace.html").read_text()
    compared = call(f"compare {tmp_path / 'profile'}")
    assert compared.code == 0, compared.err
    effective = call(f"trace photo.png {model}")
    assert effective.code == 0, effective.err


def test_a_run_repeats(run: Path, inside: Path, call: Call, tmp_path: Path) -> None:
    assert call(f"{COMMAND} --out {tmp_path / 'again'}").code == 0
    first, second = (load_file(folder / "model.safetensors") for folder in (run, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_json(run: Path, inside: Path, call: Call) -> None:
    """The finished run, asked for again: nothing is trained, the same is said."""
    outcome = call(f"{COMMAND} --out {run} --json -")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert found["layers"] == ["conv1", "conv2"]
    assert len(found["history"]) == 3
    assert found["before"]["kept"] == 1


def test_a_run_stopped_twice_resumes_to_the_same_result(inside: Path, call: Call, tmp_path: Path) -> None:
    command = f"{COMMAND} --epochs 12"
    folder = tmp_path / "stopped"
    checkpoint = folder / "checkpoint.safetensors"
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        words = [sys.executable, "-m", "netpaths.cli", *command.split(), "--out", str(folder)]
        errors = stopped(words, checkpoint, number, code)
        assert errors.splitlines()[-1] == (
            f"netpaths: interrupted: the epochs done are kept in {checkpoint}; the same command goes on from there"
        )
        assert {file.name for file in folder.iterdir()} == {"config.json", "checkpoint.safetensors"}
    assert call(f"{command} --out {folder}").code == 0
    assert call(f"{command} --out {tmp_path / 'whole'}").code == 0
    first, second = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "whole"))
    assert all(torch.equal(first[name], second[name]) for name in first)


MISTAKES = {
    "milestones that are words": (
        f"{MODEL} {DATA} --milestones 0.5,late",
        "--milestones is '0.5,late', expected shares",
    ),
    "another model": ("--model lenet300-100 --weights RUN --data digits", "holds a decoupled lenet5, not lenet300-100"),
    "decoupled already": ("--model lenet5 --weights RUN --data digits", "the model has controllers already"),
    "no such layer": (f"{MODEL} --data digits --layers conv9", "there is no node 'conv9'; nearest: conv"),
    "no convolution": (f"{MODEL} --data digits --layers fc1", "layers to decouple are convolutions; fc1 is none"),
    "share": (f"{MODEL} --data digits --kept 2", "kept is 2.0, expected a share in [0, 1]"),
    "rate": (f"{MODEL} --data digits --lr -1", "lr is -1.0, which is out of range"),
    "nothing to decouple": ("--model lenet300-100 --data digits", "the network has no convolution to decouple"),
    "diverges": (f"{MODEL} {DATA} --epochs 1 --lr 1e12", "training diverged"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, run: Path, inside: Path, call: Call, tmp_path: Path) -> None:
    options, message = MISTAKES[name]
    outcome = call(f"decouple {options.replace('RUN', str(run))} --out {tmp_path / 'out'}")
    assert outcome.code == 2
    assert outcome.err.startswith("netpaths: error: ")
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_plain_networks_have_no_calculation_paths(inside: Path, call: Call, tmp_path: Path) -> None:
    outcome = call(f"profile {MODEL} {DATA} --method decoupling --out {tmp_path / 'out'}")
    assert outcome.code == 2
    assert "the network has no controllers; make a decoupled one with netpaths decouple" in outcome.err
