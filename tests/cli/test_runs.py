"""Run folders and progress."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from netpaths import runs
from netpaths.cli.stages import Stages
from netpaths.errors import BadFile, BadOption

OPTIONS = {"theta": 0.5, "kinds": ["weight"], "data": Path("digits")}


def test_a_run_says_what_made_it(tmp_path: Path) -> None:
    arguments = ("profile", "--data", "my digits")
    with runs.open_run(tmp_path / "run", "profile", OPTIONS, ("a.csv",), {"model": "f00"}, arguments=arguments) as run:
        run.path("a.csv").write_text("a")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"] == {"theta": 0.5, "kinds": ["weight"], "data": "digits"}
    assert config["inputs"] == {"model": "f00"}
    assert config["command_line"] == "netpaths profile --data 'my digits'"
    assert config["started"].endswith("+00:00")


def test_a_run_that_fails_before_its_first_file_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), runs.open_run(tmp_path / "run", "profile", OPTIONS, ("a.csv",)):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()


def test_a_run_writes_only_files_it_announced(tmp_path: Path) -> None:
    with (
        runs.open_run(tmp_path / "run", "profile", OPTIONS, ("a.csv",)) as run,
        pytest.raises(KeyError, match=r"b\.csv"),
    ):
        run.path("b.csv")


@pytest.mark.parametrize(
    ("command", "options", "inputs", "difference"),
    [
        ("train", OPTIONS, {"model": "f00"}, "netpaths profile"),
        ("profile", {**OPTIONS, "theta": 0.9}, {"model": "f00"}, "theta was 0.5, now 0.9"),
        (
            "profile",
            {**OPTIONS, "kinds": ["weight", "neuron"]},
            {"model": "f00"},
            "kinds was weight, now weight, neuron",
        ),
        ("profile", OPTIONS, {"model": "a" * 64}, "model was f00, now aaaaaaaaaaaa…"),
        ("profile", {"theta": 0.5, "kinds": ["weight"]}, {"model": "f00"}, "data was digits, now None"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(
    tmp_path: Path, command: str, options: dict[str, object], inputs: dict[str, object], difference: str
) -> None:
    with runs.open_run(tmp_path, "profile", OPTIONS, ("a.csv",), {"model": "f00"}) as run:
        run.path("a.csv").write_text("old")
    with pytest.raises(BadOption) as error:
        runs.open_run(tmp_path, command, options, ("b.csv",), inputs)
    assert f"holds another run ({difference}); choose a new folder, or replace it with --force" in str(error.value)
    assert run.path("a.csv").read_text() == "old"
    runs.open_run(tmp_path, command, options, ("b.csv",), inputs, force=True)
    assert not run.path("a.csv").exists()


def test_forcing_removes_no_file_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    config = {"command": "train", "options": {}, "inputs": {}, "files": ["../precious.txt", "config.json"]}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    runs.open_run(tmp_path / "run", "profile", OPTIONS, ("a.csv",), force=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_folder_stands_for_the_file_it_holds(tmp_path: Path) -> None:
    (tmp_path / "profile.safetensors").write_text("")
    assert runs.file_of(tmp_path, "profile.safetensors") == tmp_path / "profile.safetensors"
    assert runs.file_of(tmp_path / "profile.safetensors", "other") == tmp_path / "profile.safetensors"
    with pytest.raises(BadFile, match=r"there is no detector\.safetensors in"):
        runs.file_of(tmp_path, "detector.safetensors")
    with pytest.raises(BadFile, match="there is no file or run folder"):
        runs.file_of(tmp_path / "none", "detector.safetensors")


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(runs.time, "monotonic", lambda: next(clock))
    with runs.progress("profile", start=100) as report:
        for done in (120, 180, 200):
            report(done, 260, "")
    assert capsys.readouterr().err == "profile: 180 of 260 images, 2 a second, 40 s left\n"


def test_quiet_progress_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PLAIN_SECONDS", -1.0)
    with runs.progress("profile", quiet=True) as report:
        report(1, 2, "")
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with runs.progress("profile") as report:
        report(50, 100, "halfway")
    shown = capsys.readouterr().err
    assert "50/100" in shown
    assert "images/s" in shown
    assert "halfway" in shown


def test_stages_say_what_they_count(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(runs.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(runs, "PLAIN_SECONDS", 0.5)
    with Stages(quiet=False) as stages:
        for done in (20, 30, 50):
            stages("class paths", done, 50)
        stages("detectors", 3, 3, "splits")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "class paths: 30 of 50 images, 5 a second, 4 s left"
    assert lines[-1].startswith("detectors: 3 splits in ")
    assert any(line.startswith("class paths: 50 images in ") for line in lines)
