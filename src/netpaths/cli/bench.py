"""netpaths bench: what extraction costs beside the bare forward pass."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, set_threads, table

if TYPE_CHECKING:
    from torch import nn

    from netpaths.benchmark import Plan, Subject
    from netpaths.data import Images
    from netpaths.graph import Graph
    from netpaths.methods import EffectivePath
    from netpaths.runs import Run

EXAMPLES = (
    "netpaths bench --quick",
    "netpaths bench --model lenet5 --weights runs/lenet5 --data digits --part last=2 --part profile --batch 32 "
    "--threads 1 --repeats 3",
    "netpaths bench --model resnet20 --batch 8 --part similarity --curve depth --repeats 3 --json bench.json",
)
LONG = (
    "netpaths bench --preset targets --weights squeezenet1_0=squeezenet.safetensors --data lenet5=mnist:data/mnist "
    "--out runs/targets",
)
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A network; may be repeated.  [default: lenet5 and resnet20]", metavar="NAME"),
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        help="What to time: full (paths), last=N (partial paths, with their forward pass), similarity (of ranks 1 and "
        "2 to class paths), profile (class paths of --data, wall clock), merge (of class paths), "
        "kept=PERCENT (a decoupled network with so many filters on) or routing (gates of "
        "CDRP over plain passes); may be repeated.  "
        "[default: full; with --curve none]",
        metavar="PART",
    ),
]
Curves = Annotated[
    list[str] | None,
    typer.Option(
        "--curve",
        help="Also draw the cost against theta, batch, depth or size (of images), at the first --batch and "
        "--threads; may be repeated.  [default: none]",
        metavar="NAME",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="targets: the rows of the performance targets, with --batch 1 and 8 and --threads 1 and 2 unless told "
        "otherwise; --model and --part pick some.  [default: none]",
        metavar="NAME",
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        help="A network's weights, [MODEL=]FILE: a safetensors state dict, or the folder of a train run; may be "
        "repeated.  [default: random from --seed]",
        metavar="FILE",
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        help="Images to time with, [MODEL=]DATA, converted to the network's size; may be repeated.  "
        "[default: random pixels]",
        metavar="DATA",
    ),
]
Count = Annotated[
    int | None,
    typer.Option("--images", help="Training images that --part profile takes.  [default: all]", min=1, metavar="N"),
]
Batches = Annotated[
    list[int] | None,
    typer.Option("--batch", help="Images in a batch; may be repeated.  [default: 1 and 32]", min=1, metavar="N"),
]
ThreadCounts = Annotated[
    list[int] | None,
    typer.Option("--threads", help="CPU threads; may be repeated.  [default: as torch chooses]", min=1, metavar="N"),
]
Repeats = Annotated[int, typer.Option(help="Timed rounds after one warm-up; medians count.", min=1, metavar="N")]
Quick = Annotated[bool, typer.Option("--quick", help="Only lenet5 unless told otherwise, with three repeats.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench", epilog=section(*EXAMPLES, *LONG))(bench)


def bench(
    context: typer.Context,
    models: Models = None,
    parts: Parts = None,
    curves: Curves = None,
    preset: Preset = None,
    weights: Weights = None,
    data: Data = None,
    images: Count = None,
    batches: Batches = None,
    thread_counts: ThreadCounts = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    theta: options.Theta = options.THETA,
    kind: options.Kinds = options.KINDS,
    out: options.OptionalOut = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Time the extraction of paths beside the bare forward pass, on random images and weights unless given.

    All stages of a row are timed in turn, round by round; times are medians over rounds, ratios medians of the rounds'
    ratios.
    """
    from netpaths.benchmark import Plan
    from netpaths.cli import subject

    session = Session.of(context)
    method = subject.effective_path(theta, None, kind)
    plan = Plan.of(context.params)
    subjects = {name: _subject(name, plan, seed, device) for name in plan.models}
    with session.maybe_run(_files(), {name: each.graph.fingerprint for name, each in subjects.items()}) as run:
        result = _measure_all(plan, subjects, method, run, session)
        if run is not None:
            _write_curves(run, result["curves"])
    session.say(*_tables(result), *result["notes"])
    session.finish(result)


def _subject(name: str, plan: Plan, seed: int, device: str) -> Subject:
    """The network of this name with images on its device; raises BadOption where nothing tells their size."""
    import torch

    from netpaths.benchmark import Subject
    from netpaths.cli import subject
    from netpaths.errors import BadOption

    weights, data = plan.weights.of(name), plan.data.of(name)
    network = subject.load_network(name, Path(weights) if weights else None, None, seed, device)
    if data is None:
        shape = subject.input_shape(network, name)
        if shape is None:
            raise BadOption(f"{name} does not say what size of image it takes; give --data")
        images = torch.rand(plan.images, *shape, generator=torch.Generator().manual_seed(seed))
    else:
        images = _images(name, network, data, "test", plan.images, seed)[:][0]
    graph = subject.make_graph(network, name, tuple(images.shape[1:]))
    return Subject(
        name,
        network,
        graph,
        images.to(graph.device),
        f"real: {Path(weights).name}" if weights else f"random, seed {seed}",
        data or "random pixels",
        None if data is None else lambda limit: _labelled(name, network, graph, data, limit, seed),
    )


def _images(name: str, network: nn.Module, data: str, split: str, limit: int | None, seed: int) -> Images:
    """Images of ``data`` in the size that the network is made for."""
    from netpaths.cli import subject

    found = subject.load_images(data, split, network, name, limit=limit, seed=seed)
    shape = subject.input_shape(network, name)
    if shape is None or found.shape == shape:
        return found
    return subject.load_images(data, split, network, name, shape[1], shape[0], limit, seed)


def _labelled(name: str, network: nn.Module, graph: Graph, data: str, limit: int | None, seed: int) -> Images:
    """Training images whose labels the network knows."""
    images = _images(name, network, data, "train", limit, seed)
    images.check_labels(graph.classes)
    return images


def _measure_all(
    plan: Plan, subjects: Mapping[str, Subject], method: EffectivePath, run: Run | None, session: Session
) -> dict[str, Any]:
    """All figures; a run's bench.json and bench.csv are written anew after every row."""
    import torch

    from netpaths.benchmark import machine
    from netpaths.runs import Interrupted, progress

    settings = {**method.describe(), "repeats": plan.repeats, "seed": session.options["seed"]}
    result: dict[str, Any] = {"command": shlex.join(["netpaths", *session.arguments]), "machine": machine()}
    result |= {"settings": settings, "models": [], "rows": [], "curves": [], "notes": []}
    total, before = len(plan.cases) + len(plan.models) * len(plan.curves), torch.get_num_threads()
    try:
        with progress("bench", session.quiet, "cases") as report:
            for done, name in enumerate(_measured(plan, subjects, method, result), 1):
                if run is not None:
                    _write(run, result)
                report(done, total, name)
    except KeyboardInterrupt as stop:
        if run is None or not (result["rows"] or result["curves"]):
            raise
        raise Interrupted(f"what was measured so far is in {run.path('bench.json')}") from stop
    finally:
        set_threads(before)
    return result


def _measured(
    plan: Plan, subjects: Mapping[str, Subject], method: EffectivePath, result: dict[str, Any]
) -> Iterator[str]:
    """Add rows to ``result``; yields the model's name after every one."""
    from netpaths.benchmark import curve_rows, first_use, measure, with_speed_ups

    for name, subject in subjects.items():
        result["models"].append({**subject.names(), "layers": len(subject.graph.layers), **first_use(subject, method)})
        for case in (case for case in plan.cases if case.model == name):
            _use_threads(case.threads, result["notes"])
            row = measure(case, subject, method, plan.repeats)
            result["rows"] = with_speed_ups([*result["rows"], row])
            yield name
        for curve in plan.curves:
            _use_threads(plan.threads, result["notes"])
            rows = curve_rows(subject, method, curve, plan.batch, plan.repeats, result["notes"].append)
            result["curves"] += [{**row, "threads": plan.threads} for row in rows]
            yield name


def _use_threads(count: int, notes: list[str]) -> None:
    """Use ``count`` threads; note where the compiled kernels have fewer."""
    import numba

    set_threads(count)
    note = f"{count} threads were asked for, the compiled kernels have {numba.get_num_threads()} (NUMBA_NUM_THREADS)"
    if numba.get_num_threads() < count and note not in notes:
        notes.append(note)


def _files() -> tuple[str, ...]:
    from netpaths.benchmark import CURVES

    figures = (f"curve-{curve}.{ending}" for curve in CURVES for ending in ("csv", "svg", "png"))
    return ("bench.csv", "bench.json", *figures)


def _write(run: Run, result: Mapping[str, Any]) -> None:
    from netpaths.files import write_json
    from netpaths.report.tables import write_csv

    write_json(run.path("bench.json"), result)
    if result["rows"]:
        write_csv(run.path("bench.csv"), result["rows"])


def _write_curves(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    from netpaths.report.cost_figures import cost_figure
    from netpaths.report.style import save_figure
    from netpaths.report.tables import write_csv

    for curve in dict.fromkeys(row["curve"] for row in rows):
        own = [row for row in rows if row["curve"] == curve]
        write_csv(run.path(f"curve-{curve}.csv"), own)
        save_figure(cost_figure(own), run.folder, f"curve-{curve}")


def _tables(result: Mapping[str, Any]) -> Iterator[Any]:
    from netpaths.benchmark import TABLES, table_rows

    for name, layout in TABLES.items():
        rows = table_rows(name, result)
        if rows:
            yield table(layout.title, rows)
