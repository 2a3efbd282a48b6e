"""Attacks that foolbox (Rauber et al., 2017) supplies, behind this package's contract; bounds are (0, 1)."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from netpaths.attacks.result import Options
from netpaths.errors import MissingExtra


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """One signed gradient step of length epsilon (Goodfellow et al., ICLR 2015)."""
    method = _attacks().LinfFastGradientAttack()
    return _run(method, model, images, _away_from(labels), options["epsilon"])


def bim(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """Repeated small signed gradient steps in the L∞ ball (Kurakin et al., 2017)."""
    method = _attacks().LinfBasicIterativeAttack(rel_stepsize=options["stepsize"], steps=options["steps"])
    return _run(method, model, images, _away_from(labels), options["epsilon"])


def minimal_fgsm(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """FGSM of the smallest length that succeeds, of ``levels`` up to epsilon (as in foolbox 1)."""
    return _smallest(_attacks().LinfFastGradientAttack(), model, images, labels, options)


def minimal_bim(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """BIM in the smallest ball that succeeds, of ``levels`` up to epsilon (as in foolbox 1)."""
    method = _attacks().LinfBasicIterativeAttack(rel_stepsize=options["stepsize"], steps=options["steps"])
    return _smallest(method, model, images, labels, options)


def pgd(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """BIM from random starts, the first success of several restarts (Madry et al., ICLR 2018)."""
    attacks = _attacks()
    method = attacks.LinfProjectedGradientDescentAttack(rel_stepsize=options["stepsize"], steps=options["steps"])
    repeated = method.repeat(options["restarts"]) if options["restarts"] > 1 else method
    return _run(repeated, model, images, _away_from(labels), options["epsilon"])


def deepfool(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """Steps to the nearest boundary of the linearised model in L2 (Moosavi-Dezfooli et al., CVPR 2016)."""
    method = _attacks().L2DeepFoolAttack(**options)
    return _run(method, model, images, _away_from(labels), None)


def carlini_wagner(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """The smallest L2 change that crosses the boundary, by penalty and binary search (Carlini & Wagner, 2017)."""
    method = _attacks().L2CarliniWagnerAttack(**options)
    return _run(method, model, images, _away_from(labels), None)


def targeted_fgsm(model: nn.Module, images: Tensor, targets: Tensor, options: Options) -> Tensor:
    """One signed gradient step of length epsilon towards the target class."""
    method = _attacks().LinfBasicIterativeAttack(rel_stepsize=1.0, steps=1)
    return _run(method, model, images, _towards(targets), options["epsilon"])


def targeted_bim(model: nn.Module, images: Tensor, targets: Tensor, options: Options) -> Tensor:
    """Repeated small signed gradient steps towards the target class in the L∞ ball (Kurakin et al., 2017)."""
    method = _attacks().LinfBasicIterativeAttack(rel_stepsize=options["stepsize"], steps=options["steps"])
    return _run(method, model, images, _towards(targets), options["epsilon"])


def targeted_carlini_wagner(model: nn.Module, images: Tensor, targets: Tensor, options: Options) -> Tensor:
    """The smallest L2 change that makes the target class win (Carlini & Wagner, 2017)."""
    method = _attacks().L2CarliniWagnerAttack(**options)
    return _run(method, model, images, _towards(targets), None)


def _run(method: Any, model: nn.Module, images: Tensor, criterion: Any, epsilon: float | None) -> Tensor:
    wrapped = _foolbox().PyTorchModel(model, bounds=(0, 1), device=images.device)
    _, changed, _ = method(wrapped, images, criterion, epsilons=epsilon)
    result: Tensor = changed
    return result.detach()


def _smallest(method: Any, model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """Each image at the smallest level that succeeds; the largest where none does."""
    wrapped = _foolbox().PyTorchModel(model, bounds=(0, 1), device=images.device)
    levels = int(options["levels"])
    radii = [options["epsilon"] * (level + 1) / levels for level in range(levels)]
    _, changed, success = method(wrapped, images, _away_from(labels), epsilons=radii)
    first = success.int().argmax(0)
    first = first.masked_fill(~success.any(0), levels - 1)
    stacked: Tensor = torch.stack(list(changed))
    return stacked[first, torch.arange(len(images), device=images.device)].detach()


def _away_from(labels: Tensor) -> Any:
    return _foolbox().criteria.Misclassification(labels)


def _towards(targets: Tensor) -> Any:
    return _foolbox().criteria.TargetedMisclassification(targets)


def _attacks() -> Any:
    return _foolbox().attacks


def _foolbox() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # foolbox and eagerpy import deprecated interfaces of theirs
            return importlib.import_module("foolbox")
    except ModuleNotFoundError as error:
        if error.name != "foolbox":
            raise
        raise MissingExtra("foolbox", "attacks") from error
