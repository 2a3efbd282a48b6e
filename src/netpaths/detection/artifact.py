"""A fitted detector as one file that says what it was made for, and refuses anything else."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from netpaths.detection.base import Detector
from netpaths.detection.features import Floats, Names
from netpaths.detection.reasons import CleanReference
from netpaths.detection.registry import DETECTORS
from netpaths.errors import BadFile, BadOption, ModelMismatch
from netpaths.files import Count, load_tensors, save_tensors

KIND, SCHEMA = "detector", 2
PACKAGES = ("netpaths", "torch", "numpy", "scikit-learn")


class DetectorHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a detector's file says beside its numbers."""

    detector: str
    params: dict[str, Any]
    names: tuple[tuple[str, Count], ...]
    layers: list[str]
    threshold: float | None
    fpr: float | None
    clean_mean: list[float | None]
    clean_sd: list[float | None]
    model_fingerprint: str
    method: dict[str, Any]
    profile_checksum: str
    versions: dict[str, str]
    extra: dict[str, Any]


def save_detector(
    path: Path | str,
    detector: Detector,
    model_fingerprint: str,
    layers: Sequence[str],
    method: Mapping[str, Any],
    profile_checksum: str,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fitted ``detector`` with everything its user must match, atomically; returns ``path``.

    ``model_fingerprint`` the hex digest of the model it was made for, ``layers`` the graph's layers it reads,
    ``method`` the path method's name and options, ``profile_checksum`` that of the class paths, ``extra``
    anything else in JSON's types. Raises BadOption for a detector that is not fitted or not registered in
    `DETECTORS`, and StorageFull.
    """
    if DETECTORS.get(detector.name) is not type(detector):
        raise BadOption(
            f"{type(detector).__name__} is not in DETECTORS under {detector.name!r}; register it to save it"
        )
    arrays = detector.arrays()
    header = {
        "detector": detector.name,
        "params": detector.params(),
        "names": detector.names_,
        "layers": list(layers),
        "threshold": detector.threshold_,
        "fpr": detector.fpr_,
        "clean_mean": detector.reference_.mean,
        "clean_sd": detector.reference_.sd,
        "model_fingerprint": model_fingerprint,
        "method": dict(method),
        "profile_checksum": profile_checksum,
        "versions": library_versions(),
        "extra": dict(extra or {}),
    }
    return save_tensors(path, KIND, SCHEMA, arrays, header)


def load_detector(path: Path | str, model_fingerprint: str | None = None) -> tuple[Detector, dict[str, Any]]:
    """The detector in ``path``, scoring exactly as when saved, and the file's header.

    Raises ModelMismatch when ``model_fingerprint`` is given and the file was made for another model, and
    BadFile when the file is missing, corrupt, of another kind or holds an unknown detector.
    """
    arrays, found = load_tensors(path, KIND, SCHEMA, DetectorHeader)
    header, made_for = msgspec.structs.asdict(found), found.model_fingerprint
    if model_fingerprint is not None and made_for != model_fingerprint:
        raise ModelMismatch(
            f"{path} was made for model {made_for[:12]}, this model is {model_fingerprint[:12]}; "
            "use that model, or fit and calibrate a detector for this one"
        )
    if found.detector not in DETECTORS:
        known = ", ".join(sorted(DETECTORS))
        raise BadFile(f"{path} holds an unknown detector {found.detector!r}; known: {known}")
    if not len(found.names) == len(found.clean_mean) == len(found.clean_sd):
        raise BadFile(f"{path} is not a complete detector file: its features and their means differ in number")
    try:
        detector = DETECTORS[found.detector](**found.params)
        reference = _reference(found.names, found.clean_mean, found.clean_sd)
        return detector.restore(arrays, reference, found.threshold, found.fpr), header
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path} is not a complete detector file: {type(error).__name__} {error}") from error


def library_versions() -> dict[str, str]:
    """The versions of netpaths, torch, numpy, scikit-learn and Python.

    "missing" for a package that is not installed.
    """
    return {**{package: _version(package) for package in PACKAGES}, "python": platform.python_version()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _reference(names: Names, mean: Sequence[float | None], sd: Sequence[float | None]) -> CleanReference:
    return CleanReference(names, _with_nan(mean), _with_nan(sd))


def _with_nan(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
