"""netpaths attack: adversarial images, to fit and test detectors with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from torch import nn

    from netpaths.cli.attacked import Attacked
    from netpaths.data import Images
    from netpaths.graph import Graph
    from netpaths.runs import Run

EXAMPLES = (
    "netpaths attack --model lenet5 --weights runs/lenet5 --data digits --attack fgsm --attack deepfool "
    "--out runs/attacks",
    "netpaths attack --model lenet5 --weights runs/lenet5 --data digits --attack cw:steps=50 --attack noise "
    "--out runs/cw",
)
TABLE = "attacks.csv"

Chosen = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        help="fgsm, bim, pgd, deepfool, cw, jsma, targeted-fgsm, targeted-bim, targeted-cw, or a control: noise, blur, "
        "jpeg, contrast; with options as NAME:OPTION=VALUE,…; may be repeated.  [default: fgsm]",
        metavar="NAME",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("attack", epilog=section(*EXAMPLES))(attack)


def attack(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    attacks: Chosen = None,
    batch_size: options.FixedBatchSize = 100,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Attack the test images that the network gets right; finished attacks are kept when it is run again."""
    from netpaths.cli import attacked, subject
    from netpaths.report.tables import write_csv

    session, texts = Session.of(context), list(dict.fromkeys(attacks or ["fgsm"]))
    for text in texts:
        attacked.parse(text)
    network = subject.load_network(model, weights, normalize, seed, device)
    images = subject.load_images(data, "test", network, model, size, channels, limit, seed)
    graph = subject.make_graph(network, model, images.shape)
    images.check_labels(graph.classes)
    _check_options(texts, network, images)
    files = [attacked.CLEAN_FILE, TABLE, *(attacked.file_name(text) for text in texts)]
    with session.open_run(files, {"model": graph.fingerprint, "data": images.digest}) as run:
        made = _all(texts, network, graph, images, run, batch_size, seed, quiet)
        rows = [dict(each.row) for each in made]
        clean = _clean(graph, images, batch_size)
        attacked.save(run.path(attacked.CLEAN_FILE), clean)
        write_csv(run.path(TABLE), rows)
    session.say(table("", rows), f"wrote {len(rows)} attacks to {out}")
    session.finish({"out": out, "accuracy": clean.row["accuracy"], "attacks": rows})


def _check_options(texts: list[str], network: nn.Module, images: Images) -> None:
    """Raise BadOption for a wrong option of any attack before the first one runs."""
    from netpaths.attacks import ATTACKS
    from netpaths.attacks.options import merged
    from netpaths.cli.attacked import parse

    first, _ = images[:1]
    for text in texts:
        name, chosen = parse(text)
        merged(name, ATTACKS[name].strengths, chosen, first)


def _all(
    texts: list[str],
    network: nn.Module,
    graph: Graph,
    images: Images,
    run: Run,
    batch_size: int,
    seed: int,
    quiet: bool,
) -> list[Attacked]:
    """Every attack in turn; an interrupt says which are kept."""
    from netpaths.runs import Interrupted

    made: list[Attacked] = []
    try:
        for text in texts:
            made.append(_one(text, network, graph, images, run, batch_size, seed, quiet))
    except KeyboardInterrupt as stop:
        if not made:
            raise
        number = getattr(stop, "number", 2)
        kept = ", ".join(each.name for each in made)
        raise Interrupted(f"{kept} kept in {run.folder}; the same command goes on from there", number) from stop
    return made


def _one(
    text: str, network: nn.Module, graph: Graph, images: Images, run: Run, batch_size: int, seed: int, quiet: bool
) -> Attacked:
    """One attack, run now or read from a run that was stopped after it."""
    from netpaths import attacks
    from netpaths.cli import attacked
    from netpaths.runs import progress

    file = run.path(attacked.file_name(text))
    if file.is_file():
        return attacked.load(file)
    name, chosen = attacked.parse(text)
    with progress(text, quiet) as report:
        pixels, labels = images[:]
        result = attacks.attack(name, network, pixels, labels, seed, batch_size=batch_size, progress=report, **chosen)
    made = attacked.of_result(text, result, images.identifiers, graph.fingerprint)
    attacked.save(file, made)
    return made


def _clean(graph: Graph, images: Images, batch_size: int) -> Any:
    import numpy as np

    from netpaths.cli.attacked import CLEAN, Attacked

    predicted = [step.trace.predicted.cpu().numpy() for step in graph.stream(images.batches(batch_size))]
    found, pixels = np.concatenate(predicted), images[:][0]
    accuracy = float((found == images.labels).mean())
    row = {"images": len(images), "accuracy": accuracy, "classes": images.classes}
    nothing = np.zeros(len(images), np.bool_)
    return Attacked(
        CLEAN, False, pixels, tuple(images.identifiers), images.labels, found, nothing, row, graph.fingerprint
    )
