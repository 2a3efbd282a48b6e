"""Training decoupled networks: what it reaches, that it repeats, that it resumes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netpaths import Graph, decouple, train_decoupled
from netpaths.data import Images, load_data
from netpaths.data.images import MemorySource
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.insertion import Decoupled
from netpaths.decoupling.loss import Objective
from netpaths.decoupling.observed import Observed
from netpaths.decoupling.training import Recipe, evaluate
from netpaths.errors import BadFile, BadInput, BadOption, BadWeights
from netpaths.files import load_tensors
from netpaths.training import accuracy, batches_of, cutmix, shuffled
from netpaths.zoo import load_model

QUICK = Recipe(
    epochs=3,
    batch_size=32,
    lr=0.05,
    pace=3,
    hold=1,
    objective=Objective(distillation=1.0, information=0.1, hints=0.1),
    shift=1,
    cutmix=0.5,
)


@pytest.fixture(scope="module")
def few() -> Images:
    return load_data("digits", limit=200).in_memory()


@pytest.fixture(scope="module")
def held() -> Images:
    return load_data("digits", "test", limit=60).in_memory()


class Stop(Exception):
    """Raised by a test in the middle of a training."""


def made(model: nn.Module) -> Decoupled:
    """Both convolutions decoupled, half of the filters on."""
    return decouple(model, torch.zeros(1, 1, 28, 28), ("conv1", "conv2"), bias=1.0)


def same(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_training_keeps_what_is_asked_for_and_the_accuracy(digits_lenet: nn.Module, digits_test: Images) -> None:
    network = made(digits_lenet)
    objective = Objective(kept=0.6, sparsity=0.05, distillation=1.0, hints=0.1)
    history = train_decoupled(
        network,
        load_data("digits"),
        Recipe(epochs=8, batch_size=32, lr=0.02, pace=3, hold=1, objective=objective),
        digits_test,
        digits_lenet,
    )
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["kept"] == pytest.approx(0.6, abs=0.12)
    assert history[-1]["accuracy"] >= accuracy(digits_lenet, digits_test) - 0.05
    assert history[-1]["accuracy"] == pytest.approx(accuracy(network, digits_test), abs=1e-6)
    assert history[-1]["cross entropy"] < history[0]["cross entropy"]
    parts = ("cross entropy", "distillation", "information", "alignment", "sparsity", "hints")
    assert all(sum(row.get(name, 0.0) for name in parts) == pytest.approx(row["loss"], rel=1e-4) for row in history)
    assert [set(parts) & set(row) for row in history] == [{*parts[:5]}] * 4 + [{*parts[:2], "hints"}] * 4


def test_evaluation_is_arithmetic_on_codes(digits_lenet: nn.Module, held: Images) -> None:
    network = made(digits_lenet)
    found = evaluate(network, held, batch_size=7)
    images, labels = held[:]
    with torch.no_grad():
        seen = Observed(network)(images)
    codes = torch.cat(list(seen.codes.values()), dim=1)
    assert found["kept"] == pytest.approx(float(codes.mean()), abs=1e-6)
    assert found["accuracy"] == pytest.approx(float((seen.logits.argmax(1) == labels).float().mean()), abs=1e-6)
    cost = Cost(Graph(network, images[:1]))
    assert found["macs"] == pytest.approx(float(cost.of(seen.codes).mean()) / cost.dense)


def test_the_same_seed_trains_the_same_network(digits_lenet: nn.Module, few: Images, held: Images) -> None:
    networks = []
    for seed in (0, 0, 1):
        networks.append(made(digits_lenet))
        torch.rand(len(networks))  # the global generator must not matter
        train_decoupled(networks[-1], few, replace(QUICK, seed=seed), held, digits_lenet)
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])


@pytest.mark.parametrize("stopped_at", [0, 8, 13])
def test_resumed_training_is_uninterrupted_training(
    stopped_at: int, digits_lenet: nn.Module, few: Images, held: Images, tmp_path: Path
) -> None:
    whole = made(digits_lenet)
    history = train_decoupled(whole, few, QUICK, held, digits_lenet)
    file, calls = tmp_path / "checkpoint.safetensors", []

    def stop() -> None:
        calls.append(0)
        if len(calls) > stopped_at:
            raise Stop

    with pytest.raises(Stop):
        train_decoupled(made(digits_lenet), few, QUICK, held, digits_lenet, checkpoint=file, stopped=stop)
    assert file.is_file() == (stopped_at >= 7)
    torch.rand(3)
    again = made(digits_lenet)
    resumed = train_decoupled(again, few, QUICK, held, digits_lenet, checkpoint=file)
    assert same(again, whole)
    told = [{name: value for name, value in row.items() if name != "seconds"} for row in (*resumed, *history)]
    assert told[:3] == told[3:]


def test_a_finished_training_is_not_done_again(
    digits_lenet: nn.Module, few: Images, held: Images, tmp_path: Path
) -> None:
    file, calls = tmp_path / "checkpoint.safetensors", []
    first = made(digits_lenet)
    train_decoupled(first, few, QUICK, held, digits_lenet, checkpoint=file)
    second = made(digits_lenet)
    history = train_decoupled(
        second, few, QUICK, held, digits_lenet, checkpoint=file, progress=lambda *call: calls.append(call)
    )
    assert same(first, second)
    assert len(history) == 3
    assert [call[:2] for call in calls] == [(21, 21)]


def test_another_training_does_not_go_on_from_a_checkpoint(
    digits_lenet: nn.Module, few: Images, held: Images, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint.safetensors"
    train_decoupled(made(digits_lenet), few, replace(QUICK, epochs=1), held, digits_lenet, checkpoint=file)
    with pytest.raises(BadFile, match=r"belongs to another training \(other recipe\); remove it to start over"):
        train_decoupled(made(digits_lenet), few, QUICK, held, digits_lenet, checkpoint=file)
    with pytest.raises(BadFile, match=r"other images"):
        train_decoupled(made(digits_lenet), held, replace(QUICK, epochs=1), held, digits_lenet, checkpoint=file)
    other, once = made(digits_lenet), replace(QUICK, epochs=1)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-3
    with pytest.raises(BadFile, match=r"other weights at the start\); go on with the network as decouple makes it"):
        train_decoupled(other, few, once, held, digits_lenet, checkpoint=file)
    with pytest.raises(BadFile, match=r"other plain network"):
        train_decoupled(made(digits_lenet), few, once, held, other, checkpoint=file)


def test_progress_counts_batches_and_tells_the_last_epoch(digits_lenet: nn.Module, few: Images, held: Images) -> None:
    calls: list[tuple[int, int, str]] = []
    network = made(digits_lenet)
    history = train_decoupled(network, few, QUICK, held, digits_lenet, progress=lambda *call: calls.append(call))
    assert [call[0] for call in calls] == list(range(22))
    assert calls[6][2] == ""
    row = history[1]
    assert calls[-2][2] == (
        f"accuracy {row['accuracy']:.2%}, {row['kept']:.1%} of the filters, {row['macs']:.1%} of the MACs"
    )


def test_the_model_that_teaches_and_the_modes_stay(digits_lenet: nn.Module, few: Images, held: Images) -> None:
    before = {name: tensor.clone() for name, tensor in digits_lenet.state_dict().items()}
    network = made(digits_lenet)
    train_decoupled(network, few, replace(QUICK, epochs=1), held, digits_lenet)
    assert all(torch.equal(before[name], tensor) for name, tensor in digits_lenet.state_dict().items())
    assert not network.training
    assert not digits_lenet.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_schedule() -> None:
    recipe = Recipe(epochs=8, lr=0.8, milestones=(0.5, 0.75), ramp=1 / 3, settle=0.25, objective=Objective(kept=0.6))
    assert [round(recipe.rate(epoch, 0.0), 6) for epoch in range(8)] == [0.8] * 4 + [0.08] * 2 + [0.008, 0.004]
    assert [round(recipe.rate(7, share), 6) for share in (0.25, 0.5, 0.75)] == [0.003, 0.002, 0.001]
    assert replace(recipe, settle=0.0).rate(7, 0.9) == pytest.approx(0.008)
    wanted = [(0, 0.0, 1.0), (0, 0.5, 0.9), (1, 0.0, 0.8), (2, 0.0, 0.6), (5, 0.9, 0.6)]
    assert [(epoch, share, round(recipe.at(epoch, share).kept, 6)) for epoch, share, _ in wanted] == wanted
    assert replace(recipe, ramp=0.0).at(0, 0.0).kept == 0.6
    assert [recipe.settles(epoch) for epoch in range(8)] == [False] * 6 + [True] * 2
    hinted = replace(recipe, objective=Objective(hints=2.0))
    settled = hinted.at(6, 0.0)
    assert (settled.information, settled.alignment, settled.sparsity, settled.hints) == (0, 0, 0, 2)
    assert hinted.at(5, 0.9).hints == 0
    assert not any(replace(recipe, settle=0.0).settles(epoch) for epoch in range(8))
    learning = [replace(recipe, settle=0.5, epochs=epochs).learning for epochs in (1, 2, 3, 5, 10)]
    assert learning == [1, 1, 2, 3, 5]


def test_controllers_rest_in_the_last_epochs(
    digits_lenet: nn.Module, few: Images, held: Images, tmp_path: Path
) -> None:
    recipe = replace(QUICK, epochs=4, settle=0.5)
    file, states = tmp_path / "checkpoint.safetensors", []
    network = made(digits_lenet)

    def remember(done: int, total: int, message: str) -> None:
        if done % 7 == 0:
            states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})

    train_decoupled(network, few, recipe, held, digits_lenet, checkpoint=file, progress=remember)
    moved = [
        {name.split(".")[0] for name in states[0] if not torch.equal(before[name], after[name])}
        for before, after in pairwise(states)
    ]
    assert moved[:2] == [{"controllers", "conv1", "conv2", "fc1", "fc2", "fc3"}] * 2
    assert moved[2:4] == [{"conv1", "conv2", "fc1", "fc2", "fc3"}] * 2


def test_no_image_is_a_last_batch_alone(few: Images) -> None:
    cases = ((65, 32, [32, 33]), (64, 32, [32, 32]), (66, 32, [32, 32, 2]), (1, 32, [1]), (3, 1, [1] * 3))
    for count, size, wanted in cases:
        sizes = [len(batch) for batch, _ in shuffled(few.take(slice(count)), size, 0, torch.Generator())]
        assert sizes == wanted
        assert batches_of(count, size) == len(wanted)


class Viewed(nn.Module):
    """Colour images, batch norm on maps of one place, and a view, which needs its channels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.conv = nn.Conv2d(4, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6 * 9, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10)."""
        x = torch.relu(self.norm(self.conv(torch.relu(self.stem(x)))))
        return self.linear(x.view(-1, 6 * 9))  # type: ignore[no-any-return]


def test_networks_with_views_are_trained_and_teach(few: Images) -> None:
    torch.manual_seed(0)
    coloured = replace(few.take(slice(33)), source=MemorySource(torch.rand(200, 3, 16, 16)))
    model = Viewed().eval()
    network = decouple(model, torch.zeros(1, 3, 16, 16))
    history = train_decoupled(network, coloured, replace(QUICK, epochs=1, lr=1e-9, pace=1), coloured, model)
    assert history[0]["distillation"] > 0
    network.train()
    x = coloured[:][0]
    seen = Observed(network)(x.contiguous(memory_format=torch.channels_last))
    assert seen.logits.shape == (33, 10)


def test_classifiers_of_codes_learn_as_if_their_loss_had_no_weight(
    digits_lenet: nn.Module, few: Images, held: Images, tmp_path: Path
) -> None:
    found = []
    for weight in (1.0, 0.01):
        file = tmp_path / f"{weight}.safetensors"
        objective = Objective(information=weight, alignment=0, sparsity=0)
        recipe = replace(QUICK, epochs=1, lr=1e-2, pace=1, weight_decay=0.1, hold=0, objective=objective)
        network = made(digits_lenet)
        for each in network.parameters():
            each.requires_grad_(each.shape == torch.Size([10]))  # the classifiers, and what no code depends on
        train_decoupled(network, few, recipe, held, checkpoint=file)
        arrays, _ = load_tensors(file, "decoupling-checkpoint", 3, dict)
        found.append({name: value for name, value in arrays.items() if name.startswith("classifiers/")})
    assert found[0]
    for name, value in found[0].items():
        assert np.allclose(value, found[1][name], atol=1e-6)


def test_flipping_mirrors_half_of_the_images(few: Images) -> None:
    plain, mirrored = (
        torch.cat([batch for batch, _ in shuffled(few, 50, 0, torch.Generator().manual_seed(3), flip)])
        for flip in (False, True)
    )
    pixels = {tuple(image.flatten().tolist()) for image in few[:][0]}
    assert {tuple(image.flatten().tolist()) for image in plain} == pixels
    turned = [tuple(image.flatten().tolist()) not in pixels for image in mirrored]
    assert 0.35 < sum(turned) / len(turned) < 0.65
    assert all(
        tuple((image.flip(2) if other else image).flatten().tolist()) in pixels
        for image, other in zip(mirrored, turned)
    )


def test_cutmix_pastes_rectangles_and_shares_classes() -> None:
    count, size = 400, 16
    batch = torch.arange(count).float().view(count, 1, 1, 1).expand(count, 3, size, size)  # every image has its number
    targets = torch.eye(count)
    mixed, shares = cutmix(batch, targets, 0.5, torch.Generator().manual_seed(0))
    assert torch.allclose(shares.sum(1), torch.ones(count))
    pasted = []
    for place, (image, share) in enumerate(zip(mixed, shares)):
        assert torch.equal(image[0], image[2])
        numbers, counts = image[0].unique(return_counts=True)
        wanted = torch.zeros(count).index_put((numbers.long(),), counts / size**2)
        torch.testing.assert_close(share, wanted)
        other = image[0] != place
        pasted.append(float(other.float().mean()))
        rows, columns = other.any(1).nonzero().flatten(), other.any(0).nonzero().flatten()
        if len(rows):
            block = other[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert block.all()
            assert len({int(number) for number in image[0][other]}) == 1
    assert 0.35 < np.mean([share > 0 for share in pasted]) < 0.55  # half of the images, but for rectangles of no pixel
    assert max(pasted) <= 0.5 + 2 / size
    assert max(pasted) > 0.3


def test_cutmix_of_no_image_changes_none() -> None:
    batch, targets = torch.rand(5, 3, 8, 8), torch.eye(5)
    mixed, shares = cutmix(batch, targets, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(mixed, batch)
    assert torch.equal(shares, targets)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs is 0, which is out of range"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"milestones": (0.5, 1.0)}, "milestones is"),
        ({"pace": 0.0}, "pace is 0.0"),
        ({"ramp": 2.0}, "ramp is 2.0"),
        ({"cutmix": 1.5}, "cutmix is 1.5"),
        ({"objective": Objective(hints=-1.0)}, "hints is -1.0"),
        ({"objective": Objective(kept=2.0)}, "kept is 2.0"),
    ],
)
def test_recipes_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        replace(QUICK, **wrong).check()  # type: ignore[arg-type]


def test_refusals(digits_lenet: nn.Module, few: Images, held: Images) -> None:
    with pytest.raises(BadOption, match="distillation and hints need the plain network"):
        train_decoupled(made(digits_lenet), few, QUICK, held)
    with pytest.raises(BadOption, match="training needs images"):
        train_decoupled(made(digits_lenet), few.take([]), QUICK, held, digits_lenet)
    small = decouple(load_model("lenet5", classes=3), torch.zeros(1, 1, 28, 28))
    plain = replace(QUICK, objective=Objective())
    with pytest.raises(BadInput, match="labels go from 0 to 9, the model has 3 classes"):
        train_decoupled(small, few, plain, held)
    with pytest.raises(BadWeights, match="training diverged"):
        train_decoupled(made(digits_lenet), few, replace(plain, lr=1e12), held)
