"""Models built from the oracle's steps, in several ways of calling the same operation; and random small networks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths import EffectivePath, Graph, Path
from netpaths.graph.naming import node_name
from oracle import LAYERS, Answer, Options, Step, compute, explain, folded


class Network(nn.Module):
    """Runs steps, each in a module of its own: ``s3`` is the fourth."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = tuple(steps)
        calls: list[_Call] = []
        for index, step in enumerate(steps):
            calls.append(_Call(step, None if step.shares is None else calls[step.shares]))
            self.add_module(f"s{index}", calls[-1])

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for index, step in enumerate(self.steps[1:], 1):
            values.append(self.get_submodule(f"s{index}")(*(values[read] for read in step.reads)))
        return values[-1]


class _Call(nn.Module):
    """One step; its tensors become parameters and buffers, of a module of torch or of this one."""

    def __init__(self, step: Step, shared: _Call | None) -> None:
        super().__init__()
        self.step, self.owner = step, (shared,)
        if shared is None and step.style == "module" and step.op in MODULES:
            self.inner = MODULES[step.op](step)
        elif shared is None:
            for name, tensor in step.tensors.items():
                self.register_buffer(name, tensor)

    def forward(self, *inputs: Tensor) -> Tensor:
        owner = self.owner[0] or self
        if "inner" in owner._modules:
            result: Tensor = owner.inner(inputs[0])
            return result
        tensors = {name: getattr(owner, name) for name in self.step.tensors}
        return FUNCTIONS[self.step.op](self.step, list(inputs), tensors)


def step_nodes(graph: Graph, count: int) -> list[str | None]:
    """For each of a `Network`'s steps the node that holds its value, None where it does nothing."""
    found: list[str | None] = [graph.input, *(None for _ in range(count - 1))]
    for node in graph.module.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if node_name(node) in graph.nodes and len(stack) > 1:
            found[int(stack[1][0].removeprefix("L['self'].").split(".")[0].removeprefix("s"))] = node_name(node)
    return found


def _conv(step: Step) -> nn.Module:
    weight, o = step.tensors["weight"], step.options
    kind = nn.Conv1d if weight.dim() == 3 else nn.Conv2d
    inputs, outputs = weight.shape[1] * o["groups"], weight.shape[0]
    layer = kind(
        inputs,
        outputs,
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        o["stride"],
        o["padding"],
        o["dilation"],
        o["groups"],
        "bias" in step.tensors,
        o["mode"],
    )
    return _filled(layer, step)


def _linear(step: Step) -> nn.Module:
    outputs, inputs = step.tensors["weight"].shape
    return _filled(nn.Linear(inputs, outputs, "bias" in step.tensors), step)


def _filled(layer: nn.Module, step: Step) -> nn.Module:
    for name, tensor in step.tensors.items():
        setattr(layer, name, nn.Parameter(tensor.clone()))
    return layer


def _norm(step: Step) -> nn.Module:
    t = step.tensors
    kind = nn.BatchNorm1d if step.options["axes"] < 2 else nn.BatchNorm2d
    norm = kind(len(t["var"]), step.options["eps"], affine="weight" in t).double()
    if norm.affine:
        norm.weight, norm.bias = nn.Parameter(t["weight"].clone()), nn.Parameter(t["bias"].clone())
    norm.running_mean, norm.running_var = t["mean"].clone(), t["var"].clone()
    return norm


def _max_pool(step: Step) -> nn.Module:
    o = step.options
    kind = nn.MaxPool1d if isinstance(o["kernel"], int) and o.get("axes") == 1 else nn.MaxPool2d
    return kind(o["kernel"], o["stride"], o["padding"], o["dilation"], ceil_mode=o["ceil"])


def _average_pool(step: Step) -> nn.Module:
    o = step.options
    kind: Any = nn.AvgPool1d if o.get("axes") == 1 else nn.AvgPool2d
    return kind(o["kernel"], o["stride"], o["padding"], o["ceil"], o["include"])


MODULES: dict[str, Callable[[Step], nn.Module]] = {
    "conv": _conv,
    "linear": _linear,
    "bn": _norm,
    "maxpool": _max_pool,
    "avgpool": _average_pool,
    "adaptive_max": lambda step: nn.AdaptiveMaxPool2d(step.options["size"]),
    "adaptive_avg": lambda step: nn.AdaptiveAvgPool2d(step.options["size"]),
    "relu": lambda step: nn.ReLU(),
    "relu6": lambda step: nn.ReLU6(),
    "leaky": lambda step: nn.LeakyReLU(0.2),
    "hardtanh": lambda step: nn.Hardtanh(-0.5, 0.75),
    "tanh": lambda step: nn.Tanh(),
    "elu": lambda step: nn.ELU(),
    "sigmoid": lambda step: nn.Sigmoid(),
    "hardsigmoid": lambda step: nn.Hardsigmoid(),
    "softplus": lambda step: nn.Softplus(),
    "dropout": lambda step: nn.Dropout(0.5),
    "identity": lambda step: nn.Identity(),
    "softmax": lambda step: nn.Softmax(1),
    "flatten": lambda step: nn.Flatten(),
}


def _conv_function(step: Step, inputs: list[Tensor], t: dict[str, Tensor]) -> Tensor:
    o = step.options
    convolve = F.conv1d if step.tensors["weight"].dim() == 3 else F.conv2d
    return convolve(inputs[0], t["weight"], t.get("bias"), o["stride"], o["padding"], o["dilation"], o["groups"])


def _activate(step: Step, inputs: list[Tensor], t: dict[str, Tensor]) -> Tensor:
    x = inputs[0]
    if step.style == "inplace":
        return {"relu": x.relu_, "tanh": x.tanh_}[step.op]()
    if step.style == "method":
        return {"relu": x.relu, "tanh": x.tanh, "sigmoid": x.sigmoid, "clamp": lambda: x.clamp(-0.5, 0.75)}[step.op]()
    calls: dict[str, Callable[[], Tensor]] = {
        "relu": lambda: F.relu(x, inplace=step.style == "functional inplace"),
        "relu6": lambda: F.relu6(x),
        "leaky": lambda: F.leaky_relu(x, 0.2),
        "hardtanh": lambda: F.hardtanh(x, -0.5, 0.75),
        "tanh": lambda: torch.tanh(x),
        "elu": lambda: F.elu(x),
        "clamp": lambda: torch.clamp(x, -0.5, 0.75),
        "sigmoid": lambda: torch.sigmoid(x),
        "hardsigmoid": lambda: F.hardsigmoid(x),
        "softplus": lambda: F.softplus(x),
        "softmax": lambda: F.softmax(x, dim=1),
        "dropout": lambda: F.dropout(x, 0.5, training=False),
    }
    return calls[step.op]()


def _add(step: Step, inputs: list[Tensor], t: dict[str, Tensor]) -> Tensor:
    first, second = inputs
    if step.style == "inplace":
        first += second
        return first
    if step.style == "method":
        return first.add(second)
    return torch.add(first, second) if step.style == "functional" else first + second


def _pool_function(step: Step, inputs: list[Tensor], t: dict[str, Tensor]) -> Tensor:
    o = step.options
    if step.op == "maxpool":
        pool = F.max_pool1d if o.get("axes") == 1 else F.max_pool2d
        return pool(inputs[0], o["kernel"], o["stride"], o["padding"], o["dilation"], ceil_mode=o["ceil"])
    pool = F.avg_pool1d if o.get("axes") == 1 else F.avg_pool2d
    return pool(inputs[0], o["kernel"], o["stride"], o["padding"], o["ceil"], o["include"])


def _slice(step: Step, inputs: list[Tensor], t: dict[str, Tensor]) -> Tensor:
    o = step.options
    return inputs[0][:, o["channels"], o["rows"], o["cols"]]


FUNCTIONS: dict[str, Callable[[Step, list[Tensor], dict[str, Tensor]], Tensor]] = {
    **dict.fromkeys(("relu", "relu6", "leaky", "hardtanh", "tanh", "elu", "clamp", "sigmoid", "softplus"), _activate),
    **dict.fromkeys(("hardsigmoid", "softmax", "dropout"), _activate),
    "conv": _conv_function,
    "linear": lambda step, inputs, t: F.linear(inputs[0], t["weight"], t.get("bias")),
    "bn": lambda step, inputs, t: F.batch_norm(
        inputs[0], t["mean"], t["var"], t.get("weight"), t.get("bias"), eps=step.options["eps"]
    ),
    "maxpool": _pool_function,
    "avgpool": _pool_function,
    "adaptive_max": lambda step, inputs, t: F.adaptive_max_pool2d(inputs[0], step.options["size"]),
    "adaptive_avg": lambda step, inputs, t: F.adaptive_avg_pool2d(inputs[0], step.options["size"]),
    "mean": lambda step, inputs, t: inputs[0].mean((2, 3), keepdim=step.options["keep"]),
    "add": _add,
    "scale": lambda step, inputs, t: inputs[0] * t.get("factor", step.options.get("factor")),
    "divide": lambda step, inputs, t: inputs[0] / step.options["factor"],
    "shift": lambda step, inputs, t: inputs[0] + t.get("shift", step.options.get("shift")),
    "negate": lambda step, inputs, t: -inputs[0],
    "from": lambda step, inputs, t: step.options["shift"] - inputs[0],
    "cat": lambda step, inputs, t: torch.cat(inputs, 1),
    "flatten": lambda step, inputs, t: torch.flatten(inputs[0], 1),
    "reshape": lambda step, inputs, t: inputs[0].view(inputs[0].size(0), *step.options["shape"]),
    "permute": lambda step, inputs, t: inputs[0].permute(*step.options["order"]),
    "slice": _slice,
    "chunk": lambda step, inputs, t: inputs[0].chunk(step.options["pieces"], 1)[step.options["piece"]],
    "pad": lambda step, inputs, t: F.pad(
        inputs[0], step.options["amounts"], mode=step.options["mode"], **_filler(step.options)
    ),
}


def _filler(options: Any) -> dict[str, float]:
    return {"value": options["value"]} if options["mode"] == "constant" else {}


# --- comparison ------------------------------------------------------------------------------------------------------


ROUNDING = 1e-12
"""Relative difference below which float64 sums in another order may decide differently."""


NOTHING = ("dropout", "identity", "softmax")
"""Steps that are no nodes."""

MAYBE = ("slice", "pad", "flatten", "reshape", "permute", "chunk", "mean")
"""Steps that are none where they leave everything as it is."""


def chosen(path: Path, node: str, kind: str) -> set[int]:
    """The members of a site as a set, empty where the path has no such site."""
    return set(path[node, kind].members().tolist()) if (node, kind) in path.sites else set()


def assert_same(path: Path, names: Sequence[str | None], answer: Answer) -> bool:
    """Neurons, synapses and weights of every node are the oracle's; False where a choice hangs on rounding."""
    if answer.margin < ROUNDING:
        return False
    assert path.seed == answer.seed
    for index, name in enumerate(names):
        if name is None:
            continue
        assert chosen(path, name, "neuron") == answer.neurons.get(index, set()), (name, "neuron")
        assert chosen(path, name, "synapse") == set(answer.synapses.get(index, {})), (name, "synapse")
        assert chosen(path, name, "weight") == answer.weights.get(index, set()), (name, "weight")
    return True


def assert_agrees(
    steps: Sequence[Step],
    images: Tensor,
    options: Options | None = None,
    rank: int = 1,
    last: int | None = None,
    fold: bool = True,
    graph: Graph | None = None,
) -> list[Path]:
    """Extract from the model that ``steps`` describe, or its ``graph``, and compare every image with the oracle."""
    options = options or Options()
    graph = graph or Graph(Network(steps).double(), images, fold=fold)
    method = EffectivePath(options.theta, rank, last, options.target, options.ties, options.merge)  # type: ignore[arg-type]
    paths = method.extract(graph, images)
    expected, kept = folded(steps) if fold else (list(steps), list(range(len(steps))))
    own = step_nodes(graph, len(steps))
    names = [own[index] for index in kept]
    odd = [step.op for name, step in zip(names, expected) if (name is None) != (step.op in NOTHING)]
    assert set(odd) <= set(MAYBE), odd
    answers = [explain(expected, image, options, rank, last) for image in images]
    decided = [assert_same(path, names, answer) for path, answer in zip(paths, answers)]
    if not any(decided):
        pytest.skip("every path hangs on rounding")
    return paths


# --- random networks -------------------------------------------------------------------------------------------------


class Builder:
    """Grows a network step by step; ``sample`` holds every step's value on one image, for shapes."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        shape = (self.choice.randint(1, 3), self.choice.randint(6, 9), self.choice.randint(6, 9))
        self.steps = [Step("input", ())]
        self.sample = [self.normal(*shape)]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def shape(self, step: int) -> tuple[int, ...]:
        return tuple(self.sample[step].shape)

    def append(self, step: Step) -> int:
        self.steps.append(step)
        self.sample.append(compute(step, [self.sample[read] for read in step.reads]))
        return len(self.steps) - 1

    def style(self, *others: str) -> str:
        return self.choice.choice(["module", "functional", *others])

    def conv(self, source: int, outputs: int | None = None, same: bool = False) -> int:
        inputs, height, width = self.shape(source)
        groups = self.choice.choice([g for g in (1, 2, 3, inputs) if inputs % g == 0])
        outputs = outputs or groups * self.choice.randint(1, 3)
        groups = groups if outputs % groups == 0 else 1
        kernel = (self.choice.randint(1, 3), self.choice.randint(1, 3))
        options = self._conv_options(kernel, (height, width), same)
        weight = self.normal(outputs, inputs // groups, *kernel) / (inputs // groups * kernel[0] * kernel[1]) ** 0.5
        tensors = {"weight": weight, **({"bias": self.normal(outputs) / 2} if self.choice.random() < 0.7 else {})}
        style = "module" if options["mode"] != "zeros" else self.style()
        return self.append(Step("conv", (source,), tensors, {**options, "groups": groups}, style))

    def _conv_options(self, kernel: tuple[int, int], size: tuple[int, int], same: bool) -> dict[str, Any]:
        dilation = self.choice.choice([(1, 1), (1, 1), (2, 1), (2, 2)])
        if same or any(d * (k - 1) >= s for d, k, s in zip(dilation, kernel, size)):
            mode = self.choice.choice(["zeros", "replicate", "circular"]) if min(size) > 4 else "zeros"
            return {"stride": (1, 1), "padding": "same", "dilation": dilation, "mode": mode}
        padding = self.choice.choice([(0, 0), (1, 1), (1, 2), (0, 1), "valid"])
        mode = self.choice.choice(["zeros", "zeros", "reflect"]) if min(size) > 2 else "zeros"
        stride = self.choice.choice([(1, 1), (1, 1), (2, 2), (1, 2)])
        return {"stride": stride, "padding": padding, "dilation": dilation, "mode": mode}

    def norm(self, source: int) -> int:
        shape = self.shape(source)
        tensors = {"mean": self.normal(shape[0]) / 2, "var": self.normal(shape[0]) ** 2 + 0.3}
        if self.choice.random() < 0.8:
            tensors |= {"weight": self.normal(shape[0]) + 0.2, "bias": self.normal(shape[0])}
        return self.append(Step("bn", (source,), tensors, {"eps": 1e-3, "axes": len(shape) - 1}, self.style()))

    def activation(self, source: int) -> int:
        op = self.choice.choice(["relu"] * 4 + ["relu6", "leaky", "hardtanh", "tanh", "elu", "clamp", "sigmoid"])
        op = self.choice.choice([op, op, op, "softplus", "hardsigmoid"])
        style = "functional" if op == "clamp" else self.style()
        if op == "relu" and self._fresh(source):
            style = self.choice.choice([style, "inplace", "functional inplace", "method"])
        return self.append(Step(op, (source,), style=style))

    def _fresh(self, source: int) -> bool:
        """Whether writing into the value of ``source`` disturbs nobody: a new tensor without another reader."""
        owner = self.steps[source].op in (*LAYERS, "bn", "avgpool", "maxpool")
        return owner and not any(source in step.reads for step in self.steps)

    def pool(self, source: int) -> int:
        if min(self.shape(source)[1:]) < 3:
            return self.drop(source)
        op = self.choice.choice(["maxpool", "avgpool"])
        kernel = self.choice.choice([(2, 2), (3, 3), (2, 3)])
        options = {
            "kernel": kernel,
            "stride": self.choice.choice([(2, 2), (1, 1), (1, 2)]),
            "padding": self.choice.choice([(0, 0), (1, 1)]),
            "dilation": self.choice.choice([(1, 1), (2, 1)]) if op == "maxpool" and kernel[0] == 2 else (1, 1),
            "ceil": self.choice.random() < 0.5,
            "include": self.choice.random() < 0.5,
        }
        return self.append(Step(op, (source,), options=options, style=self.style()))

    def adaptive(self, source: int) -> int:
        size = (self.choice.randint(1, 4), self.choice.randint(1, 4))
        op = self.choice.choice(["adaptive_max", "adaptive_avg"])
        return self.append(Step(op, (source,), options={"size": size}, style=self.style()))

    def drop(self, source: int) -> int:
        op, style = self.choice.choice([("dropout", "module"), ("dropout", "functional"), ("identity", "module")])
        return self.append(Step(op, (source,), style=style))

    def residual(self, source: int) -> int:
        inner = self.conv(source, self.shape(source)[0], same=True)
        inner = self.norm(inner) if self.choice.random() < 0.6 else inner
        reads = (inner, source) if self.choice.random() < 0.5 else (source, inner)
        style = self.choice.choice(["module", "functional", "method"])
        if reads[0] == inner and self._fresh(inner):
            style = self.choice.choice([style, "inplace"])
        return self.append(Step("add", reads, style=style))

    def option_a(self, source: int) -> int:
        """A residual block with stride 2 whose shortcut slices and pads channels with zeros."""
        channels = self.shape(source)[0]
        short = self.slice(source, (slice(None), slice(None, None, 2), slice(None, None, 2)))
        short = self.append(
            Step("pad", (short,), options={"amounts": (0, 0, 0, 0, 1, 1), "mode": "constant", "value": 0.0})
        )
        options = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "mode": "zeros", "groups": 1}
        weight = self.normal(channels + 2, channels, 3, 3) / (9 * channels) ** 0.5
        inner = self.append(Step("conv", (source,), {"weight": weight}, options))
        return self.append(Step("add", (self.norm(inner), short)))

    def slice(self, source: int, parts: tuple[slice, slice, slice]) -> int:
        return self.append(Step("slice", (source,), options={"channels": parts[0], "rows": parts[1], "cols": parts[2]}))

    def crop(self, source: int) -> int:
        if min(self.shape(source)[1:]) < 3:
            return self.drop(source)
        return self.slice(source, (slice(None), slice(1, None), slice(None, -1)))

    def pad(self, source: int) -> int:
        mode = self.choice.choice(["constant", "constant", "reflect", "replicate"])
        amounts = (1, 0, 0, 1) if min(self.shape(source)[1:]) > 1 else (0, 0, 0, 0)
        value = self.choice.choice([0.0, 0.0, 0.3])
        return self.append(Step("pad", (source,), options={"amounts": amounts, "mode": mode, "value": value}))

    def branches(self, source: int) -> int:
        first, second = self.conv(source, 2, same=True), self.conv(source, 1, same=True)
        if self.choice.random() < 0.5:
            first = self.activation(first)
        order = [first, second, *([source] if self.choice.random() < 0.3 else [])]
        return self.append(Step("cat", tuple(order)))

    def chunks(self, source: int) -> int:
        if self.shape(source)[0] < 2:
            return self.drop(source)
        pieces = [self.append(Step("chunk", (source,), options={"pieces": 2, "piece": piece})) for piece in (0, 1)]
        return self.append(Step("cat", (self.affine(pieces[0]), pieces[1])))

    def affine(self, source: int) -> int:
        channels = self.shape(source)[0]
        tensor = self.normal(1, channels, *(1 for _ in self.shape(source)[1:]))
        step = self.choice.choice(
            [
                Step("scale", (source,), {"factor": tensor}),
                Step("scale", (source,), options={"factor": -0.7}),
                Step("divide", (source,), options={"factor": -2.0}),
                Step("shift", (source,), {"shift": tensor}),
                Step("negate", (source,)),
                Step("from", (source,), options={"shift": 0.4}),
            ]
        )
        return self.append(step)

    def transpose(self, source: int) -> int:
        return self.append(Step("permute", (source,), options={"order": (0, 1, 3, 2)}))

    def twice(self, source: int) -> int:
        """One convolution module called two times."""
        first = self.conv(source, self.shape(source)[0], same=True)
        step = self.steps[first]
        middle = self.activation(first)
        return self.append(Step("conv", (middle,), step.tensors, step.options, step.style, shares=first))

    def linear(self, source: int, outputs: int) -> int:
        inputs = self.shape(source)[0]
        tensors = {"weight": self.normal(outputs, inputs) / inputs**0.5, "bias": self.normal(outputs) / 2}
        return self.append(Step("linear", (source,), tensors, style=self.style()))

    def head(self, source: int) -> None:
        kind = self.choice.choice(["dense", "pooled", "mean"])
        if kind == "dense":
            flat = self.append(Step("flatten", (source,), style=self.style()))
        else:
            pooled = self.append(Step("mean", (source,), options={"keep": kind == "pooled"}))
            flat = self.append(Step("flatten", (pooled,))) if kind == "pooled" else pooled
        if self.choice.random() < 0.7:
            flat = self.linear(flat, 6)
            flat = self.norm(flat) if self.choice.random() < 0.4 else flat
            flat = self.activation(flat)
        logits = self.linear(flat, 4)
        if self.choice.random() < 0.2:
            self.append(Step("softmax", (logits,), style=self.style()))


BLOCKS: tuple[Callable[[Builder, int], int], ...] = (
    Builder.pool,
    Builder.adaptive,
    Builder.drop,
    Builder.residual,
    Builder.option_a,
    Builder.crop,
    Builder.pad,
    Builder.branches,
    Builder.chunks,
    Builder.affine,
    Builder.transpose,
    Builder.twice,
)


def random_network(seed: int) -> list[Step]:
    """A network of three blocks, each after a convolution, with a random head; logits of 4 classes."""
    build = Builder(seed)
    current = 0
    for _ in range(3):
        current = build.conv(current)
        if build.choice.random() < 0.6:
            current = build.norm(current)
        if build.choice.random() < 0.8:
            current = build.activation(current)
        current = build.choice.choice(BLOCKS)(build, current)
    build.head(current)
    return build.steps
