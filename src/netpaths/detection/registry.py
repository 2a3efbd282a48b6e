"""The detectors by the names that the command line and saved files use."""

from __future__ import annotations

from netpaths.detection.base import Detector
from netpaths.detection.ensembles import AdaBoost, GradientBoosting, RandomForest
from netpaths.detection.joint import JointSimilarity

DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector for detector in (JointSimilarity, RandomForest, GradientBoosting, AdaBoost)
}
