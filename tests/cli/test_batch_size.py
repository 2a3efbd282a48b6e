"""--batch-size auto: what fits in memory, and never another result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from netpaths import EffectivePath, Graph
from netpaths.cli import subject
from netpaths.cli.app import commands
from netpaths.errors import BadOption
from netpaths.files import stored_checksum
from netpaths.graph import Trace

from .conftest import Call

MODEL = "--model lenet5 --weights runs/lenet5"
ATTACKED = f"{MODEL} --profile runs/profile --attacks runs/attacks --fpr 0.2"
COMMANDS = {
    "profile": f"profile {MODEL} --data digits --limit 20 --allow-empty --out {{out}}",
    "calibrate": f"calibrate {ATTACKED} --out {{out}}",
    "evaluate": f"evaluate {ATTACKED} --seeds 1 --bootstrap 20 --out {{out}}",
    "check": f"check photos {MODEL} --profile runs/profile --detector runs/detector",
}


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all batches whose paths are extracted, where 3 images fit in memory."""
    sizes: list[int] = []
    forward = EffectivePath.forward

    def counting(self: EffectivePath, graph: Graph, x: torch.Tensor) -> Trace:
        sizes.append(len(x))
        return forward(self, graph, x)

    monkeypatch.setattr(EffectivePath, "forward", counting)
    monkeypatch.setattr(subject, "fitting_batch", lambda graph: 3)
    return sizes


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("option", "largest"), [("", 3), ("--batch-size auto", 3), ("--batch-size 5", 5)])
def test_batches_have_the_size_that_fits_or_was_given(
    inside: Path, call: Call, batches: list[int], tmp_path: Path, name: str, option: str, largest: int
) -> None:
    outcome = call(f"{COMMANDS[name]} {option}".format(out=tmp_path / "run"))
    assert outcome.code == 0, outcome.err
    assert max(batches) == largest


@pytest.mark.parametrize("name", [name for name in COMMANDS if "--out" in COMMANDS[name]])
def test_a_run_goes_on_with_another_batch_size(inside: Path, call: Call, tmp_path: Path, name: str) -> None:
    for option in ("--batch-size 2", "--batch-size 7", ""):
        outcome = call(f"{COMMANDS[name]} {option}".format(out=tmp_path / "run"))
        assert outcome.code == 0, outcome.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "batch_size" not in config["options"]


def test_the_chosen_size_is_told(inside: Path, call: Call, batches: list[int], tmp_path: Path) -> None:
    outcome = call(f"{COMMANDS['profile']} --json -".format(out=tmp_path / "run"))
    assert json.loads(outcome.out)["batch size"] == 3


def test_auto_makes_the_same_profile(inside: Path, call: Call, batches: list[int], tmp_path: Path) -> None:
    for option in ("auto", "20"):
        call(f"{COMMANDS['profile']} --batch-size {option}".format(out=tmp_path / option))
    first, second = (stored_checksum(tmp_path / option / "profile.safetensors") for option in ("auto", "20"))
    assert first == second


@pytest.mark.parametrize(("option", "expected"), [("", (64, 3)), ("--batch-size 25", (25, 25))])
def test_a_study_attacks_in_batches_of_their_own(
    inside: Path,
    call: Call,
    batches: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    expected: tuple[int, int],
) -> None:
    seen: list[tuple[int, int]] = []

    def stop(subject: Any, plan: Any, *rest: object) -> None:
        seen.append((plan.batch_size, plan.path_batch))
        raise BadOption("that is enough")

    monkeypatch.setattr("netpaths.studies.effective_path.run", stop)
    assert call(f"study effective-path {MODEL} --data digits {option} --out {tmp_path / 'run'}").code == 2
    assert seen == [expected]


@pytest.mark.parametrize("name", ["train", "attack"])
def test_where_the_result_depends_on_it_it_belongs_to_the_run(
    inside: Path, call: Call, tmp_path: Path, name: str
) -> None:
    started = f"{name} --model lenet5 --data digits --limit 20 --out {tmp_path / 'run'} --batch-size"
    assert call(f"{started} 10 {'--epochs 1' if name == 'train' else '--attack blur'}").code == 0
    outcome = call(f"{started} 5 {'--epochs 1' if name == 'train' else '--attack blur'}")
    assert outcome.code == 2
    assert "holds another run (batch size was 10, now 5)" in outcome.err


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_takes_a_number_of_threads(name: str) -> None:
    assert any("--threads" in parameter.opts for parameter in commands()[name].params)
