"""netpaths profile: the class paths of a network over its training images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.data import Images
    from netpaths.graph import Graph, PathMethod
    from netpaths.profile import Profile
    from netpaths.runs import Run

EXAMPLES = (
    "netpaths profile --model lenet5 --weights runs/lenet5 --data digits --out runs/profile",
    "netpaths profile --model lenet5 --weights runs/lenet5 --data digits --kind weight --counts --out runs/weights",
    "netpaths profile --model lenet5 --weights runs/lenet5 --data digits --method routing:steps=30,gamma=0.05 "
    "--out runs/routing",
)
PROFILE, PARTIAL = "profile.safetensors", "profile.partial.safetensors"
FILES = (PROFILE, PARTIAL, "density.csv", "growth.csv")
CHECKPOINT_SECONDS = 30.0

Counts = Annotated[bool, typer.Option("--counts", help="Also count how many images select each element.")]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Succeed where a class has no correct image.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile", epilog=section(*EXAMPLES))(profile)


def profile(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    size: options.Size = None,
    channels: options.Channels = None,
    limit: options.Limit = None,
    method: options.Method = options.METHOD,
    theta: options.Theta = options.THETA,
    last: options.Last = None,
    kind: options.Kinds = options.KINDS,
    counts: Counts = False,
    allow_empty: AllowEmpty = False,
    batch_size: options.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Unite the paths of each class's correctly classified training images; a stopped run resumes."""
    from netpaths.cli import subject
    from netpaths.cli.first_use import ready_kernels

    session = Session.of(context, "batch_size")
    notion = subject.path_method(method, theta, last, kind)
    network = subject.load_network(model, weights, normalize, seed, device)
    images = subject.load_images(data, "train", network, model, size, channels, limit, seed)
    graph = subject.make_graph(network, model, images.shape)
    images.check_labels(graph.classes)
    with session.open_run(FILES, {"model": graph.fingerprint, "data": images.digest}) as run:
        ready_kernels(graph.device, quiet)
        at_once = subject.batch_for(graph, batch_size)
        made, seconds = _build(notion, graph, images, at_once, counts, run, quiet)
        made.save(run.path(PROFILE))
        run.path(PARTIAL).unlink(missing_ok=True)
        rows = _write_tables(made, run) if made.paths else []
        _check_covered(made, images, allow_empty, run)
    session.say(table("", [_summary(made, images, seconds)]), table("Density", rows), f"wrote {run.path(PROFILE)}")
    done = {**_summary(made, images, seconds), "batch size": at_once}
    session.finish({"out": out, **done, "classes": made.images, "density": rows})


def _check_covered(made: Profile, images: Images, allow_empty: bool, run: Run) -> None:
    """Raise EmptyClass naming the classes of the data without a correct image, unless the user allows them."""
    from netpaths.errors import EmptyClass

    try:
        made.require(sorted({int(label) for label in images.labels}))
    except EmptyClass as error:
        if not allow_empty or not made.paths:
            raise EmptyClass(
                f"{error}; the other classes are in {run.path(PROFILE)} (accept it: --allow-empty)"
            ) from error


def _build(
    method: PathMethod, graph: Graph, images: Images, batch_size: int, counts: bool, run: Run, quiet: bool
) -> tuple[Profile, float]:
    """The profile of all images, going on from the checkpoint of a stopped run, and the seconds it took."""
    from netpaths.profile import Profile
    from netpaths.runs import Interrupted, progress, stop_requests

    partial, started = run.path(PARTIAL), time.perf_counter()
    resume = Profile.load(partial, graph.fingerprint) if partial.is_file() else None
    begun = resume.seen if resume else 0
    try:
        with stop_requests() as stopped, progress("profile", quiet, start=begun) as report:
            report(begun, len(images), "")
            after = _checkpoints(partial, len(images), stopped, report)
            made = Profile.build(method, graph, images.batches(batch_size), counts, resume, after, images.digest)
    except KeyboardInterrupt as stop:
        if isinstance(stop, Interrupted) or not partial.is_file():
            raise
        raise Interrupted(f"the last checkpoint is kept in {partial}; the same command goes on from there") from stop
    return made, time.perf_counter() - started


def _checkpoints(
    partial: Path, total: int, stopped: Callable[[], int], report: Callable[[int, int, str], None]
) -> Callable[[Profile], None]:
    """What to do after every batch: report, save now and then, and stop where the user asked to."""
    from netpaths.runs import Interrupted

    last = time.monotonic()

    def after(profile: Profile) -> None:
        nonlocal last
        report(profile.seen, total, "")
        if stopped():
            profile.save(partial)
            raise Interrupted(
                f"{profile.seen} of {total} images are kept in {partial}; the same command goes on from there",
                stopped(),
            )
        if time.monotonic() - last >= CHECKPOINT_SECONDS:
            profile.save(partial)
            last = time.monotonic()

    return after


def _write_tables(profile: Profile, run: Run) -> list[dict[str, Any]]:
    """Write density.csv (per layer and kind) and growth.csv (per merged class); returns the density rows."""
    from netpaths.report.tables import write_csv

    overall = profile.overall()
    rows: list[dict[str, Any]] = [
        {"layer": node, "kind": kind, "selected": len(overall[node, kind]), "total": overall[node, kind].total}
        for kind in overall.kinds()
        for node in overall.nodes(kind)
    ]
    for kind in overall.kinds():
        own = [row for row in rows if row["kind"] == kind]
        sums = {name: sum(row[name] for row in own) for name in ("selected", "total")}
        rows.append({"layer": "overall", "kind": kind, **sums})
    rows = [{**row, "density": row["selected"] / row["total"]} for row in rows]
    write_csv(run.path("density.csv"), rows)
    curves = {kind: profile.growth(kind) for kind in overall.kinds()}
    growth = [
        {"classes": place + 1, "added": label, **{kind: curve[place] for kind, curve in curves.items()}}
        for place, label in enumerate(profile)
    ]
    write_csv(run.path("growth.csv"), growth)
    return [row for row in rows if row["layer"] == "overall"]


def _summary(profile: Profile, images: Images, seconds: float) -> dict[str, Any]:
    return {
        "classes covered": len(profile),
        "images": len(images),
        "correct": sum(profile.images.values()),
        "accuracy": sum(profile.images.values()) / max(len(images), 1),
        "seconds": round(seconds, 2),
    }
