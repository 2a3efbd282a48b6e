"""The commands put together."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer

from netpaths.cli import (
    attack,
    bench,
    calibrate,
    check,
    compare,
    decouple,
    demo,
    evaluate,
    profile,
    reduce,
    study,
    trace,
    train,
)

MODULES = (demo, train, decouple, reduce, trace, profile, compare, attack, calibrate, check, evaluate, study, bench)
FORMS = "lenet5, resnet20, …, torchvision:NAME, timm:NAME or FILE.py:FUNCTION"


@cache
def command() -> Any:
    """The whole command line as one click command."""
    app = typer.Typer(
        name="netpaths",
        help="Find the paths a prediction takes through a neural network, and put them to use.",
        epilog="netpaths COMMAND --help explains a command and gives examples.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_entry)
    for module in MODULES:
        module.register(app)
    return typer.main.get_command(app)


def commands() -> dict[str, Any]:
    """Every command that does something by its full name, such as "study cdrp"."""
    found: dict[str, Any] = {}
    for name, each in command().commands.items():
        inner = getattr(each, "commands", None)
        found |= {name: each} if inner is None else {f"{name} {own}": part for own, part in inner.items()}
    return found


def explain(error: Any) -> str:
    """A usage error as one line that says what would be right."""
    text = str(error.format_message()).strip().rstrip(".")
    name = getattr(getattr(error, "param", None), "name", "")
    if name == "model":
        text += f"; expected {FORMS}"
    path = getattr(getattr(error, "ctx", None), "command_path", "netpaths")
    return f"{text[:1].lower()}{text[1:]} (see {path} --help)"


def _entry(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from netpaths import __version__

        print(f"netpaths {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
