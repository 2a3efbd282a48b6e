"""How alike paths are: weighted Jaccard between any two, and the share of an image's path inside a class path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from netpaths.errors import BadOption, ModelMismatch
from netpaths.path import Path


def jaccard(first: Path, second: Path, kind: str | None = None, nodes: Iterable[str] | None = None) -> float:
    """Σ min / Σ max over all elements; for binary paths |A ∩ B| / |A ∪ B| (Qiu et al. 2019, Eq. 5).

    kind: kind of elements, by default synapses, else weights, channels or neurons, whichever both paths have.
    nodes: restrict to these nodes; by default all nodes of either path, empty where a path does not have them. Two
    empty paths carry no information: NaN.
    """
    overlaps = _overlaps(first, second, kind, nodes).values()
    smaller, larger = (sum(pair[side] for pair in overlaps) for side in (0, 1))
    return smaller / larger if larger else float("nan")


def layer_jaccard(first: Path, second: Path, kind: str | None = None) -> dict[str, float]:
    """Σ min / Σ max per node; NaN where both paths are empty."""
    return {
        node: smaller / larger if larger else float("nan")
        for node, (smaller, larger) in _overlaps(first, second, kind, None).items()
    }


def image_class_similarity(
    image: Path, class_path: Path, kind: str | None = None, nodes: Iterable[str] | None = None
) -> dict[str, float]:
    """Per node |S ∩ S̃| / |S|, the share of the image's path inside the class path (Qiu et al. 2019, section 4.2).

    For real values Σ min / Σ of the image's. nodes: by default the linear and convolution layers of the image's path.
    0/0 is no information: NaN.
    """
    _check_models(image, class_path)
    kind = kind or default_kind(image, class_path)
    shares = {}
    for node in layers_of(image, kind) if nodes is None else nodes:
        mine, others = image[node, kind], class_path[node, kind]
        total = mine.mass()
        shares[node] = mine.overlap(others)[0] / total if total else float("nan")
    return shares


def total_similarity(image: Path, class_path: Path, kind: str | None = None) -> float:
    """|S ∩ S̃| / |S| over all linear and convolution layers together; NaN for an empty path."""
    _check_models(image, class_path)
    kind = kind or default_kind(image, class_path)
    pairs = [(image[node, kind], class_path[node, kind]) for node in layers_of(image, kind)]
    total = sum(mine.mass() for mine, _ in pairs)
    return sum(mine.overlap(others)[0] for mine, others in pairs) / total if total else float("nan")


def class_matrix(class_paths: Mapping[int, Path], kind: str | None = None) -> NDArray[np.float64]:
    """Jaccard similarity of every pair of class paths: (classes, classes), ones on the diagonal."""
    paths = list(class_paths.values())
    matrix = np.eye(len(paths))
    for row, first in enumerate(paths):
        for column in range(row):
            matrix[row, column] = matrix[column, row] = jaccard(first, paths[column], kind)
    return matrix


def default_kind(first: Path, second: Path) -> str:
    """The first of synapse, weight, channel and neuron that both paths have; raises BadOption when there is none."""
    for kind in ("synapse", "weight", "channel", "neuron"):
        if kind in first.kinds() and kind in second.kinds():
            return kind
    raise BadOption(f"the paths share no kind of site: {first.kinds()} and {second.kinds()}")


def layers_of(path: Path, kind: str) -> tuple[str, ...]:
    """The path's layers with a site of ``kind``; every such node where none is a layer."""
    nodes = path.nodes(kind)
    return tuple(node for node in path.layers if node in nodes) or nodes


def _overlaps(
    first: Path, second: Path, kind: str | None, nodes: Iterable[str] | None
) -> dict[str, tuple[float, float]]:
    _check_models(first, second)
    kind = kind or default_kind(first, second)
    if nodes is not None:
        return {node: first[node, kind].overlap(second[node, kind]) for node in nodes}
    mine, others = first.nodes(kind), second.nodes(kind)
    alone = {node: (0.0, second[node, kind].mass()) for node in others if node not in mine}
    shared = {
        node: first[node, kind].overlap(second[node, kind]) if node in others else (0.0, first[node, kind].mass())
        for node in mine
    }
    return {**shared, **alone}


def _check_models(first: Path, second: Path) -> None:
    if first.fingerprint != second.fingerprint:
        raise ModelMismatch(
            f"the paths come from different models: {first.fingerprint[:12]} and {second.fingerprint[:12]}"
        )
