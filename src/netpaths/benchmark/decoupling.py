"""What skipping filters gains: a decoupled network that keeps a given share of them, beside the dense one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import sleep
from typing import Any

import torch
from torch import nn

from netpaths.benchmark.subject import Subject
from netpaths.benchmark.timing import Seconds, columns, ratio, rounds
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.insertion import Decoupled, decouple
from netpaths.decoupling.observed import Observed
from netpaths.errors import BadOption
from netpaths.graph import Graph
from netpaths.runtime import accelerate

PAUSE = 0.02
"""Seconds between two kinds of work: the threads of the one before wait busily for a while."""

SPREAD = 2.0
"""Size of the controllers' random weights, so that images differ in what they keep."""


def measure_decoupling(subject: Subject, percent: int, batch: int, repeats: int) -> dict[str, Any]:
    """Times of the network dense, decoupled with a mask, and computing the chosen filters alone.

    percent: of the filters that are on, in every layer on average over the subject's images, chosen by random
    controllers; what they choose is of no use, how many they choose is what counts. Raises BadOption for a GPU.
    """
    if subject.images.device.type != "cpu":
        raise BadOption("--part kept is timed on the CPU; use --device cpu")
    network = keeping(subject.network, percent / 100, subject.images)
    images = [subject.batch(batch)]
    graph = Graph(network, images[0])
    return {
        **speed_row(speeds(subject.graph.module, network, images, repeats)),
        "filters": filters_on(network, images[0]),
        "MACs": macs_share(graph, images[0]),
    }


def keeping(model: nn.Module, share: float, images: torch.Tensor) -> Decoupled:
    """A decoupled copy of ``model`` that keeps about ``share`` of every layer's filters on ``images``."""
    network = decouple(model, images[:1])
    generator = torch.Generator().manual_seed(0)
    for layer in network.layers:
        controller = network.controller(layer)
        with torch.no_grad():
            drawn = torch.randn(controller.squeeze.weight.shape, generator=generator)
            controller.squeeze.weight.copy_(SPREAD * drawn.abs())
            controller.excite.bias.fill_(-_threshold(network, layer, share, images))
    return network


def _threshold(network: Decoupled, layer: str, share: float, images: torch.Tensor) -> float:
    """The score, without a bias, that ``share`` of the scores of a layer lie above; between two of them."""
    controller, seen = network.controller(layer), []
    controller.excite.bias.zero_()
    hook = controller.register_forward_hook(lambda own, given, out: seen.append(own.score(given[0])))
    network(images)
    hook.remove()
    scores = seen[0].flatten().sort().values
    place = round((1 - share) * len(scores))
    if place <= 0:
        return float(scores[0]) - 1
    return float(scores[place - 1] + scores[min(place, len(scores) - 1)]) / 2


def speeds(dense: nn.Module, network: Decoupled, images: Sequence[torch.Tensor], repeats: int) -> dict[str, Seconds]:
    """Seconds of a batch, (repeats,) each: dense and masked in torch, the chosen filters alone, and all of them.

    dense: the plain network, batch norm folded. images: batches (batch, *input shape) of one size. "all on" is the same
    runtime with every filter on: what it is faster than the dense network is owed to its kernels, not to skipping.
    """
    example = images[0][:1]
    masked, fast = Graph(network, example).module, accelerate(network, example)
    everything = {name: torch.ones(width).bool() for name, width in network.widths.items()}
    every = accelerate(network, example, fixed=everything)
    stages: dict[str, Any] = {}
    for name, run in {"dense": dense, "masked": masked, "runtime": fast, "all on": every}.items():
        stages[f"{name} pause"] = lambda _: sleep(PAUSE)
        stages[f"{name} first"] = lambda _, run=run: run(images[0])
        stages[name] = lambda _, run=run: [run(batch) for batch in images]
    with torch.no_grad():
        times = rounds(stages, repeats, example.device)
    return {name: times[name] / len(images) for name in ("dense", "masked", "runtime", "all on")}


def speed_row(times: Mapping[str, Seconds]) -> dict[str, float]:
    """Medians in milliseconds, and of the ratios of a round: runtime and masked over dense, runtime over all on."""
    return {
        **columns(times),
        **ratio(times["runtime"], times["dense"]),
        "masked over dense": ratio(times["masked"], times["dense"])["ratio"],
        "over all on": ratio(times["runtime"], times["all on"])["ratio"],
    }


def filters_on(network: Decoupled, images: torch.Tensor) -> float:
    """The mean share of the filters that are on for ``images``."""
    with torch.no_grad():
        codes = Observed(network)(images).codes
    return float(torch.cat(list(codes.values()), dim=1).mean())


def macs_share(graph: Graph, images: torch.Tensor) -> float:
    """The mean share of the dense network's multiply–accumulates that ``images`` need, controllers included."""
    cost = Cost(graph)
    with torch.no_grad():
        trace = graph.run(images, record=[layer.controller for layer in cost.decoupled])
    found = {layer.convolution: trace[layer.controller] for layer in cost.decoupled}
    return float(cost.of(found).mean() / cost.dense)
