"""A naive restatement of effective path, written from the method sheet alone: explicit loops over neurons, float64.

A network is a list of steps, step 0 being the input; every other step names the steps it reads. Nothing here uses
`netpaths`: receptive fields, signs, selection and index maps are spelled out again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One operation. reads: indices of earlier steps. style: how the model calls it. shares: the step whose module
    it calls again."""

    op: str
    reads: tuple[int, ...] = (0,)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    style: str = "module"
    shares: int | None = None


@dataclass
class Answer:
    """By step: active neurons, chosen synapses with their contributions, chosen weights; all as flat positions.

    margin: how far, relative, the closest decision was from falling the other way; rounding may flip tiny ones.
    """

    seed: int
    neurons: dict[int, set[int]]
    synapses: dict[int, dict[int, float]]
    weights: dict[int, set[int]]
    margin: float = math.inf


LAYERS = ("conv", "linear")
KEEPING: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.75),
    "tanh": torch.tanh,
    "elu": F.elu,
    "clamp": lambda x: x.clamp(-0.5, 0.75),
    "dropout": lambda x: x,
    "identity": lambda x: x,
    "softmax": lambda x: F.softmax(x, 1),
}
SHIFTED: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
}
WINDOWS = ("conv", "linear", "maxpool", "avgpool", "adaptive_max", "adaptive_avg", "mean")


# --- forward ---------------------------------------------------------------------------------------------------------


def forward(steps: Sequence[Step], image: Tensor) -> list[Tensor]:
    """The value of every step for one image, without the batch axis."""
    values = [image.double()]
    for step in steps[1:]:
        values.append(compute(step, [values[i] for i in step.reads]))
    return values


def compute(step: Step, inputs: Sequence[Tensor]) -> Tensor:
    """One step on one image."""
    with torch.no_grad():
        return _compute(step, [value[None] for value in inputs])[0]


def _compute(step: Step, inputs: list[Tensor]) -> Tensor:
    x, t, o = inputs[0], step.tensors, step.options
    if step.op in KEEPING or step.op in SHIFTED:
        return {**KEEPING, **SHIFTED}[step.op](x)
    if step.op == "conv":
        return _convolve(step, x)
    if step.op == "linear":
        return F.linear(x, t["weight"], t.get("bias"))
    if step.op == "bn":
        scale, shift = affine(step)
        axes = (1, -1, *(1 for _ in x.shape[2:]))
        return x * scale.reshape(axes) + shift.reshape(axes)
    if step.op == "maxpool":
        pool = F.max_pool1d if x.dim() == 3 else F.max_pool2d
        return pool(x, o["kernel"], o["stride"], o["padding"], o["dilation"], o["ceil"])
    if step.op == "avgpool":
        pool = F.avg_pool1d if x.dim() == 3 else F.avg_pool2d
        return pool(x, o["kernel"], o["stride"], o["padding"], o["ceil"], o["include"])
    if step.op == "adaptive_max":
        return F.adaptive_max_pool2d(x, o["size"])
    if step.op == "adaptive_avg":
        return F.adaptive_avg_pool2d(x, o["size"])
    if step.op == "mean":
        return x.mean((2, 3), keepdim=o["keep"])
    if step.op == "add":
        return inputs[0] + inputs[1]
    if step.op in AFFINE:
        return x * AFFINE[step.op](step) + step.options.get("shift", t.get("shift", 0))
    return torch.from_numpy(_copy(step, [value[0].numpy() for value in inputs], step.options.get("value", 0.0)))[None]


def _convolve(step: Step, x: Tensor) -> Tensor:
    o, weight = step.options, step.tensors["weight"]
    axes = weight.dim() - 2
    sides = [_border(o, axis, axes, weight.shape[2 + axis]) for axis in range(axes)]
    amounts = [amount for side in reversed(sides) for amount in side]
    mode = {"zeros": "constant"}.get(o["mode"], o["mode"])
    convolve = F.conv1d if axes == 1 else F.conv2d
    padded = F.pad(x, amounts, mode=mode)
    return convolve(padded, weight, step.tensors.get("bias"), o["stride"], 0, o["dilation"], o["groups"])


def affine(step: Step) -> tuple[Tensor, Tensor]:
    """Factor and shift of a batch norm in evaluation mode."""
    t = step.tensors
    scale = t.get("weight", torch.ones_like(t["var"])) / torch.sqrt(t["var"] + step.options["eps"])
    return scale, t.get("bias", torch.zeros_like(t["var"])) - t["mean"] * scale


AFFINE: dict[str, Callable[[Step], Any]] = {
    "scale": lambda step: step.tensors.get("factor", step.options.get("factor")),
    "divide": lambda step: 1 / step.options["factor"],
    "shift": lambda step: 1.0,
    "negate": lambda step: -1.0,
    "from": lambda step: -1.0,
}
"""Factor a of maps a·x + b; b is the option or tensor "shift"."""


# --- receptive fields ------------------------------------------------------------------------------------------------


def _border(options: Mapping[str, Any], axis: int, axes: int, kernel: int) -> tuple[int, int]:
    padding, dilation = options["padding"], _axis(options["dilation"], axis)
    if padding == "same":
        total = dilation * (kernel - 1)
        return total // 2, total - total // 2
    return (0, 0) if padding == "valid" else (_axis(padding, axis), _axis(padding, axis))


def _axis(value: Any, axis: int) -> int:
    return value if isinstance(value, int) else value[axis]


def _position(index: int, length: int, mode: str) -> int | None:
    if 0 <= index < length:
        return index
    if mode == "reflect":
        return -index if index < 0 else 2 * (length - 1) - index
    if mode == "replicate":
        return min(max(index, 0), length - 1)
    return index % length if mode == "circular" else None


Table = list[list[int | None]]


def _fixed(length: int, outputs: int, kernel: int, stride: int, dilation: int, before: int, mode: str) -> Table:
    return [
        [_position(out * stride + place * dilation - before, length, mode) for place in range(kernel)]
        for out in range(outputs)
    ]


def _adaptive(length: int, outputs: int) -> Table:
    windows = [
        list(range(math.floor(out * length / outputs), math.ceil((out + 1) * length / outputs)))
        for out in range(outputs)
    ]
    longest = max(map(len, windows))
    return [[*window, *[None] * (longest - len(window))] for window in windows]


def _tables(step: Step, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> tuple[int, int, list[Table]]:
    """Inputs per group, groups, and for rows and columns which position each place of each output's field reads."""
    o = step.options
    if step.op == "linear":
        return in_shape[0], 1, [[[0]], [[0]]]
    lengths, outputs = in_shape[1:], out_shape[1:]
    if step.op == "mean":
        tables = [_adaptive(length, 1) for length in lengths]
    elif step.op.startswith("adaptive"):
        tables = [_adaptive(length, out) for length, out in zip(lengths, outputs)]
    else:
        kernel = step.tensors["weight"].shape[2:] if step.op == "conv" else o["kernel"]
        tables = [
            _fixed(
                length,
                outputs[axis],
                _axis(kernel, axis),
                _axis(o["stride"], axis),
                _axis(o.get("dilation", 1), axis),
                _border({"dilation": 1, **o}, axis, len(lengths), _axis(kernel, axis))[0],
                o.get("mode", "zeros"),
            )
            for axis, length in enumerate(lengths)
        ]
    tables = [[[0]], *tables] if len(lengths) == 1 else tables
    if step.op == "conv":
        return step.tensors["weight"].shape[1], o["groups"], tables
    return 1, in_shape[0], tables


@dataclass(frozen=True)
class Place:
    """One place of a receptive field that is no padding: its number, and the flat input it reads."""

    number: int
    source: int


class Windows:
    """The receptive fields of one step."""

    def __init__(self, step: Step, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        self.per_group, self.groups, (self.rows, self.cols) = _tables(step, in_shape, out_shape)
        self.in_map, self.out_map = _as_map(in_shape), _as_map(out_shape)
        self.size = self.per_group * len(self.rows[0]) * len(self.cols[0])

    def places(self, output: int) -> list[Place]:
        """The places of one output's field in order, padding left out."""
        o, y, x = np.unravel_index(output, self.out_map)
        first = o // (self.out_map[0] // self.groups) * self.per_group
        found = []
        number = 0
        for c in range(self.per_group):
            for row in self.rows[y]:
                for col in self.cols[x]:
                    if row is not None and col is not None:
                        found.append(Place(number, ((first + c) * self.in_map[1] + row) * self.in_map[2] + col))
                    number += 1
        return found


def _as_map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 1:
        return shape[0], 1, 1
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])


# --- copies ----------------------------------------------------------------------------------------------------------


def _copy(step: Step, inputs: list[np.ndarray], filler: float) -> np.ndarray:
    """Steps whose outputs copy inputs, on values or on positions; ``filler`` is what padding holds."""
    x, o = inputs[0], step.options
    if step.op == "cat":
        return np.concatenate(inputs, axis=0)
    if step.op in ("flatten", "reshape"):
        return x.reshape(o.get("shape", -1))
    if step.op == "permute":
        return np.transpose(x, [axis - 1 for axis in o["order"][1:]])
    if step.op == "slice":
        return x[o["channels"], o["rows"], o["cols"]]
    if step.op == "chunk":
        return np.array_split(x, o["pieces"], axis=0)[o["piece"]]
    if step.op == "pad":
        amounts = list(o["amounts"]) + [0] * (2 * x.ndim - len(o["amounts"]))
        sides = [(amounts[2 * axis], amounts[2 * axis + 1]) for axis in range(x.ndim)][::-1]
        names = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        extra = {"constant_values": filler} if o["mode"] == "constant" else {}
        return np.pad(x, sides, mode=names[o["mode"]], **extra)  # type: ignore[call-overload]
    raise ValueError(step.op)


def _origins(step: Step, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, int] | None]:
    """For every output the (operand, flat position) it copies, None for padding."""
    sizes = [math.prod(shape) for shape in shapes]
    starts = np.cumsum([0, *sizes])
    ids = [np.arange(size).reshape(shape) + start for size, shape, start in zip(sizes, shapes, starts)]
    owners = [(operand, position) for operand, size in enumerate(sizes) for position in range(size)]
    return [None if identity < 0 else owners[int(identity)] for identity in _copy(step, ids, -1).reshape(-1)]


# --- selection -------------------------------------------------------------------------------------------------------


def choose(contributions: Sequence[float], theta: float, target: float | None = None) -> list[int]:
    """Indices of the smallest set whose sum reaches theta · target, in the order they are taken."""
    order = sorted(range(len(contributions)), key=lambda k: (-contributions[k], k))
    total = math.fsum(contributions)
    if total <= 0 or theta * len(contributions) <= 1:
        return order[:1]
    goal = theta * (total if target is None else target)
    for size in range(1, len(order) + 1):
        if math.fsum(contributions[k] for k in order[:size]) >= goal:
            return order[:size]
    return [k for k in order if contributions[k] > 0]


def margin_of(contributions: Sequence[float], theta: float, target: float | None = None) -> float:
    """The smallest relative difference that decided a selection; equal values and all-or-nothing do not count."""
    ranked = sorted(contributions, reverse=True)
    scale = math.fsum(map(abs, ranked))
    if scale == 0:
        return math.inf
    goal = theta * (math.fsum(ranked) if target is None else target)
    positive = sum(value > 0 for value in ranked)
    gaps = [abs(math.fsum(ranked)), *(a - b for a, b in pairwise(ranked) if a > b)]
    gaps += [abs(math.fsum(ranked[:size]) - goal) for size in range(1, positive)]
    return min(gaps) / scale


@dataclass(frozen=True)
class Options:
    theta: float = 0.5
    target: str = "contributions"
    ties: str = "first"
    merge: str = "select"


class _Explanation:
    def __init__(self, steps: Sequence[Step], image: Tensor, options: Options) -> None:
        self.steps, self.options = steps, options
        tensors = forward(steps, image)
        self.shapes = [tuple(value.shape) for value in tensors]
        self.values = [value.reshape(-1).tolist() for value in tensors]
        self.wanted: list[dict[int, list[bool]]] = [{} for _ in steps]
        self.answer = Answer(-1, {}, {}, {})

    def want(self, step: int, neuron: int, against_own_sign: bool) -> None:
        self.wanted[step].setdefault(neuron, []).append(against_own_sign)

    def note(self, margin: float) -> None:
        self.answer.margin = min(self.answer.margin, margin)

    def expand(self, index: int) -> None:
        step = self.steps[index]
        for neuron, against in self.active(index).items():
            if step.op in WINDOWS:
                self.expand_window(index, neuron, against)
            elif step.op == "add":
                self.expand_add(index, neuron, against)
            elif step.op in KEEPING:
                self.want(step.reads[0], neuron, against)
            elif step.op in SHIFTED or step.op in AFFINE or step.op == "bn":
                self.expand_affine(index, neuron, against)
            else:
                self.expand_copy(index, neuron, against)

    def active(self, index: int) -> dict[int, bool]:
        """Active neurons, and whether every reader asks for the direction against their own sign."""
        return {neuron: all(flags) for neuron, flags in sorted(self.wanted[index].items())}

    def downwards(self, index: int, neuron: int, against: bool) -> bool:
        return (self.values[index][neuron] < 0) != against

    def expand_window(self, index: int, neuron: int, against: bool) -> None:
        step, source = self.steps[index], self.steps[index].reads[0]
        windows = self.windows(index)
        places = windows.places(neuron)
        inputs = [self.values[source][place.source] for place in places]
        if step.op in ("maxpool", "adaptive_max"):
            tied = [k for k, value in enumerate(inputs) if value == max(inputs)]
            self.note(margin_of(inputs, 1.0))
            taken, amounts = (tied[:1] if self.options.ties == "first" else tied), inputs
        else:
            amounts = self.contributions(index, neuron, places, inputs)
            sign = -1.0 if self.downwards(index, neuron, against) else 1.0
            amounts = [sign * amount for amount in amounts]
            literal = self.options.target == "neuron" and step.op in LAYERS
            goal = sign * self.values[index][neuron] if literal else None
            taken = choose(amounts, self.options.theta, goal)
            self.note(margin_of(amounts, self.options.theta, goal))
        share = self.share(index, neuron, places)
        for k in taken:
            self.synapse(index, neuron * windows.size + places[k].number, amounts[k] * share)
            if step.op in LAYERS:
                channel = np.unravel_index(neuron, windows.out_map)[0]
                self.answer.weights.setdefault(index, set()).add(int(channel) * windows.size + places[k].number)
            self.want(source, places[k].source, against and step.op in ("maxpool", "adaptive_max"))

    def share(self, index: int, neuron: int, places: list[Place]) -> float:
        """What an average takes of each input: all of a window of ones, over how many they are."""
        step = self.steps[index]
        if step.op not in ("avgpool", "adaptive_avg", "mean"):
            return 1.0
        ones = compute(step, [torch.ones(self.shapes[step.reads[0]], dtype=torch.float64)])
        return float(ones.reshape(-1)[neuron]) / len(places)

    def windows(self, index: int) -> Windows:
        step = self.steps[index]
        return Windows(step, self.shapes[step.reads[0]], self.shapes[index])

    def contributions(self, index: int, neuron: int, places: list[Place], inputs: list[float]) -> list[float]:
        step = self.steps[index]
        if step.op not in LAYERS:
            return inputs
        channel = neuron // math.prod(self.shapes[index][1:])
        weight = step.tensors["weight"][channel].reshape(-1).tolist()
        return [value * weight[place.number] for place, value in zip(places, inputs)]

    def expand_add(self, index: int, neuron: int, against: bool) -> None:
        reads = self.steps[index].reads
        sign = -1.0 if self.downwards(index, neuron, against) else 1.0
        amounts = [self.values[read][neuron] * sign for read in reads]
        taken = [0, 1] if self.options.merge == "all" else choose(amounts, self.options.theta)
        for operand in taken:
            self.synapse(index, 2 * neuron + operand, amounts[operand])
            self.want(reads[operand], neuron, False)

    def expand_affine(self, index: int, neuron: int, against: bool) -> None:
        step = self.steps[index]
        factor = torch.ones(()) if step.op in SHIFTED else _factor(step, self.shapes[index])
        negative = float(factor.expand(self.shapes[index]).reshape(-1)[neuron]) < 0
        downwards = self.downwards(index, neuron, against) != negative
        own = self.values[step.reads[0]][neuron] < 0
        self.want(step.reads[0], neuron, downwards != own)

    def expand_copy(self, index: int, neuron: int, against: bool) -> None:
        reads = self.steps[index].reads
        origin = _origins(self.steps[index], [self.shapes[read] for read in reads])[neuron]
        if origin is not None:
            self.want(reads[origin[0]], origin[1], against)

    def synapse(self, index: int, synapse: int, amount: float) -> None:
        self.answer.synapses.setdefault(index, {})[synapse] = amount


def _factor(step: Step, shape: tuple[int, ...]) -> Tensor:
    if step.op == "bn":
        return affine(step)[0].reshape(-1, *(1 for _ in shape[1:]))
    factor = torch.as_tensor(AFFINE[step.op](step), dtype=torch.float64)
    return factor[0] if factor.dim() > len(shape) else factor


def explain(
    steps: Sequence[Step], image: Tensor, options: Options | None = None, rank: int = 1, last: int | None = None
) -> Answer:
    """The effective path of one image (*shape), seeded at the logit of ``rank``."""
    work = _Explanation(steps, image, options or Options())
    logits = work.values[-1]
    seed = sorted(range(len(logits)), key=lambda k: (-logits[k], k))[rank - 1]
    work.answer.seed = seed
    work.want(len(steps) - 1, seed, False)
    layers = [index for index, step in enumerate(steps) if step.op in LAYERS]
    allowed = layers if last is None else layers[-last:]
    for index in reversed(range(len(steps))):
        if work.wanted[index]:
            work.answer.neurons[index] = set(work.wanted[index])
        if index and (steps[index].op not in LAYERS or index in allowed):
            work.expand(index)
    return work.answer


# --- batch norm folding ----------------------------------------------------------------------------------------------


def folded(steps: Sequence[Step]) -> tuple[list[Step], list[int]]:
    """The same network with every batch norm folded whose layer has no other reader; and the old index of each step."""
    result, kept = list(steps), list(range(len(steps)))
    while True:
        result, places = _folded_once(result)
        if len(places) == len(kept):
            return result, kept
        kept = [kept[place] for place in places]


def _folded_once(steps: Sequence[Step]) -> tuple[list[Step], list[int]]:
    sources = [tuple(_behind_identities(steps, read) for read in step.reads) for step in steps]
    real = [index for index, step in enumerate(steps) if step.op != "identity"]
    readers = [[other for other in real if index in sources[other]] for index in range(len(steps))]
    absorbed = {
        index: layer
        for index, step in enumerate(steps)
        for layer in sources[index]
        if step.op == "bn" and _folds(steps[layer]) and len(readers[layer]) == 1
    }
    kept = [index for index in range(len(steps)) if index not in absorbed]
    place = {index: kept.index(absorbed.get(index, index)) for index in range(len(steps))}
    norms = {layer: steps[norm] for norm, layer in absorbed.items()}
    result = []
    for index in kept:
        step = steps[index]
        tensors = _fused(step, norms[index]) if index in norms else step.tensors
        result.append(replace(step, reads=tuple(place[read] for read in step.reads), tensors=tensors))
    return result, kept


def _behind_identities(steps: Sequence[Step], index: int) -> int:
    while steps[index].op == "identity":
        (index,) = steps[index].reads
    return index


def _folds(layer: Step) -> bool:
    return layer.op in LAYERS


def _fused(layer: Step, norm: Step) -> dict[str, Tensor]:
    scale, shift = affine(norm)
    weight = layer.tensors["weight"]
    bias = layer.tensors.get("bias", torch.zeros_like(scale))
    return {"weight": weight * scale.reshape(-1, *(1 for _ in weight.shape[1:])), "bias": bias * scale + shift}
