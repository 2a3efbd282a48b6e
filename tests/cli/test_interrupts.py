"""A stopped profile goes on where it was: nothing lost, nothing done twice, the same result."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from netpaths import EffectivePath, Graph, Profile, attacks
from netpaths.files import stored_checksum

from .conftest import Call, stopped

LIMIT = 150
MODEL = "--model lenet5 --weights runs/lenet5"
COMMAND = f"profile {MODEL} --data digits --limit {LIMIT} --batch-size 2 --allow-empty --counts"
EAGER = "import netpaths.cli.profile as profile; profile.CHECKPOINT_SECONDS = 0; from netpaths.cli import main; main()"


def test_a_profile_stopped_twice_resumes_to_the_same_result(
    inside: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    partial = run / "profile.partial.safetensors"
    seen = 0
    for number, code, then in ((signal.SIGINT, 130, ""), (signal.SIGTERM, 143, "--batch-size 7")):
        words = [sys.executable, "-c", EAGER, *f"{COMMAND} {then} --out {run}".split()]
        errors = stopped(words, partial, number, code)
        kept = Profile.load(partial).seen
        assert seen < kept < LIMIT
        seen = kept
        said = f"{kept} of {LIMIT} images are kept in {partial}; the same command goes on from there"
        assert errors == f"netpaths: interrupted: {said}\n"
        assert {file.name for file in run.iterdir()} == {"config.json", partial.name}
    extracted = _count_extracted(monkeypatch)
    assert call(f"{COMMAND} --batch-size auto --out {run}").code == 0
    again = sum(extracted)
    assert call(f"{COMMAND} --out {tmp_path / 'whole'}").code == 0
    _assert_same(run, tmp_path / "whole")
    assert again < sum(extracted) - again
    assert json.loads((run / "config.json").read_text())["inputs"]
    assert not partial.exists()


def _count_extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of extract gets."""
    counts: list[int] = []
    extract = EffectivePath.extract

    def counting(self: EffectivePath, graph: Graph, x: torch.Tensor) -> list:  # type: ignore[type-arg]
        counts.append(len(x))
        return extract(self, graph, x)

    monkeypatch.setattr(EffectivePath, "extract", counting)
    return counts


def _assert_same(first: Path, second: Path) -> None:
    made, whole = (Profile.load(folder / "profile.safetensors") for folder in (first, second))
    assert made.equals(whole)
    assert made.seen == whole.seen == LIMIT
    assert stored_checksum(first / "profile.safetensors") == stored_checksum(second / "profile.safetensors")
    for name in ("density.csv", "growth.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_interrupted_attack_keeps_the_finished_ones(
    inside: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = attacks.attack, []

    def stop_at_blur(name: str, *arguments: Any, **options: Any) -> Any:
        tried.append(name)
        if name == "blur" and tried.count("blur") == 1:
            raise KeyboardInterrupt
        return real(name, *arguments, **options)

    monkeypatch.setattr(attacks, "attack", stop_at_blur)
    command = f"attack {MODEL} --data digits --limit 20 --attack noise --attack blur --out {tmp_path / 'run'}"
    outcome = call(command)
    assert outcome.code == 130
    assert outcome.err == (
        f"netpaths: interrupted: noise kept in {tmp_path / 'run'}; the same command goes on from there\n"
    )
    assert call(command).code == 0
    assert tried == ["noise", "blur", "blur"]


def test_an_interrupt_elsewhere_is_one_line(inside: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("netpaths.cli.subject.load_network", stop)
    outcome = call("trace photo.png --model lenet5")
    assert outcome.code == 130
    assert outcome.err.startswith("netpaths: interrupted: nothing half-written is left")
    assert outcome.err.count("\n") == 1
