"""netpaths train: a small classifier from images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from torch import nn

    from netpaths.data import Images
    from netpaths.runs import Run
    from netpaths.training import History

EXAMPLES = (
    "netpaths train --model lenet5 --data digits --epochs 12 --out runs/lenet5",
    "netpaths train --model lenet300-100 --data mnist:data/mnist --epochs 5 --shift 2 --out runs/lenet300",
)
FILES = ("model.safetensors", "history.csv")

Epochs = Annotated[int, typer.Option(help="Passes over the training images.", min=1, metavar="N")]
Rate = Annotated[float, typer.Option("--lr", help="Peak of the one-cycle learning rate.", metavar="RATE")]
Shift = Annotated[
    int, typer.Option(help="Move each training image at random by up to so many pixels.", min=0, metavar="N")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", epilog=section(*EXAMPLES))(train)


def train(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    epochs: Epochs = 12,
    batch_size: options.FixedBatchSize = 64,
    lr: Rate = 4e-3,
    shift: Shift = 0,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network on the training images and measure it on the test images."""
    from netpaths import training
    from netpaths.cli import subject

    session = Session.of(context)
    network = subject.load_network(model, None, normalize, seed, device)
    parts = [subject.load_images(data, part, network, model, size, channels, limit, seed) for part in ("train", "test")]
    classes = len(parts[0].classes)
    network = subject.load_network(
        model, weights, normalize, seed, device, classes if subject.is_named(model) else None
    )
    graph = subject.make_graph(network, model, parts[0].shape)
    parts[0].check_labels(graph.classes)
    with session.open_run(FILES, {"model": graph.fingerprint, "data": [part.digest for part in parts]}) as run:
        with _progress(quiet) as report:
            history = training.train(network, parts[0], epochs, batch_size, lr, seed, parts[1], report, shift=shift)
        _write(run, network, history, {"model": model, "data": data, "classes": graph.classes})
    trained = subject.make_graph(network, model, parts[0].shape)
    session.say(*_lines(session, history, parts))
    session.finish({"fingerprint": trained.fingerprint, **_result(history), "out": out})


def _progress(quiet: bool) -> Any:
    from netpaths.runs import progress

    return progress("training", quiet, "epochs")


def _write(run: Run, network: nn.Module, history: History, header: dict[str, Any]) -> None:
    from netpaths.report.tables import write_csv
    from netpaths.zoo import save_weights

    rows = [
        {"epoch": epoch, "loss": loss, "test_accuracy": accuracy}
        for epoch, (loss, accuracy) in enumerate(zip(history.loss, history.validation_accuracy), 1)
    ]
    write_csv(run.path("history.csv"), rows)
    save_weights(network, run.path("model.safetensors"), {**header, "accuracy": history.validation_accuracy[-1]})


def _result(history: History) -> dict[str, Any]:
    return {"accuracy": history.validation_accuracy[-1], "loss": history.loss, "seconds": history.seconds}


def _lines(session: Session, history: History, parts: list[Images]) -> list[Any]:
    row = {
        "model": session.options["model"],
        "training images": len(parts[0]),
        "test images": len(parts[1]),
        "epochs": len(history.loss),
        "seconds": round(history.seconds, 1),
        "loss": history.loss[-1],
        "test accuracy": f"{history.validation_accuracy[-1]:.2%}",
    }
    return [table("", [row]), f"wrote {session.out}/model.safetensors"]
