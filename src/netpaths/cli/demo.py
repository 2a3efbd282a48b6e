"""netpaths demo: everything at once on the bundled digits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session

EXAMPLES = ("netpaths demo", "netpaths demo --seed 1 --attacked 100 --out runs/demo-1")

Attacked = Annotated[int, typer.Option(help="Test images to attack.", min=20)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=section(*EXAMPLES))(demo)


def demo(
    context: typer.Context,
    out: options.Out = Path("runs/demo"),
    attacked: Attacked = 200,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train LeNet-5 on bundled digits, profile it, attack it, and write a monitor with its report; no download."""
    from netpaths.cli.findings import finish
    from netpaths.cli.first_use import ready_kernels
    from netpaths.cli.stages import Stages
    from netpaths.studies.demo import run_demo
    from netpaths.studies.effective_path import FILES

    session = Session.of(context)
    with session.open_run(("model.safetensors", *FILES), {}) as run, Stages(quiet) as stages:
        ready_kernels("cpu", quiet)
        findings = run_demo(run.folder, seed, attacked, stages)
        stages("writing the report", 0, 1, "page")
        finish(session, findings, run.folder)
        stages("writing the report", 1, 1, "page")
