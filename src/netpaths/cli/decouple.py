"""netpaths decouple: controllers that choose, for every image, the filters that compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from torch import nn

    from netpaths.decoupling.insertion import Decoupled
    from netpaths.decoupling.training import Recipe
    from netpaths.runs import Run

EXAMPLES = (
    "netpaths decouple --model resnet20 --weights resnet20.safetensors --data cifar10:data/cifar10 --shift 4 --flip "
    "--cutmix 0.5 --out runs/decoupled",
    "netpaths decouple --model lenet5 --weights runs/lenet5 --data digits --epochs 4 --kept 0.5 --out runs/decoupled",
    "netpaths profile --model resnet20 --weights runs/decoupled --data cifar10:data/cifar10 --method decoupling "
    "--out runs/profile",
)
CHECKPOINT = "checkpoint.safetensors"
FILES = ("model.safetensors", "history.csv", CHECKPOINT)

KEPT, EPOCHS, BATCH, LR, PACE, HOLD, MOMENTUM, DECAY = 0.65, 10, 64, 0.01, 16.0, 0.16, 0.9, 1e-4
INFORMATION, ALIGNMENT, SPARSITY, DISTILLATION, HINTS = 0.1, 1.0, 0.1, 1.0, 10.0
RAMP, SETTLE, BIAS = 0.9, 0.5, 2.0

Epochs = Annotated[int, typer.Option(help="Passes over the training images.", min=1, metavar="N")]
Rate = Annotated[
    float,
    typer.Option(
        "--lr", help="Learning rate; while controllers rest (--settle) it falls to 0 linearly (ours).", metavar="RATE"
    ),
]
Milestones = Annotated[
    str | None,
    typer.Option(
        help="Shares of the epochs after which the learning rate is a tenth, with commas, such as 0.5,0.75.",
        metavar="SHARES",
    ),
]
Pace = Annotated[
    float, typer.Option(help="Controllers learn so many times faster than the other weights (ours).", metavar="NUMBER")
]
Hold = Annotated[
    float,
    typer.Option(help="The other weights' share of the learning rate while controllers learn (ours).", metavar="SHARE"),
]
Kept = Annotated[float, typer.Option(help="Share of every layer's filters that should be on (τ).", metavar="SHARE")]
Sparsity = Annotated[
    float, typer.Option(help="Weight of the distance from --kept (λ_s); 0 leaves it out.", metavar="NUMBER")
]
Information = Annotated[
    float, typer.Option(help="Weight of what codes say about the class (λ_m); 0 leaves it out.", metavar="NUMBER")
]
Alignment = Annotated[
    float,
    typer.Option(help="Weight of how codes resemble their filters' outputs (λ_k); 0 leaves it out.", metavar="NUMBER"),
]
Bias = Annotated[float, typer.Option(help="Where the controllers' scores start.", metavar="NUMBER")]
Level = Annotated[
    bool,
    typer.Option(
        "--level/--no-level",
        help="All scores start at --bias (ours), or around it as in the released code, which switches Φ(−bias/√2) "
        "of the filters off before training.",
    ),
]
Decay = Annotated[float, typer.Option("--weight-decay", help="Weight decay.", metavar="NUMBER")]
Momentum = Annotated[float, typer.Option(help="Momentum of gradient descent, in [0, 1).", metavar="NUMBER")]
Shift = Annotated[
    int, typer.Option(help="Move each training image at random by up to so many pixels.", min=0, metavar="N")
]
Flip = Annotated[bool, typer.Option("--flip", help="Mirror half of the training images left to right.")]
Direction = Annotated[Literal["output", "code"], typer.Option(help="Where the divergence of --alignment starts from.")]
Distillation = Annotated[
    float,
    typer.Option(
        help="Weight of the distance from the plain network's answers (ours); 0 leaves it out.", metavar="NUMBER"
    ),
]
Hints = Annotated[
    float,
    typer.Option(
        help="Weight of the distance from what layers read in the plain network, while controllers rest (ours); 0 "
        "leaves it out.",
        metavar="NUMBER",
    ),
]
Cutmix = Annotated[
    float,
    typer.Option(
        help="Share of training images that get a rectangle of another one, while controllers rest (CutMix).",
        metavar="SHARE",
    ),
]
Ramp = Annotated[
    float,
    typer.Option(
        help="Share of the time that controllers learn over which the wanted share of filters falls from 1 to --kept "
        "(ours).",
        metavar="SHARE",
    ),
]
Settle = Annotated[
    float,
    typer.Option(
        help="Share of the epochs, the last ones, in which controllers rest and the other weights learn to do with "
        "their codes (ours).",
        metavar="SHARE",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers", help="Convolutions to decouple, with commas.  [default: every one but the first]", metavar="NAMES"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("decouple", epilog=section(*EXAMPLES))(decouple)


def decouple(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    layers: Layers = None,
    kept: Kept = KEPT,
    epochs: Epochs = EPOCHS,
    batch_size: options.FixedBatchSize = BATCH,
    lr: Rate = LR,
    milestones: Milestones = None,
    pace: Pace = PACE,
    hold: Hold = HOLD,
    momentum: Momentum = MOMENTUM,
    weight_decay: Decay = DECAY,
    information: Information = INFORMATION,
    alignment: Alignment = ALIGNMENT,
    sparsity: Sparsity = SPARSITY,
    direction: Direction = "output",
    distillation: Distillation = DISTILLATION,
    hints: Hints = HINTS,
    ramp: Ramp = RAMP,
    settle: Settle = SETTLE,
    bias: Bias = BIAS,
    level: Level = True,
    shift: Shift = 0,
    flip: Flip = False,
    cutmix: Cutmix = 0.0,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Decouple a network (ECCV 2020): train controllers that choose each image's filters; a stopped run resumes.

    The result is read by every command: --model as here, --weights the run's folder, --method decoupling.
    """
    from netpaths.cli import subject
    from netpaths.decoupling.files import save_decoupled
    from netpaths.decoupling.insertion import decouple as insert
    from netpaths.decoupling.training import evaluate

    session = Session.of(context)
    recipe = make_recipe(session.options)
    network = subject.load_network(model, weights, normalize, seed, device)
    parts = [subject.load_images(data, part, network, model, size, channels, limit, seed) for part in ("train", "test")]
    graph = subject.make_graph(network, model, parts[0].shape)
    parts[0].check_labels(graph.classes)
    example = parts[0][:1][0].to(graph.device)
    decoupled = insert(network, example, subject.names(layers), bias, level, seed)
    with session.open_run(FILES, {"model": graph.fingerprint, "data": [part.digest for part in parts]}) as run:
        before = evaluate(decoupled, parts[1])
        history = _train(decoupled, network, parts, recipe, run, quiet)
        more = {"kept": history[-1]["kept"], "accuracy": history[-1]["accuracy"]}
        file = save_decoupled(
            decoupled, run.path("model.safetensors"), model, parts[0].shape, graph.classes, normalize, more=more
        )
        _write(run, history)
    session.say(table("", _rows(before, history)), f"wrote {file}")
    session.finish({"out": out, "before": before, "history": history, "layers": decoupled.layers})


def make_recipe(given: Any) -> Recipe:
    """The recipe that the options ask for; raises BadOption for a value out of range."""
    from netpaths.cli.studied import shares
    from netpaths.decoupling.loss import Objective
    from netpaths.decoupling.training import Recipe

    losses = ("information", "alignment", "sparsity", "kept", "direction", "distillation", "hints")
    objective = {name: given[name] for name in losses}
    rest = ("epochs", "batch_size", "lr", "pace", "hold", "momentum", "weight_decay", "ramp", "settle")
    chosen = {name: given[name] for name in (*rest, "shift", "flip", "cutmix")}
    if given["milestones"] is not None:
        chosen["milestones"] = shares("--milestones", given["milestones"])
    recipe = Recipe(objective=Objective(**objective), seed=given["seed"], **chosen)
    recipe.check()
    return recipe


def _train(
    decoupled: Decoupled, plain: nn.Module, parts: list[Any], recipe: Recipe, run: Run, quiet: bool
) -> list[dict[str, float]]:
    """Train from the checkpoint of a stopped run, or from the start; the first Ctrl-C stops between two batches."""
    from netpaths.decoupling.training import train_decoupled
    from netpaths.runs import progress

    checkpoint = run.path(CHECKPOINT)
    with _stopping(checkpoint) as stopped, progress("decoupling", quiet, "batches") as report:
        return train_decoupled(
            decoupled,
            parts[0].in_memory(),
            recipe,
            parts[1],
            plain,
            checkpoint=checkpoint,
            progress=report,
            stopped=stopped,
        )


@contextmanager
def _stopping(checkpoint: Any) -> Iterator[Callable[[], None]]:
    """Yields what raises Interrupted once the user asked to stop."""
    from netpaths.runs import Interrupted, stop_requests

    with stop_requests() as asked:

        def stopped() -> None:
            if asked():
                kept = (
                    f"the epochs done are kept in {checkpoint}; the same command goes on from there"
                    if checkpoint.is_file()
                    else "no epoch was done; the same command starts over"
                )
                raise Interrupted(kept, asked())

        yield stopped


def _write(run: Run, history: list[dict[str, float]]) -> None:
    from netpaths.report.tables import write_csv

    write_csv(run.path("history.csv"), history)


def _rows(before: dict[str, float], history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """One line per epoch, and one for the start."""
    return [
        {
            "epoch": f"{row.get('epoch', 0):.0f}",
            "loss": row.get("loss"),
            "test accuracy": f"{row['accuracy']:.2%}",
            "filters on": f"{row['kept']:.1%}",
            "MACs of the dense network": f"{row['macs']:.1%}",
            "seconds": row.get("seconds"),
        }
        for row in (before, *history)
    ]
