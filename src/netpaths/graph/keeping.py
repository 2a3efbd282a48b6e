"""Exported programs kept for models that are built alike, where a caller asks for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import fx, nn

from netpaths.errors import BadOption
from netpaths.graph.module import Canonical, hold

INTERNAL = frozenset(vars(nn.Module()))
"""What every module has; hooks are there, and the tensors and children that are looked at by name."""

HOOKS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict) and "hooks" in name)

PLAIN = (type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, BuiltinFunctionType)
"""Types of attributes that say by their value alone what they mean."""


@dataclass(frozen=True, eq=False)
class _Program:
    """What a model computed, without its tensors; constants are those that no tensor of the model went into."""

    graph: fx.Graph
    constants: Mapping[str, torch.Tensor]

    def of(self, model: nn.Module) -> Canonical:
        """The program with the tensors of ``model``."""
        root, copies = nn.Module(), dict[fx.Node, fx.Node]()
        graph = fx.Graph()
        graph.output(graph.graph_copy(self.graph, copies))
        for node in graph.nodes:
            if node.op == "get_attr":
                name = str(node.target)
                node.meta["val"] = self.constants[name] if name in self.constants else attrgetter(name)(model)
                hold(root, name, node.meta["val"])
        return Canonical(root.eval(), graph)


_kept: OrderedDict[Hashable, _Program] = OrderedDict()
_most = 0


def keep_exports(most: int) -> None:
    """Keep the last ``most`` exported programs, 0 for none as it is at first: what `Graph` spends most of its time on.

    A model of the same classes, with equal attributes and tensors of the same names and shapes, is then not exported
    again; its own weights count, and its logits are compared as ever. Models with hooks, with attributes that are more
    than numbers and texts, or with constants computed from weights are always exported. Raises BadOption below 0.
    """
    global _most
    if most < 0:
        raise BadOption(f"exports to keep are {most}, expected 0 or more")
    _most = most
    while len(_kept) > most:
        _kept.popitem(last=False)


def kept_export(model: nn.Module, example: torch.Tensor) -> tuple[Hashable | None, Canonical | None]:
    """What a model is kept under, None where it is not; and its program, None where there is none yet."""
    key = _key(model, example) if _most else None
    if key is None or key not in _kept:
        return key, None
    _kept.move_to_end(key)
    return key, _kept[key].of(model)


def keep(key: Hashable, module: Canonical, constants: Mapping[str, torch.Tensor]) -> None:
    """Keep a program that was just exported, and the ``constants`` that do not come from the model's tensors."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.nodes:
        if node.op == "get_attr":
            node.meta = {}
    _kept[key] = _Program(graph, dict(constants))
    keep_exports(_most)


def _key(model: nn.Module, example: torch.Tensor) -> Hashable | None:
    """Everything that a model is built of but the numbers in its tensors; None where that cannot be told."""
    first: dict[int, str] = {}
    parts: list[Hashable] = [(tuple(example.shape[1:]), example.dtype, example.device)]
    for name, module in model.named_modules(remove_duplicate=False):
        if any(getattr(module, hooks) for hooks in HOOKS):
            return None
        own = {key: value for key, value in vars(module).items() if key not in INTERNAL}
        tensors = [*module._parameters.items(), *module._buffers.items()]
        try:
            described = _plain(own)
        except TypeError:
            return None
        shapes = tuple(
            (key, first.setdefault(id(value), f"{name}.{key}"), type(value), tuple(value.shape), value.dtype)
            for key, value in tensors
            if value is not None
        )
        parts.append((name, type(module), type(module).forward, described, shapes))
    return tuple(parts)


def _plain(value: Any) -> Hashable:
    """An attribute as something to compare; raises TypeError for what could change unseen."""
    if isinstance(value, dict):
        return ("dict", *((_plain(key), _plain(part)) for key, part in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value), *(_plain(part) for part in value))
    if isinstance(value, PLAIN) or (isinstance(value, FunctionType) and value.__closure__ is None):
        return (type(value), value)
    raise TypeError(type(value).__name__)
