"""Attacked images as files: one per attack, and the clean images beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.attacks import ATTACKS, AttackResult
from netpaths.cli.spelled import split_spelled
from netpaths.errors import BadFile, BadOption, ModelMismatch
from netpaths.files import check_tensors, load_tensors, save_tensors

KIND, SCHEMA = "adversarial", 1
CLEAN = "clean"
CLEAN_FILE = "clean.safetensors"


class AttackedHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of attacked images says beside them."""

    name: str
    control: bool
    sources: tuple[str, ...]
    row: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Attacked:
    """The images of one attack that count, or the clean images.

    name: the attack as the user spelled it, "clean" for none. images (n, channels, height, width) in [0, 1];
    sources: n identifiers of the originals; labels, predicted: (n,). success: (n,) originally correct and now
    misclassified. row: what the attack's table says. control: whether it is no attack at all. fingerprint: the
    attacked model's.
    """

    name: str
    control: bool
    images: torch.Tensor
    sources: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    success: NDArray[np.bool_]
    row: Mapping[str, Any]
    fingerprint: str

    def counted(self) -> Attacked:
        """Only successful attacks; clean images and controls are all kept."""
        keep = np.ones(len(self.labels), np.bool_) if self.control or self.name == CLEAN else self.success
        index = np.flatnonzero(keep)
        return replace(
            self,
            images=self.images[torch.from_numpy(index)],
            sources=tuple(self.sources[i] for i in index),
            labels=self.labels[index],
            predicted=self.predicted[index],
            success=self.success[index],
        )

    def check_model(self, fingerprint: str) -> None:
        """Raise ModelMismatch unless they were made against this model."""
        if self.fingerprint != fingerprint:
            raise ModelMismatch(
                f"the {self.name} images were made against model {self.fingerprint[:12]}, "
                f"this is model {fingerprint[:12]}; attack this model"
            )


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """The name and options of an attack spelled ``NAME`` or ``NAME:OPTION=VALUE,…``; raises BadOption."""
    name, options = split_spelled("--attack", text)
    if name not in ATTACKS:
        from difflib import get_close_matches

        near = get_close_matches(name, list(ATTACKS), n=3, cutoff=0.4)
        raise BadOption(
            f"there is no attack {name!r}; nearest: {', '.join(near) or 'none'}; known: {', '.join(ATTACKS)}"
        )
    return name, {option: _value(value) for option, value in options.items()}


def file_name(text: str) -> str:
    """The file of an attack: adversarial-cw.safetensors, adversarial-cw-steps=20.safetensors."""
    return f"adversarial-{re.sub(r'[^A-Za-z0-9.=-]+', '-', text)}.safetensors"


def of_result(text: str, result: AttackResult, identifiers: Sequence[str], fingerprint: str) -> Attacked:
    """What is kept of an attack's result: the images it was tried on, and its row in the table."""
    tried = np.ones(len(result), np.bool_) if result.control else result.clean_label == result.label
    kept = result.take(np.flatnonzero(tried))
    return Attacked(
        text,
        result.control,
        kept.images,
        tuple(identifiers[i] for i in kept.source),
        kept.label,
        kept.adversarial_label,
        kept.success,
        _row(text, result, kept),
        fingerprint,
    )


def save(path: Path, attacked: Attacked) -> Path:
    """Write attacked images, atomically; raises StorageFull."""
    tensors = {
        "images": attacked.images.numpy(),
        "labels": attacked.labels,
        "predicted": attacked.predicted,
        "success": attacked.success,
    }
    header = {
        "name": attacked.name,
        "control": attacked.control,
        "sources": attacked.sources,
        "row": attacked.row,
        "fingerprint": attacked.fingerprint,
    }
    return save_tensors(path, KIND, SCHEMA, tensors, header)


def load(path: Path) -> Attacked:
    """The attacked images in ``path``; raises BadFile when it is missing, damaged or foreign."""
    tensors, header = load_tensors(path, KIND, SCHEMA, AttackedHeader)
    wanted = {"images": ("f4", 4), "labels": ("i8", 1), "predicted": ("i8", 1), "success": ("b1", 1)}
    check_tensors(path, tensors, wanted)
    counts = {len(header.sources), *(len(tensor) for tensor in tensors.values())}
    if len(counts) > 1:
        raise BadFile(f"{path} is not whole: it has {' or '.join(map(str, sorted(counts)))} images")
    images = tensors["images"]
    if images.size and not 0 <= images.min() <= images.max() <= 1:
        raise BadFile(f"{path} holds pixels from {images.min()} to {images.max()}, expected 0 to 1")
    return Attacked(
        header.name,
        header.control,
        torch.from_numpy(images),
        header.sources,
        tensors["labels"],
        tensors["predicted"],
        tensors["success"],
        header.row,
        header.fingerprint,
    )


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _row(text: str, result: AttackResult, tried: AttackResult) -> dict[str, Any]:
    """Distances are means over the successes, or over every image of a control."""
    counted = tried if result.control else tried.successful()
    means = {
        name: float(np.mean(getattr(counted, name))) if len(counted) else float("nan") for name in ("l2", "linf", "l0")
    }
    return {
        "attack": text,
        "images": len(result),
        "tried": len(tried),
        "successful": int(result.success.sum()),
        "success rate": float("nan") if result.control else result.success_rate,
        **means,
        "seconds": round(result.seconds, 2),
    }
