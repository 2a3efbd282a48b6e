"""netpaths evaluate: the detection protocol for several detectors and seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.calibrate import check_rate, make_detector
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.detection import Features

EXAMPLES = (
    "netpaths evaluate --features runs/detector --fpr 0.05",
    "netpaths evaluate --features runs/detector --detector joint --detector forest --fpr 0.05 --out runs/evaluation",
    "netpaths evaluate --model lenet5 --weights runs/lenet5 --profile runs/profile --attacks runs/attacks --fpr 0.05 "
    "--out runs/figures",
)
FILES = ("features.safetensors", "evaluation.csv", "evaluation.json")
SHOWN = ("auroc", "aupr")

FeaturesFile = Annotated[
    Path | None,
    typer.Option(
        "--features", help="Features of a calibrate or evaluate run: a file or folder.  [default: none]", metavar="FILE"
    ),
]
Model = Annotated[
    str | None, typer.Option(help="The network, to compute features with.  [default: none]", metavar="NAME")
]
ProfileFile = Annotated[
    Path | None,
    typer.Option("--profile", help="Class paths: a file, or a profile run's folder.  [default: none]", metavar="FILE"),
]
Attacked = Annotated[
    Path | None, typer.Option("--attacks", help="The folder of an attack run.  [default: none]", metavar="DIR")
]
Chosen = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        help="joint, forest, boosting or adaboost; may be repeated.  [default: all]",
        metavar="NAME",
        show_default=False,
    ),
]
Rates = Annotated[
    list[float] | None,
    typer.Option(
        "--fpr", help="Agreed false-alarm rate; may be repeated.  [default: 0.01 and 0.05]", show_default=False
    ),
]
Seeds = Annotated[int, typer.Option(help="How many splits and fits, seeded from --seed on.", min=1, metavar="N")]
Bootstrap = Annotated[int, typer.Option(help="Resamples of each confidence interval.", min=10, metavar="N")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", epilog=section(*EXAMPLES))(evaluate)


def evaluate(
    context: typer.Context,
    features: FeaturesFile = None,
    model: Model = None,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    profile: ProfileFile = None,
    attacks: Attacked = None,
    detector: Chosen = None,
    fpr: Rates = None,
    seeds: Seeds = 3,
    bootstrap: Bootstrap = 1000,
    kind: options.Kind = None,
    layers: options.Layers = None,
    out: options.OptionalOut = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure detectors on held-out images, attack by attack, with controls and attacks left out of fitting."""
    from netpaths.cli import subject

    session = Session.of(context, "batch_size")
    detectors, rates = list(dict.fromkeys(detector or _all())), tuple(fpr or (0.01, 0.05))
    for name in detectors:
        make_detector(name, seed)
    for rate in rates:
        check_rate(rate)
    network = None if model is None else subject.load_network(model, weights, normalize, seed, device)
    inputs, make = _source(features, network, model, profile, attacks, kind, layers, batch_size, quiet)
    with session.maybe_run(FILES, inputs) as run:
        found = make()
        results = _all_seeds(found, detectors, rates, range(seed, seed + seeds), bootstrap, quiet)
        rows = [{"seed": number, **row} for number, (rows, _) in results.items() for row in rows]
        config = {str(number): config for number, (_, config) in results.items()}
        if run is not None:
            _write(run, found, rows, config)
    session.say(table(f"Mean of {seeds} splits", means(rows, rates)), *([] if run is None else [f"wrote {out}"]))
    session.finish({"config": config, "rows": rows})


def _all() -> list[str]:
    from netpaths.detection import DETECTORS

    return list(DETECTORS)


def _source(
    file: Path | None,
    network: Any,
    name: str | None,
    profile: Path | None,
    attacks: Path | None,
    kind: str | None,
    layers: str | None,
    batch_size: int | None,
    quiet: bool,
) -> tuple[dict[str, Any], Callable[[], Features]]:
    """Digests of what features come from, and how to get them: from a file, or a model, profile and attacked images."""
    from netpaths.cli import subject
    from netpaths.cli.features import features_of, load_material
    from netpaths.detection import Features
    from netpaths.errors import BadOption
    from netpaths.files import stored_checksum
    from netpaths.runs import file_of

    if file is not None:
        if network is not None or profile is not None or attacks is not None or kind is not None or layers is not None:
            raise BadOption("--features holds everything; leave out --model, --profile, --attacks, --kind and --layers")
        place = file_of(file, "features.safetensors")
        loaded = Features.load(place)
        return {"features": stored_checksum(place)}, lambda: loaded
    if network is None or name is None or profile is None or attacks is None:
        raise BadOption("give --features, or all of --model, --profile and --attacks")
    material = load_material(network, name, attacks, profile)
    chosen = subject.check_comparison(material.graph, material.profile, kind, layers)
    return material.inputs, lambda: features_of(material, kind, chosen, batch_size, quiet)


def _all_seeds(
    features: Features, names: list[str], rates: tuple[float, ...], seeds: range, bootstrap: int, quiet: bool
) -> dict[int, tuple[list[dict[str, Any]], Any]]:
    """Seed → rows and configuration of its evaluation, with every attack left out of fitting once."""
    from netpaths import detection
    from netpaths.runs import progress

    found = {}
    with progress("evaluate", quiet, "splits") as report:
        for seed in seeds:
            splits = detection.split_by_source(features, seed=seed)
            made = {name: make_detector(name, seed) for name in names}
            results = [detection.evaluate(made, splits, rates, seed, bootstrap)]
            if len(features.attack_names) > 1:
                results.append(detection.leave_one_attack_out(made, splits, rates, seed, bootstrap))
            found[seed] = [row for result in results for row in result.rows()], results[0].config
            report(len(found), len(seeds), "")
    return found


def means(rows: list[dict[str, Any]], rates: tuple[float, ...]) -> list[dict[str, Any]]:
    """One row per detector and attack: means over the seeds, and the spread of the AUROC."""
    import numpy as np

    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["detector"], row["kind"], row["attack"]), []).append(row)
    found = []
    for (detector, kind, attack), members in groups.items():
        areas = np.array([row["auroc"] for row in members])
        shown = {
            "detector": detector,
            "kind": kind,
            "against": attack,
            "n": members[0]["n"],
            "AUROC": float(areas.mean()),
        }
        shown["lowest to highest"] = f"{areas.min():.3f} to {areas.max():.3f}"
        shown["AUPR"] = float(np.mean([row["aupr"] for row in members]))
        for rate in rates:
            shown[f"caught at {rate:g}"] = float(np.mean([row[f"caught_{rate:g}"] for row in members]))
            shown[f"false alarms at {rate:g}"] = float(np.mean([row[f"false_alarms_{rate:g}"] for row in members]))
        found.append(shown)
    return found


def _write(run: Any, features: Features, rows: list[dict[str, Any]], config: dict[str, Any]) -> None:
    from netpaths.files import write_json
    from netpaths.report.tables import write_csv

    features.save(run.path("features.safetensors"))
    write_csv(run.path("evaluation.csv"), rows)
    write_json(run.path("evaluation.json"), {"config": config, "rows": rows})
