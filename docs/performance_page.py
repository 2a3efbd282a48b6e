"""Fill the tables of performance.md from runs of netpaths bench: ``python docs/performance_page.py RUN_FOLDER…``.

The page holds marks ``<!-- table: RUN/NAME -->`` … ``<!-- end -->``; RUN is a run folder's name, NAME a table of
`netpaths.benchmark.TABLES` or ``machine``. What stands between them is replaced by the table and the command that
made it; marks of runs that are not given stay as they are. Where there is no page yet, one with every table is begun.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from generate import table
from results_page import shortened

from netpaths.benchmark import TABLES, table_rows

DOCS = Path(__file__).resolve().parent
MARKS = re.compile(r"(<!-- table: (?P<run>[^/\n]+)/(?P<name>[^\n]+?) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
Runs = Mapping[str, Mapping[str, Any]]


def with_tables(page: str, runs: Runs, write: Callable[[str, Mapping[str, Any]], str] | None = None) -> str:
    """``page`` with the tables of ``runs`` (name → what its JSON holds) between their marks.

    write: from a table's name and a run to its text, by default `section`.
    """

    def filled(found: re.Match[str]) -> str:
        run = runs.get(found["run"])
        text = found["text"] if run is None else f"\n{(write or section)(found['name'], run)}\n\n"
        return f"{found[1]}{text}<!-- end -->"

    return MARKS.sub(filled, page)


def section(name: str, run: Mapping[str, Any]) -> str:
    """The command that made a table, and the table; exits with a message for a table that the run does not have."""
    rows = _machine(run) if name == "machine" else table_rows(name, run) if name in TABLES else []
    if not rows:
        raise SystemExit(f"there is no table {name!r} in the run of `{command(run['command'])}`")
    header = list(rows[0])
    right = [place for place, column in enumerate(header) if not any(isinstance(row[column], str) for row in rows)]
    cells = [[_cell(column, row[column]) for column in header] for row in rows]
    return f"Made by `{command(run['command'])}`.\n\n{table(header, cells, right)}"


def _machine(run: Mapping[str, Any]) -> list[dict[str, str]]:
    machine, settings = run["machine"], run["settings"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return [
        {"": "processor", "value": f"{machine['processor']}, {machine['cpus']} CPUs"},
        {"": "GPU", "value": machine["gpu"] or "none"},
        {"": "versions", "value": versions},
        {"": "path", "value": f"θ = {settings['theta']}, {', '.join(settings['kinds'])}"},
        {"": "timed rounds", "value": str(settings["repeats"])},
    ]


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if column == "of copy":
        return f"{value:.0%}"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def command(text: str) -> str:
    """A command without directories of the machine it ran on, in options MODEL=PLACE too."""
    words = shlex.split(text)
    return " ".join(_word(word, before) for before, word in zip(["", *words], words))


def _word(word: str, option: str) -> str:
    name, equals, place = word.partition("=")
    if option not in ("--weights", "--data") or not equals or "/" in name:
        name, equals, place = "", "", word
    place, mark, query = place.partition("?")
    key, _, file = query.partition("=")
    return f"{name}{equals}{_shorter(place, option)}" + (f"{mark}{key}={_shorter(file, option)}" if mark else "")


def _shorter(place: str, option: str) -> str:
    """A place given to ``option`` without its directories, as `results_page.shortened` writes it."""
    words = [option, place] if option.startswith("--") else [place]
    return shortened(shlex.join(words)).rpartition(" ")[2]


def skeleton(runs: Runs) -> str:
    """A page with the marks of every table that the runs have."""
    parts = ["# Performance"]
    for run, found in runs.items():
        for name in ["machine", *(name for name in TABLES if table_rows(name, found))]:
            title = TABLES[name].title if name in TABLES else "Measured on"
            parts.append(f"## {title}\n\n<!-- table: {run}/{name} -->\n<!-- end -->")
    return "\n\n".join(parts) + "\n"


def read_runs(folders: Sequence[str], name: str = "bench.json", made_by: str = "bench") -> dict[str, dict[str, Any]]:
    """What the file ``name`` of every run holds, by the folders' names; exits with a message for a folder without."""
    runs = {}
    for folder in map(Path, folders):
        file = folder / name
        if not file.is_file():
            raise SystemExit(f"{file} is missing; make it with netpaths {made_by} --out {folder}")
        runs[folder.resolve().name] = json.loads(file.read_text())
    return runs


def main(folders: Sequence[str]) -> None:
    """Write performance.md with the tables of the runs in ``folders``; refuses to print a directory of this machine."""
    if not folders:
        raise SystemExit("usage: python docs/performance_page.py RUN_FOLDER…")
    file, runs = DOCS / "performance.md", read_runs(folders)
    write_page(file, with_tables(file.read_text() if file.is_file() else skeleton(runs), runs))


def write_page(file: Path, text: str) -> None:
    """Write a page; exits with a message where it would show a directory of this machine."""
    found = re.search(r"(?<![\w.)\]])/(?:\w[\w.-]*/)+", text)
    if found:
        raise SystemExit(f"the page would show the directory {found[0]!r}")
    file.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
