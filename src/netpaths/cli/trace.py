"""netpaths trace: the path of one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    import torch

    from netpaths.graph import PathMethod
    from netpaths.profile import Profile
    from netpaths.report.findings import Example
    from netpaths.runs import Run

EXAMPLES = (
    "netpaths trace photo.png --model lenet5 --weights runs/lenet5",
    "netpaths trace --data digits --index 7 --model lenet5 --weights runs/lenet5 --profile runs/profile "
    "--out runs/trace",
    "netpaths trace --data digits --index 7 --model lenet5 --weights runs/lenet5 --method routing --out runs/routed",
)
FILES = ("path.safetensors", "trace.html")

Image = Annotated[Path | None, typer.Argument(help="An image file.", show_default=False)]
Index = Annotated[
    int | None, typer.Option(help="Take this image of --data instead of a file.  [default: none]", min=0, metavar="N")
]
Split = Annotated[str, typer.Option(help="Part of --data that --index counts in: train or test.", metavar="NAME")]
Rank = Annotated[
    int | None,
    typer.Option(
        help="Explain the class with the largest logit (1), the second (2), ….  [default: the method's, or 1]",
        min=1,
        metavar="N",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="The notion of path, NAME or NAME:OPTION=VALUE,… as in netpaths profile.  "
        "[default: the profile's, or effective]",
        metavar="METHOD",
    ),
]
Theta = Annotated[
    float | None,
    typer.Option(help="Share of an active neuron's value to cover.  [default: the profile's, or 0.5]", metavar="SHARE"),
]
Last = Annotated[
    int | None,
    typer.Option(
        help="Stop after that many layers from the output.  [default: the profile's, or all]", min=1, metavar="N"
    ),
]
Compared = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        help="Class paths to compare with: a file, or a profile run's folder.  [default: none]",
        metavar="FILE",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trace", epilog=section(*EXAMPLES))(trace)


def trace(
    context: typer.Context,
    model: options.Model,
    image: Image = None,
    data: options.OptionalData = None,
    index: Index = None,
    split: Split = "test",
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    profile: Compared = None,
    method: Method = None,
    theta: Theta = None,
    last: Last = None,
    rank: Rank = None,
    out: options.OptionalOut = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show which neurons, synapses and weights, or channels, carry the prediction of one image."""
    from dataclasses import replace

    from netpaths.cli import subject
    from netpaths.cli.first_use import ready_kernels
    from netpaths.report.trace_page import layer_rows

    session = Session.of(context)
    check_source(image, data, index)
    network = subject.load_network(model, weights, normalize, seed, device)
    if image is not None:
        pixels, label, names = _from_file(image, network, model, size, channels)
    else:
        images = subject.load_images(str(data), split, network, model, size, channels)
        pixels, label, names = _from_data(images, int(index or 0))
    graph = subject.make_graph(network, model, tuple(pixels.shape[1:]))
    compared = None if profile is None else subject.load_profile(profile, graph)
    notion = _method(None if compared is None else compared[2], method, theta, last, rank)
    ready_kernels(graph.device, quiet)
    path = notion.extract(graph, pixels.to(graph.device))[0]
    second = graph.runner_up(pixels[0].to(graph.device))
    example = _example(pixels[0], path, label, None if compared is None else compared[1])
    shown = names or [str(number) for number in range(graph.classes)]
    seed_name = shown[path.seed] if path.seed is not None and path.seed < len(shown) else str(path.seed)
    example = replace(example, runner_up=second, steps=notion.explain(seed_name))
    with session.maybe_run(FILES, {"model": graph.fingerprint, "image": _digest(pixels)}) as run:
        if run is not None:
            _write(run, example, graph.operations(), shown, session)
    session.say(*_lines(example, names, run))
    session.finish({**_result(example, names), "layers": layer_rows(example)})


def check_source(image: Path | None, data: str | None, index: int | None) -> None:
    """Raise BadOption unless there is either a file, or data with an index."""
    from netpaths.errors import BadOption

    if (image is None) == (index is None) or (index is not None and data is None):
        raise BadOption("give either an image file, or --data with --index")


def _from_file(
    file: Path, network: Any, model: str, size: int | None, channels: int | None
) -> tuple[torch.Tensor, int, list[str]]:
    from netpaths.cli.subject import input_shape
    from netpaths.data import load_image
    from netpaths.errors import BadOption

    shape = input_shape(network, model)
    if shape is None and size is None:
        raise BadOption(f"{model} does not say what size of image it takes; give --size (and --channels 1 for grey)")
    made_for = shape or (3, 0, 0)
    return load_image(file, (channels or made_for[0], size or made_for[1], size or made_for[2])), -1, []


def _from_data(images: Any, index: int) -> tuple[torch.Tensor, int, list[str]]:
    from netpaths.errors import BadOption

    if index >= len(images):
        raise BadOption(f"--index is {index}, the data has {len(images)} images")
    pixels, labels = images[index : index + 1]
    return pixels, int(labels[0]), list(images.classes)


def _method(
    own: PathMethod | None, text: str | None, theta: float | None, last: int | None, rank: int | None
) -> PathMethod:
    """The profile's method, or one with the options asked for; raises BadOption where they disagree."""
    from netpaths.cli import subject
    from netpaths.errors import BadOption
    from netpaths.methods.registry import method_of

    chosen = own or subject.path_method(
        text or options.METHOD, options.THETA if theta is None else theta, last, options.KINDS
    )
    description = dict(chosen.describe())
    if own is not None and text is not None:
        raise BadOption(
            f"--method is {text!r} but --profile says that its paths are {description['name']}; leave it out"
        )
    for name, value in {"theta": theta, "last": last}.items():
        if value is not None and value != description.get(name):
            made = description.get(name, f"{description['name']} paths, which have none")
            raise BadOption(f"--{name} is {value:g} but the profile was made with {made}; leave it out")
    if rank is not None and rank != 1 and "rank" not in description:
        raise BadOption(f"--rank is {rank}, but {description['name']} paths are of the predicted class alone")
    wanted = {"budget": True, **({} if rank is None else {"rank": rank})}
    known = {name: value for name, value in wanted.items() if name in description}
    return method_of({**description, **known}) if known else chosen


def _example(pixels: torch.Tensor, path: Any, label: int, profile: Profile | None) -> Example:
    from netpaths.report.findings import Example
    from netpaths.similarity import image_class_similarity, total_similarity

    if profile is None:
        return Example(pixels, path, label)
    totals = {each: total_similarity(path, profile[each]) for each in profile}
    layers = image_class_similarity(path, profile[path.seed]) if path.seed in profile else {}
    return Example(pixels, path, label, layers, totals)


def _write(run: Run, example: Example, operations: Any, names: list[str], session: Session) -> None:
    from netpaths.path import save_path
    from netpaths.report.trace_page import write_trace_report

    save_path(example.path, run.path("path.safetensors"))
    title = f"The path of {session.options['image'] or 'image ' + str(session.options['index'])}"
    command = str(run.config["command_line"])
    write_trace_report(example, operations, names, run.folder, title, command, session.options)


def _result(example: Example, names: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    path = example.path
    return {
        "predicted": path.predicted,
        "seed": path.seed,
        "label": None if example.label < 0 else example.label,
        "class_names": names,
        "class_similarity": example.class_similarity,
        "budget": None if path.budget is None else asdict(path.budget),
    }


def _lines(example: Example, names: list[str], run: Run | None) -> list[Any]:
    from netpaths.report.sentences import carried

    path = example.path

    def name(label: int | None) -> str:
        return f"class {label}" + (
            f" ({names[label]})" if label is not None and names and names[label] != str(label) else ""
        )

    truth = f", labelled {name(example.label)}" if example.label >= 0 else ""
    of_rank = f"; this is the path of {name(path.seed)}" if path.seed != path.predicted else ""
    lines: list[Any] = [f"predicted {name(path.predicted)}{truth}{of_rank}", table("", _layers(example))]
    if path.budget is not None:
        lines.append(carried(path.budget))
    if example.class_similarity:
        order = sorted(example.class_similarity, key=lambda label: -example.class_similarity[label])
        rows = [{"class": name(label), "share inside": example.class_similarity[label]} for label in order[:10]]
        lines.append(table("Share of the path inside each class path", rows))
    return [*lines, *([] if run is None else [f"wrote {run.path('trace.html')}"])]


def _layers(example: Example) -> list[dict[str, Any]]:
    """A row per linear and convolution layer that was selected at: what the path takes of it."""
    from netpaths.path import Site

    path = example.path
    selected = {*path.nodes("synapse"), *path.nodes("weight")} or {site.node for site in path}
    rows = []
    for node in (layer for layer in path.layers if layer in selected):
        row: dict[str, Any] = {"layer": node}
        for kind in path.kinds():
            part = path.sites.get(Site(node, kind))
            row[f"{kind}s"] = None if part is None else len(part)
            row[f"of all {kind}s"] = None if part is None else f"{len(part) / part.total:.2%}"
        if example.similarity:
            row["inside class path"] = example.similarity.get(node)
        rows.append(row)
    return rows


def _digest(pixels: torch.Tensor) -> str:
    import hashlib

    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
