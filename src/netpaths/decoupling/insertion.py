"""Put controllers into a network: one for every convolution but the stem, its code on the filters' outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx, nn

from netpaths.decoupling.controller import Controller, Gate
from netpaths.decoupling.layers import is_decoupled
from netpaths.errors import BadOption, BadWeights
from netpaths.graph import Graph
from netpaths.graph.module import Canonical, follow_mode
from netpaths.graph.naming import NAME, node_name

FOLLOWED = ("batch norm", "activation", "shifted activation")
"""What a code waits for, where nothing else reads the values between."""

OWN = ("controllers", "gates")


class Decoupled(Canonical):
    """A network with controllers: (batch, *input shape) to logits (batch, classes).

    Its tensors keep their names; ``controllers.NODE`` and ``gates.NODE`` are those of the convolution node NODE. In
    evaluation mode a filter is on or off; in training mode codes are noisy, as `netpaths.decoupling.controller` says.
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the decoupled convolution nodes, from input to output."""
        own = (str(node.target).partition(".") for node in self.graph.nodes if node.op == "call_module")
        return tuple(layer for owner, _, layer in own if owner == "controllers")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the images it was made with."""
        return tuple(self.meta["input_shape"])

    @property
    def widths(self) -> dict[str, int]:
        """The number of filters of every decoupled layer, from input to output."""
        return {layer: self.controller(layer).excite.out_features for layer in self.layers}

    def controller(self, layer: str) -> Controller:
        """The controller of a decoupled layer."""
        return cast(Controller, self.get_submodule(f"controllers.{layer}"))

    def gate(self, layer: str) -> Gate:
        """The gate of a decoupled layer."""
        return cast(Gate, self.get_submodule(f"gates.{layer}"))


def decouple(
    model: nn.Module,
    example: torch.Tensor,
    layers: Sequence[str] | None = None,
    bias: float = 2.0,
    level: bool = True,
    seed: int = 0,
) -> Decoupled:
    """A copy of ``model`` with controllers, in evaluation mode; the model itself is never changed.

    example: one batch (batch, *input shape), for shapes alone. layers: names of the convolution nodes to decouple, None
    for every one but the first and one that gives the logits. bias: where the controllers' scores start. level: all of
    them start there, so that every filter is on and training alone decides which go off (ours); False draws them around
    it, as in the released code, where about Φ(bias / √2) of the filters are on before training. seed: of the
    controllers' weights. A code multiplies the filters' outputs behind their batch norm and activation; at the end of a
    residual branch, before the sum. The model is traced in evaluation mode: ``nn.Dropout`` drops again while the copy
    is trained, ``F.dropout(…, self.training)`` does not. Raises what `netpaths.Graph` raises, UnknownNode, and
    BadOption for a node that is no convolution, a model with controllers, or names that it needs itself. Source: Li et
    al. (ECCV 2020), released code.
    """
    graph = Graph(model, example, fold=False)
    chosen = chosen_layers(graph, layers)
    taken = [name for name in OWN if name in graph.module._modules]
    if taken:
        raise BadOption(f"the model calls a module {taken[0]!r}, which decoupled networks need; give it another name")
    try:
        network = copy.deepcopy(graph.module)
    except RuntimeError as error:
        raise BadWeights(f"the model cannot be copied to train it: {error}") from error
    parameter = next(network.parameters(), example)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in chosen:
            node = graph.nodes[name]
            controller = Controller(node.input_shapes[0][0], node.shape[0], bias, level)
            network.add_submodule(f"controllers.{name}", controller.to(parameter.device, parameter.dtype))
            network.add_submodule(f"gates.{name}", Gate())
    _insert(network, graph, chosen)
    follow_mode(network)
    decoupled = Decoupled(network, network.graph)
    decoupled.meta["input_shape"] = graph.input_shape
    return decoupled.eval()


def chosen_layers(graph: Graph, layers: Sequence[str] | None) -> tuple[str, ...]:
    """The convolutions to decouple, from input to output; raises BadOption and UnknownNode."""
    if is_decoupled(graph):
        raise BadOption("the model has controllers already; decouple the plain one")
    possible = _possible(graph)
    if layers is None:
        if not possible:
            raise BadOption("the network has no convolution to decouple between its first layer and its last")
        return possible
    wanted = {graph.node(name).name for name in layers}
    wrong = sorted(wanted - set(_convolutions(graph)))
    if wrong or not wanted or len(wanted) < len(layers):
        problem = f"{wrong[0]} is none" if wrong else "name at least one, each once"
        raise BadOption(f"layers to decouple are convolutions; {problem}; these can be: {', '.join(possible)}")
    return tuple(name for name in graph.nodes if name in wanted)


def _convolutions(graph: Graph) -> tuple[str, ...]:
    """Convolutions that have a layer behind them."""
    return tuple(
        name
        for name in graph.layers[:-1]
        if graph.nodes[name].family.name == "convolution"  # type: ignore[union-attr]
    )


def _possible(graph: Graph) -> tuple[str, ...]:
    return tuple(name for name in _convolutions(graph) if name != graph.layers[0])


def _insert(network: Canonical, graph: Graph, layers: Sequence[str]) -> None:
    """Put a call of each layer's controller in front of it and of its gate behind it."""
    found = {node_name(node): node for node in network.graph.nodes}
    for name in layers:
        last = found[_last(graph, name)]
        with network.graph.inserting_before(found[name]):
            code = _called(network, f"controllers.{name}", (found[name].all_input_nodes[0],))
        with network.graph.inserting_after(last):
            gate = _called(network, f"gates.{name}", (last, code))
        last.replace_all_uses_with(gate, delete_user_cb=lambda user, own=gate: user is not own)
    network.recompile()


def _called(network: Canonical, name: str, inputs: tuple[fx.Node, ...]) -> fx.Node:
    """A call of a submodule, which is a node of its name."""
    call = network.graph.call_module(name, inputs)
    call.meta[NAME] = name
    return call


def _last(graph: Graph, name: str) -> str:
    """The node whose output the code multiplies: behind the batch norm and the activation that alone read it."""
    while True:
        readers = graph.readers[name]
        family: Any = graph.nodes[readers[0]].family if len(readers) == 1 else None
        if family is None or family.name not in FOLLOWED or readers[0] == graph.output:
            return name
        name = readers[0]
        if family.name != "batch norm":
            return name
