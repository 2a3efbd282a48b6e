"""The report on critical data routing paths: findings as one page with figures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netpaths.report.drawings import ablation_drawing, layer_drawings, stages_table
from netpaths.report.names import attack_name, detector_name
from netpaths.report.parts import Illustration, KeyFigure
from netpaths.report.routing_figures import (
    agreement_figure,
    curves_figure,
    montage_figure,
    per_class_figure,
    sparsity_figure,
)
from netpaths.report.routing_findings import ACTIVATIONS, GATES, WHOLE, RoutingFindings
from netpaths.report.study_page import Drawing, Section, rows_table, write_study_report
from netpaths.report.tables import number, percent


def write_routing_report(findings: RoutingFindings, folder: Path) -> Path:
    """Write ``folder/report.html`` with figures and tables; returns the page. Raises StorageFull."""
    sections = [
        _sparsity(findings),
        _worth(findings),
        _ablation(findings),
        _layers(findings),
        _clusters(findings),
        _detection(findings),
        _cost(findings),
    ]
    return write_study_report(
        folder,
        f"Critical data routing paths: {findings.title}",
        "Gates on channels, learned for every image alone (Wang et al., CVPR 2018), and the baselines that put them to "
        "the test",
        answer(findings),
        key_figures(findings),
        sections,
        findings.command,
        {"model": findings.model, "data": findings.data, **findings.settings},
        limits(findings),
    )


def answer(findings: RoutingFindings) -> str:
    """What was found, in a few sentences."""
    gates, full = findings.of("DGR"), findings.of("full network")
    best, rival = _best(findings, GATES), _best(findings, ACTIVATIONS)
    start = _agreement(findings, "start: random", "strongest tenth")
    text = (
        f"Gates learned for each of {findings.data.get('evaluated')} test images keep {percent(gates.get('sparsity'))} "
        f"of the channels. Multiplied by its gates the network is right on {percent(gates.get('gated top-1'))} of "
        f"them, with the selected channels as they are on {percent(gates.get('top-1'))}, without gates on "
        f"{percent(full.get('top-1'))}. As features of attacked images gates reach an AUROC of at most {number(best)}; "
        f"mean activations of the same channels, which cost one forward pass, {number(rival)}."
    )
    if start:
        text += (
            f" The tenth of the channels with the largest gates, found again from a random start, has a Jaccard "
            f"similarity of {number(start['jaccard'])} with the first; chance is {number(start['chance'])}."
        )
    return text


def _best(findings: RoutingFindings, values: str) -> float:
    found = [row["auroc"] for row in findings.detection if row["values"] == values and not np.isnan(row["auroc"])]
    return max(found, default=float("nan"))


def _agreement(findings: RoutingFindings, setting: str, selected: str) -> Mapping[str, Any]:
    rows = [row for row in findings.agreement if (row["setting"], row["selected"]) == (setting, selected)]
    return rows[0] if rows else {}


def key_figures(findings: RoutingFindings) -> list[KeyFigure]:
    """The headline numbers."""
    gates, everything = findings.of("DGR"), [row for row in findings.dead if row["layer"] == WHOLE]
    dead = everything[0] if everything else {}
    return [
        KeyFigure("Channels kept", percent(gates.get("sparsity")), f"± {percent(gates.get('sd'))} over images"),
        KeyFigure("Accuracy under gates", percent(gates.get("gated top-1")), "top-1; gates may exceed 1"),
        KeyFigure("Accuracy of hard masks", percent(gates.get("top-1")), "top-1; selected channels as they are"),
        KeyFigure(
            "Dead among the selected",
            percent(dead.get("dead of selected")),
            f"never positive on the image; of all channels {percent(dead.get('dead of all'))}",
        ),
    ]


def _sparsity(findings: RoutingFindings) -> Section:
    names = ("method", "top-1", "top-5", "gated top-1", "gated top-5", "prediction kept", "sparsity", "sd", "left out")
    shown = [name for name in names if any(name in row for row in findings.sparsity)]
    return Section(
        "sparsity",
        "Sparsity and accuracy",
        [
            "Top-1 and top-5 with nothing but the selected channels switched on, unchanged; “gated” multiplies them "
            "by their gates instead, as they were learned. Sparsity is the share of channels kept, as in the paper: "
            "1 is the full network. AWR and AAR remove channels, smallest norm first, while the prediction stays; "
            "their norm and step are our reconstruction. The rows below them keep as many channels as the gates do "
            "on average.",
            "A gate that the loss ignores reaches 0 only after 29 steps of the paper’s descent. Sparsity is "
            "therefore a matter of the steps and of γ, not a property of the network: the figure shows how much.",
        ],
        [
            rows_table("Accuracy and share of channels kept", findings.sparsity, shown, {1}),
            rows_table("The paper’s figures (Wang et al. 2018, supplement, ImageNet)", findings.published["sparsity"]),
        ],
        [
            Drawing(
                Illustration(
                    "sweep",
                    sparsity_figure(findings.sweep),
                    "Share of channels kept against the number of steps for several penalties γ, and how often the "
                    "network with the selected channels alone keeps the prediction.",
                    f"Two line charts over steps. {_sweep_words(findings)}",
                    wide=True,
                ),
                findings.sweep,
            )
        ],
        {"sparsity": findings.sparsity, "published_sparsity": findings.published["sparsity"]},
    )


def _sweep_words(findings: RoutingFindings) -> str:
    values = [row["sparsity"] for row in findings.sweep]
    return f"Kept shares run from {percent(min(values))} to {percent(max(values))}." if values else "No data."


def _worth(findings: RoutingFindings) -> Section:
    tables = [
        rows_table("Jaccard similarity of paths of the same images under other settings", findings.agreement),
        rows_table("Khakzar et al. (CVPR 2021), from their paper", findings.published["agreement"]),
        rows_table("Channels that were dead before", findings.dead),
    ]
    return Section(
        "worth",
        "Can the paths be believed?",
        [
            "Whatever matters to a prediction should be found again from another start, by another seed and with a "
            "slightly different penalty, and the network should fail without it. The curves keep, or remove, the "
            "strongest channels of every notion of path at equal sizes; a good path stands high on the left and low "
            "on the right.",
            "Chance is the Jaccard similarity of two random choices of as many channels in every layer. A dead "
            "channel was never positive on the image: a ReLU passes nothing of it on, and to select it means nothing.",
        ],
        tables,
        [
            Drawing(
                Illustration(
                    "curves",
                    curves_figure(findings.curves, len(set(findings.labels.tolist()))),
                    "Accuracy with nothing but the strongest channels of each notion of path (left), and without "
                    "them (right), against the share of all channels. A notion that selects fewer channels than a "
                    "share asks for gives all it has.",
                    "Two line charts, a line per notion of path.",
                    wide=True,
                ),
                findings.curves,
            ),
            Drawing(_agreement_illustration(findings.agreement), findings.agreement),
        ],
        {
            "agreement": findings.agreement,
            "published_agreement": findings.published["agreement"],
            "dead": findings.dead,
            "rival_curves": findings.curves,
        },
    )


def _agreement_illustration(rows: Sequence[Mapping[str, Any]]) -> Illustration:
    told = "; ".join(
        f"{row['setting']}, {row['selected']}: {number(row['jaccard'], 2)}, chance {number(row['chance'], 2)}"
        for row in rows
    )
    return Illustration(
        "agreement",
        agreement_figure(rows),
        "Jaccard similarity with the path under the settings asked for: of all channels with a gate above 0, and of "
        "the tenth of the channels with the largest gates. The ticks are chance.",
        f"Bar chart. {told}.",
    )


def _ablation(findings: RoutingFindings) -> Section:
    caption = "Accuracy against the share of each image’s critical channels that is switched off."
    drawing = ablation_drawing(findings.ablation, findings.labels, caption)
    return Section(
        "ablation",
        "Ablation in the full network",
        [
            "A growing share of each image’s critical channels is switched off in the full network: largest gates "
            "first (the paper’s Top mode), smallest first (Bottom mode), or at random. The control switches off as "
            "many channels drawn from the whole network.",
        ],
        [],
        [drawing],
        {"ablation": drawing.rows},
    )


def _layers(findings: RoutingFindings) -> Section:
    return Section(
        "layers",
        "Classes, layer by layer",
        [
            "Each dot is a test image, placed by its gates in one layer with t-SNE; colours are classes. The paper "
            "sees classes separate more with depth. Pictures of t-SNE can deceive, so every layer has two figures "
            "taken in the space of the gates themselves: the mean silhouette, and the share of images whose nearest "
            "neighbour has the same class. The table has the same for mean activations, which need no gates.",
        ],
        [rows_table("Separation of the classes per layer", findings.layers)],
        layer_drawings(findings.layers, findings.points, findings.labels, findings.class_names, GATES),
        {"separation": findings.layers},
    )


def _clusters(findings: RoutingFindings) -> Section:
    rows = [
        {"cluster": cluster.title, "image": place + 1, "hard": bool(hard)}
        for cluster in findings.montage
        for place, hard in enumerate(np.asarray(cluster.hard).tolist())
    ]
    return Section(
        "clusters",
        "Inside a class",
        [
            "Agglomerative clustering (Ward) of whole paths inside one class. Framed images are hard: predicted "
            "wrongly, or among the tenth of the class with the smallest probability of it. Where clusters mean "
            "something, hard images gather: compare the share of hard images in a cluster with that of its class.",
            f"Shown is {findings.shown}, the class whose clusters differ most in their share of hard images: a picked "
            "example, not a typical one. The table has every class.",
        ],
        [rows_table("Clusters of every class", findings.clusters)],
        [
            Drawing(
                Illustration(
                    "montage",
                    montage_figure(findings.montage),
                    f"Images of class {findings.shown} by cluster of their gates; hard examples are framed.",
                    f"A row of images per cluster: {', '.join(cluster.title for cluster in findings.montage)}.",
                    wide=True,
                ),
                rows,
            )
        ],
        {"clusters": findings.clusters},
    )


def _detection(findings: RoutingFindings) -> Section:
    attack = attack_name(str(findings.settings.get("attack")))
    return Section(
        "detection",
        "Detection of attacked images",
        [
            "Three classifiers learn from the gates of a few clean training images a class and of their attacked "
            f"versions ({attack}), and are tested on other images. Only images that the network gets right, and "
            "attacks that succeed, are counted. Every image was given gates of its own from the same start and with "
            "momentum of its own: carried over from a clean image to its attacked twin, momentum alone tells them "
            "apart.",
            "“noise” is the AUROC of noise as large as the attack against clean images: a detector of attacks should "
            "not react to it. “attack against noise” asks the detector to tell the two apart. “null” tells clean "
            "images from clean images and must be near 0.5. The softmax and the mean activations of the same "
            "channels need no gates.",
        ],
        [
            rows_table("AUROC per classifier and training images a class", findings.detection),
            rows_table("Attacks and controls", findings.attacks),
            rows_table("The paper’s figures (Wang et al. 2018, supplement, ImageNet)", findings.published["detection"]),
        ],
        [
            Drawing(
                Illustration(
                    "per-class",
                    per_class_figure(findings.detection),
                    "AUROC of the three classifiers on gates and on mean activations, with 95% intervals over source "
                    "images; dotted: the softmax, which learns from no image.",
                    f"Line charts of AUROC against training images a class. {_per_class_words(findings.detection)}",
                    wide=True,
                ),
                findings.detection,
            )
        ],
        {
            "detection": findings.detection,
            "published_detection": findings.published["detection"],
            "attacks": findings.attacks,
        },
    )


def _per_class_words(rows: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{detector_name(str(row['classifier']))}, {row['images per class']} a class: {number(row['auroc'], 2)}"
        for row in rows
    )


def _cost(findings: RoutingFindings) -> Section:
    return Section("cost", "Cost", ["Wall clock of every stage on this machine."], [stages_table(findings.seconds)])


def limits(findings: RoutingFindings) -> list[str]:
    """What the numbers do not say."""
    return [
        "The paper’s body was not at hand: the solver’s constants come from its supplement and from later "
        "descriptions, the largest gate is disputed, and AWR and AAR are reconstructed.",
        f"One attack, {attack_name(str(findings.settings.get('attack')))}, was used; it did not know that it was "
        "watched.",
        "The paper’s networks and images are not these. Its figures stand beside ours for orientation, not as a test "
        "passed or failed.",
        "Everything is from one network trained once, one choice of images and one seed.",
        "Ablation and the curves switch channels off by setting them to 0, which moves the network away from the "
        "values it was trained on; a fall in accuracy measures that as well.",
    ]
