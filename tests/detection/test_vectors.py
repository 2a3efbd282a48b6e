"""Paths as rows of values: against the paths themselves, element by element, and one image at a time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from netpaths import EffectivePath, Path, PathMethod, Site, image_class_similarity
from netpaths.detection import Features
from netpaths.detection.extraction import About, extract_kinds, extract_vectors, vector_features
from netpaths.errors import BadInput, BadOption, UnknownNode
from netpaths.methods.routing import DistillationGuidedRouting
from netpaths.path import Elements
from trained import profile, trained

ROUTING = DistillationGuidedRouting()
EFFECTIVE = EffectivePath()
NUMBER = 7


def images() -> torch.Tensor:
    return trained().x[:NUMBER]


def vectors(method: PathMethod, **options: Any) -> Features:
    return extract_vectors(method, trained().graph, images(), About(), **options)


def column(features: Features, node: str, place: int) -> np.ndarray:
    found: np.ndarray = features.values[:, features.names.index((f"{node}[{place}]", 1))]
    return found


def test_gates_are_the_values() -> None:
    features = vectors(ROUTING)
    assert features.values.shape == (NUMBER, 6 + 16)
    assert features.names[:7] == (*((f"conv1[{channel}]", 1) for channel in range(6)), ("conv2[0]", 1))
    assert features.names[-1] == ("conv2[15]", 1)
    for image, path in enumerate(ROUTING.extract(trained().graph, images())):
        for node in ("conv1", "conv2"):
            for channel, gate in enumerate(path.channels(node).tolist()):
                assert column(features, node, channel)[image] == gate
    assert 0 < (features.values == 0).mean() < 1


def test_a_path_of_neurons_is_projected() -> None:
    """A channel counts 1 where any of its neurons is on the path."""
    graph = trained().graph
    features = vectors(EFFECTIVE)
    channels = [(node, channel) for node, each in graph.nodes.items() for channel in range(each.shape[0])]
    assert features.names == tuple((f"{node}[{channel}]", 1) for node, channel in channels)
    for image, path in enumerate(EFFECTIVE.extract(graph, images())):
        expected = [float(path.neurons(node)[channel].any()) for node, channel in channels]
        assert features.values[image].tolist() == expected


def test_neurons_as_they_are() -> None:
    features = vectors(EFFECTIVE, kind="neuron", layers=("conv2", "fc1"))
    for image, path in enumerate(EFFECTIVE.extract(trained().graph, images())):
        expected = torch.cat([path.neurons("conv2").flatten(), path.neurons("fc1")]).tolist()
        assert features.values[image].tolist() == expected
    assert column(features, "fc1", 3).tolist() == features.values[:, -trained().graph.node("fc1").shape[0] + 3].tolist()


def hand_made(values: list[float], node: str = "a", predicted: int | None = 1) -> Path:
    """Neurons of three channels of two positions each."""
    elements = Elements.from_dense(torch.tensor(values).reshape(3, 2))
    return Path({Site(node, "neuron"): elements}, predicted=predicted)


def test_a_channel_takes_its_largest_value() -> None:
    paths = [hand_made([0.5, 2, 0, 0, 0, 0.25]), hand_made([0, 0, 0, 0, 1, 1], predicted=None)]
    features = vector_features(paths, About())
    assert features.values.tolist() == [[2, 0, 0.25], [0, 0, 1]]
    assert features.names == (("a[0]", 1), ("a[1]", 1), ("a[2]", 1))
    assert features.predicted.tolist() == [1, -1]
    assert vector_features(iter(paths), About(), "neuron").values[0].tolist() == [0.5, 2, 0, 0, 0, 0.25]


@pytest.mark.parametrize("method", [ROUTING, EFFECTIVE], ids=["routing", "effective"])
def test_batches_change_nothing(method: PathMethod) -> None:
    whole = vectors(method)
    for size in (1, 3, NUMBER):
        parts = vectors(method, batch_size=size)
        np.testing.assert_allclose(parts.values, whole.values, rtol=0, atol=1e-5)
        assert parts.names == whole.names
        assert parts.predicted.tolist() == whole.predicted.tolist()


def test_chosen_layers_in_the_order_of_the_path() -> None:
    whole = vectors(EFFECTIVE)
    for layers in (("fc2", "conv1"), ("conv1", "fc2")):
        features = vectors(EFFECTIVE, layers=layers)
        kept = [place for place, (name, _) in enumerate(whole.names) if name.split("[")[0] in layers]
        assert features.names == tuple(whole.names[place] for place in kept)
        np.testing.assert_array_equal(features.values, whole.values[:, kept])


def test_where_the_rows_come_from() -> None:
    own = trained()
    labels, sources = own.labels[:NUMBER].numpy(), [f"digit {number}" for number in range(NUMBER)]
    about = About(labels, iter(sources), "noise", control=True)
    features = extract_vectors(ROUTING, own.graph, images(), about)
    assert features.labels.tolist() == labels.tolist()
    assert features.sources.tolist() == sources
    assert set(features.attacks.tolist()) == {"noise"}
    assert features.controls == ("noise",)
    assert features.is_control.all()
    assert features.predicted.tolist() == own.graph.run(images()).predicted.tolist()
    plain = vectors(ROUTING)
    assert plain.labels.tolist() == [-1] * NUMBER
    assert plain.sources.tolist() == [str(number) for number in range(NUMBER)]
    assert plain.is_clean.all()
    assert len(Features.concat([plain, features])) == 2 * NUMBER


def test_progress_after_every_batch() -> None:
    done: list[int] = []
    vectors(ROUTING, batch_size=3, progress=done.append)
    assert done == [3, 6, 7]


def test_similarities_of_several_kinds() -> None:
    """One row per image and kind: what `image_class_similarity` says of its paths, one image after the other."""
    own = trained()
    done: list[int] = []
    classes = profile(EFFECTIVE)
    kinds = ("synapse", "weight")
    found = extract_kinds(EFFECTIVE, own.graph, classes, images(), kinds, About(), batch_size=3, progress=done.append)
    assert done == [3, 6, 7]
    for image in range(NUMBER):
        ranked = EFFECTIVE.extract_ranks(own.graph, images()[image : image + 1], (1, 2))
        for kind in kinds:
            expected: dict[tuple[str, int], float] = {}
            for rank, (path,) in enumerate(ranked, 1):
                assert path.seed is not None
                each = image_class_similarity(path, classes[path.seed], kind)
                expected |= {(node, rank): value for node, value in each.items()}
            assert found[kind].names == tuple(expected)
            np.testing.assert_allclose(found[kind].values[image], list(expected.values()), rtol=1e-6)


def test_errors() -> None:
    own = trained()
    with pytest.raises(BadOption, match="there are no images to extract features from"):
        extract_vectors(ROUTING, own.graph, own.x[:0], About())
    with pytest.raises(BadOption, match="there are no images to extract features from"):
        vector_features([], About())
    with pytest.raises(BadOption, match="a path projects onto channels, not 'neuron'"):
        vectors(ROUTING, kind="neuron")
    with pytest.raises(UnknownNode, match="there is no node 'conv3'; nearest: conv2, conv1"):
        vectors(ROUTING, layers=("conv1", "conv3"))
    with pytest.raises(BadInput, match=re.escape("images have shape (7, 1, 14, 14)")):
        extract_vectors(ROUTING, own.graph, images()[:, :, ::2, ::2], About())
    message = "every path must have channel elements, at the same nodes as the others"
    with pytest.raises(BadOption, match=message):
        vector_features([hand_made([1] * 6), hand_made([1] * 6, "b")], About())
    with pytest.raises(BadOption, match=message):
        vector_features([Path({})], About())
    with pytest.raises(BadInput, match=re.escape("labels must have shape (7,)")):
        extract_vectors(ROUTING, own.graph, images(), About(labels=[1, 2]))
