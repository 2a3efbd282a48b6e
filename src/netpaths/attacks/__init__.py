"""Adversarial attacks and controls: one registry, one call, one judgement by the plain model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from netpaths.attacks import adapter, controls
from netpaths.attacks.jsma import jsma
from netpaths.attacks.options import merged
from netpaths.attacks.result import Attack, AttackResult, Perturb, undisturbed
from netpaths.attacks.running import run
from netpaths.attacks.strengths import STRENGTHS, size_of
from netpaths.errors import BadOption
from netpaths.training import Progress

__all__ = ["ATTACKS", "Attack", "AttackResult", "attack", "default_options", "undisturbed"]


def _attack(name: str, perturb: Perturb, summary: str, targeted: bool = False) -> tuple[str, Attack]:
    return name, Attack(perturb, STRENGTHS[name], summary, targeted=targeted)


def _control(name: str, perturb: Perturb, summary: str) -> tuple[str, Attack]:
    return name, Attack(perturb, STRENGTHS[name], summary, control=True)


ATTACKS: Mapping[str, Attack] = dict(
    [
        _attack("fgsm", adapter.fgsm, "fast gradient sign, L∞"),
        _attack("bim", adapter.bim, "basic iterative method, L∞"),
        _attack("fgsm-minimal", adapter.minimal_fgsm, "FGSM of the smallest length that succeeds, L∞"),
        _attack("bim-minimal", adapter.minimal_bim, "BIM in the smallest ball that succeeds, L∞"),
        _attack("pgd", adapter.pgd, "projected gradient descent with restarts, L∞"),
        _attack("deepfool", adapter.deepfool, "DeepFool, L2"),
        _attack("cw", adapter.carlini_wagner, "Carlini and Wagner, L2"),
        _attack("jsma", jsma, "Jacobian saliency map, L0", targeted=True),
        _attack("targeted-fgsm", adapter.targeted_fgsm, "fast gradient sign towards a class, L∞", targeted=True),
        _attack("targeted-bim", adapter.targeted_bim, "basic iterative method to a class, L∞", targeted=True),
        _attack("targeted-cw", adapter.targeted_carlini_wagner, "Carlini and Wagner to a class, L2", targeted=True),
        _control("noise", controls.noise, "random noise of a given L∞ or L2 size"),
        _control("blur", controls.blur, "Gaussian blur"),
        _control("jpeg", controls.jpeg, "JPEG compression"),
        _control("contrast", controls.contrast, "lower contrast"),
    ]
)


def default_options(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The options of attack ``name`` for images of ``shape`` (channels, height, width) unless told otherwise.

    Raises BadOption for an unknown name.
    """
    return dict(_find(name).strengths[size_of(*shape)])


def attack(
    name: str,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int = 0,
    *,
    batch_size: int = 100,
    progress: Progress | None = None,
    **options: Any,
) -> AttackResult:
    """Change ``images`` (batch, channels, height, width) in [0, 1] by the attack or control ``name``.

    Attacks leave images that the model gets wrong as they are. ``options`` override `default_options`;
    ``progress(done, total, name)`` is called after every batch. The model is left as it was, also after an error.
    The result is on the CPU. Raises BadOption for unknown names and options, BadInput for images or labels of the
    wrong kind, MissingExtra without foolbox.
    """
    method = _find(name)
    chosen = merged(name, method.strengths, options, images)
    return run(name, method, model, images, labels, seed, chosen, batch_size, progress)


def _find(name: str) -> Attack:
    if name not in ATTACKS:
        raise BadOption(f"there is no attack {name!r}; known: {', '.join(ATTACKS)}")
    return ATTACKS[name]
