"""A LeNet-5 trained on scikit-learn's digits, its graph, profile and images: fixtures shared by a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from netpaths import EffectivePath, Graph, Profile, decouple, load_data, load_model, train_decoupled
from netpaths.data import Images
from netpaths.decoupling.insertion import Decoupled
from netpaths.decoupling.layers import decoupled_layers
from netpaths.decoupling.loss import Objective
from netpaths.decoupling.training import Recipe
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
    images = load_data("digits")
    torch.manual_seed(0)
    model = load_model("lenet5")
    train(model, images, epochs=4, batch_size=64)
    return _correct(model.eval(), images)


def _correct(model: torch.nn.Module, images: Images) -> Trained:
    """The model with its graph and 96 test digits that it gets right."""
    graph = Graph(model, images[:1][0])
    x, labels = load_data("digits", "test")[:160]
    correct = (graph.run(x).predicted == labels).nonzero()[:, 0][:96]
    return Trained(model, graph, x[correct].contiguous(), labels[correct], images)


@cache
def decoupled() -> Trained:
    """The same network with controllers that follow how bright a layer's input is, trained on with resting controllers.

    Every filter goes on or off at a brightness of its own, so that hardly two digits have one path.
    """
    own = trained()
    network = decouple(own.model, own.x[:1], ("conv1", "conv2"))
    _follow_brightness(network, own.train[:200][0])
    objective = Objective(distillation=1.0)
    recipe = Recipe(epochs=3, batch_size=32, lr=0.01, settle=0.99, objective=objective)
    train_decoupled(network, own.train, recipe, own.train.take(range(50)), own.model)
    return _correct(network, own.train)


def _follow_brightness(network: Decoupled, images: torch.Tensor) -> None:
    """Filter c of n goes on, or off where c is odd, above the (c + ½) / n quantile of the brightness."""
    graph = Graph(network, images[:1])
    for layer in decoupled_layers(graph):
        controller = network.controller(layer.convolution)
        (source,) = graph.nodes[layer.controller].inputs
        filters = controller.excite.out_features
        with torch.no_grad():
            bright = graph.run(images, record=[source])[source].mean((1, 2, 3))
            places = (torch.arange(filters) + 0.5) / filters
            signs = 1 - 2.0 * (torch.arange(filters) % 2)
            controller.squeeze.weight.fill_(1 / controller.squeeze.in_features)
            controller.squeeze.bias.fill_(10)
            controller.excite.weight.copy_(signs[:, None])
            controller.excite.bias.copy_(-signs * (10 + bright.quantile(places)))


@cache
def profile(method: EffectivePath) -> Profile:
    """The profile of 400 training digits."""
    own = trained()
    return Profile.build(method, own.graph, [own.train[start : start + 100] for start in range(0, 400, 100)])
