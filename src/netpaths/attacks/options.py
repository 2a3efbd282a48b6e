"""Options of an attack: defaults, the user's own values, and their check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from netpaths.attacks.strengths import PER_IMAGE, RANGES, Table, size_of
from netpaths.errors import BadInput, BadOption

TARGETS = ("runner-up", "random", "permuted")


def merged(name: str, strengths: Table, options: Mapping[str, Any], images: Tensor) -> dict[str, Any]:
    """The defaults for images of this size with ``options`` in their place; raises BadOption when one is wrong."""
    if images.ndim != 4:
        raise BadInput(f"images have shape {tuple(images.shape)}, expected (batch, channels, height, width)")
    defaults = strengths[size_of(*images.shape[1:])]
    unknown = [option for option in options if option not in defaults]
    if unknown:
        raise BadOption(f"{name} has no option {unknown[0]!r}; it has {', '.join(defaults)}")
    for option, value in options.items():
        _check(name, option, value, len(images))
    return {**defaults, **options}


def for_images(options: Mapping[str, Any], part: Tensor) -> dict[str, Any]:
    """The options for the images ``part`` (indices) of a batch, without the choice of target."""
    rest = {name: value for name, value in options.items() if name != "target"}
    return {name: torch.as_tensor(value)[part] if _is_list(value) else value for name, value in rest.items()}


def choose_targets(choice: Any, logits: Tensor, labels: Tensor, seed: int) -> Tensor:
    """A label to aim at for each image, (batch,), never its true one.

    ``choice`` is "runner-up" (the likeliest wrong class), "random", "permuted" (one target for all images of a class,
    another for every class), or one label per image. Raises BadOption.
    """
    classes = logits.shape[1]
    if classes < 2:
        raise BadOption("a targeted attack needs a model of at least two classes")
    generator = torch.Generator().manual_seed(seed)
    if isinstance(choice, str) and choice == "runner-up":
        return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    if isinstance(choice, str) and choice == "permuted":
        return _cycle(classes, generator)[labels]
    if isinstance(choice, str):
        return (labels + torch.randint(1, classes, labels.shape, generator=generator)) % classes
    targets = torch.as_tensor(choice).long().cpu()
    if bool((targets == labels).any()) or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise BadOption(f"target holds an image's own label or one outside 0 to {classes - 1}")
    return targets


def _cycle(classes: int, generator: torch.Generator) -> Tensor:
    """The next class of every class in a random cyclic order: (classes,)."""
    order = torch.randperm(classes, generator=generator)
    following = torch.empty_like(order)
    following[order] = order.roll(-1)
    return following


def _check(name: str, option: str, value: Any, images: int) -> None:
    if option == "target":
        _check_target(name, value, images)
    elif _is_list(value):
        _check_list(name, option, value, images)
    elif not (value is None and option in PER_IMAGE):
        _check_number(name, option, value)


def _check_target(name: str, value: Any, images: int) -> None:
    if _is_list(value) and len(value) == images:
        return
    if not (isinstance(value, str) and value in TARGETS):
        known = ", ".join(repr(choice) for choice in TARGETS)
        raise BadOption(f"target of {name} is {value!r}, expected {known} or one label per image")


def _check_list(name: str, option: str, value: Any, images: int) -> None:
    if option not in PER_IMAGE:
        raise BadOption(f"{option} of {name} is one number, not one per image")
    if len(value) != images:
        raise BadOption(f"{option} of {name} has {len(value)} values for {images} images")
    for item in torch.as_tensor(value).tolist():
        _check_number(name, option, item)


def _check_number(name: str, option: str, value: Any) -> None:
    low, high = RANGES[option]
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise BadOption(f"{option} of {name} is {value!r}, expected {kind} from {low} to {high}")


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)
