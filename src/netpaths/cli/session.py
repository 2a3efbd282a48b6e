"""What every command does around its work: collect its options, open its run, print and write its result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from netpaths.runs import Run

HOW = ("out", "force", "json", "quiet", "debug", "threads")
"""Options that say how a command runs, not what it computes: two runs may differ in them."""


@dataclass(frozen=True)
class Session:
    """One call of a command. options: every resolved option that decides the result. arguments: as typed."""

    command: str
    options: Mapping[str, Any]
    out: Path | None
    json: str | None
    force: bool
    quiet: bool
    arguments: tuple[str, ...]

    @staticmethod
    def of(context: typer.Context, *how: str) -> Session:
        """The session of a command's call; sets the number of threads where the user gave one.

        how: options besides `HOW` that do not decide the result of this command.
        """
        given = context.params
        if given.get("threads"):
            set_threads(given["threads"])
        return Session(
            context.command_path.partition(" ")[2],
            {name: value for name, value in given.items() if name not in (*HOW, *how)},
            given.get("out"),
            given.get("json"),
            bool(given.get("force")),
            bool(given.get("quiet")),
            tuple(context.find_root().obj or ()),
        )

    def open_run(self, files: Sequence[str], inputs: Mapping[str, Any]) -> Run:
        """The run in ``--out``; see `netpaths.runs.open_run`."""
        from netpaths.runs import open_run

        if self.out is None:
            raise TypeError(f"{self.command} was given no folder")
        return open_run(self.out, self.command, self.options, files, inputs, self.force, self.arguments)

    def maybe_run(self, files: Sequence[str], inputs: Mapping[str, Any]) -> AbstractContextManager[Run | None]:
        """As `open_run`, or None where the user wants no files."""
        return nullcontext() if self.out is None else self.open_run(files, inputs)

    def say(self, *things: Any) -> None:
        """Print lines and tables on stdout, unless JSON goes there."""
        from rich.console import Console

        if self.json == "-":
            return
        width = None if sys.stdout.isatty() else 160
        console = Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)
        for thing in things:
            console.print(thing, markup=False) if isinstance(thing, str) else console.print(thing)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result`` where ``--json`` says."""
        import json

        from netpaths.files import plain, write_json

        if self.json == "-":
            print(json.dumps(plain(result), indent=2, allow_nan=False))
        elif self.json is not None:
            write_json(self.json, result)


def set_threads(count: int) -> None:
    """Use ``count`` CPU threads, in torch and in the compiled kernels."""
    import numba
    import torch

    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """Rows of names and values as a table to print; numbers stand right and NaN is empty."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = list(rows[0]) if columns is None and rows else list(columns or ())
    shown = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numeric = rows and all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        shown.add_row(*(Text(_cell(row.get(name))) for name in names))
    return shown


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)
