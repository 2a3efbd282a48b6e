"""Find the paths a prediction takes through a neural network, and put them to use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from netpaths import rules as _rules  # noqa: F401  registers every layer family before a model is traced
from netpaths.errors import NetpathsError
from netpaths.graph import Graph, PathMethod, Trace, align
from netpaths.methods import CalculationPath, DistillationGuidedRouting, EffectivePath
from netpaths.path import Path, Site, load_path, save_path
from netpaths.profile import Profile
from netpaths.similarity import (
    class_matrix,
    image_class_similarity,
    jaccard,
    layer_jaccard,
    total_similarity,
)

if TYPE_CHECKING:
    from netpaths.attacks import attack
    from netpaths.data import load_data
    from netpaths.decoupling.files import load_decoupled, save_decoupled
    from netpaths.decoupling.insertion import decouple
    from netpaths.decoupling.removal import remove_unused
    from netpaths.decoupling.training import train_decoupled
    from netpaths.detection import AdaBoost, Features, GradientBoosting, JointSimilarity, RandomForest
    from netpaths.detection.extraction import extract_features
    from netpaths.runtime import accelerate
    from netpaths.zoo import load_model

__version__ = "0.1.0"

_LATER = {
    "AdaBoost": "netpaths.detection",
    "accelerate": "netpaths.runtime",
    "Features": "netpaths.detection",
    "GradientBoosting": "netpaths.detection",
    "JointSimilarity": "netpaths.detection",
    "RandomForest": "netpaths.detection",
    "attack": "netpaths.attacks",
    "decouple": "netpaths.decoupling.insertion",
    "extract_features": "netpaths.detection.extraction",
    "load_data": "netpaths.data",
    "load_decoupled": "netpaths.decoupling.files",
    "load_model": "netpaths.zoo",
    "remove_unused": "netpaths.decoupling.removal",
    "save_decoupled": "netpaths.decoupling.files",
    "train_decoupled": "netpaths.decoupling.training",
}
"""Names imported on first use, so that ``import netpaths`` stays quick."""

__all__ = [
    "AdaBoost",
    "CalculationPath",
    "DistillationGuidedRouting",
    "EffectivePath",
    "Features",
    "GradientBoosting",
    "Graph",
    "JointSimilarity",
    "NetpathsError",
    "Path",
    "PathMethod",
    "Profile",
    "RandomForest",
    "Site",
    "Trace",
    "accelerate",
    "align",
    "attack",
    "class_matrix",
    "decouple",
    "extract_features",
    "image_class_similarity",
    "jaccard",
    "layer_jaccard",
    "load_data",
    "load_decoupled",
    "load_model",
    "load_path",
    "remove_unused",
    "save_decoupled",
    "save_path",
    "total_similarity",
    "train_decoupled",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'netpaths' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
