"""How attacks, detectors and kinds of element are spelled for people."""

from __future__ import annotations

from collections.abc import Sequence

ATTACKS = {
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "deepfool": "DeepFool",
    "cw": "C&W",
    "jsma": "JSMA",
    "targeted-fgsm": "targeted FGSM",
    "targeted-bim": "targeted BIM",
    "targeted-cw": "targeted C&W",
    "jpeg": "JPEG compression",
    "noise": "random noise",
    "blur": "Gaussian blur",
    "contrast": "lower contrast",
    "worst of all attacks": "worst case",
}
DETECTORS = {
    "joint": "joint similarity",
    "forest": "random forest",
    "boosting": "gradient boosting",
    "adaboost": "AdaBoost",
}


def attack_name(name: str) -> str:
    """The usual spelling of an attack or control; an unknown name as it is."""
    return ATTACKS.get(name, name)


def detector_name(name: str) -> str:
    """The usual spelling of a detector, "joint (weights)" included; an unknown name without dashes and underscores."""
    base, _, variant = name.partition(" ")
    if base in DETECTORS:
        return f"{DETECTORS[base]} {variant}".strip()
    return name.replace("_", " ").replace("-", " ")


def capitalised(text: str) -> str:
    """``text`` with a capital first letter and everything else as it is."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])
