"""Training: the accuracy it promises, repeatability, the model's flags, and messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netpaths.data import Images, load_data
from netpaths.errors import BadInput, BadOption, BadWeights
from netpaths.training import _shifted as shifted
from netpaths.training import accuracy, predictions, train
from netpaths.zoo import load_model


@pytest.fixture(scope="module")
def few() -> Images:
    return load_data("digits", limit=100)


def test_lenet_learns_the_digits(digits_test: Images) -> None:
    torch.manual_seed(0)
    model = load_model("lenet5")
    calls: list[tuple[int, int, str]] = []
    history = train(model, load_data("digits"), epochs=10, progress=lambda *call: calls.append(call))
    assert accuracy(model, digits_test) >= 0.97
    assert len(history.loss) == 10
    assert history.loss[-1] < 0.05 < history.loss[0]
    assert [call[:2] for call in calls] == [(epoch, 10) for epoch in range(1, 11)]
    assert calls[-1][2].startswith("loss 0.0")


@pytest.mark.parametrize("shift", [0, 2])
def test_same_seed_same_model(few: Images, shift: int) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = load_model("lenet5")
        torch.rand(seed)  # the global generator must not matter
        train(model, few, 2, seed=seed, shift=shift)
        states.append(torch.cat([tensor.flatten() for tensor in model.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_validation_is_the_accuracy(few: Images, digits_test: Images) -> None:
    model = load_model("lenet5")
    history = train(model, few, 1, validation=digits_test)
    assert history.validation_accuracy == (accuracy(model, digits_test),)


def test_flags_and_generator_are_restored(few: Images) -> None:
    model = load_model("lenet5")
    model.conv2.train()
    state = torch.random.get_rng_state()
    train(model, few, 1)
    predictions(model, few)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [name for name, module in model.named_modules() if module.training] == ["conv2"]


def test_accuracy_counts(digits_lenet: nn.Module, digits_test: Images) -> None:
    with torch.no_grad():
        logits = digits_lenet(digits_test[:][0])
    torch.testing.assert_close(predictions(digits_lenet, digits_test, 37), logits)
    expected = np.mean(logits.argmax(1).numpy() == digits_test.labels)
    assert accuracy(digits_lenet, digits_test, 37) == pytest.approx(expected)


def test_shifting_moves_by_whole_pixels() -> None:
    image = torch.rand(1, 1, 5, 6).expand(64, -1, -1, -1)
    padded = torch.nn.functional.pad(image[:1], (1, 1, 1, 1), mode="replicate")[0]
    windows = [padded[:, r : r + 5, c : c + 6] for r in range(3) for c in range(3)]
    moved = shifted(image, 1, torch.Generator().manual_seed(0))
    found = {next(i for i, window in enumerate(windows) if torch.equal(window, row)) for row in moved}
    assert found == set(range(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0.0}, "lr is 0"),
        ({"shift": 28}, "shift is 28, expected 0 to 27"),
    ],
)
def test_bad_options(few: Images, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        train(load_model("lenet5"), few, **{"epochs": 1, **options})  # type: ignore[arg-type]


def test_data_that_does_not_fit(few: Images) -> None:
    with pytest.raises(BadOption, match="no images to train on"):
        train(load_model("lenet5"), few.take([]), 1)
    with pytest.raises(BadInput, match=r"expected \(batch, 3, height, width\)"):
        predictions(load_model("resnet20"), few)
    with pytest.raises(BadInput, match=r"cannot take images of shape \(1, 20, 20\)"):
        predictions(load_model("lenet5"), load_data("digits", limit=5, size=20))
    model = load_model("lenet5", classes=3)
    with pytest.raises(BadInput, match="labels go from 0 to 9, the model has 3 classes"):
        train(model, few, 1)
    assert not model.training


def test_divergence_is_reported(few: Images) -> None:
    with pytest.raises(BadWeights, match="training diverged: the loss is"):
        train(load_model("lenet5"), few, 10, lr=1e30)
