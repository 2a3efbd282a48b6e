"""A copy of a user's model to run and export: the model itself is only read."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from netpaths.errors import BadInput


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel or a compiled wrapper; raises BadInput for TorchScript."""
    if isinstance(model, torch.jit.ScriptModule):
        raise BadInput("a TorchScript module has no Python to follow: pass the inner model, before torch.jit")
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def evaluation_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with all hooks, whose parameters and buffers are the model's own tensors.

    What cannot be copied — locks, open files, activations kept by the last run — is shared where it is an attribute of
    a module, and lists and dicts are the copy's own, so that a run of the copy leaves nothing in the model.
    """
    try:
        twin = copy.deepcopy(model, shared_tensors(model))
    except Exception:
        twin = _cloned(model, {})
    return twin.eval()


def shared_tensors(model: nn.Module) -> dict[int, Any]:
    """A memo with which ``copy.deepcopy`` keeps every tensor, also plain attributes as pruning makes them."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers, vars(module)):
            memo.update({id(value): value for value in store.values() if isinstance(value, torch.Tensor)})
    return memo


def _cloned(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    twin = module.__class__.__new__(module.__class__)
    made[id(module)] = twin
    twin.__dict__ = {
        name: copy.copy(value) if isinstance(value, (dict, list, set)) else value
        for name, value in vars(module).items()
    }
    twin.__dict__["_modules"] = {
        name: None if child is None else _cloned(child, made) for name, child in module._modules.items()
    }
    return twin
