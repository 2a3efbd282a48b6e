"""A run is a folder: what was asked for, with which versions and model, and every file it wrote."""

from __future__ import annotations

import platform
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

from netpaths.errors import BadFile, BadOption
from netpaths.files import plain, read_json, write_json

CONFIG = "config.json"
PACKAGES = ("netpaths", "torch", "numpy")
PLAIN_SECONDS = 30.0
"""Seconds between two plain lines of progress where there is no terminal."""

Report = Callable[[int, int, str], None]
"""Takes what is done, the total, and a message."""


@dataclass(frozen=True)
class Run:
    """An open run folder. config: what config.json holds; files: names of the files that the run may write.

    As a context it takes config.json away again where the work inside left nothing beside it.
    """

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def path(self, name: str) -> Path:
        """Where the file ``name`` of this run goes; raises KeyError for a name it did not announce."""
        if name not in self.files:
            raise KeyError(f"{name} is not among the files of this run: {', '.join(self.files)}")
        return self.folder / name

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *failure: object) -> None:
        if any(entry.name != CONFIG and not entry.name.startswith(".") for entry in self.folder.iterdir()):
            return
        (self.folder / CONFIG).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def open_run(
    folder: Path | str,
    command: str,
    options: Mapping[str, Any],
    files: Sequence[str],
    inputs: Mapping[str, Any] | None = None,
    force: bool = False,
    arguments: Sequence[str] = (),
) -> Run:
    """Make ``folder`` a run of ``command``, or go on with the same run in it, and write its config.json.

    options: everything resolved, with the seed. files: names of the files and folders that the run writes. inputs:
    fingerprints and digests of model and data. force: remove another run's files first. arguments: the command line
    as typed.
    Raises BadOption when the folder holds another run or files that are no run's, and StorageFull.
    """
    folder = Path(folder)
    config = {
        "command": command,
        "options": plain(options),
        "inputs": plain(inputs or {}),
        "files": [CONFIG, *files],
        "versions": versions(),
        "command_line": shlex.join(["netpaths", *arguments]),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    _check_folder(folder, config, force)
    write_json(folder / CONFIG, config)
    return Run(folder, config, tuple(files))


def versions() -> dict[str, str]:
    """The versions of Python, netpaths, torch and numpy; "missing" for a package that is not installed."""
    return {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}}


def file_of(place: Path | str, name: str) -> Path:
    """``place`` itself, or the file ``name`` in it where ``place`` is a run folder; raises BadFile for neither."""
    place = Path(place)
    if place.is_dir():
        if not (place / name).is_file():
            raise BadFile(f"there is no {name} in {place}; give the file, or a run folder that holds it")
        return place / name
    if not place.is_file():
        raise BadFile(f"there is no file or run folder {place}")
    return place


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _check_folder(folder: Path, config: Mapping[str, Any], force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadOption(f"{folder} is a file; a run needs a folder")
    if not folder.is_dir():
        return
    if not (folder / CONFIG).is_file():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise BadOption(f"{folder} is not empty and holds no run; choose a new folder")
        return
    found = read_json(folder / CONFIG)
    if not isinstance(found, dict) or "command" not in found:
        raise BadOption(f"{folder / CONFIG} was not written by netpaths; choose a new folder")
    other = _difference(found, config)
    if other and not force:
        raise BadOption(f"{folder} holds another run ({other}); choose a new folder, or replace it with --force")
    if other:
        _remove(folder, found)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What tells two runs apart, in words; empty when they are the same."""
    if found["command"] != wanted["command"]:
        return f"netpaths {found['command']}"
    for part in ("options", "inputs"):
        old, new = found.get(part, {}), wanted[part]
        for name in [*new, *(name for name in old if name not in new)]:
            if old.get(name) != new.get(name):
                return f"{name.replace('_', ' ')} was {_short(old.get(name))}, now {_short(new.get(name))}"
    return ""


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _remove(folder: Path, config: Mapping[str, Any]) -> None:
    for name in config.get("files", ()):
        if Path(name).name != name:
            continue
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


class Interrupted(KeyboardInterrupt):
    """The user stopped the run; the message says what was kept and how to go on. number: the signal's."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


@contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """Turn the first Ctrl-C or SIGTERM into a request: yields a function that tells its number, 0 before it came.

    Work can then stop where its state is whole. The second signal interrupts at once.
    """
    asked: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {each: signal.signal(each, remember) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def progress(title: str, quiet: bool = False, unit: str = "images", start: int = 0) -> Iterator[Report]:
    """Show how far work is on stderr: a bar with its speed and time left, plain lines without a terminal.

    Yields a function to call with (done, total, message). quiet: show nothing. start: what was done before.
    """
    if quiet:
        yield lambda done, total, message: None
    elif not sys.stderr.isatty():
        yield _PlainLines(title, unit, start)
    else:
        with _bar(title, unit, start) as report:
            yield report


class _PlainLines:
    """A line at most every `PLAIN_SECONDS` seconds."""

    def __init__(self, title: str, unit: str, start: int) -> None:
        self.title, self.unit, self.start = title, unit, start
        self.started = self.last = time.monotonic()

    def __call__(self, done: int, total: int, message: str) -> None:
        now = time.monotonic()
        if now - self.last < PLAIN_SECONDS:
            return
        self.last = now
        speed = (done - self.start) / (now - self.started)
        left = f", {(total - done) / speed:.0f} s left" if speed > 0 else ""
        text = f"{self.title}: {done} of {total} {self.unit}, {speed:.3g} a second{left}"
        print(f"{text}, {message}" if message else text, file=sys.stderr, flush=True)


@contextmanager
def _bar(title: str, unit: str, start: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}"),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, speed="", message="")

        def report(done: int, total: int, message: str) -> None:
            speed = (done - start) / max(time.monotonic() - started, 1e-9)
            shown = f"{speed:.3g} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total, message=message, speed=shown)

        yield report
