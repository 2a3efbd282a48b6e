"""netpaths study effective-path: anomaly detection by effective paths, as Qiu et al. (CVPR 2019) study it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options, studied
from netpaths.cli.examples import section
from netpaths.cli.session import Session

if TYPE_CHECKING:
    from netpaths.studies.experiment import Plan

EXAMPLES = (
    "netpaths study effective-path --model lenet5 --weights runs/lenet5 --data mnist:data/mnist --out runs/study-mnist",
    "netpaths study effective-path --model resnet20 --weights resnet20.safetensors --data cifar10:data/cifar10 "
    "--last 10 --attacked 200 --out runs/study-cifar10",
)
ATTACKS = ("fgsm", "bim", "deepfool", "cw", "jsma", "noise", "blur")

Attacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="An attack or control, NAME or NAME:OPTION=VALUE,…; several times for several.  "
        f"[default: {' '.join(ATTACKS)}]",
        metavar="ATTACK",
        show_default=False,
    ),
]
Attacked = Annotated[int, typer.Option(help="Test images to attack.", min=2)]
Calibration = Annotated[int, typer.Option(help="Further clean test images that set the threshold.", min=1)]
Alpha = Annotated[float, typer.Option("--fpr", help="False-alarm rate to calibrate at.")]
Seeds = Annotated[
    int, typer.Option(help="Random splits to evaluate, from --seed on; the first is reported in full.", min=1)
]
Ablated = Annotated[int, typer.Option(help="Test images for the ablation; 0 leaves it out.", min=0)]
Sizes = Annotated[
    str | None,
    typer.Option(
        help="Also try smaller profiles of so many training images a class, with commas.  [default: none]",
        metavar="NUMBERS",
    ),
]
StudyKinds = Annotated[
    str, typer.Option("--kind", help="Kinds compared, with commas; the first for every detector.", metavar="KINDS")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("effective-path", epilog=section(*EXAMPLES))(effective_path)


def effective_path(
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
    theta: options.Theta = options.THETA,
    last: options.Last = None,
    kind: StudyKinds = "synapse,weight",
    attack: Attacks = None,
    attacked: Attacked = 400,
    calibration: Calibration = 400,
    fpr: Alpha = 0.05,
    seeds: Seeds = 3,
    ablated: Ablated = 100,
    profile_sizes: Sizes = None,
    batch_size: studied.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Effective paths (CVPR 2019): class paths, attacks, detectors and ablation."""
    from netpaths.cli.findings import finish
    from netpaths.cli.first_use import ready_kernels
    from netpaths.cli.stages import Stages
    from netpaths.cli.subject import batch_for
    from netpaths.studies.effective_path import FILES
    from netpaths.studies.effective_path import run as run_study

    session = Session.of(context)
    plan = _plan(session.options)
    plan.check()
    subject = studied.load_subject(session.options)
    studied.check_attacks(plan.options, subject)
    inputs = {"model": subject.graph.fingerprint, "data": [subject.train.digest, subject.test.digest]}
    names = {"model": model, "data": data}
    with session.open_run(FILES, inputs) as run, Stages(quiet) as stages:
        ready_kernels(subject.graph.device, quiet)
        plan = replace(plan, extracted=batch_for(subject.graph, batch_size))
        title = f"{model} on {data.partition(':')[0]}"
        findings = run_study(subject, plan, run.folder, title, run.config["command_line"], names, stages)
        finish(session, findings, run.folder)


def _plan(given: Any) -> Plan:
    from netpaths.cli.subject import names
    from netpaths.methods import EffectivePath
    from netpaths.studies.experiment import Plan

    wanted = studied.attacks_of(given["attack"] or ATTACKS)
    return Plan(
        method=EffectivePath(theta=given["theta"], last=given["last"]),
        attacks=tuple(name for name in wanted if not studied.is_control(name)),
        controls=tuple(name for name in wanted if studied.is_control(name)),
        attacked=given["attacked"],
        calibration=given["calibration"],
        kinds=names(given["kind"]) or (),
        seeds=tuple(range(given["seed"], given["seed"] + given["seeds"])),
        alpha=given["fpr"],
        ablated=given["ablated"],
        profile_sizes=studied.numbers("--profile-sizes", given["profile_sizes"]),
        batch_size=given["batch_size"] or Plan.batch_size,
        options=wanted,
    )
