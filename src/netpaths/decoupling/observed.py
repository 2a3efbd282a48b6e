"""Networks that show what happens in them: a decoupled one its codes and features, either one what its layers read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, fx, nn

from netpaths.decoupling.insertion import Decoupled
from netpaths.errors import BadOption
from netpaths.graph import Graph, part
from netpaths.graph.naming import node_name


@dataclass(frozen=True, eq=False)
class Observation:
    """What one run showed.

    logits: (batch, classes). codes: by decoupled layer (batch, filters). features: by decoupled layer the outputs in
    front of its gate. reads: by layer that was asked for what it reads, (batch, *its input shape).
    """

    logits: Tensor
    codes: dict[str, Tensor]
    features: dict[str, Tensor]
    reads: dict[str, Tensor]


class Observed:
    """Runs ``network``, whose modules and modes it shares, and returns an `Observation`.

    reads: names of convolutions and linear layers. Raises BadOption for one that the network does not have.
    """

    def __init__(self, network: Decoupled, reads: Iterable[str] = ()) -> None:
        nodes = network.graph.nodes
        codes, features = {}, {}
        for node in nodes:
            owner, _, name = str(node.target).partition(".")
            if node.op == "call_module" and owner == "gates":
                features[name], codes[name] = node.all_input_nodes
        result = next(node for node in nodes if node.op == "output").args[0]
        self._network = network
        self._module = part(network, (result, codes, features, _reads(network, reads)))

    def __call__(self, x: Tensor) -> Observation:
        self._module.training = self._network.training
        return Observation(*self._module(x))


class Plain:
    """The network without controllers, batch norm folded: logits (batch, classes) and, by layer, what it reads.

    Layers are all but the first, which reads the image. example: one batch, for shapes alone.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._graph = Graph(model, example)
        self.layers = self._graph.layers[1:]

    def __call__(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        reads = {name: self._graph.nodes[name].inputs[0] for name in self.layers}
        trace = self._graph.run(x, record=reads.values())
        return trace.logits, {name: trace[source] for name, source in reads.items()}


def _reads(network: Decoupled, layers: Iterable[str]) -> dict[str, fx.Node]:
    """By layer the node that it reads."""
    found = {node_name(node): node for node in network.graph.nodes}
    missing = [name for name in layers if name not in found]
    if missing:
        raise BadOption(f"the network without controllers has a layer {missing[0]}, the decoupled one has not")
    return {name: found[name].all_input_nodes[0] for name in layers}
