"""What the graph refuses, with messages that say what would be right: operations, models, images and weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths import EffectivePath, Graph, NetpathsError
from netpaths.errors import BadInput, BadWeights, UnknownNode, UnsupportedOperation
from test_graph import EXAMPLE, Calling, Small

# --- refusals --------------------------------------------------------------------------------------------------------


class Running(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def test_every_unsupported_operation_is_counted_with_its_place_before_any_work() -> None:
    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.first, self.second = nn.Linear(4, 3), Running(), Running()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(self.first(x) + self.second(x).relu() + x.cumprod(1))
            return y

    with pytest.raises(UnsupportedOperation) as caught:
        Graph(Recorded(), torch.zeros(1, 4))
    title, *lines = str(caught.value).splitlines()
    assert title == "operations without a rule:"
    assert [re.sub(r"/\S*/", "", line).strip() for line in lines] == [
        "cumsum: 2×, e.g. first, test_graph_refusals.py, line 23",
        "cumprod: 1×, e.g. test_graph_refusals.py, line 33",
    ]


def test_refusals_fit_on_a_screen() -> None:
    names = ("digamma", "lgamma", "sign", "frac", "cosh", "cos", "tan", "ceil", "floor", "round", "trunc", "i0")

    class Many(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([getattr(x, name)() for name in names], 1)

    with pytest.raises(UnsupportedOperation) as caught:
        Graph(Many(), torch.rand(1, 4))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 8 + 1
    assert re.fullmatch(r"  and \d more kinds", lines[-1])


def kernel_of(y: Tensor) -> Tensor:
    return torch.cat([y[:1, :, :3, :3]] * 3)


def write_slice(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    y[:, 0] = 0
    return y


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "value of a sort": (lambda m, y, x: y + y.sort(1)[0], r"sort \(returns several tensors\): 1×"),
    "batch statistics": (
        lambda m, y, x: F.batch_norm(y, None, None, training=True), "normalises with the statistics of the batch",
    ),
    "weight from the input": (
        lambda m, y, x: F.conv2d(y, kernel_of(y), padding=1), r"cat \(mixes the images of a batch\): 1×",
    ),
    "sum of the batch": (lambda m, y, x: y + y.sum(0, keepdim=True), r"sum \(mixes the images of a batch\): 1×"),
    "writing zeros": (lambda m, y, x: y.zero_(), "zero: 1×"),
    "writing a slice": (write_slice, "fill: 1×"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(UnsupportedOperation, match=message):
        Graph(Calling(function), EXAMPLE)


def in_place_through_a_view(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    y.view(y.size(0), -1).relu_()
    return y


def in_place_before_a_view_is_read(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    rows = y.flatten(2)
    y.relu_()
    return rows


COMPUTED: dict[str, Callable[..., Any]] = {
    "a value with its indices": lambda m, y, x: F.max_pool2d(y, 1, return_indices=True)[0],
    "shapes that differ": lambda m, y, x: y + y[:, :1],
    "upsampling": lambda m, y, x: F.interpolate(y, scale_factor=1.0),
    "in place through a view": in_place_through_a_view,
    "in place before a view is read": in_place_before_a_view_is_read,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_spelling_does_not_tell_is_computed(name: str) -> None:
    """Where the spelling has no rule, the graph follows what the model computes."""
    model = Calling(COMPUTED[name]).eval()
    images = torch.rand(3, *EXAMPLE.shape[1:], generator=torch.Generator().manual_seed(0))
    graph = Graph(model, EXAMPLE)
    with torch.no_grad():
        assert torch.allclose(graph.run(images).logits, model(images), atol=1e-5)
    assert all(path.neurons(graph.input).any() for path in EffectivePath().extract(graph, images))


def test_control_flow_on_values() -> None:
    def branch(module: Calling, y: Tensor, x: Tensor) -> Tensor:
        return y if y.sum() > 0 else -y

    message = "Calling cannot be traced: .*; its forward must not branch on the values of its input"
    with pytest.raises(UnsupportedOperation, match=message):
        Graph(Calling(branch), EXAMPLE)


class Returning(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x))


@pytest.mark.parametrize("function", [lambda y: (y, y), lambda y: {"logits": y}, lambda y: [y], lambda y: 3])
def test_models_must_return_one_tensor(function: Callable[[Tensor], Any]) -> None:
    with pytest.raises(BadInput, match=r"the model must return one tensor of logits \(batch, classes\)"):
        Graph(Returning(function), torch.zeros(1, 4))


def test_models_must_return_logits() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(BadInput, match=r"must return logits \(batch, classes\), it returns \('batch', 4, 6, 6\)"):
        Graph(model, EXAMPLE)


def test_a_constant_model_is_refused() -> None:
    with pytest.raises(BadInput, match="the model's answer does not depend on its input"):
        Graph(Returning(lambda y: torch.ones(2, 3)), torch.zeros(1, 4))


# --- bad inputs and weights ------------------------------------------------------------------------------------------


def spoiled(value: float) -> Tensor:
    images = EXAMPLE.clone()
    images[1, 0, 2, 3] = value
    return images


BAD: dict[str, tuple[Any, str]] = {
    "channels": (torch.zeros(2, 1, 8, 8), r"images have shape \(2, 1, 8, 8\), this model takes \('batch', 3, 8, 8\)"),
    "no batch": (torch.zeros(3, 8, 8), r"images have shape \(3, 8, 8\)"),
    "size": (torch.zeros(2, 3, 9, 8), r"images have shape \(2, 3, 9, 8\)"),
    "double": (EXAMPLE.double(), r"images are torch.float64, this model takes torch.float32"),
    "bytes": (EXAMPLE.byte(), r"images are torch.uint8"),
    "nan": (spoiled(float("nan")), "image 1 of the batch holds NaN or infinite pixels"),
    "infinite": (spoiled(float("-inf")), "image 1 of the batch holds NaN or infinite pixels"),
    "array": (EXAMPLE.numpy(), "images have shape ndarray"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_images(name: str) -> None:
    images, message = BAD[name]
    graph = Graph(Small(), EXAMPLE)
    for use in (graph.run, lambda x: EffectivePath().extract(graph, x)):
        with pytest.raises(BadInput, match=message):
            use(images)


@pytest.mark.parametrize("example", [torch.zeros(0, 3, 8, 8), torch.zeros(3), [1.0]])
def test_bad_examples(example: Any) -> None:
    with pytest.raises(BadInput, match=r"the example must be one batch \(batch, \*input shape\)"):
        Graph(Small(), example)


def test_example_the_model_cannot_take() -> None:
    with pytest.raises(BadInput, match=r"the model fails on the example of shape \(2, 5, 8, 8\)"):
        Graph(Small(), torch.zeros(2, 5, 8, 8))


@pytest.mark.parametrize("name", ["conv1.weight", "fc.bias", "bn1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_weights_are_named(name: str, value: float) -> None:
    model = Small()
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(BadWeights, match=f"the model's '{name}' holds NaN or infinite values"):
        Graph(model, EXAMPLE)


def test_one_exception_family() -> None:
    for error in (BadInput, BadWeights, UnknownNode, UnsupportedOperation):
        assert issubclass(error, NetpathsError)
