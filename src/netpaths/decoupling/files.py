"""Decoupled networks on disk: a state dict, and in its header how to build the network that it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import nn

from netpaths.decoupling.insertion import Decoupled, decouple
from netpaths.decoupling.removal import keep_filters, kept_filters
from netpaths.errors import BadOption, BadWeights
from netpaths.files import Count
from netpaths.runs import file_of
from netpaths.zoo import Restricted, load_model, load_weights, read_header, save_weights

SCHEMA = 2
"""How the header describes a network; tensors and layers have the names of graphs."""

MOST_VALUES = 1 << 26
"""Numbers of an image that a file may ask for."""

WEIGHTS = "model.safetensors"
"""What a run folder calls the network's file."""


def save_decoupled(
    network: Decoupled,
    path: Path | str,
    model: str,
    shape: tuple[int, ...],
    classes: int,
    normalize: Any = None,
    restricted: Sequence[int] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``network`` as safetensors, atomically; returns the path.

    model, classes, normalize: how `netpaths.load_model` makes the plain network. shape: of an image. restricted: the
    classes that it was then narrowed to (`netpaths.zoo.Restricted`), None for all. more: whatever else the header
    should hold, such as the recipe. The header also says which filters are left of a layer that lost some. Raises
    BadWeights for another file ending, and StorageFull.
    """
    decoupled: dict[str, Any] = {"schema": SCHEMA, "layers": list(network.layers), "shape": list(shape)}
    decoupled["normalize"] = normalize
    decoupled |= {} if restricted is None else {"restricted": list(restricted)}
    kept = kept_filters(network)
    decoupled |= {"kept": kept} if kept else {}
    return save_weights(network, path, {**(more or {}), "model": model, "classes": classes, "decoupled": decoupled})


def load_decoupled(place: Path | str, model: nn.Module | None = None) -> Decoupled:
    """The decoupled network in a file, or in the run folder of ``netpaths decouple``, in evaluation mode.

    model: the plain network, with any weights; None makes it as the file says. The pixel normalisation in front of it
    is that of the file: the network was trained behind it. Raises BadFile for no such file, BadOption for the weights
    of a plain network, and BadWeights for weights that do not fit.
    """
    file = file_of(place, WEIGHTS)
    header = read_header(file)
    if "decoupled" not in header:
        raise BadOption(f"{file} holds no decoupled network; make one with netpaths decouple")
    described = _described(header, file)
    found = described.decoupled
    plain = _plain(described) if model is None else model
    network = decouple(plain, _example(plain, found.shape), found.layers)
    if found.kept is not None:
        network = _reduced(network, found.kept, file)
    load_weights(network, file)
    return network


class Inserted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a header says of the controllers."""

    schema: int
    layers: list[str]
    shape: Annotated[list[Count], msgspec.Meta(min_length=1, max_length=4)]
    normalize: Any
    restricted: list[Count] | None = None
    kept: dict[str, list[Count]] | None = None


class Described(msgspec.Struct, frozen=True):
    """What a header says of the network; it may say more."""

    model: str
    classes: Count
    decoupled: Inserted


def _described(header: Mapping[str, Any], file: Path) -> Described:
    """The header checked; raises BadWeights."""
    decoupled = header["decoupled"]
    if isinstance(decoupled, dict) and decoupled.get("schema") != SCHEMA:
        raise BadWeights(f"{file} holds a decoupled network of another version of netpaths; make it again")
    try:
        found = msgspec.convert(header, Described)
    except msgspec.MsgspecError as error:
        raise BadWeights(f"{file} does not say what network it holds: {error}") from error
    if prod(found.decoupled.shape) > MOST_VALUES:
        raise BadWeights(f"{file} is for images of shape {tuple(found.decoupled.shape)}, which is too large")
    return found


def _plain(header: Described) -> nn.Module:
    """The network that controllers were put into, with random weights."""
    found = header.decoupled
    plain = load_model(header.model, None, _classes(header), found.normalize)
    return plain if found.restricted is None else Restricted(plain, found.restricted)


def _reduced(network: Decoupled, kept: Mapping[str, list[int]], file: Path) -> Decoupled:
    """The network with the filters that ``file`` says were kept; raises BadWeights where it never had them."""
    try:
        return keep_filters(network, kept)
    except BadOption as error:
        raise BadWeights(f"{file} does not fit the model; {error}") from error


def _classes(header: Described) -> int | None:
    """The number of outputs, which only a network by name can be made with."""
    return None if ".py:" in header.model else header.classes


def _example(model: nn.Module, shape: list[int]) -> torch.Tensor:
    parameter = next(model.parameters(), torch.zeros(()))
    return torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype)
