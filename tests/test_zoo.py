"""Models: the zoo's against torchvision's and published accuracy, weights files, users' own models, messages."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from netpaths.data import load_data
from netpaths.errors import BadOption, BadWeights, MissingExtra
from netpaths.training import accuracy
from netpaths.zoo import MODELS, LeNet5, Normalize, import_torchvision, load_model, save_weights


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_mode(name: str) -> None:
    model = load_model(name, classes=7)
    assert not model.training
    assert model(torch.rand(2, *MODELS[name].shape)).shape == (2, 7)


@pytest.mark.parametrize("name", MODELS)
def test_normalisation_stays_out_of_the_state_dict(name: str) -> None:
    assert not [key for key in load_model(name).state_dict() if "normalize" in key]


@pytest.mark.parametrize(("name", "count"), [("lenet5", 61_706), ("lenet300-100", 266_610), ("resnet20", 269_722)])
def test_published_parameter_counts(name: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in load_model(name).parameters()) == count


def test_normalize_is_its_formula() -> None:
    x = torch.rand(2, 3, 4, 4)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    expected = (x - mean[None, :, None, None]) / std[None, :, None, None]
    torch.testing.assert_close(Normalize(mean.tolist(), std.tolist())(x), expected)


def test_squeezenet_equals_torchvisions() -> None:
    torch.manual_seed(0)
    ours = load_model("squeezenet1_0", classes=11)
    theirs = import_torchvision().models.squeezenet1_0(num_classes=11).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.rand(2, 3, 127, 127)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = theirs((x - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(ours(x), expected)


def test_torchvision_wrapper_normalises() -> None:
    torch.manual_seed(0)
    wrapped = load_model("torchvision:resnet18", classes=4)
    x = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(wrapped(x), wrapped.model((x - mean[:, None, None]) / std[:, None, None]))
    assert isinstance(load_model("torchvision:resnet18", normalize="none"), import_torchvision().models.ResNet)


def test_timm_uses_the_models_own_normalisation() -> None:
    model = load_model("timm:test_resnet", classes=3)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert model.normalize.mean.flatten().tolist() == pytest.approx(list(model.model.pretrained_cfg["mean"]))


def test_normalisation_of_a_zoo_net_can_be_set() -> None:
    model = load_model("lenet5", normalize=([0.5], [0.25]))
    assert model.normalize.mean.item() == 0.5
    assert isinstance(load_model("lenet5", normalize="none").normalize, nn.Identity)


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
def test_cifar_resnet_reaches_its_accuracy(name: str, shared: Path) -> None:
    model = load_model(name, shared / "weights" / f"{name}-cifar10.safetensors")
    images = load_data(f"cifar10:{shared}/data/cifar10", "test", limit=500)
    assert accuracy(model, images, 100) == pytest.approx({"resnet20": 0.9173, "resnet32": 0.9263}[name], abs=0.035)


def test_squeezenet_reaches_its_accuracy(shared: Path) -> None:
    model = load_model("squeezenet1_0", shared / "weights" / "squeezenet1_0-imagenet.safetensors")
    spec = f"folder:{shared}/data/imagenet-sample?classes={shared}/data/imagenet_classes.json"
    assert accuracy(model, load_data(spec, size=227, limit=60), 20) == pytest.approx(0.625, abs=0.2)


def test_weights_survive_saving(tmp_path: Path) -> None:
    model = load_model("torchvision:resnet18", classes=2)
    path = save_weights(model, tmp_path / "w.safetensors", {"epochs": 3})
    again = load_model("torchvision:resnet18", path, classes=2)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(model(x), again(x))
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_other_weights_under_the_same_checksum_are_refused(tmp_path: Path) -> None:
    file = save_weights(LeNet5(), tmp_path / "w.safetensors", {"epochs": 3})
    whole = file.read_bytes()
    for place in random.Random(0).sample(range(len(whole) // 2, len(whole)), 20):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadWeights, match="corrupt: its checksum does not match"):
            load_model("lenet5", file)
    file.write_bytes(whole.replace(b'\\"epochs\\": 3', b'\\"epochs\\": 4'))
    with pytest.raises(BadWeights, match="corrupt"):
        load_model("lenet5", file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc1.bias"), "missing: fc1.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda state: state.update({"fc3.bias": torch.zeros(9)}), r"misshapen: fc3.bias \(9,\) instead of \(10,\)"),
        (lambda state: state["conv2.weight"].view(-1)[3:4].fill_(torch.nan), "conv2.weight holds NaN or infinite"),
        (lambda state: state["fc2.bias"][:1].fill_(torch.inf), "fc2.bias holds NaN or infinite"),
    ],
)
def test_bad_weights_are_named(change: object, message: str, tmp_path: Path) -> None:
    state = load_file(save_weights(LeNet5(), tmp_path / "w.safetensors"))
    change(state)  # type: ignore[operator]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BadWeights, match=message):
        load_model("lenet5", tmp_path / "w.safetensors")


def test_unreadable_weights(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BadWeights, match="truncated or not a safetensors file"):
        load_model("lenet5", tmp_path / "w.safetensors")
    with pytest.raises(BadWeights, match="there is no weights file"):
        load_model("lenet5", tmp_path / "none.safetensors")
    with pytest.raises(BadWeights, match=r"not a \.safetensors file"):
        load_model("lenet5", tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet6", "no model 'lenet6'; nearest: lenet5"),
        ("torchvision:resnet19", "nearest: torchvision:resnet18"),
        ("timm:resnet5", "nearest: timm:resnet50"),
        ("nowhere.py:make", "there is no file nowhere.py"),
    ],
)
def test_unknown_models(name: str, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        load_model(name)


@pytest.mark.parametrize("normalize", ["cifar", ([0.5], [0.0]), ([0.5, 0.5], [1.0])])
def test_bad_normalisation(normalize: object) -> None:
    with pytest.raises(BadOption, match="normalize is"):
        load_model("lenet5", normalize=normalize)  # type: ignore[arg-type]


CUSTOM = """
import torch
def good(): return torch.nn.Linear(3, 2)
def number(): return 3
def broken(): raise RuntimeError("no luck")
"""


def test_custom_models(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(CUSTOM)
    model = load_model(f"{file}:good")
    assert isinstance(model, nn.Linear)
    assert not model.training
    for function, message in {
        "none": "has no function 'none'",
        "number": "returned int, expected a torch.nn.Module",
        "broken": "raised RuntimeError: no luck",
    }.items():
        with pytest.raises(BadOption, match=message):
            load_model(f"{file}:{function}")
    file.write_text("import (")
    with pytest.raises(BadOption, match="cannot be imported: SyntaxError"):
        load_model(f"{file}:good")


def test_missing_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtra, match=r"pip install 'netpaths\[vision\]'"):
        load_model("torchvision:resnet18")
