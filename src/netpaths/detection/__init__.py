"""Detection of inputs whose path is unlike their class's: features, detectors, calibration and the evaluation
protocol.

A larger score is more suspicious, everywhere.
"""

from netpaths.detection.artifact import library_versions, load_detector, save_detector
from netpaths.detection.base import Detector
from netpaths.detection.baselines import (
    LocalIntrinsicDimensionality,
    Mahalanobis,
    NearestNeighbours,
    energy,
    feature_squeezing,
    maximum_softmax,
)
from netpaths.detection.calibration import Rate, conformal_threshold, images_needed, realised
from netpaths.detection.ensembles import AdaBoost, GradientBoosting, RandomForest
from netpaths.detection.evaluation import Evaluation, Row, evaluate, evaluate_scores, leave_one_attack_out
from netpaths.detection.features import CLEAN, Features
from netpaths.detection.joint import JointSimilarity
from netpaths.detection.metrics import METRICS, Interval, all_metrics, aupr, auroc, fpr_at_tpr, tpr_at_fpr
from netpaths.detection.reasons import CleanReference, Departure, departures
from netpaths.detection.registry import DETECTORS
from netpaths.detection.split import SHARES, split_by_source, split_rows

__all__ = [
    "CLEAN",
    "DETECTORS",
    "METRICS",
    "SHARES",
    "AdaBoost",
    "CleanReference",
    "Departure",
    "Detector",
    "Evaluation",
    "Features",
    "GradientBoosting",
    "Interval",
    "JointSimilarity",
    "LocalIntrinsicDimensionality",
    "Mahalanobis",
    "NearestNeighbours",
    "RandomForest",
    "Rate",
    "Row",
    "all_metrics",
    "aupr",
    "auroc",
    "conformal_threshold",
    "departures",
    "energy",
    "evaluate",
    "evaluate_scores",
    "feature_squeezing",
    "fpr_at_tpr",
    "images_needed",
    "leave_one_attack_out",
    "library_versions",
    "load_detector",
    "maximum_softmax",
    "realised",
    "save_detector",
    "split_by_source",
    "split_rows",
    "tpr_at_fpr",
]
