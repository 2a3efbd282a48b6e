"""Networks that show what happens in them: a decoupled one its codes and features, either one what its layers read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, fx, nn

from netpaths.decoupling.insertion import Decoupled
from netpaths.errors import BadOption
from netpaths.graph import Graph
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
        copies: dict[fx.Node, fx.Node] = {}
        graph = fx.Graph()
        logits = graph.graph_copy(network.graph, copies)
        codes, features = {}, {}
        for node in copies:
            owner, _, name = str(node.target).partition(".")
            if node.op == "call_module" and owner == "gates":
                features[name], codes[name] = (copies[source] for source in node.all_input_nodes)
        graph.output((logits, codes, features, _reads(copies, reads)))
        self._network, self._module = network, fx.GraphModule(network, graph)

    def __call__(self, x: Tensor) -> Observation:
        self._module.training = self._network.training
        return Observation(*self._module(x))


class Plain:
    """The network without controllers, batch norm folded: logits (batch, classes) and, by layer, what it reads.

    Layers are all but the first, which reads the image. example: one batch, for shapes alone.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        own = Graph(model, example)
        self.layers = own.layers[1:]
        copies: dict[fx.Node, fx.Node] = {}
        graph = fx.Graph()
        logits = graph.graph_copy(own.module.graph, copies)
        graph.output((logits, _reads(copies, self.layers)))
        self._module = fx.GraphModule(own.module, graph)

    def __call__(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, reads = self._module(x)
        return logits, reads


def _reads(copies: dict[fx.Node, fx.Node], layers: Iterable[str]) -> dict[str, fx.Node]:
    """By layer the node that it reads."""
    found = {node_name(node): copy for node, copy in copies.items()}
    missing = [name for name in layers if name not in found]
    if missing:
        raise BadOption(f"the network without controllers has a layer {missing[0]}, the decoupled one has not")
    return {name: found[name].all_input_nodes[0] for name in layers}
