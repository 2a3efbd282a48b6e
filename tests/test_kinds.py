"""Random networks of all six kinds of operation: sets and amounts at every node are the brute-force restatement's.

``python tests/test_kinds.py NEURONS`` goes on until so many neurons were compared.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinds import CURVED, RISING, Array, Asked, Step, explain, values_of
from netpaths import EffectivePath, Graph, Path
from netpaths.methods.budget import budgets

EXACT = 1e-10
"""How far a budget's parts may be from the logit, relative to the largest of them."""

DECIDED = 1e-9
"""A selection that rounding could turn has a smaller margin, and is not compared."""

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "abs": torch.abs,
    "square": torch.square,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "rsqrt": torch.rsqrt,
    "scale": lambda x, factor: x * factor,
    "shift": lambda x, shift: x + shift,
    "from": lambda x, shift: shift - x,
    "mul": torch.mul,
    "add": torch.add,
    "sub": torch.sub,
    "matmul": torch.matmul,
    "attention": F.scaled_dot_product_attention,
}


class Operation(nn.Module):
    """One step as a module, so that its node has its name."""

    def __init__(self, step: Step, before: bool) -> None:
        super().__init__()
        self.step, self.lead = step, 0 if before else 1
        for name, array in step.arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def forward(self, *inputs: Tensor) -> Any:
        step, o, x, constants = self.step, self.step.options, inputs[0], list(self._buffers.values())
        if step.op in ACTIVATIONS:
            return ACTIVATIONS[step.op](*inputs, *constants)
        if step.op == "linear":
            return F.linear(x, self.weight, getattr(self, "bias", None))
        if step.op == "conv":
            return F.conv2d(x, self.weight, self.bias, o["stride"], o["padding"], 1, o["groups"])
        if step.op in ("maxpool", "avgpool"):
            pool = F.max_pool2d if step.op == "maxpool" else F.avg_pool2d
            return pool(x, o["kernel"], o["stride"], o["padding"])
        if step.op == "batchnorm":
            return F.batch_norm(x, self.mean, self.var, self.weight, self.bias)
        if step.op == "layernorm":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)
        if step.op == "groupnorm":
            return F.group_norm(x, o["groups"], self.weight, self.bias)
        if step.op == "instancenorm":
            return F.instance_norm(x, weight=self.weight, bias=self.bias)
        if step.op == "softmax":
            return x.softmax(-1)
        if step.op in ("sum", "mean"):
            return getattr(x, step.op)([axis + self.lead for axis in o["axes"]], o["keep"])
        return self.moved(inputs)

    def moved(self, inputs: Sequence[Tensor]) -> Tensor:
        step, o, x, lead = self.step, self.step.options, inputs[0], self.lead
        if step.op == "permute":
            return x.permute([*range(lead), *(axis + lead for axis in o["order"])])
        if step.op == "reshape":
            return x.reshape(-1, *o["shape"][step.parts :])
        if step.op == "slice":
            whole = [slice(None)] * (o["axis"] + lead)
            return x[(*whole, slice(o["start"], o["stop"], o.get("step", 1)))]
        if step.op == "concat":
            return torch.cat(list(inputs), o["axis"] + lead)
        if step.op == "expand":
            return x.expand(x.shape[0], *o["shape"])
        if step.op == "pad":
            return F.pad(x, (*o["sides"], *o["sides"]))
        if step.op == "roll":
            return torch.roll(x, o["shift"], o["axis"] + lead)
        if step.op == "flip":
            return torch.flip(x, [o["axis"] + lead])
        return torch.cat([self.token.expand(x.shape[0], 1, -1), x], 1)


class Network(nn.Module):
    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = tuple(steps)
        for index, step in enumerate(steps[1:], 1):
            self.add_module(f"s{index}", Operation(step, steps[step.reads[0]].parts))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for index, step in enumerate(self.steps[1:], 1):
            values.append(getattr(self, f"s{index}")(*(values[read] for read in step.reads)))
        return values[-1]


class Builder:
    """Draws a network; every method adds steps behind ``at`` and returns the last one."""

    def __init__(self, seed: int) -> None:
        self.choice, self.random = random.Random(seed), np.random.default_rng(seed)
        self.shape = (self.choice.randint(2, 3), 4, self.choice.choice([4, 6]))
        self.steps = [Step("image")]
        self.shapes: list[tuple[int, ...]] = [self.shape]

    def add(self, op: str, reads: Sequence[int], arrays: dict[str, Array] | None = None, **options: Any) -> int:
        parts = options.pop("parts", self.steps[reads[0]].parts)
        self.steps.append(Step(op, tuple(reads), arrays or {}, options, parts))
        image = [np.full(shape, 0.5) for shape in self.shapes]
        last = self.steps[-1]
        value = (
            values_of([Step("image"), Step(op, tuple(range(len(reads))), last.arrays, options)], image[reads[0]])
            if (len(reads) == 1)
            else None
        )
        self.shapes.append(self._shape(last, [self.shapes[read] for read in reads], value))
        return len(self.steps) - 1

    def _shape(self, step: Step, shapes: list[tuple[int, ...]], value: list[Array] | None) -> tuple[int, ...]:
        if value is not None:
            return value[-1].shape
        if step.op == "concat":
            axis = step.options["axis"]
            return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
        if step.op == "matmul":
            return (*shapes[0][:-1], shapes[1][-1])
        if step.op == "attention":
            return shapes[2]
        return np.broadcast_shapes(*shapes)

    def normal(self, *shape: int) -> Array:
        return self.random.standard_normal(shape)

    def linear(self, at: int, outputs: int) -> int:
        inputs = self.shapes[at][-1]
        return self.add(
            "linear", [at], {"weight": self.normal(outputs, inputs) / inputs**0.5, "bias": self.normal(outputs) / 5}
        )

    def conv(self, at: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> int:
        inputs = self.shapes[at][0] // groups
        weight = self.normal(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5
        options = {"kernel": kernel, "stride": stride, "padding": kernel // 2, "groups": groups}
        return self.add("conv", [at], {"weight": weight, "bias": self.normal(outputs) / 5}, **options)

    def activate(self, at: int) -> int:
        return self.add(self.choice.choice([*CURVED, *RISING]), [at])

    def norm(self, at: int, op: str) -> int:
        width = self.shapes[at][-1 if op == "layernorm" else 0]
        arrays = {"weight": self.normal(width), "bias": self.normal(width) / 3}
        if op == "batchnorm":
            arrays |= {"mean": self.normal(width), "var": self.random.random(width) + 0.5}
        groups = self.choice.choice([g for g in (1, 2, 3) if width % g == 0])
        return self.add(op, [at], arrays, **({"groups": groups} if op == "groupnorm" else {}))

    def root_mean_square(self, at: int) -> int:
        axes = [len(self.shapes[at]) - 1]
        mean = self.add("mean", [self.add("square", [at])], axes=axes, keep=True)
        factor = self.add("rsqrt", [self.add("shift", [mean], {"shift": np.full(1, 0.01)})])
        return self.add("scale", [self.add("mul", [at, factor])], {"factor": self.normal(self.shapes[at][-1])})

    def excite(self, at: int) -> int:
        """Squeeze-and-excitation."""
        mean = self.add("mean", [at], axes=[1, 2], keep=True)
        gate = self.conv(self.add("relu", [self.conv(mean, 3)]), self.shapes[at][0])
        gate = self.add(self.choice.choice(["sigmoid", "hardsigmoid", "tanh"]), [gate])
        if self.choice.random() < 0.3:
            gate = self.add("expand", [gate], shape=self.shapes[at])
        return self.add("mul", self.shuffled([at, gate]))

    def shuffled(self, reads: list[int]) -> list[int]:
        self.choice.shuffle(reads)
        return reads

    def halves(self, at: int, axis: int) -> tuple[int, int]:
        size = self.shapes[at][axis]
        return tuple(  # type: ignore[return-value]
            self.add("slice", [at], axis=axis, start=start, stop=start + size // 2) for start in (0, size // 2)
        )

    def gate(self, at: int) -> int:
        """A gated unit on the last axis, or a product of two activations."""
        width = self.shapes[at][-1]
        first, second = self.halves(self.linear(at, 2 * width), len(self.shapes[at]) - 1)
        op = self.choice.choice(["sigmoid", "gelu", "silu", "tanh", "softmax", None])
        return self.add("mul", self.shuffled([first, self.add(op, [second]) if op else second]))

    def attend(self, at: int, heads: int = 2) -> int:
        """Attention of tokens (…, tokens, width), written out or fused, behind one linear layer."""
        *lead, tokens, width = self.shapes[at]
        axis, n = len(lead) + 1, len(lead)
        whole = self.linear(at, 3 * width)
        own = []
        for place in range(3):
            part = self.add("slice", [whole], axis=axis, start=place * width, stop=(place + 1) * width)
            part = self.add("reshape", [part], shape=(*lead, tokens, heads, width // heads))
            own.append(self.add("permute", [part], order=(*range(n), n + 1, n, n + 2)))
        if self.choice.random() < 0.5:
            mixed = self.add("attention", own)
        else:
            key = self.add("permute", [own[1]], order=(*range(n + 1), n + 2, n + 1))
            scores = self.add(
                "scale", [self.add("matmul", [own[0], key])], {"factor": np.full(1, (width / heads) ** -0.5)}
            )
            if self.choice.random() < 0.5:
                scores = self.add("shift", [scores], {"shift": self.normal(heads, tokens, tokens)})
            mixed = self.add("matmul", [self.add("softmax", [scores]), own[2]])
        mixed = self.add("permute", [mixed], order=(*range(n), n + 1, n, n + 2))
        return self.linear(self.add("reshape", [mixed], shape=(*lead, tokens, width)), width)

    def join(self, first: int, second: int) -> int:
        return self.add(self.choice.choice(["add", "add", "sub", "mul"]), self.shuffled([first, second]))

    def map_block(self, at: int) -> int:
        """One block on a map (channels, height, width)."""
        channels, height, _ = self.shapes[at]
        kind = self.choice.randrange(13)
        if kind == 0:
            return self.activate(self.conv(at, self.choice.choice([4, 6]), self.choice.choice([1, 3])))
        if kind == 1:
            groups = 2 if channels % 2 == 0 else 1
            return self.join(at, self.activate(self.conv(at, channels, 3, groups=groups)))
        if kind == 2:
            return self.norm(at, self.choice.choice(["groupnorm", "batchnorm", "instancenorm"]))
        if kind == 3:
            return self.excite(at)
        if kind == 4 and height > 2:
            op = self.choice.choice(["maxpool", "avgpool"])
            kernel, stride, padding = self.choice.choice([(2, 2, 0), (3, 1, 1), (3, 2, 1)])
            return self.add(
                op, [at], kernel=kernel, stride=stride, padding=padding, shape=self.pooled(at, kernel, stride, padding)
            )
        if kind == 5:
            return self.add("scale", [at], {"factor": self.normal(channels, 1, 1)})
        if kind == 6:
            return self.add(self.choice.choice(["shift", "from"]), [at], {"shift": self.normal(*self.shapes[at])})
        if kind == 7:
            mean = self.add("mean", [at], axes=self.choice.choice([[0], [1], [1, 2], [2]]), keep=True)
            return self.add(self.choice.choice(["sub", "add"]), self.shuffled([at, mean]))
        if kind == 8:
            return self.add("roll", [at], shift=1, axis=self.choice.choice([1, 2]))
        if kind == 9:
            return (
                self.add("concat", [at, self.add("flip", [at], axis=2)], axis=0)
                if channels < 6
                else self.halves(at, 0)[1]
            )
        if kind == 10 and height <= 4:
            return self.add("slice", [self.add("pad", [at], sides=(1, 1))], axis=1, start=0, stop=height + 1)
        if kind == 11:
            return self.windows(at)
        return self.activate(at)

    def pooled(self, at: int, kernel: int, stride: int, padding: int) -> tuple[int, ...]:
        channels, *sides = self.shapes[at]
        return (channels, *((side + 2 * padding - kernel) // stride + 1 for side in sides))

    def windows(self, at: int) -> int:
        """Attention and a gated unit in windows of 2 × 2 that the network keeps among its images."""
        channels, height, width = self.shapes[at]
        if height % 2 or width % 2 or channels % 2:
            return self.conv(at, 4, 3)
        h, w = height // 2, width // 2
        last = self.add("permute", [at], order=(1, 2, 0))
        split = self.add("permute", [self.add("reshape", [last], shape=(h, 2, w, 2, channels))], order=(0, 2, 1, 3, 4))
        own = self.add("reshape", [split], shape=(h * w, 4, channels), parts=True)
        own = self.token_block(self.token_block(own))
        channels = self.shapes[own][-1]
        whole = self.add("reshape", [own], shape=(h, w, 2, 2, channels), parts=False)
        whole = self.add("permute", [whole], order=(0, 2, 1, 3, 4))
        back = self.add("permute", [self.add("reshape", [whole], shape=(height, width, channels))], order=(2, 0, 1))
        return self.join(at, back) if self.shapes[back] == self.shapes[at] else back

    def token_block(self, at: int) -> int:
        """One block on tokens (…, tokens, width)."""
        *_, tokens, width = self.shapes[at]
        kind = self.choice.randrange(8)
        if kind <= 1:
            return self.add("add", [at, self.attend(self.norm(at, "layernorm"), 2 if width % 2 == 0 else 1)])
        if kind == 2:
            return self.join(at, self.linear(self.activate(self.linear(at, 6)), width))
        if kind == 3:
            return self.gate(at)
        if kind == 4:
            return self.root_mean_square(at)
        if kind == 5:
            return self.add("scale", [at], {"factor": self.normal(width)})
        if kind == 6:
            return self.add("shift", [at], {"shift": self.normal(tokens, width)})
        return self.norm(at, "layernorm")

    def network(self) -> list[Step]:
        at = self.conv(0, self.choice.choice([4, 6]), self.choice.choice([1, 3]))
        for _ in range(self.choice.randint(2, 4)):
            at = self.map_block(at)
        if self.choice.random() < 0.7:
            channels, height, width = self.shapes[at]
            at = self.add("permute", [self.add("reshape", [at], shape=(channels, height * width))], order=(1, 0))
            if height * width > 16:
                at = self.add("slice", [at], axis=0, start=0, stop=height * width, step=2)
            at = self.add("token", [at], {"token": self.normal(1, channels)})
            for _ in range(self.choice.randint(2, 3)):
                at = self.token_block(at)
            if self.choice.random() < 0.5:
                at = self.add(self.choice.choice(["mean", "sum"]), [at], axes=[0], keep=False)
            else:
                at = self.add("slice", [at], axis=0, start=0, stop=2)
        if len(self.shapes[at]) > 1 and self.choice.random() < 0.5:
            at = self.add("mean", [at], axes=list(range(1, len(self.shapes[at]))), keep=False)
        if len(self.shapes[at]) > 1:
            at = self.add("reshape", [at], shape=(int(np.prod(self.shapes[at])),))
        self.linear(at, 3)
        return self.steps


OPTIONS = (
    Asked(),
    Asked(0.9, attention="all", gates="both"),
    Asked(0.3, "all", gates="both"),
    Asked(0.7, attention="all"),
)


@dataclass
class Count:
    """What was compared. undecided: paths left out because rounding could turn a selection."""

    neurons: int = 0
    active: int = 0
    decisions: int = 0
    synapses: int = 0
    paths: int = 0
    undecided: int = 0
    operations: Counter[str] = field(default_factory=Counter)


def compare(seed: int, images: int, count: Count) -> None:
    """Every node's neurons, synapses and amounts of ``images`` random images under all options."""
    builder = Builder(seed)
    steps = builder.network()
    batch = np.random.default_rng(seed + 10**6).standard_normal((images, *builder.shape))
    x = torch.from_numpy(batch)
    graph = Graph(Network(steps).double().eval(), x[:1], fold=False)
    names = names_of(graph, steps)
    count.operations.update(step.op for step in steps[1:])
    for budget in budgets(graph, x, torch.zeros(images, dtype=torch.int64)):
        parts = (budget.pixels, budget.biases, budget.constants)
        gap = abs(sum(parts) - budget.logit) / max(1.0, *map(abs, parts))
        assert gap < EXACT, f"seed {seed}: {budget}"
    for asked in OPTIONS:
        method = EffectivePath(
            asked.theta,
            merge=asked.merge,
            attention=asked.attention,
            gates=asked.gates,
            contributions=True,
        )
        for image, path in zip(batch, method.extract(graph, x)):
            found = explain(steps, image, asked)
            if found.margin < DECIDED:
                count.undecided += 1
                continue
            count.paths += 1
            count.decisions += found.decisions
            where = f"seed {seed}, {asked}"
            assert path.seed == found.seed, where
            for index, name in reversed(names.items()):
                wanted = found.wanted.get(index)
                what = f"{where}: step {index} {steps[index].op} of {steps[index].reads} ({name})"
                shape = graph.nodes[name].shape
                mask = np.zeros(shape, dtype=bool) if wanted is None else wanted.mask.reshape(shape)
                own = path.get((name, "neuron"))
                got = np.zeros(mask.size, dtype=bool)
                got[[] if own is None else own.members()] = True
                assert np.array_equal(got, mask.reshape(-1)), what
                count.neurons += mask.size
                count.active += int(mask.sum())
                if wanted is not None and own is not None:
                    np.testing.assert_allclose(
                        path.neurons(name).numpy(),
                        (wanted.amount * wanted.mask).reshape(shape),
                        1e-4,
                        1e-5,
                        err_msg=what,
                    )
                same_synapses(path, name, found.synapses.get(index), what, count)


def names_of(graph: Graph, steps: Sequence[Step]) -> dict[int, str]:
    """The node that holds each step's value."""
    last = {node.module: name for name, node in graph.nodes.items()}
    return {0: graph.input, **{index: last[f"s{index}"] for index in range(1, len(steps)) if f"s{index}" in last}}


def same_synapses(path: Path, name: str, expected: dict[int, float] | None, what: str, count: Count) -> None:
    own = path.get((name, "synapse"))
    if own is None:
        return
    members = own.members()
    wanted = expected or {}
    assert members.tolist() == sorted(wanted), what
    amounts = [max(wanted[int(member)], 0.0) for member in members]
    np.testing.assert_allclose(own.member_values(), amounts, 1e-4, 1e-5, err_msg=what)
    count.synapses += len(amounts)


@pytest.mark.parametrize("seed", range(12))
def test_paths_are_the_restatements(seed: int) -> None:
    compare(seed, 2, Count())


def main(neurons: int, start: int = 0) -> Count:
    """Compare networks until so many neurons were compared; prints how far it is."""
    count, seed = Count(), start
    while count.neurons < neurons:
        compare(seed, 4, count)
        seed += 1
        if seed % 20 == 0:
            print(seed - start, count, flush=True)
    print(seed - start, "networks", count)
    return count


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
