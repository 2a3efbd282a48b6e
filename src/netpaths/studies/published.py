"""Figures of the papers, typed from them: what the studies put beside their own. Nothing here was measured by us."""

from __future__ import annotations

from typing import Any

SPARSITY: tuple[dict[str, Any], ...] = (
    {"model": "AlexNet", "method": "full", "top-1": 0.5581, "top-5": 0.7865, "sparsity": 1.0, "sd": 0.0},
    {"model": "AlexNet", "method": "AWR", "top-1": 0.5581, "top-5": 0.7368, "sparsity": 0.9320, "sd": 0.0031},
    {"model": "AlexNet", "method": "AAR", "top-1": 0.5581, "top-5": 0.7171, "sparsity": 0.8813, "sd": 0.0103},
    {"model": "AlexNet", "method": "DGR", "top-1": 0.5581, "top-5": 0.7721, "sparsity": 0.2243, "sd": 0.0467},
    {"model": "ResNet-50", "method": "full", "top-1": 0.7542, "top-5": 0.9258, "sparsity": 1.0, "sd": 0.0},
    {"model": "ResNet-50", "method": "AAR", "top-1": 0.7542, "top-5": 0.8732, "sparsity": 0.7232, "sd": 0.0134},
    {"model": "ResNet-50", "method": "DGR", "top-1": 0.7542, "top-5": 0.8914, "sparsity": 0.1202, "sd": 0.0450},
)
"""Wang et al., CVPR 2018, supplement: ImageNet validation images; sparsity is the share of channels with λ > 0."""

_AUC: dict[str, dict[str, tuple[float, ...]]] = {
    "AlexNet": {
        "forest": (0.722, 0.733, 0.777),
        "adaboost": (0.742, 0.751, 0.763),
        "boosting": (0.753, 0.759, 0.785),
    },
    "VGG-16": {
        "forest": (0.879, 0.894, 0.904, 0.929),
        "adaboost": (0.888, 0.906, 0.910, 0.908),
        "boosting": (0.905, 0.919, 0.915, 0.922),
    },
    "ResNet-50": {
        "forest": (0.912, 0.919, 0.921),
        "adaboost": (0.915, 0.920, 0.920),
        "boosting": (0.926, 0.932, 0.935),
    },
}
PER_CLASS = (1, 5, 10, 50)

DETECTION: tuple[dict[str, Any], ...] = tuple(
    {"model": model, "classifier": classifier, "images per class": number, "auroc": area}
    for model, classifiers in _AUC.items()
    for classifier, areas in classifiers.items()
    for number, area in zip(PER_CLASS, areas)
)
"""The same: AUC of adversarial images by classifiers on gates, per number of training images a class, on ImageNet."""

KHAKZAR = {"share": 0.1, "jaccard": 0.024, "chance": 0.053}
"""Khakzar et al., CVPR 2021: overlap of gates found from ones and from random starts at 90% sparsity."""
