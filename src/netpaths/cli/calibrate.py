"""netpaths calibrate: a detector with an agreed false-alarm rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.detection import Detector, Evaluation, Features

EXAMPLES = (
    "netpaths calibrate --model lenet5 --weights runs/lenet5 --profile runs/profile --attacks runs/attacks "
    "--fpr 0.05 --out runs/detector",
    "netpaths calibrate --model lenet5 --weights runs/lenet5 --profile runs/profile --attacks runs/attacks "
    "--detector forest --kind weight --fpr 0.05 --out runs/forest",
)
DETECTOR, FEATURES = "detector.safetensors", "features.safetensors"
FILES = (DETECTOR, FEATURES, "evaluation.csv", "evaluation.json")

Chosen = Annotated[str, typer.Option("--detector", help="joint, forest, boosting or adaboost.", metavar="NAME")]
Fpr = Annotated[float, typer.Option(help="Share of clean images that may be flagged, between 0 and 1.", metavar="RATE")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate", epilog=section(*EXAMPLES))(calibrate)


def calibrate(
    context: typer.Context,
    model: options.Model,
    profile: options.ProfileFile,
    attacks: options.Attacked,
    out: options.Out,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    detector: Chosen = "joint",
    fpr: Fpr = 0.01,
    kind: options.Kind = None,
    layers: options.Layers = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fit a detector on attacked images and set its threshold on clean ones; its figures are for held-out images."""
    from netpaths.cli import features, subject
    from netpaths.detection import evaluate, split_by_source

    session = Session.of(context, "batch_size")
    made = make_detector(detector, seed)
    check_rate(fpr)
    network = subject.load_network(model, weights, normalize, seed, device)
    material = features.load_material(network, model, attacks, profile)
    chosen = subject.check_comparison(material.graph, material.profile, kind, layers)
    check_enough(material.parts[0].labels == material.parts[0].predicted, fpr)
    with session.open_run(FILES, material.inputs) as run:
        found = features.features_of(material, kind, chosen, batch_size, quiet)
        splits = split_by_source(found, seed=seed)
        fitted, evaluation = _fit(made, splits, fpr), evaluate({detector: made}, splits, (fpr,), seed)
        found.save(run.path(FEATURES))
        _save(fitted, run.path(DETECTOR), material, kind)
        evaluation.to_csv(run.path("evaluation.csv"))
        evaluation.to_json(run.path("evaluation.json"))
    session.say(table("Held-out images", shown_rows(evaluation, fpr)), _threshold_line(fitted, out / DETECTOR))
    session.finish({"out": out, "threshold": fitted.threshold_, "fpr": fpr, "rows": evaluation.rows()})


def make_detector(name: str, seed: int) -> Detector:
    """A detector by its name, seeded where it draws at random; raises BadOption naming the nearest."""
    from difflib import get_close_matches

    from netpaths.detection import DETECTORS
    from netpaths.errors import BadOption

    if name not in DETECTORS:
        near = get_close_matches(name, list(DETECTORS), n=3, cutoff=0.3)
        known = ", ".join(DETECTORS)
        raise BadOption(f"there is no detector {name!r}; nearest: {', '.join(near) or 'none'}; known: {known}")
    made = DETECTORS[name]()
    return DETECTORS[name](**{**made.params(), "seed": seed}) if "seed" in made.params() else made


def check_rate(fpr: float) -> None:
    """Raise BadOption for a false-alarm rate outside (0, 1)."""
    from netpaths.detection import images_needed

    images_needed(fpr)


def check_enough(correct: Any, fpr: float) -> None:
    """Raise BadOption when the clean calibration images will be too few for ``fpr``, before any path is extracted."""
    from netpaths.detection import SHARES, images_needed
    from netpaths.errors import BadOption

    have = int(SHARES["calibration"] * int(correct.sum()))
    if have + 2 < images_needed(fpr):
        raise BadOption(
            f"a false-alarm rate of {fpr:g} needs {images_needed(fpr)} clean calibration images, which are a share of "
            f"{SHARES['calibration']:.0%} of {int(correct.sum())} correct ones; attack more images or raise --fpr"
        )


def shown_rows(evaluation: Evaluation, fpr: float) -> list[dict[str, Any]]:
    """The rows of an evaluation as its printed table shows them."""
    rows = []
    for row in evaluation.results:
        area, caught, alarms = row.metrics["auroc"], row.caught.get(fpr), row.false_alarms[fpr]
        rows.append(
            {
                "detector": row.detector,
                "against": row.attack,
                "kind": row.kind,
                "n": row.n,
                "AUROC": area.value,
                "95% interval": f"{area.low:.3f} to {area.high:.3f}",
                f"caught at {fpr:g}": None if caught is None else caught.rate,
                "false alarms": alarms.rate,
            }
        )
    return rows


def _fit(detector: Detector, splits: dict[str, Features], fpr: float) -> Detector:
    counted = {name: part.take(part.is_counted) for name, part in splits.items()}
    return detector.clone().fit(counted["fit"]).calibrate(counted["calibration"], fpr)


def _save(detector: Detector, file: Path, material: Any, kind: str | None) -> None:
    from netpaths.detection import save_detector
    from netpaths.files import stored_checksum

    classes = material.parts[0].row.get("classes", [])
    extra = {"kind": kind, "input_shape": material.graph.input_shape, "classes": classes}
    layers = list(dict.fromkeys(layer for layer, _ in detector.names_))
    digest = stored_checksum(material.profile_file)
    save_detector(file, detector, material.graph.fingerprint, layers, material.method.describe(), digest, extra)


def _threshold_line(detector: Detector, file: Path) -> str:
    return f"flags scores above {detector.threshold_:.6g}; wrote {file}"
