"""netpaths study cdrp: critical data routing paths, as Wang et al. (CVPR 2018) study them, put to the test."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options, studied
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.report.routing_findings import RoutingFindings
    from netpaths.studies.routing_plan import RoutingPlan

EXAMPLES = (
    "netpaths study cdrp --model lenet5 --weights runs/lenet5 --data mnist:data/mnist --out runs/cdrp-mnist",
    "netpaths study cdrp --model squeezenet1_0 --weights squeezenet.safetensors --restrict --points 4 "
    "--data data/imagenette?classes=imagenet_classes.json --evaluated 100 --swept 20 --compared 30 "
    "--out runs/cdrp-imagenette",
    "netpaths study cdrp --model lenet5 --weights runs/lenet5 --data digits --quick --out runs/cdrp-quick",
)

Steps = Annotated[int, typer.Option(help="Evaluations of the gates.", min=1, metavar="N")]
Rate = Annotated[float, typer.Option("--lr", help="Step of gradient descent.", metavar="NUMBER")]
Momentum = Annotated[float, typer.Option(help="Momentum of gradient descent, in [0, 1).", metavar="NUMBER")]
Gamma = Annotated[float, typer.Option(help="Weight of the sum of all gates.", metavar="NUMBER")]
Limit = Annotated[float, typer.Option("--largest-gate", help="The largest gate.", metavar="NUMBER")]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Run to rest: until no gate moves faster than this, at most --steps.  [default: off]"),
]
Routed = Annotated[
    str | None,
    typer.Option(
        help="Nodes to route, with commas.  [default: residual blocks, or every convolution but the last layer]",
        metavar="NAMES",
    ),
]
Evaluated = Annotated[int, typer.Option(help="Test images, balanced over the classes.", min=8, metavar="N")]
PerClass = Annotated[
    str, typer.Option(help="Training images a class that the detectors learn from, with commas.", metavar="NUMBERS")
]
Attack = Annotated[str, typer.Option("--attack", help="The attack, NAME or NAME:OPTION=VALUE,….", metavar="ATTACK")]
Quick = Annotated[bool, typer.Option("--quick", help="Every part on few images, within minutes; rough figures.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cdrp", epilog=section(*EXAMPLES))(cdrp)


def cdrp(
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
    layers: Routed = None,
    steps: Steps = 30,
    lr: Rate = 0.1,
    momentum: Momentum = 0.9,
    gamma: Gamma = 0.05,
    largest_gate: Limit = 10.0,
    tolerance: Tolerance = None,
    evaluated: Evaluated = 400,
    per_class: PerClass = "1,5,10,50",
    attack: Attack = "targeted-bim",
    swept: Annotated[int, typer.Option(help="Test images of the sweep over γ and steps.", min=4, metavar="N")] = 50,
    compared: Annotated[
        int, typer.Option(help="Test images compared with other settings and methods.", min=4, metavar="N")
    ] = 50,
    ablated: Annotated[int, typer.Option(help="Test images of the ablation.", min=4, metavar="N")] = 200,
    points: Annotated[int, typer.Option(help="Points of integrated gradients' integral.", min=1, metavar="N")] = 10,
    quick: Quick = False,
    batch_size: studied.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Critical data routing paths (CVPR 2018): sparsity, ablation, clusters, detection, and whether to believe them."""
    from netpaths.cli.stages import Stages
    from netpaths.cli.subject import batch_for
    from netpaths.report.routing_page import write_routing_report
    from netpaths.studies.cdrp import FILES, run, write_summary

    session = Session.of(context)
    plan = _plan(session.options)
    subject = studied.load_subject(session.options)
    studied.check_attacks(plan.options, subject)
    inputs = {"model": subject.graph.fingerprint, "data": [subject.train.digest, subject.test.digest]}
    with session.open_run(FILES, inputs) as folder, Stages(quiet) as stages:
        plan = replace(plan, extracted=min(batch_for(subject.graph, batch_size), plan.extracted))
        title = f"{model} on {data.partition(':')[0]}"
        findings = run(subject, plan, title, folder.config["command_line"], {"model": model, "data": data}, stages)
        write_summary(findings, folder.path("summary.json"))
        page = write_routing_report(findings, folder.folder)
    session.say(*_lines(findings), f"report: {page}")
    session.finish({"report": page, "sparsity": findings.sparsity, "detection": findings.detection})


def _plan(given: Any) -> RoutingPlan:
    from netpaths.cli.attacked import parse
    from netpaths.cli.subject import names
    from netpaths.methods import DistillationGuidedRouting
    from netpaths.studies.routing_plan import RoutingPlan

    attack, options = parse(given["attack"])
    plan = RoutingPlan(
        method=DistillationGuidedRouting(
            steps=given["steps"],
            lr=given["lr"],
            momentum=given["momentum"],
            gamma=given["gamma"],
            limit=given["largest_gate"],
            tolerance=given["tolerance"],
            layers=names(given["layers"]),
        ),
        evaluated=given["evaluated"],
        per_class=studied.numbers("--per-class", given["per_class"]),
        attack=attack,
        options={attack: options},
        swept=given["swept"],
        compared=given["compared"],
        ablated=given["ablated"],
        points=given["points"],
        seed=given["seed"],
        batch_size=given["batch_size"] or RoutingPlan.batch_size,
    )
    plan = plan.quick() if given["quick"] else plan
    plan.check()
    return plan


def _lines(findings: RoutingFindings) -> list[Any]:
    shown = [
        {name: row.get(name) for name in ("method", "sparsity", "gated top-1", "top-1", "top-5", "prediction kept")}
        for row in findings.sparsity
    ]
    areas = [
        {name: row.get(name) for name in ("values", "images per class", "classifier", "auroc", "noise", "null")}
        for row in findings.detection
    ]
    return [
        f"test accuracy {findings.model['test_accuracy']:.2%}",
        table("Share of channels kept, and accuracy with nothing but them", shown),
        table("AUROC: attacked, and noise of the same size, against clean images; null: clean against clean", areas),
    ]
