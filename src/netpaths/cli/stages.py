"""Progress of work in several stages: one bar after another, and a line for every finished stage."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from netpaths.runs import Report, progress


class Stages:
    """Shows the stage that reports; use as a context."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._title = ""
        self._stack = ExitStack()
        self._report: Report | None = None
        self._started = 0.0

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, title: str, done: int, total: int, unit: str = "images") -> None:
        """Say that ``done`` of ``total`` images, or other units, of the stage ``title`` are finished."""
        if title != self._title or self._report is None:
            self._stack.close()
            self._stack = ExitStack()
            self._title, self._started = title, time.monotonic()
            self._report = self._stack.enter_context(progress(title, self.quiet, unit, start=done))
        self._report(done, total, "")
        if done >= total:
            self._stack.close()
            self._report, self._title = None, ""
            if not self.quiet:
                seconds = time.monotonic() - self._started
                print(f"{title}: {total} {unit} in {seconds:.1f} s", file=sys.stderr, flush=True)
