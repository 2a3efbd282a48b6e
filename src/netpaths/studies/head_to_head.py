"""Notions of path head to head: the same images, attacks, splits and classifiers for effective path and CDRP.

Qiu et al. (CVPR 2019) report that effective paths detect untargeted attacks better than critical data routing paths
(Wang et al., CVPR 2018) and cost 6 to 500 times less. In a decoupled network (Li et al., ECCV 2020) the codes of its
controllers are a third notion. Each notion is given to the classifiers in two forms: per-layer
similarities to the class path, as Qiu et al. do, and the vector of channel values, as Wang et al. do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, product
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.data import Images
from netpaths.decoupling.layers import is_decoupled
from netpaths.detection import DETECTORS, Evaluation, Features, evaluate_scores, leave_one_attack_out
from netpaths.detection.extraction import About, extracted, ranked_paths, similarity_features, vector_features
from netpaths.detection.metrics import paired_difference
from netpaths.errors import BadOption
from netpaths.files import write_json
from netpaths.graph import PathMethod
from netpaths.methods import CalculationPath, DistillationGuidedRouting, EffectivePath
from netpaths.path import Path, save_path
from netpaths.profile import Profile
from netpaths.report.rivals_findings import BETWEEN, RivalsFindings
from netpaths.studies import experiment
from netpaths.studies.effective_path import Clock, describe_data, describe_model
from netpaths.studies.experiment import Progress, Subject, balanced_order

Floats = NDArray[np.float64]
FILES = ("summary.json", "report.html", "figures", "tables")
SIMILARITY, VECTOR = "similarity to the class path", "vector of channels"
FORMS = {SIMILARITY: ("joint", "forest", "adaboost", "boosting"), VECTOR: ("forest", "adaboost", "boosting")}
"""Joint similarity weighs similarities; a vector of channels is for the ensembles alone."""

UNTARGETED = ("fgsm", "bim", "deepfool", "cw")


@dataclass(frozen=True)
class Notion:
    """A notion of path: how it is found, the kind of elements compared, and the nodes whose channels are its vector.

    nodes: None for all nodes of the path.
    """

    method: PathMethod
    kind: str
    nodes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RivalsPlan:
    """What is compared.

    theta, last: of effective paths. routing: how gates are found. attacks, controls, attacked, calibration, options,
    seed, batch_size: as in `netpaths.studies.experiment.Plan`. profiled: training images a class in the class paths of
    either notion. fit: share of the attacked images that detectors learn from. extracted: images at once. timed: images
    of the timing.
    """

    theta: float = 0.5
    last: int | None = None
    routing: DistillationGuidedRouting = field(default_factory=DistillationGuidedRouting)
    attacks: tuple[str, ...] = (*UNTARGETED, "targeted-bim")
    controls: tuple[str, ...] = ("noise",)
    attacked: int = 200
    calibration: int = 100
    profiled: int = 50
    fit: float = 0.4
    alpha: float = 0.05
    bootstrap: int = 1000
    seed: int = 0
    batch_size: int = 64
    extracted: int = 16
    timed: int = 8
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def experiment(self) -> experiment.Plan:
        """The part that the other studies share: images, attacks, splits."""
        return experiment.Plan(
            attacks=self.attacks,
            controls=self.controls,
            attacked=self.attacked,
            calibration=self.calibration,
            fit=self.fit,
            seeds=(self.seed,),
            alpha=self.alpha,
            bootstrap=self.bootstrap,
            batch_size=self.batch_size,
            extracted=self.extracted,
            options=self.options,
        )

    def notions(self, subject: Subject) -> dict[str, Notion]:
        """The rivals by name."""
        effective = EffectivePath(theta=self.theta, last=self.last)
        codes = {"decoupling": Notion(CalculationPath(), "channel")} if is_decoupled(subject.graph) else {}
        return {
            "effective path": Notion(effective, "synapse", subject.graph.layers),
            "CDRP": Notion(self.routing, "channel"),
            **codes,
        }


def run(
    subject: Subject, plan: RivalsPlan, title: str, command: str, names: Mapping[str, str], progress: Progress
) -> RivalsFindings:
    """Run every stage; names: "model" and "data" as the user wrote them; progress: as for the other studies.

    Raises what its stages raise.
    """
    shared, clock = plan.experiment(), Clock()
    shared.check()
    notions = plan.notions(subject)
    clean, calibration = experiment.test_images(subject, shared)
    results = experiment.attack_images(subject, shared, clean, progress)
    clock.lap("attacks")
    batches = experiment.image_groups(clean, calibration, results)
    features: dict[str, dict[str, Features]] = {}
    costs, forward = [], experiment.median_seconds(lambda: _forward(subject, clean[:1][0]), 20) * 1000
    for name, notion in notions.items():
        profile = _profile(subject, plan, name, notion, progress)
        clock.lap(f"class paths, {name}")
        features[name] = _features(subject, plan, name, notion, profile, batches, progress)
        clock.lap(f"paths of test images, {name}")
        costs.append({"notion": name, **_cost(subject, plan, notion, clean, features[name]), "forward ms": forward})
        clock.lap(f"timing, {name}")
    rows = experiment.gathered(subject.graph, shared, features["effective path"], batches, len(calibration))
    judged = _judge(subject, shared, rows, features, progress)
    unseen = _unseen(shared, rows, features, progress)
    clock.lap("detectors and evaluation")
    return RivalsFindings(
        title=title,
        command=command,
        model=describe_model(subject, names["model"]),
        data=describe_data(subject, names["data"]),
        settings=_settings(plan, notions),
        attacks=[experiment.attack_row(result) for result in results.values()],
        evaluation=judged[0],
        differences=judged[1],
        unseen=unseen,
        cost=_ratios(costs),
        seconds=clock.seconds,
    )


def _profile(subject: Subject, plan: RivalsPlan, name: str, notion: Notion, progress: Progress) -> Profile:
    """Class paths over the same training images for either notion."""
    train = subject.train
    classes = len(np.unique(train.labels))
    chosen = train.take(np.sort(balanced_order(train.labels)[: plan.profiled * classes]))
    title = f"class paths, {name}"
    progress(title, 0, len(chosen))
    return Profile.build(
        notion.method,
        subject.graph,
        chosen.batches(plan.extracted),
        progress=lambda so_far: progress(title, so_far.seen, len(chosen)),
        source=chosen.digest,
    )


def _features(
    subject: Subject,
    plan: RivalsPlan,
    name: str,
    notion: Notion,
    profile: Profile,
    batches: Sequence[tuple[torch.Tensor, About]],
    progress: Progress,
) -> dict[str, Features]:
    """Both forms of every image, from one extraction."""
    title, done, total = f"paths, {name}", 0, sum(len(images) for images, _ in batches)
    found: dict[str, list[Features]] = {SIMILARITY: [], VECTOR: []}
    progress(title, 0, total)
    for images, about in batches:
        extract = partial(ranked_paths, notion.method, subject.graph)
        note = partial(_note, progress, title, done, total)
        paths = list(extracted(extract, images, plan.extracted, note))
        done += len(images)
        found[SIMILARITY].append(similarity_features(paths, profile, (notion.kind,), about)[notion.kind])
        found[VECTOR].append(vector_features((ranked[0] for ranked in paths), about, layers=notion.nodes))
    return {form: Features.concat(parts) for form, parts in found.items()}


def _note(progress: Progress, title: str, before: int, total: int, done: int) -> None:
    progress(title, before + done, total)


def _judge(
    subject: Subject,
    plan: experiment.Plan,
    rows: experiment.Rows,
    features: Mapping[str, Mapping[str, Features]],
    progress: Progress,
) -> tuple[Evaluation, list[dict[str, Any]]]:
    """Every notion, form and classifier on one split, beside the softmax; and the differences of the two notions."""
    parts = experiment.split(plan, rows, plan.seeds[0])
    scores: dict[str, tuple[Floats, Floats]] = {}
    total, title = sum(map(len, FORMS.values())) * len(features), "detectors"
    progress(title, 0, total, "fits")
    for name, forms in features.items():
        for form, own in forms.items():
            fit = own.take(parts["fit"])
            for classifier in FORMS[form]:
                made = experiment.seeded(DETECTORS[classifier], plan.seeds[0]).fit(fit.take(fit.is_counted))
                held = made.score(own.take(parts["calibration"])), made.score(own.take(parts["test"]))
                scores[label(name, form, classifier)] = held
                progress(title, len(scores), total, "fits")
    baseline = experiment.baseline_scores(subject, plan, rows)["maximum softmax"]
    scores["softmax"] = baseline[parts["calibration"]], baseline[parts["test"]]
    calibration, test = rows.main.take(parts["calibration"]), rows.main.take(parts["test"])
    evaluation = evaluate_scores(scores, calibration, test, (plan.alpha,), plan.seeds[0], plan.bootstrap)
    return evaluation, _differences(plan, scores, test, list(features))


def label(notion: str, form: str, classifier: str) -> str:
    """What an evaluation calls a classifier on a form of a notion."""
    return BETWEEN.join((notion, form, classifier))


def _differences(
    plan: experiment.Plan, scores: Mapping[str, tuple[Floats, Floats]], test: Features, notions: Sequence[str]
) -> list[dict[str, Any]]:
    """For every two notions the AUROC of the first minus that of the second, with its interval over the images."""
    counted = test.is_counted
    groups = {"all attacks": test.is_adversarial & counted} | {
        name: (test.attacks == name) & counted for name in test.attack_names
    }
    detectors = [(form, classifier) for form, own in FORMS.items() for classifier in own]
    rows = []
    for pair, (form, classifier) in product(combinations(notions, 2), detectors):
        first, second = (scores[label(notion, form, classifier)][1] for notion in pair)
        named = {"first": pair[0], "second": pair[1], "form": form, "classifier": classifier}
        for attack, chosen in groups.items():
            used = chosen | (test.is_clean & counted)
            if not chosen.any():
                continue
            found = paired_difference(
                first[used], second[used], chosen[used], test.sources[used], plan.bootstrap, plan.seeds[0]
            )
            row = {**named, "attack": attack, "n": int(chosen.sum())}
            rows.append({**row, "difference": found.value, "low": found.low, "high": found.high})
    return rows


def _unseen(
    plan: experiment.Plan,
    rows: experiment.Rows,
    features: Mapping[str, Mapping[str, Features]],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Each attack judged by detectors fitted on all the others."""
    if len(plan.attacks) < 2:
        return []
    parts, found = experiment.split(plan, rows, plan.seeds[0]), []
    title, total = "attacks left out", sum(map(len, features.values()))
    progress(title, 0, total, "forms")
    for name, forms in features.items():
        for form, own in forms.items():
            made = {each: experiment.seeded(DETECTORS[each], plan.seeds[0]) for each in FORMS[form]}
            splits = {part: own.take(chosen) for part, chosen in parts.items()}
            result = leave_one_attack_out(made, splits, (plan.alpha,), plan.seeds[0], plan.bootstrap)
            for row in result.results:
                area = row.metrics["auroc"]
                named = {"notion": name, "form": form, "classifier": row.detector, "attack": row.attack, "n": row.n}
                found.append({**named, "auroc": area.value, "low": area.low, "high": area.high})
            progress(title, len({(row["notion"], row["form"]) for row in found}), total, "forms")
    return found


def _cost(
    subject: Subject, plan: RivalsPlan, notion: Notion, clean: Images, features: Mapping[str, Features]
) -> dict[str, float]:
    """Milliseconds an image for a path, one by one and in a batch, and bytes of a stored path and of a vector."""
    images = clean[np.arange(min(plan.timed, len(clean)))][0]
    extract: Callable[[torch.Tensor], list[Path]] = partial(notion.method.extract, subject.graph)
    paths = extract(images)
    with TemporaryDirectory() as folder:
        sizes = [save_path(path, FilePath(folder) / str(place)).stat().st_size for place, path in enumerate(paths)]
    return {
        "ms per image": experiment.median_seconds(lambda: extract(images[:1])) * 1000,
        "ms per image, batch": experiment.median_seconds(lambda: extract(images)) * 1000 / len(images),
        "bytes per image": float(np.mean(sizes)),
        "bytes of a vector": float(4 * features[VECTOR].values.shape[1]),
    }


def _forward(subject: Subject, images: torch.Tensor) -> None:
    with torch.no_grad():
        subject.graph.run(images)


def _ratios(costs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every notion's time over the first one's beside the times."""
    first = costs[0]
    return [
        {
            **row,
            "times the first": row["ms per image"] / first["ms per image"],
            "times the first, batch": row["ms per image, batch"] / first["ms per image, batch"],
        }
        for row in costs
    ]


def _settings(plan: RivalsPlan, notions: Mapping[str, Notion]) -> dict[str, Any]:
    if plan.profiled < 1 or plan.timed < 1:
        raise BadOption("class paths and timing need at least one image each")
    return {
        **{name: notion.method.describe() for name, notion in notions.items()},
        "attacks": list(plan.attacks),
        "attacked": plan.attacked,
        "calibration": plan.calibration,
        "profiled": plan.profiled,
        "fit": plan.fit,
        "bootstrap": plan.bootstrap,
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
    }


def write_summary(findings: RivalsFindings, file: FilePath) -> FilePath:
    """Write the figures that documentation quotes as JSON, atomically."""
    named = ("command", "model", "data", "settings", "attacks", "differences", "unseen", "cost", "seconds")
    rows = {"evaluation": findings.evaluation.rows()}
    return write_json(file, {**{name: getattr(findings, name) for name in named}, **rows})
