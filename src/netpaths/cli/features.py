"""Detector features of a run of attacks: clean, attacked and control images against the class paths."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from netpaths.cli import attacked
from netpaths.cli.first_use import ready_kernels
from netpaths.cli.subject import batch_for, load_profile, make_graph
from netpaths.detection import Features
from netpaths.detection.extraction import extract_features
from netpaths.errors import BadFile, BadOption
from netpaths.files import stored_checksum
from netpaths.graph import Graph, PathMethod
from netpaths.profile import Profile
from netpaths.runs import CONFIG, progress


@dataclass(frozen=True, eq=False)
class Material:
    """What features are made from. parts: the clean images, then every attack's and control's that count."""

    graph: Graph
    parts: list[attacked.Attacked]
    profile: Profile
    profile_file: Path
    method: PathMethod

    @property
    def inputs(self) -> dict[str, str]:
        """Fingerprints of what goes in, for a run's config.json."""
        images = hashlib.sha256()
        for part in self.parts:
            images.update(part.name.encode())
            images.update(part.images.numpy().tobytes())
        return {
            "model": self.graph.fingerprint,
            "profile": stored_checksum(self.profile_file),
            "attacks": images.hexdigest(),
        }


def load_material(model: nn.Module, name: str, attacks: Path, profile: Path) -> Material:
    """The graph of ``model``, the images of an attack run and a profile, all of the same model."""
    parts = load_attacked(attacks)
    graph = make_graph(model, name, tuple(parts[0].images.shape[1:]))
    for part in parts:
        part.check_model(graph.fingerprint)
    file, made, method = load_profile(profile, graph)
    return Material(graph, parts, made, file, method)


def load_attacked(folder: Path) -> list[attacked.Attacked]:
    """Clean images and every attack of an attack run; raises BadFile and BadOption."""
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        raise BadFile(f"{folder} is not the folder of an attack run; make one with netpaths attack")
    files = [folder / attacked.CLEAN_FILE, *sorted(folder.glob("adversarial-*.safetensors"))]
    found = [attacked.load(file) for file in files]
    if not any(each.success.any() for each in found):
        raise BadOption(f"no attack in {folder} succeeded; use stronger attacks or more images")
    return [each.counted() for each in found]


def features_of(
    material: Material, kind: str | None, layers: tuple[str, ...] | None, batch_size: int | None, quiet: bool
) -> Features:
    """The features of all images of ``material``, in order.

    layers: those to compare, None for all. batch_size: images computed at once, None for as many as fit in memory.
    """
    parts, graph = material.parts, material.graph
    ready_kernels(graph.device, quiet)
    batch = batch_for(graph, batch_size)
    place, total, done = graph.device, sum(len(each.labels) for each in parts), 0
    found: list[Features] = []
    with progress("features", quiet) as report:
        for part in parts:
            for start in range(0, len(part.labels), batch):
                rows = slice(start, start + batch)
                images = part.images[rows].to(place)
                found.append(_batch(material, part, rows, images, kind, layers))
                done += len(images)
                report(done, total, part.name)
    return Features.concat(found)


def _batch(
    material: Material,
    part: attacked.Attacked,
    rows: slice,
    images: Tensor,
    kind: str | None,
    layers: tuple[str, ...] | None,
) -> Features:
    return extract_features(
        material.method,
        material.graph,
        material.profile,
        images,
        part.labels[rows],
        part.sources[rows],
        part.name,
        part.control,
        kind,
        layers,
        len(images),
    )
