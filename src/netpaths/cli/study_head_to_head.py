"""netpaths study head-to-head: effective path and CDRP on the same images, attacks, splits and classifiers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options, studied
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.report.rivals_findings import RivalsFindings
    from netpaths.studies.head_to_head import RivalsPlan

EXAMPLES = (
    "netpaths study head-to-head --model lenet5 --weights runs/lenet5 --data mnist:data/mnist --out runs/rivals-mnist",
    "netpaths study head-to-head --model resnet20 --weights resnet20.safetensors --data cifar10:data/cifar10 "
    "--attack fgsm --attack cw --attack noise --steps 30 --out runs/rivals-cifar10",
)
ATTACKS = ("fgsm", "bim", "deepfool", "cw", "targeted-bim", "noise")

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
Profiled = Annotated[int, typer.Option(help="Training images a class in the class paths.", min=1, metavar="N")]
Steps = Annotated[int, typer.Option(help="Evaluations of the gates.", min=1, metavar="N")]
Gamma = Annotated[float, typer.Option(help="Weight of the sum of all gates.", metavar="NUMBER")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("head-to-head", epilog=section(*EXAMPLES))(head_to_head)


def head_to_head(
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
    steps: Steps = 30,
    gamma: Gamma = 0.05,
    attack: Attacks = None,
    attacked: Annotated[int, typer.Option(help="Test images to attack.", min=4, metavar="N")] = 200,
    calibration: Annotated[int, typer.Option(help="Further clean test images.", min=1, metavar="N")] = 100,
    profiled: Profiled = 50,
    fpr: Annotated[float, typer.Option("--fpr", help="False-alarm rate to calibrate at.", metavar="RATE")] = 0.05,
    batch_size: studied.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Effective path against critical data routing paths: detection, time and bytes on the same images."""
    from netpaths.cli.first_use import ready_kernels
    from netpaths.cli.stages import Stages
    from netpaths.cli.subject import batch_for
    from netpaths.report.rivals_page import write_rivals_report
    from netpaths.studies.head_to_head import FILES, run, write_summary

    session = Session.of(context)
    plan = _plan(session.options)
    subject = studied.load_subject(session.options)
    studied.check_attacks(plan.options, subject)
    inputs = {"model": subject.graph.fingerprint, "data": [subject.train.digest, subject.test.digest]}
    with session.open_run(FILES, inputs) as folder, Stages(quiet) as stages:
        ready_kernels(subject.graph.device, quiet)
        plan = replace(plan, extracted=min(batch_for(subject.graph, batch_size), plan.extracted))
        title = f"{model} on {data.partition(':')[0]}"
        findings = run(subject, plan, title, folder.config["command_line"], {"model": model, "data": data}, stages)
        write_summary(findings, folder.path("summary.json"))
        page = write_rivals_report(findings, folder.folder)
    session.say(*_lines(findings), f"report: {page}")
    session.finish({"report": page, "differences": findings.differences, "cost": findings.cost})


def _plan(given: Any) -> RivalsPlan:
    from netpaths.methods import DistillationGuidedRouting, EffectivePath
    from netpaths.studies.head_to_head import RivalsPlan

    plan = replace(
        attacks_plan(given["attack"]),
        theta=given["theta"],
        last=given["last"],
        routing=DistillationGuidedRouting(steps=given["steps"], gamma=given["gamma"]),
        attacked=given["attacked"],
        calibration=given["calibration"],
        profiled=given["profiled"],
        alpha=given["fpr"],
        seed=given["seed"],
        batch_size=given["batch_size"] or RivalsPlan.batch_size,
    )
    EffectivePath(theta=plan.theta, last=plan.last).check()
    plan.routing.check()
    plan.experiment().check()
    return plan


def attacks_plan(texts: list[str] | None) -> RivalsPlan:
    """A plan with the attacks and controls that ``--attack`` names, `ATTACKS` without it; raises BadOption."""
    from netpaths.studies.head_to_head import RivalsPlan

    wanted = studied.attacks_of(texts or ATTACKS)
    return RivalsPlan(
        attacks=tuple(name for name in wanted if not studied.is_control(name)),
        controls=tuple(name for name in wanted if studied.is_control(name)),
        options=wanted,
    )


def _lines(findings: RivalsFindings) -> list[Any]:
    rows = [
        {"form": row["form"], "classifier": row["classifier"], "attack": row["attack"], row["notion"]: row["auroc"]}
        for row in [*findings.areas(), *findings.areas("all")]
        if row["form"]
    ]
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        merged.setdefault((row["form"], row["classifier"], row["attack"]), {}).update(row)
    return [table("AUROC", list(merged.values())), table("Cost of a path", findings.cost)]
