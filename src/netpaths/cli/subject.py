"""The network and the images that a command works on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from netpaths.batching import fitting_batch
from netpaths.cli.options import KINDS, THETA
from netpaths.cli.spelled import split_spelled
from netpaths.data import Images, load_data
from netpaths.decoupling.files import load_decoupled
from netpaths.errors import BadFile, BadInput, BadOption
from netpaths.graph import Graph, PathMethod
from netpaths.methods import EffectivePath
from netpaths.methods.registry import make_method, method_of, option_value
from netpaths.path import Path as ClassPath
from netpaths.profile import Profile
from netpaths.runs import file_of
from netpaths.training import device_of, forward, in_mode
from netpaths.zoo import MODELS, load_model, read_header

WEIGHTS = "model.safetensors"
PROFILE = "profile.safetensors"


def find_device(name: str) -> torch.device:
    """The device of this name, auto taking a GPU where there is one; raises BadOption when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadOption(f"there is no device {name!r}; use cpu, cuda, cuda:1, … or auto") from error
    return device


def load_network(
    name: str,
    weights: Path | None = None,
    normalize: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    classes: int | None = None,
) -> nn.Module:
    """The network in evaluation mode on ``device``; without weights they are random, drawn with ``seed``.

    classes: number of outputs; by default as many as the weights say that they were trained for.
    """
    place = find_device(device)
    torch.manual_seed(seed)
    file = None if weights is None else file_of(weights, WEIGHTS) if weights.is_dir() else weights
    header = {} if file is None else read_header(file)
    if is_named(name) and isinstance(header.get("classes"), int):
        classes = classes or header["classes"]
    if file is not None and "decoupled" in header:
        own = header.get("model")
        if own != name:
            raise BadOption(f"{file} holds a decoupled {own}, not {name}; use --model {own}")
        if normalize is not None:
            raise BadOption(f"{file} holds a decoupled network with its normalisation; leave --normalize out")
        return load_decoupled(file).to(place)
    return load_model(name, file, classes, normalize).to(place)


def is_named(name: str) -> bool:
    """Whether a network comes by name, with a free number of outputs, and not from the user's own function."""
    return ".py:" not in name


def load_images(
    data: str,
    split: str,
    model: nn.Module,
    name: str,
    size: int | None = None,
    channels: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Images:
    """The images of ``data``; those of a folder come in the network's own size unless told otherwise.

    The bundled digits come scaled, unless a network that does not say its size takes them only as they are.
    """
    if _is_folder(data):
        shape = input_shape(model, name)
        if shape is not None:
            channels, size = channels or shape[0], size or shape[1]
    images = load_data(data, split, size, limit, seed, channels=channels)
    if data == "digits" and size is None and input_shape(model, name) is None and not _takes(model, images):
        own = load_data(data, split, DIGIT_SIZE, limit, seed, channels=channels)
        return own if _takes(model, own) else images
    return images


DIGIT_SIZE = 8
"""Rows and columns of the bundled digits before they are scaled."""


def _takes(model: nn.Module, images: Images) -> bool:
    """Whether the network runs on images of this shape."""
    with torch.no_grad(), in_mode(model, training=False):
        try:
            forward(model, images[:1][0].to(device_of(model)))
        except BadInput:
            return False
    return True


def input_shape(model: nn.Module, name: str) -> tuple[int, int, int] | None:
    """The (channels, height, width) that a network is made for, None where it does not say."""
    if name in MODELS:
        return MODELS[name].shape
    if name.startswith("torchvision:"):
        return (3, 224, 224)
    config = getattr(getattr(model, "model", model), "pretrained_cfg", None) or {}
    shape = config.get("input_size") if isinstance(config, dict) else None
    return None if shape is None else (int(shape[0]), int(shape[1]), int(shape[2]))


def make_graph(model: nn.Module, name: str, shape: tuple[int, ...]) -> Graph:
    """The network traced for images of ``shape``; raises BadInput with the shape it is made for when they differ."""
    parameter = next(model.parameters(), torch.zeros(1))
    made_for = input_shape(model, name)
    refusal = f"images have shape {tuple(shape)}, {name} takes {made_for}"
    if made_for is not None:
        refusal += f"; convert them with --channels {made_for[0]} --size {made_for[1]}"
        if shape[0] != made_for[0]:
            raise BadInput(refusal)
    try:
        return Graph(model, torch.zeros(1, *shape, device=parameter.device))
    except BadInput as error:
        if made_for is None or made_for == tuple(shape):
            raise
        raise BadInput(refusal) from error


def batch_for(graph: Graph, batch_size: int | None) -> int:
    """The batch size that the user gave, or as many images as fit in memory."""
    return fitting_batch(graph) if batch_size is None else batch_size


def names(text: str | None) -> tuple[str, ...] | None:
    """The names in a text with commas, None for None."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def path_method(text: str, theta: float, last: int | None, kinds: str) -> PathMethod:
    """The method that the options ask for; raises BadOption for an unknown one, or a value out of range.

    text: a name, or ``NAME:OPTION=VALUE,…``. theta, last, kinds: of effective paths; others must leave them alone.
    """
    name, options = split_spelled("--method", text)
    given = {option: option_value(name, option, value) for option, value in options.items()}
    if name == "effective":
        made = effective_path(theta, last, kinds)
        own = {"theta": (theta, THETA), "last": (last, None), "kinds": (kinds, KINDS)}
        twice = [option for option, (value, default) in own.items() if option in given and value != default]
        if twice:
            raise BadOption(f"{twice[0]} is given by --method and by an option of its own; leave one of them out")
        return make_method(name, {"theta": theta, "last": last, "kinds": made.kinds, **given})
    if (theta, last, kinds) != (THETA, None, KINDS):
        raise BadOption(f"--theta, --last and --kind belong to effective paths; write --method {name}:OPTION=VALUE,…")
    return make_method(name, given)


def effective_path(theta: float, last: int | None, kinds: str) -> EffectivePath:
    """The effective path that the options ask for; raises BadOption for a value out of range."""
    chosen = names(kinds) or ()
    known = ("neuron", "synapse", "weight")
    wrong = [kind for kind in chosen if kind not in known]
    if wrong or not chosen:
        raise BadOption(f"--kind is {kinds!r}, expected some of {', '.join(known)}")
    if not 0 < theta <= 1:
        raise BadOption(f"--theta is {theta:g}, expected a share above 0 and at most 1")
    return EffectivePath(theta=theta, last=last, kinds=chosen)


def load_profile(place: Path, graph: Graph) -> tuple[Path, Profile, PathMethod]:
    """The profile's file, the profile, checked against the model, and the method it was made with."""
    file = file_of(place, PROFILE)
    profile = Profile.load(file, graph.fingerprint)
    try:
        return file, profile, method_of(profile.method)
    except BadOption as error:
        raise BadFile(f"{file} was made by a method that is unknown here: {error}") from error


def check_comparison(graph: Graph, profile: Profile, kind: str | None, layers: str | None) -> tuple[str, ...] | None:
    """The layers to compare; raises BadOption for a kind or layer that the paths lack, UnknownNode for no node."""
    check_kind(profile, kind)
    chosen, path = names(layers), _any_path(profile)
    for layer in chosen or ():
        if path is not None and graph.node(layer).name not in path.layers:
            raise BadOption(f"{layer} is no layer that the paths compare; these are {', '.join(path.layers)}")
    return chosen


def check_kind(profile: Profile, kind: str | None) -> None:
    """Raise BadOption for a kind of sites that the profile's paths lack."""
    path = _any_path(profile)
    if kind is not None and path is not None and kind not in path.kinds():
        raise BadOption(f"--kind is {kind!r}, the profile's paths have {', '.join(path.kinds())}")


def _any_path(profile: Profile) -> ClassPath | None:
    return next((profile[label] for label in profile), None)


def _is_folder(data: str) -> bool:
    return data.startswith("folder:") or Path(data.partition("?")[0]).is_dir()
