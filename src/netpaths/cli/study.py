"""netpaths study: the tables and figures of a paper, on your model and data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session

if TYPE_CHECKING:
    from netpaths.studies.experiment import Plan, Subject

EXAMPLES = (
    "netpaths study effective-path --model lenet5 --weights runs/lenet5 --data mnist:data/mnist --out runs/study-mnist",
    "netpaths study effective-path --model resnet20 --weights resnet20.safetensors --data cifar10:data/cifar10 "
    "--last 10 --attacked 200 --out runs/study-cifar10",
)
ATTACKS = ("fgsm", "bim", "deepfool", "cw", "jsma", "noise", "blur")

Name = Annotated[str, typer.Argument(help="The study: effective-path.", metavar="STUDY")]
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
    typer.Option(help="Also try smaller profiles of so many training images a class, with commas.", metavar="NUMBERS"),
]
Restrict = Annotated[bool, typer.Option("--restrict", help="Narrow the network to the classes of the data.")]
StudyKinds = Annotated[
    str, typer.Option("--kind", help="Kinds compared, with commas; the first for every detector.", metavar="KINDS")
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images computed at once, or auto: paths of as many as fit in memory, and attacks, whose random draws "
        "depend on it, of 64.  [default: auto]",
        parser=options.batch_size,
        metavar="N|auto",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("study", epilog=section(*EXAMPLES))(study)


def study(
    context: typer.Context,
    name: Name,
    model: options.Model,
    data: options.Data,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    restrict: Restrict = False,
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
    batch_size: BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run a paper's experiments on a trained network and write its tables, figures and report."""
    from netpaths.cli.findings import finish
    from netpaths.cli.first_use import ready_kernels
    from netpaths.cli.stages import Stages
    from netpaths.cli.subject import batch_for, device_of
    from netpaths.errors import BadOption
    from netpaths.studies.effective_path import FILES
    from netpaths.studies.effective_path import run as run_study

    if name != "effective-path":
        raise BadOption(f"there is no study {name!r}; the studies are: effective-path")
    session = Session.of(context)
    plan = _plan(session.options)
    plan.check()
    subject = _subject(session.options)
    inputs = {"model": subject.graph.fingerprint, "data": [subject.train.digest, subject.test.digest]}
    names = {"model": model, "data": data}
    with session.open_run(FILES, inputs) as run, Stages(quiet) as stages:
        ready_kernels(device_of(subject.graph), quiet)
        plan = replace(plan, extracted=batch_for(subject.graph, batch_size))
        title = f"{model} on {data.partition(':')[0]}"
        findings = run_study(subject, plan, run.folder, title, run.config["command_line"], names, stages)
        finish(session, findings, run.folder)


def _plan(given: Any) -> Plan:
    from netpaths import attacks
    from netpaths.cli.attacked import parse
    from netpaths.cli.subject import names
    from netpaths.errors import BadOption
    from netpaths.methods import EffectivePath
    from netpaths.studies.experiment import Plan

    parsed = [parse(text) for text in given["attack"] or ATTACKS]
    wanted = dict(parsed)
    if len(wanted) < len(parsed):
        raise BadOption("--attack names one attack twice; a study takes one strength of each")
    return Plan(
        method=EffectivePath(theta=given["theta"], last=given["last"]),
        attacks=tuple(name for name in wanted if not attacks.ATTACKS[name].control),
        controls=tuple(name for name in wanted if attacks.ATTACKS[name].control),
        attacked=given["attacked"],
        calibration=given["calibration"],
        kinds=names(given["kind"]) or (),
        seeds=tuple(range(given["seed"], given["seed"] + given["seeds"])),
        alpha=given["fpr"],
        ablated=given["ablated"],
        profile_sizes=_sizes(given["profile_sizes"]),
        batch_size=given["batch_size"] or Plan.batch_size,
        options=wanted,
    )


def _sizes(text: str | None) -> tuple[int, ...]:
    from netpaths.cli.subject import names
    from netpaths.errors import BadOption

    parts = names(text) or ()
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise BadOption(f"--profile-sizes is {text!r}, expected whole numbers with commas, such as 25,100")
    return tuple(int(part) for part in parts)


def _subject(given: Any) -> Subject:
    import numpy as np

    from netpaths.cli import subject
    from netpaths.studies.experiment import Subject
    from netpaths.zoo import Restricted

    network = subject.load_network(given["model"], given["weights"], given["normalize"], given["seed"], given["device"])
    train, test = (
        subject.load_images(
            given["data"], part, network, given["model"], given["size"], given["channels"],
            given["limit"] if part == "train" else None, given["seed"],
        )
        for part in ("train", "test")
    )  # fmt: skip
    if given["restrict"]:
        kept = np.unique(train.labels)
        network, train, test = Restricted(network, kept.tolist()), train.relabelled(kept), test.relabelled(kept)
    graph = subject.make_graph(network, given["model"], train.shape)
    subject.check_labels(train, graph)
    return Subject(network, graph, train, test)
