"""From images to detector features: similarities of each image's paths to its classes' paths, or the path itself.

Rank-1 paths are compared with the class path of the rank-1 class, rank-2 paths with that of the rank-2 class
(Qiu et al. 2019, section 4.2). Only linear and convolution layers are features. Without a profile, the values of a
path's elements are the features (Wang et al. 2018, supplement).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from netpaths.detection.features import CLEAN, Features, Names
from netpaths.errors import BadOption, EmptyClass
from netpaths.graph import Graph, PathMethod, RankedMethod
from netpaths.path import Path
from netpaths.profile import Profile
from netpaths.similarity import image_class_similarity


def extract_features(
    method: PathMethod,
    graph: Graph,
    profile: Profile,
    images: torch.Tensor,
    labels: Sequence[int] | np.ndarray | None = None,
    sources: Iterable[object] | None = None,
    attack: str = CLEAN,
    control: bool = False,
    kind: str | None = None,
    layers: Sequence[str] | None = None,
    batch_size: int = 64,
) -> Features:
    """Per-layer similarities of ``images`` (n, *input shape) to the class paths of ``profile``.

    labels: (n,) true classes, -1 where unknown. sources: n identifiers of the source images. attack: the name stored
    with every row; control marks it as no attack. kind: kind of sites compared, synapses by default. layers: nodes
    compared, by default every linear and convolution layer of the paths. Returns Features with one column per
    (layer, rank); a runner-up class that the profile does not cover gives no information, NaN. Raises EmptyClass when
    an image is predicted as a class that the profile does not cover.
    """
    about = About(labels, sources, attack, control)
    return extract_kinds(method, graph, profile, images, (kind,), about, layers, batch_size)[kind]


@dataclass(frozen=True)
class About:
    """Where images come from: true classes, identifiers of the source images, the attack's name."""

    labels: Sequence[int] | np.ndarray | None = None
    sources: Iterable[object] | None = None
    attack: str = CLEAN
    control: bool = False


def extract_kinds(
    method: PathMethod,
    graph: Graph,
    profile: Profile,
    images: torch.Tensor,
    kinds: Sequence[str | None],
    about: About,
    layers: Sequence[str] | None = None,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> dict[str | None, Features]:
    """The features of several kinds of sites from one extraction; otherwise as `extract_features`.

    progress: called after every batch with the number of images done.
    """
    found = extracted(partial(ranked_paths, method, graph), images, batch_size, progress)
    return similarity_features(found, profile, kinds, about, layers)


def similarity_features(
    paths: Iterable[Sequence[Path]],
    profile: Profile,
    kinds: Sequence[str | None],
    about: About,
    layers: Sequence[str] | None = None,
) -> dict[str | None, Features]:
    """The features of paths already extracted, of every image one path of each rank; otherwise as `extract_kinds`."""
    rows: dict[str | None, list[dict[tuple[str, int], float]]] = {kind: [] for kind in kinds}
    predicted: list[int] = []
    for own_paths in paths:
        try:
            for kind, own in rows.items():
                own.append(_row(own_paths, profile, kind, layers))
        except EmptyClass as error:
            raise EmptyClass(f"image {len(predicted)}{_named(about, len(predicted))}: {error}") from error
        predicted.append(_class_of(own_paths[0]))
    _check(predicted)
    return {
        kind: _features([[row[name] for name in own[0]] for row in own], tuple(own[0]), predicted, about)
        for kind, own in rows.items()
    }


def _named(about: About, place: int) -> str:
    names = None if about.sources is None else list(about.sources)
    return f" ({names[place]})" if names is not None and place < len(names) else ""


def extract_vectors(
    method: PathMethod,
    graph: Graph,
    images: torch.Tensor,
    about: About,
    kind: str = "channel",
    layers: Sequence[str] | None = None,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """`vector_features` of the paths of ``images`` (n, *input shape).

    progress: called after every batch with the number of images done. Raises BadInput, BadOption and UnknownNode.
    """
    found = extracted(lambda batch: [method.extract(graph, batch)], images, batch_size, progress)
    return vector_features((path for (path,) in found), about, kind, layers)


def vector_features(
    paths: Iterable[Path], about: About, kind: str = "channel", layers: Sequence[str] | None = None
) -> Features:
    """Each path as one row: the values of its elements of ``kind``, 0 where not selected, in the order of its nodes.

    A path without channel sites is projected onto channels. layers: nodes to look at, None for all. Returns Features
    with one column per element, named NODE[ELEMENT]: the channel, or the position among a node's elements. Raises
    BadOption for no path, a path without such elements or paths that differ in theirs, and UnknownNode. Source: Wang
    et al. (CVPR 2018), supplement; they feed the gates of all channels to tree ensembles.
    """
    sizes: list[tuple[str, int]] = []
    rows: list[torch.Tensor] = []
    predicted: list[int] = []
    for path in paths:
        part = (path if path.nodes(kind) else path.project(kind)).restrict(kinds=(kind,)).restrict(layers)
        own = [(site.node, elements.size) for site, elements in part.items()]
        if not own or (rows and own != sizes):
            raise BadOption(f"every path must have {kind} elements, at the same nodes as the others")
        sizes = own
        rows.append(torch.cat([elements.dense().flatten().float() for elements in part.values()]))
        predicted.append(_class_of(path))
    _check(predicted)
    names = tuple((f"{node}[{place}]", 1) for node, size in sizes for place in range(size))
    return _features(torch.stack(rows).numpy(), names, predicted, about)


def extracted(
    extract: Callable[[torch.Tensor], list[list[Path]]],
    images: torch.Tensor,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Path, ...]]:
    """The paths of every image of ``images`` (n, *input shape), extracted batch by batch.

    extract: from a batch to lists (ranks, or settings) of lists (batch); an image's paths are one of each list.
    progress: called after every batch with the number of images done.
    """
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        yield from zip(*extract(batch))
        if progress is not None:
            progress(start + len(batch))


def _class_of(path: Path) -> int:
    return -1 if path.predicted is None else path.predicted


def _check(predicted: Sequence[int]) -> None:
    if not predicted:
        raise BadOption("there are no images to extract features from")


def _features(
    values: Sequence[Sequence[float]] | np.ndarray,
    names: Names,
    predicted: Sequence[int],
    about: About,
) -> Features:
    count = len(predicted)
    return Features(
        values=np.asarray(values, dtype=np.float64),
        names=names,
        sources=np.array([str(source) for source in (range(count) if about.sources is None else about.sources)]),
        attacks=np.array([about.attack] * count),
        predicted=np.array(predicted, dtype=np.int64),
        labels=np.full(count, -1) if about.labels is None else np.asarray(about.labels, dtype=np.int64),
        controls=(about.attack,) if about.control else (),
    )


def ranked_paths(method: PathMethod, graph: Graph, images: torch.Tensor) -> list[list[Path]]:
    """The paths of ``images`` (batch, *input shape) of every rank worth comparing: a list (ranks) of lists (batch)."""
    if isinstance(method, RankedMethod):
        ranks = tuple(rank for rank in method.ranks if rank <= graph.classes)
        return method.extract_ranks(graph, images, ranks)
    return [method.extract(graph, images)]


def _row(
    paths: Sequence[Path], profile: Profile, kind: str | None, layers: Sequence[str] | None
) -> dict[tuple[str, int], float]:
    row = {}
    for rank, path in enumerate(paths, 1):
        label = path.predicted if path.seed is None else path.seed
        unknown = rank > 1 and label not in profile
        class_path = path if unknown else profile[-1 if label is None else label]
        for node, value in image_class_similarity(path, class_path, kind, layers).items():
            row[(node, rank)] = float("nan") if unknown else value
    return row
