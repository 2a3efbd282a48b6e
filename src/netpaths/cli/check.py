"""netpaths check: a verdict for every image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

import msgspec
import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    import torch

    from netpaths.detection import Detector
    from netpaths.graph import Graph

EXAMPLES = (
    "netpaths check photo.png --model lenet5 --weights runs/lenet5 --profile runs/profile --detector runs/detector",
    "netpaths check photos/ --model lenet5 --weights runs/lenet5 --profile runs/profile --detector runs/detector "
    "--json verdicts.json",
)
REASONS = 3

Images = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)]
DetectorFile = Annotated[
    Path,
    typer.Option("--detector", help="The detector: a file, or the folder of a calibrate run.", metavar="FILE"),
]
Fail = Annotated[bool, typer.Option("--fail-on-flag", help="Exit with 1 when any image is flagged.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", epilog=section(*EXAMPLES))(check)


def check(
    context: typer.Context,
    images: Images,
    model: options.Model,
    detector: DetectorFile,
    profile: options.ProfileFile,
    weights: options.Weights = None,
    normalize: options.Normalize = None,
    fail_on_flag: Fail = False,
    batch_size: options.BatchSize = None,
    seed: options.Seed = 0,
    device: options.Device = options.DEVICE,
    threads: options.Threads = None,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say of each image whether its path is unlike its predicted class's, and at which layers."""
    from netpaths.cli import subject
    from netpaths.cli.first_use import ready_kernels

    session, files = Session.of(context, "batch_size"), image_files(images)
    network = subject.load_network(model, weights, normalize, seed, device)
    watch = _load(network, model, detector, profile)
    ready_kernels(watch.graph.device, quiet)
    verdicts = _verdicts(watch, files, subject.batch_for(watch.graph, batch_size), quiet)
    session.say(table("", [_shown(verdict) for verdict in verdicts]), _summary(verdicts, watch.detector))
    session.finish({"images": verdicts, "threshold": watch.detector.threshold_, "fpr": watch.detector.fpr_})
    if fail_on_flag and any(verdict["flagged"] for verdict in verdicts):
        raise typer.Exit(1)


def image_files(places: list[Path]) -> list[Path]:
    """The image files among ``places`` and in the folders among them; raises MissingData."""
    from netpaths.data.folder import ENDINGS
    from netpaths.errors import MissingData

    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(file for file in place.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
            if not inside:
                raise MissingData(f"there are no images in {place}; expected PNG, JPEG or WebP files")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise MissingData(f"there is no image {place}")
    return found


class Compared(TypedDict):
    """What a detector's file says of its images: their shape, the kind of sites compared and the classes' names."""

    input_shape: tuple[int, int, int]
    kind: str | None
    classes: NotRequired[list[str]]


class _Watch:
    """A fitted detector with the model, profile and method that it was made for."""

    def __init__(self, graph: Graph, detector: Detector, header: Any, profile: Any, method: Any) -> None:
        self.graph, self.detector, self.profile, self.method = graph, detector, profile, method
        self.kind: str | None = header["extra"]["kind"]
        self.layers = tuple(header["layers"])
        self.classes: list[str] = header["extra"].get("classes", [])

    def class_name(self, label: int) -> str:
        """What the data calls a class; its number where the data did not say."""
        return self.classes[label] if label < len(self.classes) else str(label)

    def features(self, images: torch.Tensor, sources: list[str]) -> Any:
        """Features of a batch (batch, channels, height, width), compared as the detector was fitted."""
        from netpaths.detection.extraction import extract_features

        return extract_features(
            self.method,
            self.graph,
            self.profile,
            images,
            sources=sources,
            kind=self.kind,
            layers=self.layers,
            batch_size=len(images),
        )


def _load(network: Any, name: str, detector: Path, profile: Path) -> _Watch:
    """Everything that check needs, each checked against the model; raises ModelMismatch, BadFile and BadOption."""
    from netpaths.cli import subject
    from netpaths.detection import load_detector
    from netpaths.errors import BadFile, BadOption, ModelMismatch
    from netpaths.files import stored_checksum
    from netpaths.runs import file_of

    file = file_of(detector, "detector.safetensors")
    _, header = load_detector(file)
    try:
        shape = msgspec.convert(header["extra"], Compared)["input_shape"]
    except msgspec.MsgspecError as error:
        reason = f"{file} does not say what images it takes; make it with netpaths calibrate"
        raise BadFile(f"{reason} ({error})") from error
    graph = subject.make_graph(network, name, shape)
    fitted, header = load_detector(file, graph.fingerprint)
    if fitted.threshold_ is None:
        raise BadOption(f"{file} has no threshold; make it with netpaths calibrate")
    place, made, method = subject.load_profile(profile, graph)
    if stored_checksum(place) != header["profile_checksum"]:
        raise ModelMismatch(f"{file} was made for another profile than {place}; calibrate a detector for this one")
    return _Watch(graph, fitted, header, made, method)


def _verdicts(watch: _Watch, files: list[Path], batch_size: int, quiet: bool) -> list[dict[str, Any]]:
    import torch

    from netpaths.data import load_image
    from netpaths.runs import progress

    found: list[dict[str, Any]] = []
    channels, height, width = watch.graph.input_shape
    with progress("check", quiet) as report:
        for start in range(0, len(files), batch_size):
            part = files[start : start + batch_size]
            images = torch.cat([load_image(file, (channels, height, width)) for file in part])
            features = watch.features(images.to(watch.graph.device), [str(file) for file in part])
            scores = watch.detector.score(features)
            found += [_verdict(watch, features.take([row]), scores[row], part[row]) for row in range(len(part))]
            report(len(found), len(files), "")
    return found


def _verdict(watch: _Watch, features: Any, score: float, file: Path) -> dict[str, Any]:
    from netpaths.detection import departures

    threshold, label = watch.detector.threshold_, int(features.predicted[0])
    reasons = departures(features, watch.detector.reference_, REASONS)
    return {
        "image": file,
        "flagged": bool(watch.detector.predict(features)[0]),
        "score": float(score),
        "threshold": threshold,
        "predicted": label,
        "class_name": watch.class_name(label),
        "reasons": [reason._asdict() for reason in reasons],
    }


def _shown(verdict: dict[str, Any]) -> dict[str, Any]:
    shown = {name: verdict[name] for name in ("image", "flagged", "score", "threshold")}
    shown["predicted"] = verdict["class_name"]
    reasons = [
        f"{row['layer']} rank {row['rank']}: {row['value']:.3f}, clean {row['clean_mean']:.3f}"
        for row in verdict["reasons"]
    ]
    return {**shown, "departs most at": "; ".join(reasons) if verdict["flagged"] else ""}


def _summary(verdicts: list[dict[str, Any]], detector: Detector) -> str:
    flagged = sum(verdict["flagged"] for verdict in verdicts)
    return f"{flagged} of {len(verdicts)} images flagged; about {detector.fpr_:.2g} of clean images are, as calibrated"
