"""Similarities against Python sets on extracted paths, and by hand."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
import torch

from netpaths import (
    EffectivePath,
    Path,
    Profile,
    Site,
    class_matrix,
    image_class_similarity,
    jaccard,
    layer_jaccard,
    total_similarity,
)
from netpaths.errors import BadOption, EmptyClass, ModelMismatch, UnknownNode
from netpaths.path import Elements
from test_profile import GRAPH, METHOD, batches, build, make_graph


def path_of(fingerprint: str = "", values: list[float] | None = None, **members: list[int]) -> Path:
    """Weights of nodes with ten elements each; ``values`` for the first of them."""
    sites = {}
    for node, chosen in members.items():
        own = None if values is None or len(values) != len(chosen) else np.array(values, np.float32)
        sites[Site(node, "weight")] = Elements.of((10,), np.array(chosen, np.int64), own)
    return Path(sites, fingerprint=fingerprint, layers=tuple(members))


def test_jaccard_by_hand() -> None:
    """a: 2 of 4 shared; b: 1 of 3. Together 3 of 7."""
    first, second = path_of(a=[1, 2, 3], b=[0, 1]), path_of(a=[2, 3, 4], b=[1, 5])
    assert jaccard(first, second) == 3 / 7
    assert layer_jaccard(first, second) == {"a": 2 / 4, "b": 1 / 3}
    assert jaccard(first, second, nodes=["b"]) == 1 / 3


def test_weighted_by_hand() -> None:
    """Against the binary set: min 0.5 + 1, max 1 + 1 + 2 (and 1 for the element of the second alone)."""
    first, second = path_of(a=[1, 2, 3], values=[0.5, 1.0, 2.0]), path_of(a=[1, 2, 9])
    assert jaccard(first, second) == pytest.approx(1.5 / 5)
    assert image_class_similarity(first, second) == {"a": pytest.approx(1.5 / 3.5)}
    assert total_similarity(first, second) == pytest.approx(1.5 / 3.5)


def test_image_class_by_hand() -> None:
    image, class_path = path_of(a=[1, 2, 3, 4], b=[], c=[5]), path_of(a=[1, 2, 3], b=[1], c=[])
    shares = image_class_similarity(image, class_path)
    assert (shares["a"], shares["c"]) == (3 / 4, 0.0)
    assert isnan(shares["b"])
    assert total_similarity(image, class_path) == 3 / 5
    assert list(image_class_similarity(image, class_path, nodes=["c", "a"])) == ["c", "a"]


def test_no_information_is_nan() -> None:
    empty = path_of(a=[])
    assert isnan(jaccard(empty, empty))
    assert isnan(layer_jaccard(empty, empty)["a"])
    assert isnan(total_similarity(empty, path_of(a=[1])))
    assert jaccard(empty, path_of(a=[1])) == 0.0


@pytest.fixture(scope="module")
def profile() -> Profile:
    return build(batches(6))


@pytest.fixture(scope="module")
def images() -> list[Path]:
    return METHOD.extract(GRAPH, torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("kind", ["synapse", "weight"])
def test_against_sets(profile: Profile, images: list[Path], kind: str) -> None:
    for image in images:
        for label in profile:
            shares = image_class_similarity(image, profile[label], kind)
            assert list(shares) == list(GRAPH.layers)
            for layer, share in shares.items():
                mine, others = (set(path[layer, kind].members().tolist()) for path in (image, profile[label]))
                assert share == pytest.approx(len(mine & others) / len(mine) if mine else nan, nan_ok=True)


def test_own_training_images_lie_inside(profile: Profile) -> None:
    for x, labels in batches(6):
        for path, label in zip(METHOD.extract(GRAPH, x), labels.tolist()):
            if path.predicted == label:
                assert set(image_class_similarity(path, profile[label]).values()) == {1.0}


def test_default_kind_is_synapses(images: list[Path]) -> None:
    first, second = images[:2]
    assert jaccard(first, second) == jaccard(first, second, "synapse")
    weights = [path.restrict(kinds=["weight", "neuron"]) for path in (first, second)]
    assert jaccard(*weights) == jaccard(first, second, "weight")
    with pytest.raises(BadOption, match=r"the paths share no kind of site"):
        jaccard(first.restrict(kinds=["weight"]), second.restrict(kinds=["neuron"]))


def test_class_matrix(profile: Profile) -> None:
    matrix = class_matrix(profile.paths)
    labels = list(profile.paths)
    assert np.array_equal(matrix, matrix.T)
    assert np.array_equal(np.diag(matrix), np.ones(len(labels)))
    assert matrix[0, 1] == jaccard(profile[labels[0]], profile[labels[1]])
    assert class_matrix({}).shape == (0, 0)


def test_symmetry_and_bounds(images: list[Path]) -> None:
    for first in images:
        for second in images:
            assert 0 <= jaccard(first, second) == jaccard(second, first) <= 1
    assert jaccard(images[0], images[0]) == 1


def test_paths_of_different_models(images: list[Path]) -> None:
    other = EffectivePath().extract(make_graph(1), torch.ones(1, 1, 6, 6))[0]
    for compare in (jaccard, layer_jaccard, image_class_similarity, total_similarity):
        with pytest.raises(ModelMismatch, match=r"the paths come from different models: \w{12} and \w{12}"):
            compare(images[0], other)


def test_missing_nodes(images: list[Path], profile: Profile) -> None:
    label = next(iter(profile))
    with pytest.raises(UnknownNode, match="nodes with a synapse site"):
        image_class_similarity(images[0], profile[label], nodes=["9"])
    with pytest.raises(EmptyClass):
        image_class_similarity(images[0], profile[99])


def test_partial_path_against_a_whole_profile(profile: Profile) -> None:
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    partial = EffectivePath(last=1).extract(GRAPH, x)[0]
    assert list(image_class_similarity(partial, profile[next(iter(profile))])) == [GRAPH.layers[-1]]


def test_jaccard_is_symmetric_when_one_path_stops_earlier() -> None:
    from netpaths.path import Elements

    def part(*members: int) -> Elements:
        return Elements.of((10,), np.array(members, dtype=np.int64))

    short = Path({Site("b", "synapse"): part(1, 2)})
    whole = Path({Site("a", "synapse"): part(3), Site("b", "synapse"): part(2, 4)})
    assert jaccard(short, whole) == jaccard(whole, short) == 1 / 4
    assert layer_jaccard(short, whole) == {"b": 1 / 3, "a": 0.0}
