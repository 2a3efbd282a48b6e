"""The module that a graph runs: functional operations on tensors under the model's own names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from netpaths.errors import BadInput
from netpaths.graph.copying import evaluation_copy
from netpaths.graph.naming import operation_of

MODES: Mapping[str, int] = {
    "batch_norm": 5,
    "dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
    "feature_alpha_dropout": 2,
}
"""Operations that do something else in training, and which of their arguments says so."""

MODE = "training"
"""The attribute of a module that says which mode it is in."""

IMAGES = 31
"""The batch that shapes are found with: a number that no layer is as wide as, which would seem to be the batch."""

DROPOUTS = tuple(name for name in MODES if name.endswith("dropout"))


class Canonical(fx.GraphModule):
    """What a model computes, written in ATen operations; their tensors are attributes under the model's names."""

    def hold(self, name: str, value: torch.Tensor) -> fx.Node:
        """Keep a tensor under a dotted name; the operation that reads it, where the graph inserts now."""
        hold(self, name, value)
        node = self.graph.get_attr(name)
        node.meta["val"] = value
        return node


def hold(root: nn.Module, name: str, value: torch.Tensor) -> None:
    """Make ``value`` an attribute of ``root`` under a dotted name, a parameter or a buffer; what was there goes."""
    *owners, last = name.split(".")
    for owner in owners:
        if owner not in root._modules:
            root._modules[owner] = nn.Module()
        root = root._modules[owner]  # type: ignore[assignment]
    if isinstance(value, nn.Parameter):
        root._parameters[last] = value
    else:
        root._buffers[last] = copy.copy(value) if value.requires_grad else value


def follow_mode(module: Canonical) -> None:
    """Let batch norms and dropout do as the module's own mode says, which `reread` takes back."""
    first = next(node for node in module.graph.nodes if node.op != "placeholder")
    with module.graph.inserting_before(first):
        mode = module.graph.create_node("get_attr", MODE)
    _set_modes(module, mode)


def _set_modes(module: Canonical, mode: fx.Node | bool) -> None:
    for node in module.graph.nodes:
        place = MODES.get(operation_of(node))
        if place is not None:
            node.args = (*node.args[:place], mode, *node.args[place + 1 :])
    module.graph.eliminate_dead_code()
    module.recompile()


def sleeps(node: fx.Node) -> bool:
    """Whether an operation is a dropout that is switched off."""
    return operation_of(node) in DROPOUTS and node.args[2] is False


def awake(node: fx.Node) -> fx.Node:
    """The operation whose value ``node`` has: itself, or what a dropout that is switched off reads."""
    while sleeps(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def reread(module: Canonical, example: torch.Tensor) -> Canonical:
    """A copy of ``module`` in evaluation mode with its own tensors and the shapes that they give now.

    example: (batch, *input shape), of the type that the module takes. Raises BadInput for images of another shape.
    """
    copied = evaluation_copy(module)
    assert isinstance(copied, Canonical)
    _set_modes(copied, False)
    first = next(node for node in copied.graph.nodes if node.op == "placeholder")
    known = first.meta["val"]
    if tuple(known.shape[1:]) != tuple(example.shape[1:]):
        wanted = ("batch", *known.shape[1:])
        raise BadInput(f"the example has shape {tuple(example.shape)}, this network takes {wanted}")
    value = _without_numbers(example)
    _Shapes(copied, value).run(value)
    return copied


def _without_numbers(example: torch.Tensor) -> Any:
    """A tensor like ``example`` (batch, *input shape) that has a symbol for the size of the batch, and no values."""
    mode = FakeTensorMode(shape_env=ShapeEnv())
    sizes = [DimDynamic.DYNAMIC, *(DimDynamic.STATIC for _ in example.shape[1:])]
    images = example.new_empty(IMAGES, *example.shape[1:])
    return mode.from_tensor(images, symbolic_context=StatelessSymbolicContext(sizes))


class _Shapes(fx.Interpreter):
    """Runs a module on a tensor without numbers, and notes what every operation returns."""

    def __init__(self, module: fx.GraphModule, value: Any) -> None:
        super().__init__(module)
        self._mode = value.fake_mode

    def run_node(self, n: fx.Node) -> Any:
        with self._mode, enable_python_dispatcher(), torch.no_grad():
            n.meta["val"] = value = super().run_node(n)
        if n.op == "get_attr":
            n.meta["val"] = super().fetch_attr(str(n.target))
        return value

    def fetch_attr(self, target: str) -> Any:
        return self._mode.from_tensor(super().fetch_attr(target), static_shapes=True)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        owner = self.module.get_submodule(str(target))
        tensors = {**dict(owner.named_parameters()), **dict(owner.named_buffers())}
        faked = {name: self._mode.from_tensor(tensor, static_shapes=True) for name, tensor in tensors.items()}
        return torch.func.functional_call(owner, faked, args, kwargs)
