"""Whole random networks: neurons, synapses and weights at every node are the brute-force oracle's."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch

from netpaths import EffectivePath, Graph
from networks import Network, assert_agrees, chosen, random_network
from oracle import Options, Step, forward

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")


def images_for(seed: int, steps_shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(2, *steps_shape, generator=torch.Generator().manual_seed(seed + 1000), dtype=torch.float64)


def input_shape(seed: int) -> tuple[int, int, int]:
    choice = random.Random(seed)
    return choice.randint(1, 3), choice.randint(6, 9), choice.randint(6, 9)


def options_for(seed: int) -> Options:
    choice = random.Random(seed + 500)
    return Options(
        choice.choice([0.5, 0.5, 0.1, 0.9, 1.0]),
        choice.choice(["contributions", "contributions", "neuron"]),
        choice.choice(["first", "all"]),
        choice.choice(["select", "select", "all"]),
    )


@dataclass
class Random:
    """A random network, two images, and its graph, which all tests of a seed share."""

    seed: int

    @cached_property
    def steps(self) -> list[Step]:
        return random_network(self.seed)

    @cached_property
    def images(self) -> torch.Tensor:
        return images_for(self.seed, input_shape(self.seed))

    @cached_property
    def graph(self) -> Graph:
        return Graph(Network(self.steps).double(), self.images)

    @cached_property
    def unfolded(self) -> Graph:
        return Graph(Network(self.steps).double(), self.images, fold=False)


@pytest.fixture(scope="module", params=range(40))
def network(request: pytest.FixtureRequest) -> Random:
    return Random(request.param)


def test_path_is_the_oracles(network: Random) -> None:
    graph = network.unfolded if network.seed % 4 == 3 else network.graph
    options, rank = options_for(network.seed), 1 + network.seed % 2
    assert_agrees(network.steps, network.images, options, rank, fold=graph is network.graph, graph=graph)


def test_logits_are_the_oracles(network: Random) -> None:
    logits = network.graph.run(network.images).logits
    last = -2 if network.steps[-1].op == "softmax" else -1  # probabilities are led back to logits
    expected = torch.stack([forward(network.steps, image)[last] for image in network.images])
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_folding_does_not_change_the_answer(network: Random) -> None:
    whole, unfolded, images = network.graph, network.unfolded, network.images
    method = EffectivePath()
    assert whole.layers == unfolded.layers
    for first, second in zip(method.extract(whole, images), method.extract(unfolded, images)):
        for node in whole.layers:
            assert chosen(first, node, "synapse") == chosen(second, node, "synapse")


def test_contributions_select_the_same(network: Random) -> None:
    """Values do not change what is selected, also where a choice carries nothing."""
    plain, valued = (EffectivePath(contributions=flag).extract(network.graph, network.images) for flag in (False, True))
    assert all(second.binary().equals(first) for first, second in zip(plain, valued))


def test_one_by_one_is_the_batch(network: Random) -> None:
    images = torch.cat([network.images, images_for(network.seed + 1, input_shape(network.seed))])
    singles = [EffectivePath().extract(network.graph, image[None])[0] for image in images]
    assert all(one.equals(path) for one, path in zip(singles, EffectivePath().extract(network.graph, images)))
