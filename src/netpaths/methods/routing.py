"""Critical data routing paths: the channels an image needs, as gates learned for it alone.

Wang et al., "Interpret Neural Networks by Identifying Critical Data Routing Paths", CVPR 2018. For an image x, one
gate λ ≥ 0 for every channel of the routed layers solves

    min over Λ ≥ 0 of  CE(softmax f(x), softmax f(x; Λ)) + γ Σ |λ|

1. The network is frozen; the gates start at 1.
2. Loss and prediction are evaluated, then one step of gradient descent with momentum is taken and the gates are
   clamped to [0, limit]; steps times.
3. Among the gates evaluated whose top class is the plain network's, those with the smallest loss are the path. The
   first, all ones, always qualify.

Every image has its own gates and its own momentum; a batch only shares the passes. The gates of a routed convolution
act behind its bias and in front of its activation. One that reached 0 in front of a ReLU stays there, because PyTorch
gives a ReLU no slope at 0; behind the activation, as after a residual block, it may come back. The range, the values
evaluated, and the solver that runs to convergence are our reconstruction: see docs/methods/cdrp.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

import torch

from netpaths.errors import BadOption
from netpaths.gradients import ordinary, with_gradients
from netpaths.graph import Graph
from netpaths.graph.gated import Gated
from netpaths.methods.units import by_node, routed_nodes, unit_paths, unit_shapes
from netpaths.path import Path

GROWTH, SHRINK = 1.25, 0.5
"""How the step of the converging solver changes after a step that was taken, and after one that was refused."""

CORNER = 1e-3
"""An image whose step shrank to this share of lr rests: the loss has a corner there, and no slope tells the way on."""

ROUNDING = 8
"""Two losses that differ by so many units in the last place count as equal."""


@dataclass(frozen=True)
class DistillationGuidedRouting:
    """Extract critical data routing paths (Wang et al. 2018): gates on channels, in [0, limit].

    steps: evaluations of the gates. lr, momentum: of gradient descent. gamma: weight of Σ |λ|. limit: the largest
    gate, at least 1. temperature: of both softmaxes. start: gates of one, or uniform in [0, 1) from ``seed``, the same
    for every image. layers: nodes to route, None for the paper's. choose: the gates of the smallest loss among those
    that keep the prediction, or the last evaluated. tolerance: None for the paper's descent; a number for proximal
    gradient steps of their own size for every image, until no gate would move faster than it or none can follow its
    slope, at most ``steps``. binary: give every gate above 0 the value 1.
    """

    steps: int = 30
    lr: float = 0.1
    momentum: float = 0.9
    gamma: float = 0.05
    limit: float = 10.0
    temperature: float = 1.0
    start: Literal["ones", "random"] = "ones"
    seed: int = 0
    layers: tuple[str, ...] | None = None
    choose: Literal["best", "last"] = "best"
    tolerance: float | None = None
    binary: bool = False

    def describe(self) -> dict[str, Any]:
        """Name and parameters as JSON values."""
        parameters = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"name": "routing", **parameters, "layers": None if self.layers is None else list(self.layers)}

    def explain(self, seed: str) -> list[str]:
        """How a path of class ``seed`` is found, step by step, for someone who has not read the paper."""
        return [
            "Put a gate on every channel of the routed layers: a number that the channel's values are multiplied by. "
            "With all gates at 1 the network is as it was.",
            f"Turn the gates, for this image alone, so that the network's answer, class {seed}, stays what it was "
            f"while the sum of all gates becomes small; a gate cannot be below 0 or above {self.limit:g}.",
            f"Of the gates met in {self.steps} such steps keep those that match the answer best at the smallest sum. "
            "Channels whose gate is not 0 are on the path.",
        ]

    def fit(self, graph: Graph, loader: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> DistillationGuidedRouting:
        """Nothing to learn; returns itself."""
        return self

    def extract(self, graph: Graph, x: torch.Tensor) -> list[Path]:
        """One path per image of ``x`` (batch, *input shape); raises BadInput and BadOption."""
        return self.extract_steps(graph, x, (self.steps,))[0]

    @with_gradients()
    def extract_steps(self, graph: Graph, x: torch.Tensor, steps: Sequence[int]) -> list[list[Path]]:
        """The paths after several numbers of steps, from one descent: a list (steps) of lists (batch)."""
        replace(self, steps=min(steps, default=0)).check()
        nodes = routed_nodes(graph, self.layers)
        search = _Search(self, graph.gated(nodes), ordinary(x))
        found = search.converge(steps) if self.tolerance is not None else search.descend(steps)
        return [
            unit_paths(
                graph, nodes, "channel", gates, search.plain, replace(self, steps=number).describe(), not self.binary
            )
            for number, gates in zip(steps, found)
        ]

    def check(self) -> None:
        """Raise BadOption for a parameter out of range."""
        ranges = {
            "steps": self.steps >= 1,
            "lr": 0 < self.lr < inf,
            "momentum": 0 <= self.momentum < 1,
            "gamma": 0 <= self.gamma < inf,
            "limit": 1 <= self.limit < inf,
            "temperature": 0 < self.temperature < inf,
            "tolerance": self.tolerance is None or self.tolerance > 0,
        }
        wrong = [name for name, fits in ranges.items() if not fits]
        if wrong:
            raise BadOption(f"{wrong[0]} of routing is {getattr(self, wrong[0])}, which is out of range")
        if self.start not in ("ones", "random") or self.choose not in ("best", "last"):
            raise BadOption("routing starts at ones or random gates and chooses the best or the last")


@dataclass(frozen=True)
class _Evaluated:
    """Under some gates: the loss without the penalty (batch,), its gradient (batch, units), top classes (batch,)."""

    loss: torch.Tensor
    gradient: torch.Tensor | None
    predicted: torch.Tensor


class _Search:
    """The gates of one batch and the best of them so far."""

    def __init__(self, method: DistillationGuidedRouting, network: Gated, x: torch.Tensor) -> None:
        self.method, self.network = method, network
        self.shapes = unit_shapes(network.graph, network.nodes, "channel")
        self.given = network.start(x)
        ones = x.new_ones(len(x), sum(channels for (channels,) in self.shapes))
        with torch.no_grad():
            self.plain = network(self.given, by_node(ones, self.shapes))
        self.target = torch.softmax(self.plain / method.temperature, dim=1)
        self.wanted = self.plain.argmax(1)
        self.gates = ones if method.start == "ones" else ones * self._draw(x)
        self.best, self.lowest = self.gates.clone(), torch.full_like(self.plain[:, 0], torch.inf)
        self.kept = torch.zeros_like(self.wanted, dtype=torch.bool)

    def _draw(self, x: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.method.seed)
        return torch.rand(sum(channels for (channels,) in self.shapes), generator=generator).to(x)

    def descend(self, steps: Sequence[int]) -> list[torch.Tensor]:
        """Momentum descent as in the paper; the gates chosen after each of ``steps``: (batch, units)."""
        method, velocity = self.method, torch.zeros_like(self.gates)
        found = {}
        for step in range(1, max(steps) + 1):
            at = self._first() if step == 1 else self._evaluate(self.gates, gradient=step < max(steps))
            self._note(self.gates, at)
            if step in steps:
                found[step] = self._chosen()
            if at.gradient is not None:
                velocity = method.momentum * velocity + at.gradient + method.gamma * self.gates.sign()
                self.gates = (self.gates - method.lr * velocity).clamp(0, method.limit)
        return [found[step] for step in steps]

    def converge(self, steps: Sequence[int]) -> list[torch.Tensor]:
        """Proximal gradient steps with backtracking, an image at rest once no gate moves faster than the tolerance."""
        method, tolerance = self.method, float(self.method.tolerance or 0)
        size = torch.full_like(self.lowest, method.lr)
        moving = torch.ones_like(self.kept)
        at, found = self._first(), {}
        self._note(self.gates, at)
        for step in range(1, max(steps) + 1):
            if step > 1 and bool(moving.any()):
                at, size, moving = self._proximal(at, size, moving, tolerance)
            if step in steps:
                found[step] = self._chosen()
        return [found[step] for step in steps]

    def _proximal(
        self, at: _Evaluated, size: torch.Tensor, moving: torch.Tensor, tolerance: float
    ) -> tuple[_Evaluated, torch.Tensor, torch.Tensor]:
        """One step of the images that still move, refused where loss or slope is above what its model says."""
        gradient, width = at.gradient, size[:, None]
        assert gradient is not None
        pull = gradient + self.method.gamma
        still = moving & (self._speed(pull) > tolerance) & (size > CORNER * self.method.lr)
        proposed = (self.gates - width * pull).clamp(0, self.method.limit)
        move = proposed - self.gates
        then = self._evaluate(torch.where(still[:, None], proposed, self.gates))
        assert then.gradient is not None
        square = move.square().sum(1) / size
        bound = at.loss + (gradient * move).sum(1) + square / 2
        bound = bound + ROUNDING * torch.finfo(bound.dtype).eps * (1 + at.loss)
        turn = ((then.gradient - gradient) * move).sum(1)
        taken = still & (then.loss <= bound) & (turn <= square)
        self._note(proposed, then, taken)
        self.gates = torch.where(taken[:, None], proposed, self.gates)
        size = torch.where(taken, size * GROWTH, torch.where(still, size * SHRINK, size))
        after = _Evaluated(
            torch.where(taken, then.loss, at.loss),
            torch.where(taken[:, None], then.gradient, gradient),
            torch.where(taken, then.predicted, at.predicted),
        )
        return after, size, still

    def _speed(self, pull: torch.Tensor) -> torch.Tensor:
        """How fast the fastest gate moves, (batch,), down ``pull`` (batch, units) and never out of its range."""
        held = ((self.gates <= 0) & (pull > 0)) | ((self.gates >= self.method.limit) & (pull < 0))
        return pull.abs().masked_fill(held, 0).amax(1)

    def _first(self) -> _Evaluated:
        """Gates of one need no pass: they are the plain network, where the cross entropy has its minimum."""
        if self.method.start != "ones":
            return self._evaluate(self.gates)
        scaled = torch.log_softmax(self.plain / self.method.temperature, dim=1)
        return _Evaluated(-(self.target * scaled).sum(1), torch.zeros_like(self.gates), self.wanted)

    def _evaluate(self, gates: torch.Tensor, gradient: bool = True) -> _Evaluated:
        temperature = self.method.temperature
        parts = [part.detach().requires_grad_(gradient) for part in by_node(gates, self.shapes)]
        with torch.set_grad_enabled(gradient):
            logits = self.network(self.given, parts)
        scaled = torch.log_softmax(logits.detach() / temperature, dim=1)
        slope = None
        if gradient:
            pull = (scaled.exp() - self.target) / temperature
            slope = torch.cat(torch.autograd.grad(logits, parts, pull), dim=1)
        return _Evaluated(-(self.target * scaled).sum(1), slope, logits.detach().argmax(1))

    def _note(self, gates: torch.Tensor, at: _Evaluated, among: torch.Tensor | None = None) -> None:
        """Remember gates that are the best so far: those that keep the prediction before those that do not."""
        total = at.loss + self.method.gamma * gates.abs().sum(1)
        keeps = at.predicted == self.wanted
        better = (keeps & ~self.kept) | ((keeps == self.kept) & (total < self.lowest))
        better = better if among is None else better & among
        self.best = torch.where(better[:, None], gates, self.best)
        self.lowest = torch.where(better, total, self.lowest)
        self.kept = self.kept | (keeps & better)

    def _chosen(self) -> torch.Tensor:
        return self.best if self.method.choose == "best" else self.gates
