"""netpaths study decoupling: networks whose controllers choose each image's filters, as Li et al. (ECCV 2020) do it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import decouple as own
from netpaths.cli import options, studied
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table
from netpaths.cli.study_head_to_head import Attacks, Profiled, Steps, attacks_plan

if TYPE_CHECKING:
    from netpaths.report.decoupling_findings import DecouplingFindings
    from netpaths.studies.decoupling_plan import DecouplingPlan

EXAMPLES = (
    "netpaths study decoupling --model resnet20 --weights resnet20.safetensors --data cifar10:data/cifar10 --shift 4 "
    "--flip --cutmix 0.5 --out runs/decoupling-cifar10",
    "netpaths study decoupling --model lenet5 --weights runs/lenet5 --data mnist:data/mnist --targets 0.75,0.5,0.25 "
    "--kept 0.5 --out runs/decoupling-mnist",
    "netpaths study decoupling --model lenet5 --weights runs/lenet5 --data digits --quick --out runs/decoupling-quick",
)

Targets = Annotated[
    str, typer.Option(help="Shares of filters to train for, with commas; --kept is one of them.", metavar="SHARES")
]
Ablated = Annotated[
    int, typer.Option(help="Epochs of every network of the loss ablation; 0 leaves it out.", min=0, metavar="N")
]
Batches = Annotated[str, typer.Option(help="Batch sizes that are timed, with commas.", metavar="NUMBERS")]
Fired = Annotated[
    int, typer.Option(help="Training images a class in class paths and firing rates.", min=1, metavar="N")
]
Evaluated = Annotated[int, typer.Option(help="Test images whose codes are looked at.", min=8, metavar="N")]
Sets = Annotated[
    str, typer.Option(help="Numbers of classes for which unused filters are removed, with commas.", metavar="NUMBERS")
]
Detection = Annotated[bool, typer.Option("--detection/--no-detection", help="Compare detectors of attacked images.")]
Quick = Annotated[bool, typer.Option("--quick", help="Every part on few images, within minutes; rough figures.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("decoupling", epilog=section(*EXAMPLES))(decoupling)


def decoupling(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    restrict: studied.Restrict = False,
    targets: Targets = "0.8,0.65,0.5,0.35",
    kept: own.Kept = own.KEPT,
    epochs: own.Epochs = own.EPOCHS,
    batch_size: options.FixedBatchSize = own.BATCH,
    lr: own.Rate = own.LR,
    milestones: own.Milestones = None,
    pace: own.Pace = own.PACE,
    hold: own.Hold = own.HOLD,
    momentum: own.Momentum = own.MOMENTUM,
    weight_decay: own.Decay = own.DECAY,
    information: own.Information = own.INFORMATION,
    alignment: own.Alignment = own.ALIGNMENT,
    sparsity: own.Sparsity = own.SPARSITY,
    direction: own.Direction = "output",
    distillation: own.Distillation = own.DISTILLATION,
    hints: own.Hints = own.HINTS,
    ramp: own.Ramp = own.RAMP,
    settle: own.Settle = own.SETTLE,
    bias: own.Bias = own.BIAS,
    level: own.Level = True,
    shift: own.Shift = 0,
    flip: own.Flip = False,
    cutmix: own.Cutmix = 0.0,
    ablated_epochs: Ablated = 3,
    batches: Batches = "1,8",
    fired: Fired = 200,
    evaluated: Evaluated = 1000,
    sets: Sets = "1,2,5,10",
    detection: Detection = True,
    attack: Attacks = None,
    attacked: Annotated[int, typer.Option(help="Test images that are attacked.", min=2, metavar="N")] = 200,
    calibration: Annotated[
        int, typer.Option(help="Further clean test images for thresholds.", min=2, metavar="N")
    ] = 100,
    profiled: Profiled = 50,
    steps: Steps = 30,
    quick: Quick = False,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Network decoupling (ECCV 2020): accuracy, operations, measured time, what filters fire for, detection on codes.

    Trained networks are kept in --out/networks; a stopped study goes on from them.
    """
    from netpaths.cli.stages import Stages
    from netpaths.report.decoupling_page import write_decoupling_report
    from netpaths.studies.decoupling import FILES, Names, check_data, run, write_summary

    session = Session.of(context)
    plan = _plan(session.options)
    subject = studied.load_subject(session.options)
    check_data(subject, plan)
    if plan.rivals is not None:
        studied.check_attacks(plan.rivals.options, subject)
    inputs = {"model": subject.graph.fingerprint, "data": [subject.train.digest, subject.test.digest]}
    with session.open_run(FILES, inputs) as folder, _kept(folder.path("networks")), Stages(quiet) as stages:
        names = Names(model, data, normalize, f"{model} on {data.partition(':')[0]}", folder.config["command_line"])
        findings = run(subject, plan, folder.folder, names, stages)
        write_summary(findings, folder.path("summary.json"))
        page = write_decoupling_report(findings, folder.folder)
    session.say(*_lines(findings), f"report: {page}")
    session.finish({"report": page, "curve": findings.curve, "latency": findings.latency})


@contextmanager
def _kept(networks: Path) -> Iterator[None]:
    """Where the user stops the study, say what is kept of it."""
    from netpaths.runs import Interrupted

    try:
        yield
    except KeyboardInterrupt as stop:
        if not networks.is_dir():
            raise
        text = f"the epochs trained so far are kept in {networks}; the same command goes on from there"
        raise Interrupted(text, getattr(stop, "number", signal.SIGINT)) from stop


def _plan(given: Any) -> DecouplingPlan:
    from netpaths.methods import DistillationGuidedRouting
    from netpaths.studies.decoupling_plan import DecouplingPlan

    rivals = None
    if given["detection"]:
        rivals = replace(
            attacks_plan(given["attack"]),
            routing=DistillationGuidedRouting(steps=given["steps"]),
            attacked=given["attacked"],
            calibration=given["calibration"],
            profiled=given["profiled"],
            seed=given["seed"],
        )
        rivals.routing.check()
        rivals.experiment().check()
    plan = DecouplingPlan(
        recipe=own.make_recipe(given),
        targets=studied.shares("--targets", given["targets"]),
        ablated_epochs=given["ablated_epochs"],
        bias=given["bias"],
        level=given["level"],
        profiled=given["fired"],
        evaluated=given["evaluated"],
        shown=min(given["evaluated"], DecouplingPlan.shown),
        batches=studied.numbers("--batches", given["batches"]),
        sets=studied.numbers("--sets", given["sets"]),
        rivals=rivals,
        seed=given["seed"],
    )
    plan = plan.quick() if given["quick"] else plan
    plan.check()
    return plan


def _lines(findings: DecouplingFindings) -> list[Any]:
    shown = [
        {
            "filters asked for": f"{row['target']:g}" if row["target"] == row["target"] else "dense network",
            "test accuracy": f"{row['accuracy']:.2%}",
            "filters on": f"{row['filters on']:.1%}",
            "MACs": f"{row['MACs']:.1%}",
        }
        for row in findings.curve
    ]
    times = [
        {name: row[name] for name in ("target", "batch", "dense ms", "masked ms", "runtime ms", "over dense", "MACs")}
        for row in findings.latency
    ]
    return [
        table("Accuracy and operations", shown),
        table("Time of a batch; over dense: measured, MACs: what operations alone would say", times),
    ]
