"""The notice that kernels are compiled: while it takes long on a terminal, afterwards elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core import event

from netpaths.cli import first_use
from netpaths.errors import StorageFull
from netpaths.kernels import warm_up

from .conftest import Call

Fake = Callable[..., None]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Makes the warm-up a fake one that compiles so many kernels in 7.1 seconds."""

    def fake(compiled: int, cached: bool = True) -> None:
        done: list[int] = []

        def run() -> float:
            for _ in range(compiled):
                with event.trigger_event("numba:compile"):
                    done.append(1)
            return 7.1

        monkeypatch.setattr(warm_up, "warm_up", run)
        monkeypatch.setattr(warm_up, "compilations", lambda: len(done))
        monkeypatch.setattr(warm_up, "is_cached", lambda: cached)

    return fake


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the stderr of this moment a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")


def test_what_was_compiled_is_one_line(kernels: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    kernels(6)
    first_use.ready_kernels("cpu")
    assert capsys.readouterr() == ("", "compiled kernels in 7.1 s; later runs load them\n")


def test_where_nothing_can_be_kept_the_line_says_so(kernels: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    kernels(6, cached=False)
    first_use.ready_kernels("cpu")
    shown = capsys.readouterr().err
    assert shown == f"compiled kernels in 7.1 s; {first_use.UNCACHED}\n"
    assert "NUMBA_CACHE_DIR" in shown


@pytest.mark.parametrize(("compiled", "quiet"), [(0, False), (6, True)])
def test_nothing_is_said_where_nothing_was_compiled_or_quiet_is_asked_for(
    kernels: Fake, capsys: pytest.CaptureFixture[str], compiled: int, quiet: bool
) -> None:
    kernels(compiled)
    first_use.ready_kernels("cpu", quiet)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_notice_that_goes_away(
    kernels: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    kernels(6)
    first_use.ready_kernels("cpu")
    shown = capsys.readouterr().err
    assert first_use.COMPILING in shown
    assert "compiled kernels" not in shown
    assert "\x1b[2K" in shown.rpartition(first_use.COMPILING)[2]


@pytest.mark.parametrize(("compiled", "quiet"), [(0, False), (6, True)])
def test_a_terminal_shows_nothing_either(
    kernels: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, compiled: int, quiet: bool
) -> None:
    on_a_terminal(monkeypatch)
    kernels(compiled)
    first_use.ready_kernels("cpu", quiet)
    assert capsys.readouterr().err == ""


def test_a_gpu_needs_no_cpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "warm_up", lambda: pytest.fail("the CPU kernels were made ready"))
    first_use.ready_kernels("cuda")


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(warm_up, "warm_up", full)
    with pytest.raises(StorageFull, match="cannot keep compiled kernels: No space left on device; name another"):
        first_use.ready_kernels("cpu")


@pytest.mark.parametrize(
    "command",
    [
        "profile {model} --data digits --limit 20 --allow-empty --out {out}",
        "trace photo.png {model}",
        "check photo.png {model} --profile runs/profile --detector runs/detector",
        "evaluate {model} --profile runs/profile --attacks runs/attacks --fpr 0.2 --seeds 1 --bootstrap 20",
        "calibrate {model} --profile runs/profile --attacks runs/attacks --fpr 0.2 --out {out}",
    ],
)
def test_commands_that_extract_paths_make_kernels_ready(
    inside: Path, call: Call, kernels: Fake, tmp_path: Path, command: str
) -> None:
    kernels(1)
    command = command.format(model="--model lenet5 --weights runs/lenet5", out=tmp_path / "out")
    assert call(command).err == "compiled kernels in 7.1 s; later runs load them\n"
    kernels(1)
    assert call(f"{command} --quiet {'--force' if '--out' in command else ''}").err == ""


@pytest.mark.parametrize(
    "command", ["compare runs/profile", "evaluate --features runs/detector --fpr 0.2 --seeds 1 --bootstrap 20"]
)
def test_other_commands_do_not(inside: Path, call: Call, kernels: Fake, command: str) -> None:
    kernels(1)
    assert call(command).err == ""


def test_a_command_runs_where_numbas_own_folder_may_not_be_written(inside: Path) -> None:
    words = [sys.executable, "-m", "netpaths.cli", "trace", "photo.png", "--model", "lenet5"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": os.path.join(os.devnull, "below")}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "predicted class" in done.stdout


def test_help_does_not_import_the_compiler() -> None:
    code = "import sys; from netpaths.cli import run; run(['profile', '--help']); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
