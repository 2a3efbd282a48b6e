"""The figures of the report page, each with its caption and its description."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from netpaths.report.density_figures import ablation_figure, density_figure, growth_figure
from netpaths.report.detection_figures import auroc_figure, flagged_figure, roc_figure, score_figure
from netpaths.report.findings import Example, Findings
from netpaths.report.names import detector_name
from netpaths.report.parts import Illustration
from netpaths.report.path_picture import class_name, path_figure
from netpaths.report.sentences import ablation_sentence, main_rows, reason_sentence, spread
from netpaths.report.similarity_figures import class_matrix_figure, layer_similarity_figure
from netpaths.report.sweep_figures import sweep_figure
from netpaths.report.tables import number, percent

NEURONS = (
    "Orange: the pixels on the path. Blue on the pale image: at each place of a convolution, how many of its channels "
    "are on the path; the darker, the more. Blue cells: the units of a linear layer that are on the path; grey ones "
    "are not."
)
CHANNELS = "Blue cells: the channels on the path; where channels have values, the darker the larger. Grey ones are not."
"""What the colours of the path picture mean, for paths of neurons and for those of channels."""


def path_illustration(example: Example, class_names: Sequence[str]) -> Illustration:
    """The path picture."""
    predicted = class_name(class_names, example.path.predicted)
    layers = ", ".join(example.path.layers[:12]) + ("…" if len(example.path.layers) > 12 else "")
    return Illustration(
        "path",
        path_figure(example, class_names),
        f"The path of one image, predicted as {predicted}, from its pixels (left) to its output (right). "
        f"{NEURONS if 'neuron' in example.path.kinds() else CHANNELS}",
        f"The image and, for the layers {layers}, which parts are on the path of class {predicted}.",
        wide=True,
    )


def sweep_illustration(findings: Findings) -> Illustration:
    """AUROC against the number of layers compared and of images fitted on."""
    best = [row for row in findings.sweeps if row["sweep"] == "layers" and row["detector"] == findings.main_detector]
    told = "; ".join(f"{row['value']} layers: {number(row['auroc'], 2)}" for row in best)
    return Illustration(
        "sweeps",
        sweep_figure(findings.sweeps),
        "AUROC over all attacks when only the last layers are compared, when the detector learns from fewer source "
        "images with their attacked versions, and, where measured, when class paths unite fewer training images. Mean "
        "and standard deviation over splits.",
        f"Two line charts of AUROC. Last layers, {detector_name(findings.main_detector)}: {told}.",
        wide=True,
    )


def similarity_illustrations(findings: Findings) -> list[Illustration]:
    """Class–class similarity, and similarity per layer of clean and attacked images."""
    return [
        matrix_illustration(np.asarray(findings.class_matrix, dtype=np.float64), findings.class_names),
        Illustration(
            "layer-similarity",
            layer_similarity_figure(findings.features),
            "How much of an image’s path lies inside a class path, layer by layer: mean and one standard deviation "
            "over the test images. Left: the path of the predicted class against that class. Right: the path of the "
            "runner-up against the runner-up’s class. Where the two bands part, the layer tells attacked from clean.",
            "Two line charts of similarity per layer, clean images against attacked ones.",
            wide=True,
        ),
    ]


def matrix_illustration(matrix: NDArray[np.float64], class_names: Sequence[str]) -> Illustration:
    """Similarity of every pair of class paths (classes, classes)."""
    others = matrix[~np.eye(len(matrix), dtype=bool)]
    known = others[~np.isnan(others)]
    told = (
        f"from {number(known.min(), 2)} to {number(known.max(), 2)}, mean {number(known.mean(), 2)}"
        if known.size
        else "unknown"
    )
    return Illustration(
        "class-similarity",
        class_matrix_figure(matrix, class_names),
        f"How alike the class paths are: shared elements over all elements of two classes (Jaccard), {told}. "
        "Classes whose paths overlap much are computed in much the same way.",
        f"Heat map of the Jaccard similarity of {len(matrix)} class paths, {told}.",
    )


def density_illustrations(findings: Findings) -> list[Illustration]:
    """Density per layer and its growth over classes."""
    overall = ", ".join(f"{kind}s {percent(share)}" for kind, share in findings.density.items())
    return [
        Illustration(
            "density",
            density_figure(findings.densities, findings.density, findings.example.path.layers),
            "How much of each layer is on the path of at least one class. Every panel has its own scale.",
            f"Bar charts of the share of each layer on any class path. Overall: {overall}.",
            wide=True,
        ),
        Illustration(
            "growth",
            growth_figure(findings.growth),
            "How the share grows as class after class is merged. A curve that flattens says that classes share paths.",
            f"Line chart of density against merged classes. With all classes: {overall}.",
        ),
    ]


def detection_illustrations(findings: Findings) -> list[Illustration]:
    """AUROC of all detectors, and ROC and scores of the main one."""
    main = findings.main_detector
    scores, name = findings.scores[main], detector_name(main)
    threshold = findings.thresholds.get(main, float("nan"))
    reached = spread(main_rows(findings, "attack"))
    return [
        Illustration(
            "auroc",
            auroc_figure(findings.evaluation, main),
            "AUROC of every detector on every attack, with 95% intervals.",
            f"Dot plot of AUROC by attack and detector; {name}: {reached}.",
            wide=True,
        ),
        Illustration(
            "roc",
            roc_figure(findings.features, scores, findings.alpha),
            f"ROC of {name}: the share of attacked images caught against the share of clean images flagged, for every "
            "possible threshold. Dashed: the agreed false-alarm rate; in use, the shaded part on the right counts.",
            f"ROC curves of {name} per attack; AUROC {reached}.",
            wide=True,
        ),
        Illustration(
            "scores",
            score_figure(findings.features, scores, threshold),
            f"Scores of {name} on clean and on attacked test images. Larger is more suspicious; everything right of "
            f"the dashed threshold ({number(threshold)}) is flagged. The outermost bars hold what lies beyond.",
            f"Histograms of the score of clean and attacked images with the threshold {number(threshold)}.",
        ),
    ]


def ablation_illustration(findings: Findings) -> Illustration:
    """Accuracy against the share of the path switched off, or kept."""
    return Illustration(
        "ablation",
        ablation_figure(findings.ablation, len(findings.class_names)),
        "Accuracy when a growing share of each image’s path is switched off, and when that share is all that stays on. "
        "The control takes as many elements anywhere in the network. Dotted: guessing.",
        ablation_sentence(findings.ablation),
        wide=len({(curve.mode, curve.kind) for curve in findings.ablation}) > 1,
    )


def flagged_illustrations(findings: Findings) -> list[Illustration]:
    """One figure per flagged image."""
    return [
        Illustration(
            f"flagged-{place}",
            flagged_figure(flagged, findings.class_names),
            "Right: the share of this image’s path inside the class path, in the layers that depart by a standard "
            "deviation or more from clean images (dots).",
            f"Original, attacked image and difference. {reason_sentence(flagged, findings.class_names)}",
            wide=True,
        )
        for place, flagged in enumerate(findings.flagged, 1)
    ]
