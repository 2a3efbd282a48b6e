"""netpaths bench: what extraction costs beside the bare forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, set_threads, table

if TYPE_CHECKING:
    import torch

    from netpaths.graph import Graph
    from netpaths.methods import EffectivePath

EXAMPLES = (
    "netpaths bench --quick",
    "netpaths bench --model lenet5 --weights runs/lenet5 --data digits --batch 1 --batch 32 --threads 1 --repeats 3",
    "netpaths bench --model resnet20 --batch 8 --theta 0.9 --repeats 3 --json bench.json",
)
FILES = ("bench.csv", "bench.json")

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A network; may be repeated.  [default: lenet5 and resnet20]", metavar="NAME"),
]
Data = Annotated[str | None, typer.Option(help="Images to time with.  [default: random pixels]", metavar="DATA")]
Batches = Annotated[
    list[int] | None,
    typer.Option("--batch", help="Images in a batch; may be repeated.  [default: 1 and 32]", min=1, metavar="N"),
]
ThreadCounts = Annotated[
    list[int] | None,
    typer.Option("--threads", help="CPU threads; may be repeated.  [default: as torch chooses]", min=1, metavar="N"),
]
Repeats = Annotated[int, typer.Option(help="Timed runs after one warm-up; the median counts.", min=1, metavar="N")]
Quick = Annotated[bool, typer.Option("--quick", help="Only lenet5, with three repeats.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench", epilog=section(*EXAMPLES))(bench)


def bench(
    context: typer.Context,
    models: Models = None,
    weights: options.Weights = None,
    data: Data = None,
    batches: Batches = None,
    thread_counts: ThreadCounts = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    theta: options.Theta = options.THETA,
    last: options.Last = None,
    kind: options.Kinds = options.KINDS,
    out: options.OptionalOut = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Time the extraction of paths beside the bare forward pass, on random images and weights unless given."""
    import torch

    from netpaths.cli import subject
    from netpaths.errors import BadOption

    session = Session.of(context)
    method = subject.effective_path(theta, last, kind)
    names = models or (["lenet5"] if quick else ["lenet5", "resnet20"])
    if weights is not None and len(names) != 1:
        raise BadOption("--weights belong to one network; give one --model with it")
    sizes, counts = batches or [1, 32], thread_counts or [torch.get_num_threads()]
    cases = [(name, size, threads) for name in names for size in sizes for threads in counts]
    subjects = {name: _subject(name, weights, data, max(sizes), seed, device) for name in names}
    with session.maybe_run(FILES, {name: graph.fingerprint for name, (graph, _) in subjects.items()}) as run:
        rows = _measure_all(cases, subjects, method, min(repeats, 3) if quick else repeats, quiet)
        if run is not None:
            _write(run, rows)
    session.say(table("Median times; contributions are products looked at by the selection", rows))
    session.finish({"machine": machine(), "rows": rows})


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import os
    import platform

    import torch

    from netpaths.runs import versions

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": platform.machine(), "cpus": os.cpu_count(), "gpu": gpu, "versions": versions()}


def _subject(
    name: str, weights: Path | None, data: str | None, count: int, seed: int, device: str
) -> tuple[Graph, torch.Tensor]:
    """The graph and ``count`` images (count, channels, height, width) on its device."""
    import torch

    from netpaths.cli import subject
    from netpaths.errors import BadOption

    network = subject.load_network(name, weights, None, seed, device)
    if data is None:
        shape = subject.input_shape(network, name)
        if shape is None:
            raise BadOption(f"{name} does not say what size of image it takes; give --data")
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    else:
        found = subject.load_images(data, "test", network, name, limit=count, seed=seed)
        images = found[torch.arange(count) % len(found)][0]
    graph = subject.make_graph(network, name, tuple(images.shape[1:]))
    return graph, images.to(subject.device_of(graph))


def _measure_all(
    cases: list[tuple[str, int, int]],
    subjects: dict[str, tuple[Graph, torch.Tensor]],
    method: EffectivePath,
    repeats: int,
    quiet: bool,
) -> list[dict[str, Any]]:
    import torch

    from netpaths.runs import progress

    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    try:
        with progress("bench", quiet, "cases") as report:
            for name, size, threads in cases:
                set_threads(threads)
                graph, images = subjects[name]
                rows.append(
                    {
                        "model": name,
                        "batch": size,
                        "threads": threads,
                        **_measure(graph, images[:size], method, repeats),
                    }
                )
                report(len(rows), len(cases), name)
    finally:
        set_threads(before)
    return rows


def _measure(graph: Graph, images: torch.Tensor, method: EffectivePath, repeats: int) -> dict[str, Any]:
    import torch

    def forward() -> None:
        with torch.no_grad():
            graph.run(images)

    def extract() -> None:
        method.extract(graph, images)

    contributions = _contributions(graph, images, method)
    bare = _median(forward, images.device, repeats)
    _reset_peak(images.device)
    full = _median(extract, images.device, repeats)
    return {
        "forward ms": 1e3 * bare,
        "extraction ms": 1e3 * full,
        "ratio": full / bare,
        "ms per image": 1e3 * full / len(images),
        "contributions": contributions,
        "ns each": 1e9 * (full - bare) / contributions if contributions else float("nan"),
        "peak MB": _peak_megabytes(images.device),
    }


def _contributions(graph: Graph, images: torch.Tensor, method: EffectivePath) -> int:
    """Active neurons of each layer times the inputs of one, summed over layers and images."""
    from dataclasses import replace

    from netpaths.path import Site

    total = 0
    for path in replace(method, kinds=("neuron",)).extract(graph, images):
        for name in graph.layers:
            field, site = graph.node(name).field, Site(name, "neuron")
            total += len(path[site]) * field.size if field is not None and site in path.sites else 0
    return total


def _median(work: Callable[[], None], device: torch.device, repeats: int) -> float:
    """The median of ``repeats`` wall-clock times in seconds, after one untimed run."""
    from statistics import median

    import torch

    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return median(times[1:])


def _reset_peak(device: torch.device) -> None:
    """Let the peak of memory start anew, where the system allows it."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_megabytes(device: torch.device) -> float | None:
    """Peak memory: of the process on a CPU (Linux only), allocated by torch on a GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def _write(run: Any, rows: list[dict[str, Any]]) -> None:
    from netpaths.files import write_json
    from netpaths.report.tables import write_csv

    write_csv(run.path("bench.csv"), rows)
    write_json(run.path("bench.json"), {"machine": machine(), "rows": rows})
