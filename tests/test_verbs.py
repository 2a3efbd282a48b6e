"""What a graph can be asked to do besides running: other backward rules, passes, snapshots, alignment."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths import EffectivePath, Graph, align, jaccard
from netpaths.errors import BadOption, ModelMismatch, UnknownNode


class Small(nn.Module):
    """Two convolutions, a sum, dropout and a linear layer."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm, self.drop, self.fc = nn.BatchNorm2d(width), nn.Dropout(), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.second(x)) + x
        logits: Tensor = self.fc(self.drop(x.mean((2, 3))))
        return logits


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Small().double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(7, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# --- other backward rules --------------------------------------------------------------------------------------------


def guided(grad: Tensor, inputs: Sequence[Tensor], output: Tensor) -> tuple[Tensor]:
    return (grad.clamp(min=0) * (output > 0),)


def test_values_stay_and_gradients_follow_the_rule(model: nn.Module, images: Tensor) -> None:
    """Guided backpropagation, against hooks on the gradient of every ReLU's input."""
    graph, x = Graph(model, images), images.clone().requires_grad_()
    logits = graph.rewrite({"activation": guided})(x)
    torch.testing.assert_close(logits, model(images))
    (found,) = torch.autograd.grad(logits[:, 1].sum(), x)

    y = images.clone().requires_grad_()

    def relu(value: Tensor) -> Tensor:
        result = F.relu(value)
        result.register_hook(lambda grad: grad.clamp(min=0))
        return result

    h = relu(model.norm(model.first(y)))
    h = relu(model.second(h)) + h
    (expected,) = torch.autograd.grad(model.fc(h.mean((2, 3)))[:, 1].sum(), y)
    torch.testing.assert_close(found, expected)
    (plain,) = torch.autograd.grad(graph.run(x).logits[:, 1].sum(), x)
    assert not torch.allclose(found, plain)


def test_a_nodes_own_rule_goes_first(model: nn.Module, images: Tensor) -> None:
    graph, x = Graph(model, images), images.clone().requires_grad_()
    stopped = graph.rewrite({"activation": guided, "relu": lambda grad, inputs, output: (grad * 0,)})(x)
    (found,) = torch.autograd.grad(stopped.sum(), x)
    assert not found.any()


def test_rules_of_nothing_are_refused(model: nn.Module, images: Tensor) -> None:
    graph = Graph(model, images)
    with pytest.raises(BadOption, match="the network has no node of the family 'max pooling'"):
        graph.rewrite({"max pooling": guided})
    with pytest.raises(UnknownNode, match="nearest: first"):
        graph.rewrite({"frist": guided})


# --- passes ----------------------------------------------------------------------------------------------------------


def test_a_pass_is_one_run_after_the_other(model: nn.Module, images: Tensor) -> None:
    graph, labels = Graph(model, images), torch.arange(7)
    loader, done = [(images[:4], labels[:4]), (images[4:], labels[4:])], list[int]()
    whole = graph.run(images, record=["second"])
    for start, most in ((0, None), (3, None), (5, 1), (0, 3), (7, None)):
        steps = list(graph.stream(loader, ["second"], start, most, done.append))
        assert [place for step in steps for place in range(step.start, step.end)] == list(range(start, 7))
        assert torch.equal(torch.cat([step.labels for step in steps] or [labels[7:]]), labels[start:])
        assert all(len(step.images) <= (most or 7) for step in steps)
        for step in steps:
            torch.testing.assert_close(step.trace["second"], whole["second"][step.start : step.end])
            assert not step.trace.logits.requires_grad
    assert done[:2] == [4, 7]


# --- snapshots and alignment -----------------------------------------------------------------------------------------


def test_training_does_not_change_a_snapshot(model: nn.Module, images: Tensor) -> None:
    graph = Graph(model, images)
    kept = graph.snapshot()
    before, mark = graph.run(images).logits, graph.fingerprint
    with torch.no_grad():
        model.fc.weight.mul_(-1)
        model.second.bias.add_(1)
    assert not torch.allclose(graph.run(images).logits, before)
    assert torch.equal(kept.run(images).logits, before)
    assert kept.fingerprint == mark
    assert not any(parameter.requires_grad for parameter in kept.module.parameters())
    paths = EffectivePath().extract(kept, images)
    assert all(path.predicted == label for path, label in zip(paths, before.argmax(1).tolist()))


def test_paths_of_aligned_networks_compare(model: nn.Module, images: Tensor) -> None:
    torch.manual_seed(1)
    first, second = Graph(model, images), Graph(Small().double().eval(), images)
    both = align(first, second)
    paths = [EffectivePath().extract(graph, images)[0] for graph in (first, second)]
    with pytest.raises(ModelMismatch):
        jaccard(*paths)
    assert 0 <= jaccard(paths[0], both.adopt(paths[1])) <= 1
    torch.manual_seed(2)
    third = Graph(Small().double().eval(), images)
    with pytest.raises(ModelMismatch, match="the path was made for model"):
        both.adopt(EffectivePath().extract(third, images)[0])


def test_other_shapes_do_not_align(model: nn.Module, images: Tensor) -> None:
    wide = Graph(Small(5).double().eval(), images)
    with pytest.raises(ModelMismatch, match=r"differ at 'first': its shape is \(4, 6, 6\) in one and \(5, 6, 6\)"):
        align(Graph(model, images), wide)
    short = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    longer = nn.Sequential(nn.Flatten(), nn.Linear(72, 3), nn.ReLU())
    with pytest.raises(ModelMismatch, match="only one of the networks has the node '2'"):
        align(Graph(short.double(), images), Graph(longer.double(), images))


# --- names -----------------------------------------------------------------------------------------------------------


def test_both_spellings_are_one_name(images: Tensor) -> None:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    graph = Graph(nn.Sequential(stem, nn.Flatten(), nn.Linear(48, 2)).double(), images)
    assert graph.node("0_0") is graph.node("0.0")
    trace = graph.run(images, record=["0_0"], gates={"0_1": torch.ones(3).double()})
    assert torch.equal(trace["0.0"], trace["0_0"])
    path = EffectivePath().extract(graph, images)[0]
    assert torch.equal(path.neurons("0_0"), path.neurons("0.0"))
    assert "0_0" in path.nodes("neuron")
    assert "0_2" not in path.nodes("neuron")
    with pytest.raises(UnknownNode, match=r"there is no node '0\.2'; nearest: "):
        graph.node("0.2")


def test_names_are_those_of_the_last_time(images: Tensor) -> None:
    first, second = (Graph(Small().double().eval(), images) for _ in range(2))
    assert list(first.nodes) == list(second.nodes)
