"""One small network for every operation: it is read, images are explained alone, and new rules are restated."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths import EffectivePath, Graph
from netpaths.errors import UnsupportedOperation
from oracle import choose

SHAPE = (4, 6, 6)
VOLUME = (2, 4, 4, 4)
SIGNAL = (4, 8)

MATRIX = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.3
MASK = torch.rand(6, 6, generator=torch.Generator().manual_seed(2)) > 0.4
ROW = torch.tensor([2, 0, 5])


class Network(nn.Module):
    """Images through ``operation``, whose layers it makes by itself, to three logits."""

    def __init__(self, operation: Callable[[Tensor], Tensor] | nn.Module, shape: tuple[int, ...], stem: bool) -> None:
        super().__init__()
        convolution = {2: nn.Conv1d, 3: nn.Conv2d, 4: nn.Conv3d}[len(shape)]
        self.stem = convolution(shape[0], shape[0], 1).double() if stem else nn.Identity()
        self.operation = operation.double() if isinstance(operation, nn.Module) else operation
        size = self.operation(self.stem(torch.rand(2, *shape, dtype=torch.float64))).flatten(1).shape[1]
        self.head = nn.Linear(size, 3, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.operation(self.stem(x)).flatten(1))


def network(operation: object, shape: tuple[int, ...], stem: bool = True) -> nn.Module:
    torch.manual_seed(3)
    made = operation() if isinstance(operation, type) or getattr(operation, "makes", False) else operation
    return Network(made, shape, stem).eval()  # type: ignore[arg-type]


def layer(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Mark a function that makes a module, so that every network has weights of its own."""
    make.makes = True  # type: ignore[attr-defined]
    return make


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, :, 1:3, 2:] = h[:, :, 3:5, :4] * 2
    return h


def added(h: Tensor) -> Tensor:
    y = h * 2
    y += h
    y.relu_()
    return y


def filled(h: Tensor) -> Tensor:
    mask = h.new_zeros((6, 6))
    for place in (slice(0, 2), slice(2, 6)):
        mask[place] = 1
    return h.masked_fill(mask == 0, 0.0) + torch.zeros_like(h) + h.new_ones(h.shape[0], 1, 1, 1)


def windows(h: Tensor) -> Tensor:
    parts = h.view(h.shape[0], 4, 2, 3, 2, 3).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 3, 3)
    parts = F.max_pool2d(parts, 2, 1)
    return parts.reshape(-1, 16, 2, 2)


def attention(h: Tensor) -> Tensor:
    q = h.flatten(2)
    scores = (q @ q.transpose(1, 2)).softmax(-1)
    mixed = F.conv2d(scores[:, None], torch.ones(1, 1, 1, 1, dtype=h.dtype) * 0.5)[:, 0]
    return mixed @ q


class Quiet(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            scale = h * 2
        return h + scale.relu()


NETWORKS: dict[str, tuple[object, tuple[int, ...]]] = {
    "conv_transpose1d": (layer(lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, groups=2)), SIGNAL),
    "conv_transpose2d": (layer(lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1)), SHAPE),
    "conv_transpose3d": (layer(lambda: nn.ConvTranspose3d(2, 2, 2, 2)), VOLUME),
    "conv3d": (layer(lambda: nn.Conv3d(2, 3, (3, 2, 1), padding=(1, 0, 0))), VOLUME),
    "max_pool1d": (lambda h: F.max_pool1d(h, 2), SIGNAL),
    "max_pool3d": (lambda h: F.max_pool3d(h, 2), VOLUME),
    "avg_pool3d": (lambda h: F.avg_pool3d(h, (2, 1, 2)), VOLUME),
    "adaptive_max_pool1d": (lambda h: F.adaptive_max_pool1d(h, 3), SIGNAL),
    "adaptive_max_pool2d": (lambda h: F.adaptive_max_pool2d(h, (4, 5)), SHAPE),
    "adaptive_max_pool3d": (lambda h: F.adaptive_max_pool3d(h, 3), VOLUME),
    "adaptive_avg_pool2d": (lambda h: F.adaptive_avg_pool2d(h, (4, 5)), SHAPE),
    "adaptive_avg_pool3d": (lambda h: F.adaptive_avg_pool3d(h, 3), VOLUME),
    "upsample_linear1d": (lambda h: F.interpolate(h, scale_factor=2.0, mode="linear"), SIGNAL),
    "upsample_bilinear2d": (lambda h: F.interpolate(h, (9, 4), mode="bilinear"), SHAPE),
    "bilinear with corners": (lambda h: F.interpolate(h, (11, 3), mode="bilinear", align_corners=True), SHAPE),
    "upsample_bicubic2d": (lambda h: F.interpolate(h, (8, 7), mode="bicubic"), SHAPE),
    "_upsample_bilinear2d_aa": (lambda h: F.interpolate(h, (4, 3), mode="bilinear", antialias=True), SHAPE),
    "upsample_trilinear3d": (lambda h: F.interpolate(h, (3, 6, 5), mode="trilinear"), VOLUME),
    "upsample_nearest2d": (lambda h: F.interpolate(h, scale_factor=2), SHAPE),
    "col2im": (lambda h: F.fold(h.flatten(2), (7, 4), (2, 2), stride=(1, 1), padding=(0, 1))[:, :, :6], (4, 5, 6)),
    "im2col": (lambda h: F.unfold(h, 3, padding=1), SHAPE),
    "unfold": (lambda h: h.unfold(2, 4, 2), SHAPE),
    "amax": (lambda h: h.amax((1, 3)), SHAPE),
    "max over an axis": (lambda h: h.max(2).values, SHAPE),
    "amin": (lambda h: h.amin(1), SHAPE),
    "maximum": (lambda h: torch.maximum(h, h.flip(2) * 0.8), SHAPE),
    "maximum with a constant": (lambda h: torch.maximum(h, torch.full((6,), 0.1, dtype=h.dtype)), SHAPE),
    "minimum": (lambda h: torch.minimum(h, h.flip(2)), SHAPE),
    "where": (lambda h: torch.where(h > 0, h, h.flip(3) * 0.1), SHAPE),
    "where with a constant condition": (lambda h: torch.where(MASK, h, h.flip(2)), SHAPE),
    "glu": (lambda h: F.glu(h, 1), SHAPE),
    "slice_scatter": (written, SHAPE),
    "in place": (added, SHAPE),
    "masks": (filled, SHAPE),
    "index": (lambda h: h[:, :, ROW], SHAPE),
    "index_copy": (lambda h: h.index_copy(2, ROW, h[:, :, :3] * 2), SHAPE),
    "silu": (F.silu, SHAPE),
    "gelu": (lambda h: F.gelu(h, approximate="tanh"), SHAPE),
    "hardswish": (F.hardswish, SHAPE),
    "mish": (F.mish, SHAPE),
    "softshrink": (lambda h: F.softshrink(h, 0.05), SHAPE),
    "clamp": (lambda h: h.clamp(0.1, 0.6), SHAPE),
    "clamp below zero": (lambda h: (h - 1).clamp(max=-0.5), SHAPE),
    "clamp_min": (lambda h: h.clamp_min(0.05), SHAPE),
    "layer_norm": (layer(lambda: nn.LayerNorm(6)), SHAPE),
    "group_norm": (layer(lambda: nn.GroupNorm(2, 4)), SHAPE),
    "instance_norm": (lambda h: F.instance_norm(h), SHAPE),
    "rms_norm": (layer(lambda: nn.RMSNorm(6)), SHAPE),
    "normalize": (lambda h: F.normalize(h, dim=1), SHAPE),
    "addcmul": (lambda h: torch.addcmul(h, h.flip(2), h, value=0.5), SHAPE),
    "lerp": (lambda h: torch.lerp(h, h.flip(2), 0.3), SHAPE),
    "expand_as": (lambda h: h.mean((2, 3), keepdim=True).expand_as(h) * h, SHAPE),
    "reshape_as": (lambda h: h.flatten(1).reshape_as(h), SHAPE),
    "sum with a factor": (lambda h: torch.add(h, h.flip(2), alpha=2), SHAPE),
    "difference": (lambda h: h - h.flip(2), SHAPE),
    "a larger constant": (lambda h: h.mean(1, keepdim=True) + torch.ones(3, 1, 1, dtype=h.dtype), SHAPE),
    "stack": (lambda h: torch.stack([h, h * 2]).sum(0), SHAPE),
    "unbind": (lambda h: torch.cat(h.unbind(1), 1), SHAPE),
    "einsum": (lambda h: torch.einsum("bchw,hwk->bck", h, MATRIX.new_ones(6, 6, 2) / 9), SHAPE),
    "einsum of rows": (lambda h: torch.einsum("bchw,hwk->bchk", h[:, :, :3], MATRIX), SHAPE),
    "einsum of two": (lambda h: torch.einsum("bchw,bdhw->bcd", h, h), SHAPE),
    "matmul with a constant": (lambda h: MATRIX[0].t() @ h, SHAPE),
    "windows": (windows, SHAPE),
    "talking heads": (attention, SHAPE),
    "no_grad": (Quiet, SHAPE),
    "to": (lambda h: h.float().double(), SHAPE),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_compute_what_the_model_does_and_images_are_explained_alone(name: str) -> None:
    operation, shape = NETWORKS[name]
    model, x = network(operation, shape), images(3, shape)
    graph = Graph(model, x[:1])
    with torch.no_grad():
        assert torch.allclose(graph.run(x).logits, model(x), atol=1e-10)
    together = EffectivePath().extract(graph, x)
    for path, image in zip(together, x):
        alone = EffectivePath().extract(graph, image[None])[0]
        assert path.equals(alone)
        assert path.neurons(graph.input).any()


LINEAR = (
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "conv3d",
    "avg_pool3d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "bilinear with corners",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "upsample_trilinear3d",
    "einsum",
    "einsum of rows",
    "matmul with a constant",
)


def explained(name: str, theta: float) -> tuple[Callable[[Tensor], Tensor], Tensor, list[int], set[int]]:
    """The operation, an image, the active neurons behind the operation and those of the image."""
    operation, shape = NETWORKS[name]
    model, x = network(operation, shape, stem=False), images(1, shape, seed=5) - 0.4
    graph = Graph(model, x)
    path = EffectivePath(theta=theta).extract(graph, x)[0]
    head = graph.node("head").inputs[0]
    active = path.neurons(head).flatten().nonzero()[:, 0].tolist()
    return model.operation, x, active, set(path.neurons(graph.input).flatten().nonzero()[:, 0].tolist())


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("theta", [0.6, 0.95])
def test_linear_operations_choose_the_smallest_sufficient_set(name: str, theta: float) -> None:
    """Contributions are the derivative times the input; what has no derivative is no candidate."""
    operation, x, active, found = explained(name, theta)
    jacobian = torch.autograd.functional.jacobian(lambda y: operation(y).flatten(), x).flatten(1).detach()
    values = operation(x).flatten().tolist()
    expected: set[int] = set()
    for output in active:
        candidates = jacobian[output].nonzero()[:, 0].tolist()
        sign = -1.0 if values[output] < 0 else 1.0
        amounts = [sign * float(jacobian[output, k] * x.flatten()[k]) for k in candidates]
        expected |= {candidates[k] for k in choose(amounts, theta)}
    assert found == expected
    assert active


def positive(model: nn.Module) -> nn.Module:
    """The model with a positive head, so that large values matter and many are chosen."""
    with torch.no_grad():
        model.head.weight.abs_()
    return model.eval()


def test_patches_that_overlap_are_chosen_by_what_they_add() -> None:
    """Fold restated with plain loops: every place of the kernel adds to one output."""
    height, width, kernel, stride, padding = 5, 4, (3, 2), (2, 1), (1, 0)
    operation = nn.Sequential(nn.Flatten(2), nn.Fold((height, width), kernel, padding=padding, stride=stride))
    torch.manual_seed(3)
    model, x = positive(Network(operation, (12, 3, 3), stem=False)), images(1, (12, 3, 3), seed=5) - 0.2
    graph = Graph(model, x)
    path = EffectivePath(theta=0.7).extract(graph, x)[0]
    flat, over = x.flatten().tolist(), {}
    for channel, i, j, row, column in product(range(2), range(3), range(2), range(3), range(3)):
        y, z = row * 2 - 1 + i, column + j
        if 0 <= y < height and z < width:
            source = ((channel * 6 + i * 2 + j) * 9) + row * 3 + column
            over.setdefault((channel * height + y) * width + z, []).append(source)
    expected: set[int] = set()
    active = path.neurons(graph.node("head").inputs[0]).flatten().nonzero()[:, 0].tolist()
    for output in active:
        sign = -1.0 if sum(flat[k] for k in over[output]) < 0 else 1.0
        expected |= {over[output][k] for k in choose([sign * flat[k] for k in over[output]], 0.7)}
    assert set(path.neurons(graph.input).flatten().nonzero()[:, 0].tolist()) == expected
    assert len(active) > 2


def test_of_two_operands_the_winner_is_chosen() -> None:
    for name, operation, wins in (
        ("maximum", lambda h: torch.maximum(h[:, :2], h[:, 2:]), lambda a, b: a >= b),
        ("minimum", lambda h: torch.minimum(h[:, :2], h[:, 2:]), lambda a, b: a <= b),
        ("where", lambda h: torch.where(h[:, :2] > 0.1, h[:, :2], h[:, 2:]), lambda a, b: a > 0.1),
    ):
        torch.manual_seed(3)
        model, x = Network(operation, SHAPE, stem=False).eval(), images(1, SHAPE, seed=5) - 0.4
        graph = Graph(model, x)
        path = EffectivePath(theta=0.7).extract(graph, x)[0]
        flat, half = x.flatten().tolist(), 72
        active = path.neurons(graph.node("head").inputs[0]).flatten().nonzero()[:, 0].tolist()
        expected = {k if wins(flat[k], flat[half + k]) else half + k for k in active}
        assert set(path.neurons(graph.input).flatten().nonzero()[:, 0].tolist()) == expected, name
        assert len(active) > 2


def test_where_a_constant_wins_the_path_ends() -> None:
    model, x = network(lambda h: torch.maximum(h, torch.zeros_like(h) + 0.1), SHAPE, stem=False), images(1, SHAPE) - 0.6
    graph = Graph(positive(model), x)
    path = EffectivePath(theta=0.99).extract(graph, x)[0]
    active = path.neurons(graph.node("head").inputs[0]).flatten()
    assert torch.equal(path.neurons(graph.input).flatten(), active & (x.flatten() >= 0.1))
    assert (active & (x.flatten() < 0.1)).any()


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "amax"])
def test_maxima_choose_the_input_that_is_one(name: str) -> None:
    """With different values everywhere an output's value tells which input it is."""
    operation, x, active, found = explained(name, 0.5)
    values, flat = operation(x).flatten().tolist(), x.flatten().tolist()
    assert found == {flat.index(values[output]) for output in active}


class Counted(nn.Module):
    """Asks Python for the number of images."""

    def forward(self, h: Tensor) -> Tensor:
        return h.reshape(len(h), -1)


class Fixed(nn.Module):
    """Turns the number of images into a plain number."""

    def forward(self, h: Tensor) -> Tensor:
        return h.reshape(int(h.shape[0]), -1)


def test_the_number_of_images_may_be_asked_for_by_len() -> None:
    model, x = network(Counted, SHAPE), images(3, SHAPE)
    assert torch.allclose(Graph(model, x[:1]).run(x).logits, model(x))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (lambda h: h.sort(2).values, "sort"),
        (lambda h: h.cumsum(2), "cumsum"),
        (lambda h: h[h[:, 0, 0, 0].argsort()], "argsort"),
        (lambda h: h.softmax(1), "softmax"),
        (Fixed, "x.shape\\[0\\]"),
    ],
)
def test_what_has_no_rule_is_refused_with_a_reason(operation: object, words: str) -> None:
    with pytest.raises(UnsupportedOperation, match=words):
        Graph(network(operation, SHAPE), images(1, SHAPE))
