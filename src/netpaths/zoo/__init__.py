"""Reference models and loaders for users' own; every model takes pixels in [0, 1]."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from netpaths.errors import BadOption
from netpaths.zoo.cifar_resnet import CifarResNet, resnet20, resnet32, resnet44, resnet56
from netpaths.zoo.cifar_vgg import CifarVGG
from netpaths.zoo.custom import load_custom
from netpaths.zoo.lenet import LeNet5, LeNet300100
from netpaths.zoo.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, Normalized
from netpaths.zoo.restricted import Restricted
from netpaths.zoo.squeezenet import SqueezeNet
from netpaths.zoo.vision import import_timm, import_torchvision
from netpaths.zoo.vit import SmallViT
from netpaths.zoo.weights import load_weights, read_header, save_weights

__all__ = [
    "MODELS",
    "CifarResNet",
    "CifarVGG",
    "LeNet5",
    "LeNet300100",
    "Normalize",
    "Normalized",
    "Restricted",
    "SmallViT",
    "SqueezeNet",
    "ZooModel",
    "import_timm",
    "import_torchvision",
    "load_model",
    "load_weights",
    "read_header",
    "save_weights",
]

Normalization = str | tuple[Sequence[float], Sequence[float]]


class ZooModel(NamedTuple):
    """A model of the zoo: its factory, input shape (channels, height, width) and usual number of classes."""

    factory: Callable[..., nn.Module]
    shape: tuple[int, int, int]
    classes: int


MODELS: Mapping[str, ZooModel] = {
    "lenet5": ZooModel(LeNet5, (1, 28, 28), 10),
    "lenet300-100": ZooModel(LeNet300100, (1, 28, 28), 10),
    "resnet20": ZooModel(resnet20, (3, 32, 32), 10),
    "resnet32": ZooModel(resnet32, (3, 32, 32), 10),
    "resnet44": ZooModel(resnet44, (3, 32, 32), 10),
    "resnet56": ZooModel(resnet56, (3, 32, 32), 10),
    "vgg11": ZooModel(CifarVGG, (3, 32, 32), 10),
    "vit-small": ZooModel(SmallViT, (1, 28, 28), 10),
    "squeezenet1_0": ZooModel(SqueezeNet, (3, 227, 227), 1000),
}
FORMS = "torchvision:NAME, timm:NAME, FILE.py:FUNCTION"


def load_model(
    name: str,
    weights: Path | str | None = None,
    classes: int | None = None,
    normalize: Normalization | None = None,
) -> nn.Module:
    """The model ``name`` in evaluation mode, taking pixels in [0, 1].

    ``name`` is a key of `MODELS`, ``torchvision:NAME``, ``timm:NAME`` or ``FILE.py:FUNCTION``. ``weights`` is
    a safetensors state dict, loaded strictly; without it the weights are random, drawn from torch's global
    generator. ``classes`` is the number of outputs. ``normalize`` is "imagenet", "none" or (mean, std) per
    channel; by default the model's own (ImageNet's for torchvision, the model's configuration for timm, none
    for FILE.py). Raises BadOption for an unknown name, BadWeights for weights that do not fit, MissingExtra
    without torchvision or timm.
    """
    if classes is not None and classes < 1:
        raise BadOption(f"classes is {classes}, expected at least 1")
    model, own = _make(name, classes)
    if weights is not None:
        load_weights(model, weights)
    model = _normalized(model, own if normalize is None else normalize)
    return model.eval()


def _make(name: str, classes: int | None) -> tuple[nn.Module, Normalization | None]:
    """The bare model and the normalisation it is given by default (None: it has its own)."""
    family, _, rest = name.partition(":")
    if name in MODELS:
        zoo = MODELS[name]
        return zoo.factory(classes=classes or zoo.classes), None
    if family == "torchvision" and rest:
        return _torchvision(rest, classes), "imagenet"
    if family == "timm" and rest:
        return _timm(rest, classes)
    if ".py:" in name:
        if classes is not None:
            raise BadOption(f"classes cannot be set for {name!r}: its function decides")
        return load_custom(name), None
    raise _unknown(name, MODELS, f"; known: {', '.join(MODELS)}, {FORMS}")


def _unknown(name: str, known: Iterable[str], more: str = "") -> BadOption:
    near = get_close_matches(name, list(known), n=3, cutoff=0.3)
    return BadOption(f"there is no model {name!r}; nearest: {', '.join(near) or 'none'}{more}")


def _options(classes: int | None) -> dict[str, Any]:
    return {} if classes is None else {"num_classes": classes}


def _torchvision(name: str, classes: int | None) -> nn.Module:
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(f"torchvision:{name}", (f"torchvision:{other}" for other in known))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # an announced change of initialisation
        model: nn.Module = models.get_model(name, weights=None, **_options(classes))
    return model


def _timm(name: str, classes: int | None) -> tuple[nn.Module, Normalization]:
    timm = import_timm()
    if not timm.is_model(name):
        raise _unknown(f"timm:{name}", (f"timm:{other}" for other in timm.list_models()))
    model: nn.Module = timm.create_model(name, pretrained=False, **_options(classes))
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return model, (config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD))


def _normalized(model: nn.Module, normalize: Normalization | None) -> nn.Module:
    if normalize is None:
        return model
    layer = _layer(normalize)
    if isinstance(getattr(model, "normalize", None), Normalize):
        model.normalize = layer
        return model
    return model if isinstance(layer, nn.Identity) else Normalized(layer, model)


def _layer(normalize: Normalization) -> nn.Module:
    if normalize == "imagenet":
        return Normalize(IMAGENET_MEAN, IMAGENET_STD)
    if normalize == "none":
        return nn.Identity()
    if isinstance(normalize, str) or len(normalize) != 2:
        raise BadOption(f"normalize is {normalize!r}, expected 'imagenet', 'none' or (mean, std)")
    mean, std = normalize
    if len(mean) != len(std) or min(std, default=0) <= 0:
        raise BadOption(f"normalize is {normalize!r}, expected as many means as positive standard deviations")
    return Normalize(mean, std)
