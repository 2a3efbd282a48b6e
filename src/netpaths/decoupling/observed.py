"""A decoupled network that shows what its controllers and filters did."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, fx

from netpaths.decoupling.insertion import Decoupled
from netpaths.graph.gated import reshaping


@dataclass(frozen=True, eq=False)
class Observation:
    """Logits (batch, classes); by layer the codes (batch, filters) and the outputs in front of the gates."""

    logits: Tensor
    codes: dict[str, Tensor]
    features: dict[str, Tensor]


class Observed:
    """Runs ``network``, whose modules and modes it shares, and returns an `Observation`."""

    def __init__(self, network: Decoupled) -> None:
        copies: dict[fx.Node, fx.Node] = {}
        graph = fx.Graph()
        logits = graph.graph_copy(network.graph, copies)
        codes, features = {}, {}
        for node in copies:
            owner, _, name = str(node.target).partition(".")
            if node.op == "call_module" and owner == "gates":
                features[name], codes[name] = (copies[source] for source in node.all_input_nodes)
        graph.output((logits, codes, features))
        self._module = fx.GraphModule(network, reshaping(graph))

    def __call__(self, x: Tensor) -> Observation:
        return Observation(*self._module(x))
