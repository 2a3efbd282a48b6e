"""One row of figures for every part of the work: paths, similarities, class profiles, merging, gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from netpaths.benchmark.cases import Case
from netpaths.benchmark.decoupling import measure_decoupling
from netpaths.benchmark.extraction import Extraction
from netpaths.benchmark.routing import measure_routing
from netpaths.benchmark.subject import Subject
from netpaths.benchmark.timing import clocked, columns, compilations, milliseconds, ratio, rounds
from netpaths.data import Images
from netpaths.detection.extraction import extract_features
from netpaths.methods import EffectivePath
from netpaths.path import Elements, Path, union
from netpaths.profile import Profile

PROFILED = 8
"""Images whose paths a class path unites where a part needs class paths but does not measure their making."""


def measure(case: Case, subject: Subject, method: EffectivePath, repeats: int) -> dict[str, Any]:
    """The row of ``case``, from ``repeats`` timed rounds."""
    method = replace(method, kinds=case.kinds or method.kinds, last=case.part.last)
    kinds = ["channel"] if case.part.name in ("routing", "kept") else list(method.kinds)
    named = {**subject.names(), "part": str(case.part), "batch": case.batch, "threads": case.threads}
    return {**named, "kinds": kinds, **_figures(case, subject, method, repeats)}


def _figures(case: Case, subject: Subject, method: EffectivePath, repeats: int) -> dict[str, Any]:
    if case.part.name == "profile":
        return _profile(subject, method, case)
    if case.part.name == "merge":
        return _merge(subject, method, repeats)
    if case.part.name == "routing":
        return measure_routing(subject, case.batch or 1, repeats)
    if case.part.name == "kept":
        return measure_decoupling(subject, case.part.number or 100, case.batch or 1, repeats)
    extraction = Extraction(subject, method, subject.batch(case.batch or 1))
    if case.part.name == "similarity":
        return _similarity(extraction, repeats)
    return _extraction(extraction, repeats)


def first_use(subject: Subject, method: EffectivePath) -> dict[str, Any]:
    """The seconds of the first extraction of one image and of the next, and what the first compiled for how long.

    What was compiled before, by this process or in numba's cache, is not compiled again.
    """
    extraction = Extraction(subject, method, subject.batch(1))
    trace, select = method.forward(subject.graph, extraction.images), extraction.stages()["extraction"]
    with compilations() as compiled:
        first, _ = clocked(lambda: select(trace), extraction.device)
    later, _ = clocked(lambda: select(trace), extraction.device)
    return {
        "first s": first,
        "compiling s": sum(seconds for _, seconds in compiled),
        "later s": later,
        "compiled": [name for name, _ in compiled],
    }


def _extraction(extraction: Extraction, repeats: int) -> dict[str, Any]:
    """Time, counts, memory and shares of one extraction. A partial one's ratio includes its forward pass."""
    counts = extraction.counts()
    times = extraction.times(repeats)
    partial = extraction.method.last is not None
    work = times["recorded"] + times["extraction"] if partial else times["extraction"]
    seconds = float(np.median(times["extraction"]))
    return {
        **columns(times),
        **ratio(work, times["forward"]),
        "with forward": partial,
        "ms per image": 1e3 * seconds / len(extraction.images),
        **counts,
        "ns each": 1e9 * seconds / counts["contributions"] if counts["contributions"] else None,
        **extraction.peaks(),
        "shares": extraction.shares(repeats),
    }


def _similarity(extraction: Extraction, repeats: int) -> dict[str, Any]:
    """Per-layer similarities of ranks 1 and 2 to class paths, forward pass included, beside one extraction."""
    graph, method, images = extraction.graph, extraction.method, extraction.images
    profile = _profile_of(extraction)
    times = rounds(
        {
            "forward": lambda _: extraction.forward(),
            "forward and path": lambda _: method.extract(graph, images),
            "similarity": lambda _: extract_features(method, graph, profile, images, batch_size=len(images)),
        },
        repeats,
        extraction.device,
    )
    per_image = milliseconds(times["similarity"]) / len(images)
    return {**columns(times), **ratio(times["similarity"], times["forward and path"]), "ms per image": per_image}


def _profile_of(extraction: Extraction) -> Profile:
    """Class paths for the two first classes of every image: for all of them the union of a few images' paths."""
    graph, method = extraction.graph, extraction.method
    ranks = tuple(rank for rank in method.ranks if rank <= graph.classes)
    seeds = {path.seed for paths in method.extract_ranks(graph, extraction.images, ranks) for path in paths}
    common = union(method.extract(graph, extraction.subject.batch(PROFILED)))
    labels = sorted(seed for seed in seeds if seed is not None)
    paths = {label: replace(common, seed=label, predicted=label) for label in labels}
    return Profile(graph.fingerprint, method.describe(), paths, dict.fromkeys(labels, PROFILED))


def _profile(subject: Subject, method: EffectivePath, case: Case) -> dict[str, Any]:
    """Wall clock of class profiles: reading the images, forward passes, extraction, union, and writing the file."""
    load, device, size = subject.load, subject.images.device, case.batch or 1
    if load is None:
        raise TypeError(f"{subject.name} has no labelled images")
    reading, images = clocked(lambda: load(case.images), device)
    building, made = clocked(
        lambda: Profile.build(method, subject.graph, _batches(images, size, device), source=images.digest), device
    )
    with TemporaryDirectory() as folder:
        writing, _ = clocked(lambda: made.save(FilePath(folder) / "profile.safetensors"), device)
    seconds = reading + building + writing
    return {
        "images": len(images),
        "correct": sum(made.images.values()),
        "classes": len(made),
        "read s": reading,
        "build s": building,
        "write s": writing,
        "seconds": seconds,
        "ms per image": 1e3 * seconds / len(images),
    }


def _batches(images: Images, size: int, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return ((batch.to(device), labels) for batch, labels in images.batches(size))


def _merge(subject: Subject, method: EffectivePath, repeats: int) -> dict[str, Any]:
    """Two class paths united, beside a plain copy that moves as many bytes.

    The class paths hold a quarter of all elements, drawn at random: what a union takes depends on their number alone.
    Bytes are those of the packed words read and written; a copy of half as many reads and writes the same number.
    """
    like = method.extract(subject.graph, subject.batch(1))[0]
    first, second = (_random_class_path(like, seed) for seed in range(2))
    moved = sum(_bytes(path) for path in (first, second, union([first, second])))
    source, target = np.ones(moved // 2, np.uint8), np.empty(moved // 2, np.uint8)
    times = rounds(
        {"merge": lambda _: union([first, second]), "copy": lambda _: np.copyto(target, source)},
        repeats,
        torch.device("cpu"),
    )
    speeds = {f"{name} GB/s": moved / 1e6 / milliseconds(seconds) for name, seconds in times.items()}
    slower = ratio(times["merge"], times["copy"])
    return {"moved MB": moved / 1e6, **columns(times), **speeds, **slower, "of copy": 1 / slower["ratio"]}


def _random_class_path(like: Path, seed: int) -> Path:
    """A path with the sites of another one and a quarter of their elements, packed."""
    generator = np.random.default_rng(seed)
    return replace(like, sites={site: _quarter(part, generator) for site, part in like.sites.items()})


def _quarter(like: Elements, generator: np.random.Generator) -> Elements:
    bits = generator.integers(0, 2**64, (2, -(-like.size // 64)), np.uint64)
    words = bits[0] & bits[1]
    words[-1] &= np.uint64(2 ** ((like.size - 1) % 64 + 1) - 1)
    return Elements(like.shape, like.total, words=words)


def _bytes(path: Path) -> int:
    return sum(part.words.nbytes for part in path.sites.values() if part.words is not None)
