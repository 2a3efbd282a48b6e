"""netpaths reduce: a decoupled network without the filters that some classes never use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.data import Images
    from netpaths.decoupling.insertion import Decoupled
    from netpaths.graph import Graph
    from netpaths.profile import Profile

EXAMPLES = (
    "netpaths reduce --model lenet5 --weights runs/decoupled --profile runs/profile --classes 3,5 --out runs/reduced",
    "netpaths reduce --model resnet20 --weights runs/decoupled --profile runs/profile --data cifar10:data/cifar10 "
    "--classes cat,dog --out runs/reduced",
)
WEIGHTS = "model.safetensors"
FILES = (WEIGHTS, "layers.csv", "reduction.csv")
QUANTITIES = {
    "filters": "filters of decoupled layers",
    "parameters": "parameters",
    "macs": "MACs of an image, everything on",
    "accuracy": "accuracy on test images of the classes",
}

DecoupledWeights = Annotated[
    Path,
    typer.Option(
        "--weights",
        help="A decoupled network: the folder of a decouple or reduce run, or its file.",
        metavar="FILE",
        show_default=False,
    ),
]
CodesFile = Annotated[
    Path,
    typer.Option(
        "--profile",
        help="Its class paths of --method decoupling: the folder of a profile run, or its file.",
        metavar="FILE",
        show_default=False,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        help="Classes whose filters stay, with commas: numbers or, with --data, names that are none.",
        metavar="CLASSES",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reduce", epilog=section(*EXAMPLES))(reduce)


def reduce(
    context: typer.Context,
    model: options.Model,
    weights: DecoupledWeights,
    profile: CodesFile,
    classes: Classes,
    out: options.Out,
    data: options.OptionalData = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Take out of a decoupled network (ECCV 2020) the filters that no path of the given classes uses, for good.

    Images of these classes whose filters the profile knows are answered as before. With --data the accuracy on test
    images of these classes is measured too. The result is read by every command: --model as here, --weights the run's
    folder.
    """
    from netpaths.cli import subject
    from netpaths.decoupling.removal import remove_unused
    from netpaths.files import stored_checksum
    from netpaths.path import union
    from netpaths.runs import file_of

    session = Session.of(context)
    network = _load(model, weights, seed, device)
    graph = subject.make_graph(network, model, network.input_shape)
    file, known = file_of(profile, subject.PROFILE), _load_profile(profile, graph)
    images = None if data is None else subject.load_images(data, "test", network, model, size, channels, None, seed)
    labels = chosen_classes(classes, known, [] if images is None else images.classes)
    images = None if images is None else _of_classes(images, labels, network.input_shape, limit, seed)
    inputs = {"model": graph.fingerprint, "profile": stored_checksum(file), "data": images and images.digest}
    with session.open_run(FILES, inputs) as run:
        reduced = remove_unused(network, union([known[label] for label in labels]))
        layers = _layers(network, reduced)
        found = _before_and_after(network, reduced, images)
        _save(reduced, run.path(WEIGHTS), model, weights, labels)
        _write(run, layers, found)
    session.say(table("", layers), table("", _rows(found)), f"wrote {run.path(WEIGHTS)}")
    session.finish({"out": out, "classes": labels, "layers": layers, **found})


def chosen_classes(text: str, profile: Profile, names: Sequence[str]) -> list[int]:
    """The classes that a text with commas asks for, ascending; ``names`` are those of the data.

    Raises BadOption for a name that the data does not have, and EmptyClass for a class without a path.
    """
    from netpaths.cli import subject
    from netpaths.errors import BadOption

    labels = sorted({_label(each, names) for each in subject.names(text) or ()})
    if not labels:
        raise BadOption(f"--classes is {text!r}, expected at least one class")
    for label in labels:
        profile[label]
    return labels


def _label(text: str, names: Sequence[str]) -> int:
    """The class of a name or a number."""
    from difflib import get_close_matches

    from netpaths.errors import BadOption

    if text.isdecimal():
        return int(text)
    if text in names:
        return list(names).index(text)
    if not names:
        raise BadOption(f"--classes names {text!r}; without --data classes are numbers")
    near = ", ".join(get_close_matches(text, names, n=3, cutoff=0.3)) or f"{names[0]}, …"
    raise BadOption(f"the data has no class {text!r}; nearest: {near}")


def _load(model: str, weights: Path, seed: int, device: str) -> Decoupled:
    """The decoupled network; raises BadOption for a plain one."""
    from netpaths.cli import subject
    from netpaths.decoupling.insertion import Decoupled
    from netpaths.errors import BadOption

    network = subject.load_network(model, weights, None, seed, device)
    if not isinstance(network, Decoupled):
        raise BadOption(f"{weights} holds no decoupled network; make one with netpaths decouple")
    return network


def _load_profile(place: Path, graph: Graph) -> Profile:
    """The profile of the network's codes; raises ModelMismatch, and BadOption for other paths."""
    from netpaths.cli import subject
    from netpaths.errors import BadOption
    from netpaths.methods import CalculationPath

    file, profile, method = subject.load_profile(place, graph)
    if not isinstance(method, CalculationPath):
        name = profile.method["name"]
        raise BadOption(f"{file} holds {name} paths; make one with netpaths profile --method decoupling")
    return profile


def _of_classes(images: Images, labels: Sequence[int], shape: tuple[int, ...], limit: int | None, seed: int) -> Images:
    """The images of some classes, at most ``limit``; raises BadInput for another shape, or where there are none."""
    import numpy as np

    from netpaths.data.images import balanced
    from netpaths.errors import BadInput

    if images.shape != shape:
        raise BadInput(f"images have shape {images.shape}, the network was decoupled for {shape}")
    chosen = images.take(np.isin(images.labels, labels))
    if len(chosen) == 0:
        raise BadInput(f"the data has no test image of class {', '.join(map(str, labels))}")
    return chosen if limit is None else chosen.take(balanced(chosen.labels, limit, seed))


def _layers(network: Decoupled, reduced: Decoupled) -> list[dict[str, Any]]:
    """Filters of every layer before and after."""
    before, after = network.widths, reduced.widths
    return [
        {"layer": layer, "filters": width, "kept": after[layer], "share": after[layer] / width}
        for layer, width in before.items()
    ]


def _before_and_after(network: Decoupled, reduced: Decoupled, images: Images | None) -> dict[str, dict[str, float]]:
    """What the two networks have and cost, by the names of `QUANTITIES`."""
    measured = [_measured(each, images) for each in (network, reduced)]
    return {name: {"before": measured[0][name], "after": measured[1][name]} for name in measured[0]}


def _measured(network: Decoupled, images: Images | None) -> dict[str, float]:
    from netpaths.decoupling.cost import Cost
    from netpaths.graph import Graph
    from netpaths.training import accuracy

    example = next(network.parameters()).new_zeros(1, *network.input_shape)
    found: dict[str, float] = {
        "filters": sum(network.widths.values()),
        "parameters": sum(each.numel() for each in network.parameters()),
        "macs": Cost(Graph(network, example)).most(),
    }
    return found if images is None else {**found, "accuracy": accuracy(network, images)}


def _save(reduced: Decoupled, file: Path, model: str, weights: Path, labels: Sequence[int]) -> None:
    """Write the network, to be made as that in ``weights``."""
    from netpaths.decoupling.files import save_decoupled
    from netpaths.runs import file_of
    from netpaths.zoo import read_header

    header = read_header(file_of(weights, WEIGHTS))
    made = {name: header["decoupled"].get(name) for name in ("normalize", "restricted")}
    save_decoupled(reduced, file, model, reduced.input_shape, header["classes"], **made, more={"reduced to": labels})


def _write(run: Any, layers: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, float]]) -> None:
    from netpaths.report.tables import write_csv

    write_csv(run.path("layers.csv"), layers)
    write_csv(run.path("reduction.csv"), [{"quantity": name, **each} for name, each in found.items()])


def _rows(found: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """One line per quantity, to print."""

    def told(name: str, value: float) -> str:
        return f"{value:.2%}" if name == "accuracy" else f"{value:,.0f}"

    return [
        {
            "": QUANTITIES[name],
            "before": told(name, each["before"]),
            "after": told(name, each["after"]),
            "share": f"{each['after'] / each['before']:.1%}" if name != "accuracy" else "",
        }
        for name, each in found.items()
    ]
