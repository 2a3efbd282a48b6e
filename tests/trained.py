"""A LeNet-5 trained on scikit-learn's digits, its graph, profile and images: fixtures shared by a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from netpaths import EffectivePath, Graph, Profile, load_data, load_model
from netpaths.data import Images
from netpaths.training import train


@dataclass(frozen=True)
class Trained:
    """graph: of the trained model. x, labels: test images that it classifies correctly. train: training images."""

    model: torch.nn.Module
    graph: Graph
    x: torch.Tensor
    labels: torch.Tensor
    train: Images


@cache
def trained() -> Trained:
    """Trained once per process; a few seconds."""
    images, test = load_data("digits"), load_data("digits", "test")
    torch.manual_seed(0)
    model = load_model("lenet5")
    train(model, images, epochs=4, batch_size=64)
    graph = Graph(model.eval(), images[:1][0])
    x, labels = test[:160]
    correct = (graph.run(x).predicted == labels).nonzero()[:, 0][:96]
    return Trained(model, graph, x[correct].contiguous(), labels[correct], images)


@cache
def profile(method: EffectivePath) -> Profile:
    """The profile of 400 training digits."""
    own = trained()
    return Profile.build(method, own.graph, [own.train[start : start + 100] for start in range(0, 400, 100)])
