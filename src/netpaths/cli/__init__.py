"""The command line: one subcommand per arrow of the data flow."""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

USAGE, INTERNAL = 2, 3
KEPT_NOTHING = "nothing half-written is left; run the same command again to start over"


def main() -> None:
    """Run the command line and exit: 0, 2 for a user's error, 3 for an error of netpaths, 128 + the signal's number."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code; every error is one line on stderr."""
    from netpaths.cli.app import command
    from netpaths.errors import NetpathsError

    try:
        with _short_warnings(), command().make_context("netpaths", list(arguments), obj=arguments) as context:
            command().invoke(context)
        return 0
    except KeyboardInterrupt as error:
        _complain(error, arguments, f"interrupted: {str(error) or KEPT_NOTHING}")
        return 128 + getattr(error, "number", signal.SIGINT)
    except NetpathsError as error:
        _complain(error, arguments, f"error: {error}")
        return USAGE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(error, arguments, f"error: {where}{error.strerror or error}")
        return USAGE
    except Exception as error:
        return _other_outcome(error, arguments)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Inside, a warning of netpaths is one line on stderr."""
    from netpaths.errors import NetpathsWarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, NetpathsWarning):
            print(f"netpaths: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            plain(message, category, *place, **more)

    with warnings.catch_warnings():
        plain, warnings.showwarning = warnings.showwarning, show
        warnings.simplefilter("always", NetpathsWarning)
        yield


class Terminated(KeyboardInterrupt):
    """The process was asked to end."""

    number = signal.SIGTERM


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _other_outcome(error: Exception, arguments: Sequence[str]) -> int:
    """Typer's own ways to end, an exit code or a usage error; anything else is a bug."""
    from netpaths.cli.app import explain

    if hasattr(error, "format_message"):
        _complain(error, arguments, f"error: {explain(error)}")
        return USAGE
    if hasattr(error, "exit_code"):
        return int(error.exit_code)
    _complain(error, arguments, f"internal error: {type(error).__name__}: {error} (--debug shows the traceback)")
    return INTERNAL


def _complain(error: BaseException, arguments: Sequence[str], text: str) -> None:
    if "--debug" in arguments:
        traceback.print_exception(error, file=sys.stderr)
    print(f"netpaths: {' '.join(text.split())}", file=sys.stderr)
