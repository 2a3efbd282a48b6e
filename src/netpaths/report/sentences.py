"""What the numbers say, in sentences: the answer, what a path is, the reasons, the ablation, the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netpaths.ablation import Curve
from netpaths.detection.evaluation import Row
from netpaths.path import Budget, Path
from netpaths.report.detection_figures import clean_deviation
from netpaths.report.findings import Findings, Flagged
from netpaths.report.names import attack_name, detector_name
from netpaths.report.parts import KeyFigure
from netpaths.report.path_picture import class_name
from netpaths.report.tables import count, number, percent, rate

KINDS = {
    "neuron": "neurons",
    "synapse": "synapses (one weight at work in one place)",
    "weight": "weights",
    "channel": "channels",
    "routing": "routing edges (a query that reads a key)",
}


FELT = 0.1
"""A fall in accuracy that the ablation sentence calls a difference: ten points."""


def carried(budget: Budget) -> str:
    """What carries the explained logit, in one sentence."""
    return (
        f"The logit of {budget.logit:.3g} is {budget.pixels:.3g} from pixels ({budget.on_path:.3g} from those on the "
        f"path), {budget.biases:.3g} from biases and {budget.constants:.3g} from constants."
    )


def main_rows(findings: Findings, kind: str) -> list[Row]:
    """The main detector's rows of one kind, such as "attack" or "worst case"."""
    return [row for row in findings.evaluation.results if row.detector == findings.main_detector and row.kind == kind]


def spread(rows: Sequence[Row]) -> str:
    """The range of AUROC over attacks: "0.923 (DeepFool) to 0.981 (FGSM)"."""
    known = sorted(
        (row for row in rows if not np.isnan(row.metrics["auroc"].value)), key=lambda row: row.metrics["auroc"].value
    )
    return _ends([(number(row.metrics["auroc"].value), attack_name(row.attack)) for row in known])


def caught_spread(rows: Sequence[Row], alpha: float) -> str:
    """The range of the share caught at the threshold for ``alpha``: "61.2% (C&W) to 98.0% (FGSM)"."""
    known = sorted((row for row in rows if alpha in row.caught), key=lambda row: row.caught[alpha].rate)
    return _ends([(percent(row.caught[alpha].rate), attack_name(row.attack)) for row in known])


def _ends(named: Sequence[tuple[str, str]]) -> str:
    if not named:
        return "no information"
    (low, first), (high, last) = named[0], named[-1]
    return f"{low} ({first})" if len(named) == 1 else f"{low} ({first}) to {high} ({last})"


def answer(findings: Findings) -> str:
    """One paragraph: what was tested, how well it works, at which false-alarm rate."""
    rows = main_rows(findings, "attack")
    detector = detector_name(findings.main_detector)
    attacks = ", ".join(attack_name(row.attack) for row in rows)
    text = (
        f"Can the path of a prediction through {findings.model.get('name', 'the network')} tell attacked images of "
        f"{findings.data.get('name', 'this data')} from clean ones? Against {len(rows)} "
        f"{'attack' if len(rows) == 1 else 'attacks'} ({attacks}), the {detector} detector reaches an AUROC of "
        f"{spread(rows)}."
    )
    return f"{text} {alarm_sentence(findings)}"


def alarm_sentence(findings: Findings) -> str:
    """The realised false-alarm rate with its interval, and what was caught at that threshold."""
    rows, alpha = main_rows(findings, "attack"), findings.alpha
    alarms = next((row.false_alarms[alpha] for row in rows if alpha in row.false_alarms), None)
    if alarms is None:
        return f"There is no information on the false-alarm rate at the agreed {percent(alpha, 0)}."
    text = (
        f"With the threshold set for at most {percent(alpha, 0)} false alarms, it flagged {count(alarms.count)} of "
        f"{count(alarms.n)} clean test images, {rate(alarms)}, and caught {caught_spread(rows, alpha)} of the "
        "attacked ones."
    )
    if alarms.low > alpha:
        text += f" That is more false alarms than agreed: the interval excludes {percent(alpha, 0)}."
    return text


def accuracy(model: Mapping[str, Any]) -> float | None:
    """The network's accuracy on clean test images, None where it was not measured."""
    found = model.get("test_accuracy", model.get("accuracy"))
    return None if found is None else float(found)


def key_figures(findings: Findings) -> list[KeyFigure]:
    """The headline numbers."""
    rows, alpha = main_rows(findings, "attack"), findings.alpha
    areas = [row.metrics["auroc"].value for row in rows if not np.isnan(row.metrics["auroc"].value)]
    alarms = next((row.false_alarms[alpha] for row in rows if alpha in row.false_alarms), None)
    caught = [row.caught[alpha].rate for row in rows if alpha in row.caught]
    interval = "" if alarms is None else f"95% interval {percent(alarms.low)} to {percent(alarms.high)}; "
    return [
        KeyFigure("AUROC over the attacks", _range([number(v) for v in sorted(areas)]), "0.5 guesses, 1 is perfect"),
        KeyFigure(
            "False alarms on clean images",
            percent(None if alarms is None else alarms.rate),
            f"{interval}agreed: {percent(alpha, 0)}",
        ),
        KeyFigure(
            "Attacks caught at that threshold",
            _range([percent(v, 0) for v in sorted(caught)]),
            "lowest to highest over the attacks",
        ),
        KeyFigure("Accuracy of the network", percent(accuracy(findings.model)), "on clean test images, no detector"),
    ]


def _range(texts: Sequence[str]) -> str:
    if not texts:
        return "no information"
    return texts[0] if texts[0] == texts[-1] else f"{texts[0].removesuffix('%')}–{texts[-1]}"


def path_sizes(path: Path) -> str:
    """How many elements of every kind a path has: "312 neurons, 1,204 synapses (…) and 980 weights"."""
    sizes = [
        f"{count(sum(len(path[site]) for site in path if site.kind == kind))} {KINDS[kind]}" for kind in path.kinds()
    ]
    return " and ".join([", ".join(sizes[:-1]), sizes[-1]]) if len(sizes) > 1 else "".join(sizes)


def reason_sentence(flagged: Flagged, class_names: Sequence[str], place: int = 0) -> str:
    """Why an image was flagged: the layer's share of the path inside the class path, against clean images."""
    if len(flagged.reasons) <= place:
        return "There is no information on single layers."
    layer, rank, value, mean, z = flagged.reasons[place]
    own = class_name(class_names, flagged.example.path.predicted)
    sd = clean_deviation(value, mean, z)
    usual = percent(mean, 0) + ("" if np.isnan(sd) else f" ± {percent(sd, 0)}")
    if rank == 1:
        return f"Layer {layer}: {percent(value, 0)} of its path lies inside class {own}’s path; clean images: {usual}."
    return (
        f"Layer {layer}: {percent(value, 0)} of the path of the runner-up lies inside the runner-up’s class path; "
        f"clean images: {usual}."
    )


def ablation_sentence(curves: Sequence[Curve]) -> str:
    """Where the path and the control differ most, and where they begin to differ, in numbers."""
    removal = {(curve.kind, curve.order): curve for curve in curves if curve.mode == "remove"}
    for kind in dict.fromkeys(curve.kind for curve in curves):
        control = removal.get((kind, "outside"))
        own = removal.get((kind, "largest")) or removal.get((kind, "random"))
        if control is not None and own is not None and own.shares == control.shares:
            return _compared(own, control) + _kept(curves, kind)
    return "There is no control to compare with."


def _kept(curves: Sequence[Curve], kind: str) -> str:
    """What is left when nothing but the path stays on, beside as much of the rest; empty where it was not measured."""
    found = {curve.order: curve for curve in curves if curve.mode == "keep" and curve.kind == kind}
    if not {"largest", "outside"} <= set(found):
        return ""
    own, control = found["largest"], found["outside"]
    return (
        f" With nothing but {_part(own, -1)} switched on the accuracy is {percent(own.accuracy[-1])}, with as many "
        f"{kind}s drawn from the whole network {percent(control.accuracy[-1])}."
    )


def _compared(own: Curve, control: Curve) -> str:
    gaps = np.subtract(control.accuracy, own.accuracy)
    at = int(np.argmax(gaps))
    text = (
        f"Switching off {_part(own, at)} ({count(own.elements[at])} {own.kind}s per image on average) leaves an "
        f"accuracy of {percent(own.accuracy[at])}; switching off as many {own.kind}s drawn from the whole network "
        f"leaves {percent(control.accuracy[at])}. At this share the two differ most."
    )
    early = int(np.argmax(gaps >= FELT))
    if gaps[early] >= FELT and early != at:
        text += (
            f" The first share at which they differ by ten points or more is {_part(own, early)}: "
            f"{percent(own.accuracy[early])} against {percent(control.accuracy[early])}."
        )
    return text


def _part(curve: Curve, at: int) -> str:
    if curve.shares[at] >= 1:
        return "each image’s whole path"
    how = {"largest": ", largest contributions first", "random": ", chosen at random"}.get(curve.order, "")
    return f"{percent(curve.shares[at], 0)} of each image’s path{how}"


def confusions(findings: Findings) -> list[str]:
    """Controls that the main detector flags more often than clean images: it does not tell them from attacks."""
    found = []
    for row in main_rows(findings, "control"):
        caught, alarms = row.caught.get(findings.alpha), row.false_alarms.get(findings.alpha)
        if caught is not None and alarms is not None and caught.low > alarms.high:
            found.append(
                f"The detector also flags changes that are no attack: {attack_name(row.attack)}, {rate(caught)} of the "
                f"images, against {percent(alarms.rate)} of the clean ones. Being flagged means an unusual path, not "
                "an attack."
            )
    return found


def _seed_limit(findings: Findings) -> str:
    network = "The network was trained once."
    if findings.seeds:
        return f"{network} The spread over seeds is over the split of the test images and the detectors alone."
    seed = findings.settings.get("seed")
    told = "" if seed is None else f" ({seed})"
    return f"{network} Everything is from one split with one seed{told}; another seed moves the figures."


def limits(findings: Findings) -> list[str]:
    """What the numbers do not say."""
    clean = max((row.n_clean for row in main_rows(findings, "attack")), default=0)
    held_out = bool(findings.unseen) or bool(main_rows(findings, "held out"))
    return [
        *confusions(findings),
        "No attack here knew that it was being watched. An attacker who knows the detector may shape an image whose "
        "path looks ordinary; nothing on this page is evidence of robustness against that.",
        f"The test set has {count(clean)} clean images. Rates of a few percent rest on a handful of images: read the "
        "intervals, not the points.",
        "Clean images come from the data the network was tested on. Other cameras, corruptions or new kinds of image "
        "may raise more false alarms than the rate agreed on.",
        "The detectors were fitted on the same kinds of attack that they are tested on"
        + (", except where an attack was left out of the fitting" if held_out else "")
        + "; an attack unlike all of these may score lower.",
        _seed_limit(findings),
        "That the path carries the prediction is measured by the ablation and by nothing else here. A path is a "
        "description at a chosen level of detail, not the only one.",
        "Only successful attacks on images that the network got right are counted.",
    ]
