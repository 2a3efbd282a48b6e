"""Whole random networks: neurons, synapses and weights at every node are the brute-force oracle's."""

from __future__ import annotations

import random

import pytest
import torch

from netpaths import EffectivePath, Graph
from networks import Network, assert_agrees, chosen, random_network
from oracle import Options, forward

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
SEEDS = range(60)


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


@pytest.mark.parametrize("seed", SEEDS)
def test_path_is_the_oracles(seed: int) -> None:
    steps = random_network(seed)
    images = images_for(seed, input_shape(seed))
    assert_agrees(steps, images, options_for(seed), rank=1 + seed % 2, fold=seed % 4 != 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_logits_are_the_oracles(seed: int) -> None:
    steps = random_network(seed)
    images = images_for(seed, input_shape(seed))
    logits = Graph(Network(steps).double(), images).run(images).logits
    last = -2 if steps[-1].op == "softmax" else -1  # probabilities are led back to logits
    expected = torch.stack([forward(steps, image)[last] for image in images])
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_folding_does_not_change_the_answer(seed: int) -> None:
    steps = random_network(seed)
    images = images_for(seed, input_shape(seed))
    model = Network(steps).double()
    whole, unfolded = Graph(model, images), Graph(model, images, fold=False)
    method = EffectivePath()
    assert whole.layers == unfolded.layers
    for first, second in zip(method.extract(whole, images), method.extract(unfolded, images)):
        for node in whole.layers:
            assert chosen(first, node, "synapse") == chosen(second, node, "synapse")


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_contributions_select_the_same(seed: int) -> None:
    """Values do not change what is selected, also where a choice carries nothing."""
    steps = random_network(seed)
    images = images_for(seed, input_shape(seed))
    graph = Graph(Network(steps).double(), images)
    plain, valued = (EffectivePath(contributions=flag).extract(graph, images) for flag in (False, True))
    assert all(second.binary().equals(first) for first, second in zip(plain, valued))


@pytest.mark.parametrize("seed", range(0, 60, 4))
def test_one_by_one_is_the_batch(seed: int) -> None:
    steps = random_network(seed)
    images = torch.cat([images_for(seed, input_shape(seed)), images_for(seed + 1, input_shape(seed))])
    graph = Graph(Network(steps).double(), images)
    singles = [EffectivePath().extract(graph, image[None])[0] for image in images]
    assert all(one.equals(path) for one, path in zip(singles, EffectivePath().extract(graph, images)))
