"""Importing torchvision and timm, also where torchvision's compiled operators do not match torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from netpaths.errors import MissingExtra

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a schema lives as long as its library object


def import_torchvision() -> ModuleType:
    """The torchvision module; raises MissingExtra when it is not installed.

    A torchvision built for another accelerator than torch fails because its operators are missing. Model
    definitions do not need them, so their schemas are then declared and the import is repeated.
    """
    try:
        return _import("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    _drop("torchvision")
    _declare_operators()
    return _import("torchvision")


def import_timm() -> ModuleType:
    """The timm module; raises MissingExtra when it or torchvision is not installed."""
    import_torchvision()
    return _import("timm")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtra(name, "vision") from error


def _drop(name: str) -> None:
    for module in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[module]


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _libraries.append(library)
