"""A naive restatement of the path through all six kinds of operation, in plain NumPy, one image at a time.

A network is a list of steps, step 0 being the image; every other step names the steps it reads. Nothing here uses
`netpaths`: values, index maps, directions and the smallest sets are spelled out again.

- linear: contributions are products of inputs and factors; conv, linear, sum, mean, average, add, sub, matmul.
- element-wise: the neuron itself. Increasing and affine maps keep which way is up; the others keep whether a neuron is
  explained along its own sign.
- choice: the first maximum. product: the operand that is no gate, or both. rearrangement: what was copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
erf = np.vectorize(math.erf, otypes=[float])


@dataclass(frozen=True)
class Step:
    """One operation. reads: earlier steps. arrays: its constants. parts: whether the first axis of its value counts
    parts of an image that the network keeps among the images of a batch."""

    op: str
    reads: tuple[int, ...] = (0,)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: bool = False


@dataclass(frozen=True)
class Asked:
    """How to select."""

    theta: float = 0.5
    merge: Literal["select", "all"] = "select"
    attention: Literal["values", "all"] = "values"
    gates: Literal["signal", "both"] = "signal"


@dataclass
class Wanted:
    """Active neurons of one step, those explained against their own sign, and what reached them."""

    mask: Array
    against: Array
    amount: Array


@dataclass
class Found:
    """By step: active neurons with what reached them, and chosen synapses with their contributions.

    margin: how far, relative, the closest decision was from falling the other way.
    """

    seed: int
    wanted: dict[int, Wanted]
    synapses: dict[int, dict[int, float]]
    margin: float
    decisions: int


# --- values ----------------------------------------------------------------------------------------------------------

CURVED: Mapping[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "leaky": lambda x: np.where(x > 0, x, 0.2 * x),
    "tanh": np.tanh,
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "abs": np.abs,
    "square": np.square,
}
"""The neuron itself, along its own sign."""

RISING: Mapping[str, Callable[[Array], Array]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "softplus": lambda x: np.log1p(np.exp(x)),
}
"""The neuron itself; upwards stays upwards."""

AFFINE = ("scale", "shift", "from", "batchnorm")
FROZEN = ("rsqrt", "softmax")
BOUNDED = ("sigmoid", "hardsigmoid", "tanh", "softmax")
MOVES = ("permute", "reshape", "slice", "concat", "expand", "pad", "roll", "flip", "token")
NORMS = ("layernorm", "groupnorm", "instancenorm")


def values_of(steps: Sequence[Step], image: Array) -> list[Array]:
    """The value of every step."""
    values = [image]
    for step in steps[1:]:
        values.append(np.asarray(_value(step, [values[read] for read in step.reads])))
    return values


def _value(step: Step, inputs: list[Array]) -> Any:
    x, o = inputs[0], step.options
    if step.op in CURVED or step.op in RISING:
        return {**CURVED, **RISING}[step.op](x)
    if step.op in AFFINE:
        factor, shift = _affine(step)
        return x * factor + shift
    if step.op == "softmax":
        return _softmax(x)
    if step.op == "rsqrt":
        return 1 / np.sqrt(x)
    if step.op in NORMS:
        centred, scale, shift = _centred(step, x)[0], *_norm(step, x.ndim)
        rows = centred.reshape(_rows(step, x.shape))
        deviation = np.sqrt((rows**2).mean(1, keepdims=True) + 1e-5)
        return (rows / deviation).reshape(x.shape) * scale + shift
    if step.op == "mul":
        return inputs[0] * inputs[1]
    if step.op == "attention":
        return _pattern(step, inputs) @ inputs[2]
    if step.op == "maxpool":
        terms = _terms(step, [x.shape])
        return np.where(terms.places[0] >= 0, x.reshape(-1)[terms.places[0]], -np.inf).max(1).reshape(o["shape"])
    if step.op in MOVES:
        return _moved(step, inputs, step.arrays.get("token"))
    terms = _terms(step, [value.shape for value in inputs])
    total = terms.contributions(inputs).sum(1) / terms.width
    value = total.reshape(terms.shape)
    return value + _bias(step, value.ndim)


def _bias(step: Step, axes: int) -> Array:
    bias = step.arrays.get("bias", np.zeros(1))
    return bias.reshape(-1, 1, 1) if step.op == "conv" else bias


def _affine(step: Step) -> tuple[Array, Array]:
    """Factor and shift of maps a·x + b."""
    a = step.arrays
    if step.op == "batchnorm":
        factor = a["weight"] / np.sqrt(a["var"] + 1e-5)
        shift = a["bias"] - a["mean"] * factor
        return factor.reshape(-1, 1, 1), shift.reshape(-1, 1, 1)
    zero, one = np.zeros(1), np.ones(1)
    return {
        "scale": (a.get("factor", one), zero),
        "shift": (one, a.get("shift", zero)),
        "from": (-one, a.get("shift", zero)),
    }[step.op]


def _norm(step: Step, axes: int) -> tuple[Array, Array]:
    weight, bias = step.arrays["weight"], step.arrays["bias"]
    return (weight, bias) if step.op == "layernorm" else (weight.reshape(-1, 1, 1), bias.reshape(-1, 1, 1))


def _rows(step: Step, shape: tuple[int, ...]) -> tuple[int, int]:
    """How many means a norm takes of one image, and over how many values each."""
    count = {
        "layernorm": math.prod(shape[:-1]),
        "groupnorm": step.options.get("groups", 1),
        "instancenorm": shape[0],
    }[step.op]
    return count, math.prod(shape) // count


def _centred(step: Step, x: Array) -> tuple[Array, Array]:
    """The values less their mean, and the mean in every place."""
    rows = x.reshape(_rows(step, x.shape))
    means = np.broadcast_to(rows.mean(1, keepdims=True), rows.shape)
    return (rows - means).reshape(x.shape), means.reshape(x.shape)


def _pattern(step: Step, inputs: Sequence[Array]) -> Array:
    return _softmax(inputs[0] @ np.swapaxes(inputs[1], -1, -2) / math.sqrt(inputs[0].shape[-1]))


def _softmax(scores: Array) -> Array:
    powers: Array = np.exp(scores - scores.max(-1, keepdims=True))
    pattern: Array = powers / powers.sum(-1, keepdims=True)
    return pattern


def _moved(step: Step, inputs: Sequence[Array], filler: Any) -> Array:
    """Steps whose outputs copy inputs, on values or on positions; ``filler`` is what stands where nothing is copied."""
    x, o = inputs[0], step.options
    if step.op == "permute":
        return np.transpose(x, o["order"])
    if step.op == "reshape":
        return x.reshape(o["shape"])
    if step.op == "slice":
        return np.take(x, np.arange(o["start"], o["stop"], o.get("step", 1)), axis=o["axis"])
    if step.op == "concat":
        return np.concatenate(inputs, axis=o["axis"])
    if step.op == "expand":
        return np.broadcast_to(x, o["shape"])
    if step.op == "pad":
        return np.pad(x, [(0, 0)] * (x.ndim - 2) + [o["sides"]] * 2, constant_values=0.0 if filler is None else filler)
    if step.op == "roll":
        return np.roll(x, o["shift"], axis=o["axis"])
    if step.op == "flip":
        return np.flip(x, axis=o["axis"])
    row = np.broadcast_to(np.zeros(1) if filler is None else filler, (*x.shape[:-2], 1, x.shape[-1]))
    return np.concatenate([row, x], axis=-2)


# --- contributions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Terms:
    """What every output adds up: products of the inputs at ``places``, each (outputs, terms) flat over all operands one
    behind the other and -1 for padding, and a factor. width: what the sum is divided by."""

    places: tuple[Array, ...]
    factor: Array
    shape: tuple[int, ...]
    width: float = 1.0

    def contributions(self, inputs: Sequence[Array]) -> Array:
        """The products, 0 for padding: (outputs, terms)."""
        flat = np.concatenate([value.reshape(-1) for value in inputs])
        product = self.factor
        for places in self.places:
            product = product * flat[places]
        return np.where(self.places[0] >= 0, product, 0.0)


def _terms(step: Step, shapes: Sequence[tuple[int, ...]]) -> Terms:
    o, shape = step.options, shapes[0]
    starts = np.cumsum([0, *(math.prod(own) for own in shapes)])
    ids = [np.arange(math.prod(own)).reshape(own) + start for own, start in zip(shapes, starts)]
    if step.op == "linear":
        weight = step.arrays["weight"]
        rows = ids[0].reshape(-1, shape[-1])
        places = np.repeat(rows, len(weight), axis=0)
        return Terms((places,), np.tile(weight, (len(rows), 1)), (*shape[:-1], len(weight)))
    if step.op in ("conv", "maxpool", "avgpool"):
        return _windows(step, ids[0])
    if step.op in ("sum", "mean"):
        axes = o["axes"]
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        places = np.transpose(ids[0], [*kept, *axes]).reshape(math.prod(shape[axis] for axis in kept), -1)
        wide = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        final = wide if o["keep"] else tuple(shape[axis] for axis in kept)
        return Terms((places,), np.ones(places.shape), final, places.shape[1] if step.op == "mean" else 1.0)
    if step.op in ("add", "sub"):
        wide = np.broadcast_shapes(*shapes)
        places = np.stack([np.broadcast_to(own, wide).reshape(-1) for own in ids], axis=1)
        factor = np.ones(places.shape)
        factor[:, 1] = -1 if step.op == "sub" else 1
        return Terms((places,), factor, wide)
    first, second = ids[0], ids[1]
    lead, (n, k), m = first.shape[:-2], first.shape[-2:], second.shape[-1]
    left = np.broadcast_to(first[..., :, None, :], (*lead, n, m, k)).reshape(-1, k)
    right = np.broadcast_to(np.swapaxes(second, -1, -2)[..., None, :, :], (*lead, n, m, k)).reshape(-1, k)
    return Terms((left, right), np.ones(left.shape), (*lead, n, m))


def _windows(step: Step, ids: Array) -> Terms:
    o, (channels, height, width) = step.options, ids.shape
    kernel, stride, padding = o["kernel"], o["stride"], o["padding"]
    out = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
    padded = np.pad(ids, [(0, 0), (padding, padding), (padding, padding)], constant_values=-1)
    weight = step.arrays.get("weight")
    outputs, per_group = (channels, 1) if weight is None else weight.shape[:2]
    groups = o.get("groups", channels)
    places, factor = [], []
    for channel in range(outputs):
        first = channel // (outputs // groups) * per_group
        for y in range(out[0]):
            for x in range(out[1]):
                at = (slice(y * stride, y * stride + kernel), slice(x * stride, x * stride + kernel))
                places.append(padded[(slice(first, first + per_group), *at)].reshape(-1))
                factor.append(np.ones(kernel**2) if weight is None else weight[channel].reshape(-1))
    return Terms(
        (np.array(places),), np.array(factor), (outputs, *out), float(kernel**2) if step.op == "avgpool" else 1.0
    )


def smallest(contributions: Array, valid: Array, theta: float) -> tuple[Array, float]:
    """For every row the smallest set that covers theta of the row's sum, and the closest decision's margin."""
    chosen = np.zeros(contributions.shape, dtype=bool)
    margin = math.inf
    for row, (own, there) in enumerate(zip(contributions, valid)):
        order = sorted(there.nonzero()[0], key=lambda k: (-own[k], k))
        total, scale = math.fsum(own[order]), math.fsum(map(abs, own[order]))
        if not order:
            continue
        if scale:
            gaps = [abs(total)]
            ranked = own[order]
            steps = ranked[:-1] - ranked[1:]
            gaps += [float(steps[steps > 0].min())] if (steps > 0).any() else []
            margin = min(margin, min(gaps) / scale)
        if total <= 0 or theta * len(order) <= 1:
            chosen[row, order[0]] = True
            continue
        covered = 0.0
        for k in order:
            chosen[row, k] = True
            covered += own[k]
            margin = min(margin, abs(covered - theta * total) / scale)
            if covered >= theta * total:
                break
    return chosen, margin


# --- the path --------------------------------------------------------------------------------------------------------


def explain(steps: Sequence[Step], image: Array, asked: Asked) -> Found:
    """The path of one image, seeded at its largest logit."""
    return _Explanation(steps, image, asked).run()


class _Explanation:
    def __init__(self, steps: Sequence[Step], image: Array, asked: Asked) -> None:
        self.steps, self.asked = steps, asked
        self.values = values_of(steps, image)
        self.wanted: dict[int, Wanted] = {}
        self.found = Found(int(self.values[-1].argmax()), self.wanted, {}, math.inf, 0)

    def run(self) -> Found:
        logits = self.values[-1]
        seed = np.zeros(logits.shape, dtype=bool)
        seed[self.found.seed] = True
        self.want(len(self.steps) - 1, seed, np.zeros_like(seed), np.where(seed, np.abs(logits), 0.0))
        for index in reversed(range(1, len(self.steps))):
            if index in self.wanted:
                self.expand(index)
        return self.found

    def want(self, index: int, mask: Array, against: Array, amount: Array) -> None:
        """What one reader asks for: readers that disagree leave a neuron its own sign."""
        had = self.wanted.get(index)
        if had is None:
            self.wanted[index] = Wanted(mask.copy(), against & mask, amount.copy())
            return
        along = (had.mask & ~had.against) | (mask & ~against)
        had.mask |= mask
        had.against = had.mask & ~along
        had.amount = had.amount + amount

    def expand(self, index: int) -> None:
        step, wanted = self.steps[index], self.wanted[index]
        first = step.reads[0]
        if step.op in CURVED:
            self.want(first, wanted.mask, wanted.against, wanted.amount)
        elif step.op in RISING:
            self.rise(index, np.ones(1))
        elif step.op in AFFINE:
            self.rise(index, _affine(step)[0])
        elif step.op in FROZEN:
            if step.op == "softmax" and (self.asked.attention == "all" or self.asked.gates == "both"):
                self.rise(index, np.ones(1))
        elif step.op == "mul":
            self.expand_product(index)
        elif step.op in MOVES:
            self.expand_move(index)
        elif step.op in NORMS:
            self.expand_norm(index)
        elif step.op == "attention":
            self.expand_attention(index)
        else:
            self.expand_terms(index)

    def rise(self, index: int, factor: Array) -> None:
        """Monotone maps: up is up, or down where the factor is negative."""
        wanted, source = self.wanted[index], self.steps[index].reads[0]
        down = (self.values[index] < 0) ^ wanted.against ^ (factor < 0)
        self.want(source, wanted.mask, (down ^ (self.values[source] < 0)) & wanted.mask, wanted.amount)

    def expand_product(self, index: int) -> None:
        step, wanted = self.steps[index], self.wanted[index]
        follow = self.follow(step.reads, mixing=False)
        for operand, own in zip(step.reads, follow):
            if own:
                shape = self.values[operand].shape
                amount = wanted.amount / sum(follow)
                mask, along = (
                    _narrow(part, shape, np.logical_or) for part in (wanted.mask, wanted.mask & ~wanted.against)
                )
                self.want(operand, mask, mask & ~along, _narrow(amount, shape, np.add))

    def follow(self, operands: Sequence[int], mixing: bool) -> list[bool]:
        """The operands that are no gates, or gates that are asked for; both where there is no difference."""
        held = []
        for operand in operands:
            gate = self.gate(operand)
            if gate is None or gate == "rsqrt":
                held.append(gate is not None)
            elif gate == "softmax" and mixing:
                held.append(self.asked.attention == "values")
            else:
                held.append(self.asked.gates == "signal")
        return [not own for own in held] if held[0] != held[1] else [True, True]

    def gate(self, index: int) -> str | None:
        step = self.steps[index]
        if step.op in BOUNDED or step.op in FROZEN:
            return step.op
        passes = step.op == "scale" or (step.op in MOVES and len(step.reads) == 1)
        return self.gate(step.reads[0]) if passes else None

    def expand_move(self, index: int) -> None:
        step, wanted = self.steps[index], self.wanted[index]
        shapes = [self.values[read].shape for read in step.reads]
        starts = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
        ids = [np.arange(math.prod(shape)).reshape(shape) + start for shape, start in zip(shapes, starts)]
        origin = _moved(step, ids, -1).reshape(-1)
        for read, shape, start, stop in zip(step.reads, shapes, starts, starts[1:]):
            own = (origin >= start) & (origin < stop)
            mask, along, amount = (np.zeros(math.prod(shape)) for _ in range(3))
            places = origin[own] - start
            np.add.at(mask, places, wanted.mask.reshape(-1)[own])
            np.add.at(along, places, (wanted.mask & ~wanted.against).reshape(-1)[own])
            np.add.at(amount, places, wanted.amount.reshape(-1)[own])
            on = (mask > 0).reshape(shape)
            self.want(read, on, on & ~(along > 0).reshape(shape), amount.reshape(shape))

    def expand_norm(self, index: int) -> None:
        """Scale and shift, then value less mean, then the mean."""
        step, wanted = self.steps[index], self.wanted[index]
        x = self.values[step.reads[0]]
        means = _centred(step, x)[1]
        scale = np.broadcast_to(_norm(step, x.ndim)[0], x.shape)
        down = (self.values[index] < 0) ^ wanted.against ^ (scale < 0)
        active = wanted.mask.reshape(-1)
        sign = np.where(down.reshape(-1), -1.0, 1.0)[:, None]
        pairs = np.stack([x.reshape(-1), -means.reshape(-1)], axis=1) * sign
        chosen = self.choose(pairs[active], np.ones((int(active.sum()), 2), dtype=bool))
        mask, amount, averaged = np.zeros(x.size, dtype=bool), np.zeros(x.size), np.zeros(x.size, dtype=bool)
        mask[active], averaged[active] = chosen[:, 0], chosen[:, 1]
        amount[mask] = np.maximum(pairs[mask, 0], 0)
        rows, width = _rows(step, x.shape)
        flat = x.reshape(rows, width)
        for row in np.nonzero(np.any(averaged.reshape(rows, width), axis=1))[0]:
            own = flat[row] * (-1 if flat[row].mean() < 0 else 1)
            taken = self.choose(own[None], np.ones((1, width), dtype=bool))[0]
            mask.reshape(rows, width)[row] |= taken
            amount.reshape(rows, width)[row] += np.where(taken, np.maximum(own, 0) / width, 0)
        shape = x.shape
        self.want(step.reads[0], mask.reshape(shape), np.zeros(shape, dtype=bool), amount.reshape(shape))

    def expand_attention(self, index: int) -> None:
        """The pattern times the values; and, where asked, entries of the pattern back to queries and keys."""
        step, wanted = self.steps[index], self.wanted[index]
        query, key, value = (self.values[read] for read in step.reads)
        pattern = _pattern(step, [query, key])
        entries, reached = self.mix(self.values[index], wanted.mask, wanted.against, pattern, value)
        nothing = np.zeros(value.shape, dtype=bool)
        if self.asked.attention == "all":
            swapped = np.swapaxes(key, -1, -2)
            scores = query @ swapped
            asking, asked = self.mix(scores, entries[0], scores < 0, query, swapped)
            self.want(step.reads[0], asking[0], np.zeros(query.shape, dtype=bool), asking[1])
            found, amount = (np.swapaxes(part, -1, -2) for part in asked)
            self.want(step.reads[1], found, np.zeros(key.shape, dtype=bool), amount)
        self.want(step.reads[2], reached[0], nothing, reached[1])

    def mix(self, output: Array, mask: Array, against: Array, first: Array, second: Array) -> list[tuple[Array, Array]]:
        terms = _terms(Step("matmul"), [first.shape, second.shape])
        pairs = self.choose_terms(terms, [first, second], output, mask, against)
        return self.gathered(terms, pairs, [first, second])

    def expand_terms(self, index: int) -> None:
        step, wanted = self.steps[index], self.wanted[index]
        inputs = [self.values[read] for read in step.reads]
        terms = _terms(step, [value.shape for value in inputs])
        if step.op == "maxpool":
            self.expand_maximum(index, terms)
            return
        every = step.op in ("add", "sub") and self.asked.merge == "all"
        pairs = self.choose_terms(terms, inputs, self.values[index], wanted.mask, wanted.against, every)
        follow = self.follow(step.reads, mixing=True) if step.op == "matmul" else [True] * len(inputs)
        if step.op != "matmul":
            size = terms.factor.shape[1]
            self.found.synapses[index] = {row * size + place: value for row, place, value in pairs}
        for read, wants, own, (mask, amount) in zip(step.reads, follow, inputs, self.gathered(terms, pairs, inputs)):
            if wants:
                self.want(read, mask, np.zeros(own.shape, dtype=bool), amount)

    def expand_maximum(self, index: int, terms: Terms) -> None:
        step, wanted = self.steps[index], self.wanted[index]
        x = self.values[step.reads[0]].reshape(-1)
        mask, along, amount = np.zeros(x.size, dtype=bool), np.zeros(x.size, dtype=bool), np.zeros(x.size)
        chosen = self.found.synapses.setdefault(index, {})
        for row in wanted.mask.reshape(-1).nonzero()[0]:
            places = terms.places[0][row]
            best = max((place for place in range(len(places)) if places[place] >= 0), key=lambda p: (x[places[p]], -p))
            self.found.decisions += 1
            source = places[best]
            mask[source] = True
            along[source] |= not wanted.against.reshape(-1)[row]
            amount[source] += max(x[source], 0)
            chosen[int(row) * len(places) + best] = float(x[source])
        shape = self.values[step.reads[0]].shape
        self.want(step.reads[0], mask.reshape(shape), (mask & ~along).reshape(shape), amount.reshape(shape))

    def choose_terms(
        self, terms: Terms, inputs: Sequence[Array], output: Array, mask: Array, against: Array, every: bool = False
    ) -> list[tuple[int, int, float]]:
        """Chosen (output, term, contribution) of active outputs."""
        rows = mask.reshape(-1).nonzero()[0]
        sign = np.where((output < 0) ^ against, -1.0, 1.0).reshape(-1)[rows, None]
        own = terms.contributions(inputs)[rows] * sign
        valid = terms.places[0][rows] >= 0
        chosen = valid if every else self.choose(own, valid)
        return [
            (int(rows[row]), int(place), float(own[row, place]) / terms.width) for row, place in np.argwhere(chosen)
        ]

    def gathered(
        self, terms: Terms, pairs: Sequence[tuple[int, int, float]], inputs: Sequence[Array]
    ) -> list[tuple[Array, Array]]:
        """For every operand what was read of it, and what that carried."""
        sizes = [value.size for value in inputs]
        mask, amount = np.zeros(sum(sizes), dtype=bool), np.zeros(sum(sizes))
        for row, place, value in pairs:
            for places in terms.places:
                mask[places[row, place]] = True
                amount[places[row, place]] += max(value, 0)
        starts = np.cumsum([0, *sizes])
        return [
            (mask[start:stop].reshape(value.shape), amount[start:stop].reshape(value.shape))
            for value, start, stop in zip(inputs, starts, starts[1:])
        ]

    def choose(self, contributions: Array, valid: Array) -> Array:
        chosen, margin = smallest(contributions, valid, self.asked.theta)
        self.found.margin = min(self.found.margin, margin)
        self.found.decisions += len(chosen)
        return chosen


def _narrow(value: Array, shape: tuple[int, ...], combine: Any) -> Array:
    axes = tuple(axis for axis, (own, wide) in enumerate(zip(shape, value.shape)) if own != wide)
    result: Array = combine.reduce(value, axis=axes, keepdims=True) if axes else value
    return result
