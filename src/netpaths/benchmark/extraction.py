"""The extraction of one batch: its stages, what they cost, and how much they look at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from netpaths.benchmark.memory import peak
from netpaths.benchmark.subject import Subject
from netpaths.benchmark.timing import Seconds, Stage, clocked, rounds, timed_rules
from netpaths.graph import Graph
from netpaths.methods import EffectivePath

BOOKKEEPING = "bookkeeping"
"""Extraction time outside the layers' rules."""


@dataclass(frozen=True, eq=False)
class Extraction:
    """Paths of ``images`` (batch, *input shape) of a subject."""

    subject: Subject
    method: EffectivePath
    images: torch.Tensor

    @property
    def graph(self) -> Graph:
        """The subject's graph."""
        return self.subject.graph

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.images.device

    def forward(self) -> torch.Tensor:
        """The yardstick: the user's own model on the batch; returns its logits (batch, classes)."""
        with torch.no_grad():
            logits: torch.Tensor = self.subject.network(self.images)
        return logits

    def stages(self) -> dict[str, Stage]:
        """The bare forward pass, the one that keeps what the selection reads, and the selection alone."""
        ranks = (self.method.rank,)
        return {
            "forward": lambda _: self.forward(),
            "recorded": lambda _: self.method.forward(self.graph, self.images),
            "extraction": lambda trace: self.method.select(self.graph, trace, ranks),
        }

    def times(self, repeats: int) -> dict[str, Seconds]:
        """The seconds of every stage, (repeats,) each."""
        return rounds(self.stages(), repeats, self.device)

    def counts(self) -> dict[str, int]:
        """How many contributions the selection looks at, and how many synapses of layers it chooses.

        Contributions are the active neurons of every linear and convolution layer times the inputs of one, padding
        included, over all images.
        """
        method = replace(self.method, kinds=("neuron", "synapse"))
        last = len(self.graph.layers) if method.last is None else method.last
        contributions = synapses = 0
        for path in method.extract(self.graph, self.images):
            for name in self.graph.layers[-last:]:
                active, field = path.get((name, "neuron")), self.graph.node(name).field
                contributions += len(active) * field.size if active is not None and field is not None else 0
                synapses += len(path.get((name, "synapse"), ()))
        return {"contributions": contributions, "synapses": synapses}

    def peaks(self) -> dict[str, float | None]:
        """Peak memory in MB of the bare forward pass, and by how much that of the whole extraction exceeds it."""
        forward = peak(self.forward, self.device)
        whole = peak(lambda: self.method.extract(self.graph, self.images), self.device)
        return {"forward MB": forward, "path MB": None if forward is None or whole is None else whole - forward}

    def shares(self, repeats: int) -> dict[str, float]:
        """The share of the selection's time spent in the rule of every layer family, largest first; they sum to 1."""
        trace = self.method.forward(self.graph, self.images)
        with timed_rules(self.device) as seconds:
            select = self.stages()["extraction"]
            total = sum(clocked(lambda: select(trace), self.device)[0] for _ in range(repeats))
        parts = {**seconds, BOOKKEEPING: max(total - sum(seconds.values()), 0.0)}
        whole = sum(parts.values())
        return {name: parts[name] / whole for name in sorted(parts, key=lambda name: -parts[name])}
