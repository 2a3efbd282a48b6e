"""The report on decoupled networks: findings as one page with figures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from netpaths.report.decoupling_drawings import (
    accuracy_drawing,
    alike_drawings,
    distinct_illustration,
    drawings,
    firing_drawing,
    latency_drawings,
    loss_epochs,
    losses_illustration,
    matrix_drawings,
    static_illustration,
    training_illustration,
)
from netpaths.report.decoupling_findings import DecouplingFindings, Rows
from netpaths.report.drawings import ablation_drawing, chance_neighbours, layer_drawings, stages_table
from netpaths.report.parts import KeyFigure
from netpaths.report.rivals_page import detection_sections
from netpaths.report.routing_findings import WHOLE
from netpaths.report.study_page import Section, rows_table, write_study_report
from netpaths.report.tables import count, number, percent

CODES = "codes"
"""What rows of separation call their values."""


def write_decoupling_report(findings: DecouplingFindings, folder: Path) -> Path:
    """Write ``folder/report.html`` with figures and tables; returns the page. Raises StorageFull."""
    sections = [
        _speed(findings),
        _training(findings),
        *([_losses(findings)] if findings.losses else []),
        _firing(findings),
        _alike(findings),
        _class_paths(findings),
        _distinct(findings),
        _layers(findings),
        _ablation(findings),
        _static(findings),
        *(detection_sections(findings.rivals) if findings.rivals else []),
        _cost(findings),
    ]
    return write_study_report(
        folder,
        f"Decoupled networks: {findings.title}",
        "Controllers that switch filters on or off for every image alone (Li et al., ECCV 2020): what it saves, and "
        "what the filters that are on tell",
        answer(findings),
        key_figures(findings),
        sections,
        findings.command,
        {"model": findings.model, "data": findings.data, "target": findings.main, **findings.settings},
        limits(findings),
    )


def answer(findings: DecouplingFindings) -> str:
    """What was saved, at what loss, in operations and in time."""
    own, dense, timed = findings.of(findings.main), findings.dense, _single(findings)
    text = (
        f"Trained for a target of {percent(findings.main, 0)}, the network keeps {percent(own.get('filters on'))} of "
        f"its filters on for an image, on average, and computes {percent(own.get('MACs'))} of the dense network’s "
        f"multiply–accumulates, with an accuracy of {percent(own.get('accuracy'))} against "
        f"{percent(dense['accuracy'])}."
    )
    if timed:
        text += (
            f" {_batch_words(timed)} the runtime takes {percent(timed['over dense'])} of the dense network’s time "
            f"({percent(timed['all on ms'] / timed['dense ms'])} with every filter on), where operations alone would "
            f"say {percent(timed['MACs'])}."
        )
    return text


def _single(findings: DecouplingFindings) -> Mapping[str, Any]:
    """The timing of the main target at the smallest batch on the fewest threads; empty where there is none."""
    rows = [row for row in findings.latency if row["target"] == findings.main]
    return min(rows, key=lambda row: (row["batch"], row["threads"]), default={})


def _batch_words(timed: Mapping[str, Any]) -> str:
    return "One image at a time" if timed["batch"] == 1 else f"With {count(timed['batch'])} images at once"


def _whole(rows: Rows) -> Mapping[str, Any]:
    """The row of all layers together; empty where it is missing."""
    return next((row for row in rows if row["layer"] == WHOLE and row.get("values", CODES) == CODES), {})


def key_figures(findings: DecouplingFindings) -> list[KeyFigure]:
    """The headline numbers."""
    own, timed = findings.of(findings.main), _single(findings)
    paths, separation = _whole(findings.distinct), _whole(findings.layers)
    target = f"mean over images; target {percent(findings.main, 0)}"
    return [
        KeyFigure("Filters on", percent(own.get("filters on")), target),
        KeyFigure(
            "Multiply–accumulates",
            percent(own.get("MACs")),
            "of the dense network’s, controllers included",
        ),
        KeyFigure("Accuracy", percent(own.get("accuracy")), f"dense network: {percent(findings.dense['accuracy'])}"),
        KeyFigure(
            f"Time, {_batch_words(timed).lower()}" if timed else "Time",
            percent(timed.get("over dense")),
            f"of the dense network’s; torch with masks: {percent(timed.get('masked over dense'))}",
        ),
        KeyFigure(
            "Different paths",
            percent(paths.get("share")),
            f"of {count(paths.get('images', np.nan))} images; 100% is a path of its own for each",
        ),
        KeyFigure(
            "Nearest path of the same class",
            percent(separation.get("neighbours")),
            f"of the images; by chance {percent(chance_neighbours(findings.labels))}",
        ),
    ]


def _speed(findings: DecouplingFindings) -> Section:
    return Section(
        "speed",
        "Accuracy, operations and time",
        [
            "In front of every convolution but the first a controller looks at the layer’s input and switches each "
            "filter on or off for this image. Training asks that a share τ of them is on. A convolution then costs its "
            "input channels that are on times its filters that are on; multiply–accumulates (MACs) count that, the "
            "layers without a controller, and the controllers themselves.",
            "Operations are not time. A network that multiplies the outputs of its filters by a code of zeros and ones "
            "has computed all of them by then: a masked multiply saves nothing, and the controllers come on top. The "
            "runtime asks the controller first, computes the filters that are on and no others, and reads only the "
            "input channels that are on. Both are timed on this machine, taking turns with the dense network (torch, "
            "batch norm folded into the weights).",
            "The runtime with every filter on shows what switching off is worth: what lies between it and the dense "
            "network is due to how the runtime computes, not to what it leaves out. Where the runtime’s line lies "
            "above the diagonal, it does not get all that operations promise. In a batch every image has filters of "
            "its own, while the dense network shares its weights between them.",
        ],
        [
            rows_table(
                "Accuracy and operations; the dense network first",
                _named_targets(findings.curve),
                strong=_of_main(findings.curve, findings.main),
            ),
            rows_table(
                "Measured time; low and high are quartiles of over dense",
                findings.latency,
                strong=_of_main(findings.latency, findings.main),
            ),
        ],
        [accuracy_drawing(findings), *latency_drawings(findings.latency)],
        {"curve": findings.curve, "latency": findings.latency},
    )


def _named_targets(rows: Rows) -> Rows:
    """The rows with "dense" where there is no target."""
    return [{**row, "target": "dense" if np.isnan(row["target"]) else row["target"]} for row in rows]


def _of_main(rows: Rows, main: float) -> list[int]:
    """Which rows are about the main target."""
    return [place for place, row in enumerate(rows) if row["target"] == main]


def _training(findings: DecouplingFindings) -> Section:
    rows, measured = loss_epochs(findings.history), ("accuracy", "kept", "macs", "seconds")
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in measured]
    return Section(
        "training",
        "Training",
        [
            "Training starts from the dense network’s weights and moves them together with the controllers. Codes are "
            "noisy while controllers learn, so that the step between on and off can be learned through; in the last "
            "epochs, where the settings say so (settle), controllers rest and the other weights learn to do with them. "
            "The curves are measured after every epoch, with codes as they are in use.",
            "The loss is the cross entropy of the answers and, over all layers, three parts: information (how well a "
            "linear classifier reads the class from the code), alignment (the code resembles the pooled outputs of its "
            "filters) and sparsity (how far the filters on are from the target). Distillation and hints, where they "
            "are used, are the distance from the dense network’s answers and from what its layers read; they are ours "
            "and not the paper’s. The table has each part as it entered the loss, weight included, in the last epoch "
            "in which controllers learn and in the last of all; parts that only controllers feel do not count while "
            "they rest.",
        ],
        [rows_table("Loss and its parts, means over the training images", rows, columns)],
        drawings(training_illustration, findings.history),
        {"history": findings.history},
    )


def _losses(findings: DecouplingFindings) -> Section:
    most = number(float(np.log(len(findings.classes))), 2)
    return Section(
        "losses",
        "What the parts of the loss do",
        [
            "The same training with parts of the loss left out, all for as many epochs as the settings give the loss "
            "ablation. Besides accuracy and operations the figure has two "
            "measures of what codes tell: the share of images whose nearest other path belongs to their class, and how "
            "much the codes say about the class, in nats, as a mean over layers. The latter is a lower bound, taken "
            f"from a classifier; of {len(findings.classes)} equally frequent classes a code can say {most} nats at "
            "most.",
        ],
        [rows_table("Variants of the loss", findings.losses)],
        drawings(losses_illustration, findings.losses),
        {"losses": findings.losses},
    )


def _firing(findings: DecouplingFindings) -> Section:
    return Section(
        "firing",
        "What filters are on for",
        [
            "A filter that is on for every image is a filter of an ordinary network, and one that is never on could be "
            "removed. Only those that vary can tell something. A column that is dark in one row and pale in the others "
            "is a filter for one class; equal shades in all rows mean that a filter reacts to something that all "
            "classes share.",
            "In the table, class range is the largest share of a class’s images for which a filter is on minus the "
            "smallest, as a mean over the filters that vary; nats bound from below what the whole code of the layer "
            "says about the class.",
        ],
        [rows_table("Filters per layer", findings.filters)],
        [firing_drawing(findings.firing, findings.classes)] if findings.firing else [],
        {"filters": findings.filters},
    )


def _alike(findings: DecouplingFindings) -> Section:
    return Section(
        "alike",
        "Filters that do the same",
        [
            "Two filters that are always on together play the same part, whatever they compute; two that are never on "
            "together replace each other. Filters are ordered by hierarchical clustering, so that groups become "
            "squares along the diagonal.",
            "The table counts pairs with a correlation above 0.9 (near copies) and below −0.9 (opposites).",
        ],
        [rows_table("Pairs of filters per layer", findings.pairs)],
        alike_drawings(findings.alike),
        {"pairs": findings.pairs},
    )


def _class_paths(findings: DecouplingFindings) -> Section:
    return Section(
        "class-paths",
        "Class paths",
        [
            "The path of an image is the codes of all its layers; the path of a class unites those of its training "
            "images that the network gets right. Where such unions hardly differ, most of what is on is on for "
            "everything, or many images have made the union large; so there is a second form, of the filters that are "
            "on for at least half of the images (ours).",
            "In the table, own is the share of a test image’s path that lies inside its class path, nearest other the "
            "largest share inside another class path, as means over the images that the network gets right. Only the "
            "distance between the two says something about the class. Resembles is the share of images whose path is "
            "more similar (Jaccard) to their class path than to any other; equal ones count in parts, and by chance "
            f"it is {percent(1 / len(findings.classes))}.",
        ],
        [rows_table("Images and class paths", findings.within)],
        matrix_drawings(findings.matrices, findings.classes),
        {"within": findings.within},
    )


def _distinct(findings: DecouplingFindings) -> Section:
    return Section(
        "distinct",
        "How many paths there are",
        [
            "Images with the same code are computed by the same filters of a layer. A single code for all images is "
            "pruning, whatever the controller looks at; as many codes as images may be no more than noise in filters "
            "that are nearly undecided. Most common is how often the most frequent code comes.",
        ],
        [rows_table("Different codes", findings.distinct)],
        drawings(distinct_illustration, findings.distinct),
        {"distinct": findings.distinct},
    )


def _layers(findings: DecouplingFindings) -> Section:
    return Section(
        "layers",
        "Classes, layer by layer",
        [
            "Each dot is a test image, placed by its code in one layer with t-SNE; colours are classes. Pictures of "
            "t-SNE can deceive, so every layer has figures taken in the space of the codes themselves: the mean "
            "silhouette, and the share of images whose nearest neighbour has the same class. Of images with the same "
            "code none is nearer than the others: where codes are few, read the silhouette.",
        ],
        [rows_table("Separation of the classes per layer", findings.layers)],
        layer_drawings(findings.layers, findings.points, findings.labels, findings.classes, CODES),
        {"separation": findings.layers},
    )


def _ablation(findings: DecouplingFindings) -> Section:
    caption = "Accuracy against the share of each image’s filters that is switched off, or that alone stays on."
    found = ablation_drawing(findings.ablation, findings.labels, caption) if findings.ablation else None
    return Section(
        "ablation",
        "Ablation",
        [
            "What is not on an image’s path contributes nothing to its answer; that holds by construction and needs no "
            "experiment. Whether all that is on is needed is another matter: a growing share of each image’s path is "
            "switched off, or is all that stays on. The control draws as many filters from all of them, and so also "
            "hits some that are off anyway.",
        ],
        [],
        [found] if found else [],
        {"ablation": found.rows} if found else {},
    )


def _static(findings: DecouplingFindings) -> Section:
    return Section(
        "static",
        "Filters that some classes never need",
        [
            "Where only a few classes will ever be shown, filters that none of their training images switches on can "
            "be taken out for good. The answer to an image changes only where it would have switched one of them on. "
            "The MACs here are those with every remaining filter on: what controllers save comes on top.",
        ],
        [rows_table("Filters taken out for good", findings.static)],
        drawings(static_illustration, findings.static),
        {"static": findings.static},
    )


def _cost(findings: DecouplingFindings) -> Section:
    return Section(
        "stages",
        "Cost of the study",
        ["Wall clock of every stage on this machine."],
        [stages_table(findings.seconds, "Stages of the study")],
    )


def limits(findings: DecouplingFindings) -> list[str]:
    """What the numbers do not say."""
    found = [
        "The paper’s body was not at hand. Controllers and loss follow the code released with it; distillation, hints "
        "and the settings pace, hold, ramp, settle and level are ours, and so is what is measured here, and how. There "
        "are no figures of the paper to compare with.",
        "Every setting was trained once, with one seed. Small differences between targets or between variants of the "
        "loss may be no larger than what another seed changes.",
        "Times are those of one machine and one size of image. Two programs are compared, not one network in two "
        "sizes: part of the difference between runtime and torch is due to how they were written.",
        "MACs count convolutions, linear layers and controllers, not the movement of data, which takes time as well.",
        "That a filter is on for a class says when it computes, not what it looks for. A filter that is on for all "
        "images may still answer to one class alone.",
        "Nats are lower bounds: a better classifier may read more from a code.",
    ]
    if findings.rivals:
        found += [
            "No attack knew of the controllers or that it was being watched. Codes are steps, and no gradient flows "
            "through them: the attacks follow the gradient of the filters that are on, and one that smooths the codes "
            "or aims at them may do better.",
            "All notions of path read the decoupled network; on the dense one the others may detect more or less.",
        ]
    return found
