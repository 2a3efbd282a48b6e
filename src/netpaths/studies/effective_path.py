"""The study of effective paths as anomaly detectors (Qiu et al., CVPR 2019): from a model to its findings.

Class paths over the training images, class–class similarity, attacks on test images, per-layer similarities, the
paper's four detectors and five baselines under one protocol, and an ablation of the paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from time import perf_counter
from typing import Any

import numpy as np
import torch

from netpaths import __version__
from netpaths.data import Images
from netpaths.detection import library_versions, save_detector
from netpaths.errors import BadFile, BadOption, ModelMismatch
from netpaths.files import stored_checksum, write_json
from netpaths.methods import EffectivePath
from netpaths.path import Path
from netpaths.profile import Profile
from netpaths.report.findings import Example, Findings, Flagged
from netpaths.similarity import class_matrix, image_class_similarity, total_similarity
from netpaths.studies import experiment
from netpaths.studies.experiment import MAIN, Judged, Plan, Progress, Rows, Subject
from netpaths.studies.sweeps import profile_sweep, sweeps
from netpaths.training import accuracy

FILES = (
    "profile.safetensors",
    "features-synapse.safetensors",
    "features-weight.safetensors",
    "features-neuron.safetensors",
    "evaluation.csv",
    "evaluation.json",
    "detector.safetensors",
    "summary.json",
    "report.html",
    "figures",
    "tables",
)
"""What a run leaves in its folder, the report's folders included."""


class Clock:
    """Wall-clock seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = perf_counter()

    def lap(self, stage: str) -> None:
        """Store the time since the last lap under ``stage``."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


def run(
    subject: Subject,
    plan: Plan,
    folder: FilePath,
    title: str,
    command: str,
    names: Mapping[str, str],
    progress: Progress,
    clock: Clock | None = None,
) -> Findings:
    """Run every stage and write what can be used again to ``folder``: profile, detector, features, tables.

    names: "model" and "data" as the user wrote them. progress: called with a stage's title, done, total and, where
    they are no images, the unit.
    Returns the findings for a report. Raises what its stages raise.
    """
    plan.check()
    clock = clock or Clock()
    profile = class_profile(subject, plan.method, folder / "profile.safetensors", plan.path_batch, progress)
    profile.require(range(len(subject.train.classes)) if len(subject.train.classes) == subject.graph.classes else [])
    clock.lap("class paths")
    clean, calibration = experiment.test_images(subject, plan)
    results = experiment.attack_images(subject, plan, clean, progress)
    clock.lap("attacks")
    rows = experiment.collect_rows(subject, plan, profile, clean, calibration, results, progress)
    clock.lap("paths of test images")
    judged = _judge_seeds(subject, plan, rows, progress)
    clock.lap("detectors and evaluation")
    by_size = profile_sweep(subject, plan, clean, calibration, results, progress)
    clock.lap("smaller profiles")
    curves = experiment.ablate(subject, plan, clean, progress) if plan.ablated else []
    clock.lap("ablation")
    first = judged[plan.seeds[0]]
    _save(subject, plan, rows, first, folder)
    findings = Findings(
        title=title,
        command=command,
        class_names=subject.test.classes,
        model=describe_model(subject, names["model"]),
        data=describe_data(subject, names["data"]) | {"profiled_images": sum(profile.images.values())},
        settings=_settings(plan),
        operations=subject.graph.operations(),
        example=_example(subject, plan, profile, clean),
        attacks=[experiment.attack_row(result) for result in results.values()],
        ablation=curves,
        seconds=clock.seconds,
        cost=experiment.cost(subject, plan, profile, clean, first.detectors[MAIN]),
        sweeps=[*sweeps(plan, rows), *by_size],
        **_path_findings(plan, profile),
        **_detection_findings(subject, plan, rows, judged),
    )
    clock.lap("summary")
    return findings


def _path_findings(plan: Plan, profile: Profile) -> dict[str, Any]:
    """What the class paths say by themselves."""
    overall = profile.overall()
    return {
        "class_matrix": class_matrix(profile.paths, plan.kinds[0]),
        "densities": {kind: overall.densities(kind) for kind in overall.kinds()},
        "density": {kind: overall.density(kind) for kind in overall.kinds()},
        "growth": {kind: profile.growth(kind) for kind in overall.kinds()},
    }


def _detection_findings(subject: Subject, plan: Plan, rows: Rows, judged: Mapping[int, Judged]) -> dict[str, Any]:
    """What the detectors say: the first seed in full, the others as AUROC alone."""
    first = judged[plan.seeds[0]]
    unseen = experiment.unseen_attacks(plan, rows, plan.seeds[0]) if len(plan.attacks) > 1 else None
    return {
        "features": rows.main.take(first.rows["test"]),
        "scores": {name: scores[1] for name, scores in first.scores.items()},
        "thresholds": _thresholds(first, plan.alpha),
        "main_detector": MAIN,
        "alpha": plan.alpha,
        "evaluation": first.evaluation,
        "flagged": _flagged(subject, plan, rows, first),
        "seeds": experiment.seed_rows({seed: one.evaluation for seed, one in judged.items()}),
        "unseen": unseen.rows() if unseen else [],
    }


def class_profile(
    subject: Subject, method: EffectivePath, file: FilePath, batch_size: int, progress: Progress
) -> Profile:
    """The class paths of the training images, read from ``file`` when it holds exactly these."""
    source = subject.train.digest
    if file.exists():
        try:
            known = Profile.load(file, subject.graph.fingerprint)
            known.check_made_by(subject.graph.fingerprint, method.describe(), source)
            if known.seen == len(subject.train):
                return known
        except (BadFile, BadOption, ModelMismatch):
            pass
    total, title = len(subject.train), "class paths of training images"
    progress(title, 0, total)
    profile = Profile.build(
        method,
        subject.graph,
        subject.train.batches(batch_size),
        progress=lambda so_far: progress(title, so_far.seen, total),
        source=source,
    )
    profile.save(file)
    return profile


def _judge_seeds(subject: Subject, plan: Plan, rows: Rows, progress: Progress) -> dict[int, Judged]:
    baselines = experiment.baseline_scores(subject, plan, rows)
    judged, title = {}, "detectors and evaluation"
    progress(title, 0, len(plan.seeds), "splits")
    for done, seed in enumerate(plan.seeds):
        bootstrap = plan.bootstrap if done == 0 else 2
        judged[seed] = experiment.judge(plan, rows, baselines, seed, bootstrap)
        progress(title, done + 1, len(plan.seeds), "splits")
    return judged


def _thresholds(judged: Judged, alpha: float) -> dict[str, float]:
    return {row.detector: row.thresholds[alpha] for row in judged.evaluation.results if alpha in row.thresholds}


def _flagged(subject: Subject, plan: Plan, rows: Rows, judged: Judged, count: int = 3) -> list[Flagged]:
    """Flagged test images of different attacks near the median score, so that they are typical, not the best."""
    detector = judged.detectors[MAIN]
    threshold = _thresholds(judged, plan.alpha).get(MAIN)
    test, scores = judged.rows["test"], judged.scores[MAIN][1]
    features = rows.main.take(test)
    if threshold is None:
        return []
    chosen = []
    for name in features.attack_names:
        found = np.flatnonzero((features.attacks == name) & (scores > threshold) & features.is_counted)
        if len(found):
            chosen.append(int(found[np.argsort(scores[found])[len(found) // 2]]))
    return [
        _flag(subject, plan, rows, int(test[index]), float(scores[index]), threshold, detector)
        for index in chosen[:count]
    ]


def _flag(subject: Subject, plan: Plan, rows: Rows, row: int, score: float, threshold: float, detector: Any) -> Flagged:
    from netpaths.detection import departures

    main = rows.main
    sibling = np.flatnonzero((main.sources == main.sources[row]) & main.is_clean)[0]
    image = rows.images[row : row + 1]
    path = plan.method.extract(subject.graph, image)[0]
    reasons = departures(main.take([row]), detector.reference_)
    example = Example(image[0], path, int(main.labels[row]), runner_up=subject.graph.runner_up(image[0]))
    original = rows.images[int(sibling)]
    return Flagged(example, original, str(main.attacks[row]), score, threshold, [tuple(r) for r in reasons])  # type: ignore[misc]


def _example(subject: Subject, plan: Plan, profile: Profile, clean: Images) -> Example:
    """The first correctly classified test image, its path and its similarity to every class path."""
    for index in range(len(clean)):
        image, label = clean[index]
        path: Path = plan.method.extract(subject.graph, image[None])[0]
        if path.predicted == int(label):
            similarity = image_class_similarity(path, profile[int(label)], plan.kinds[0])
            per_class = {known: total_similarity(path, profile[known], plan.kinds[0]) for known in profile}
            runner_up, name = subject.graph.runner_up(image), str(subject.test.classes[int(label)])
            return Example(image, path, int(label), similarity, per_class, runner_up, plan.method.explain(f"“{name}”"))
    raise BadOption("the model classifies no attacked test image correctly; train it further")


def describe_model(subject: Subject, name: str) -> dict[str, Any]:
    """The network's name, size, fingerprint and accuracy on all test images."""
    return {
        "name": name,
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "layers": len(subject.graph.layers),
        "fingerprint": subject.graph.fingerprint,
        "test_accuracy": accuracy(subject.model, subject.test),
    }


def describe_data(subject: Subject, name: str) -> dict[str, Any]:
    """The data's name and how many classes and images it has."""
    return {
        "name": name,
        "classes": len(subject.test.classes),
        "training_images": len(subject.train),
        "test_images": len(subject.test),
    }


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "method": plan.method.describe(),
        "kinds": list(plan.kinds),
        "layers": list(plan.layers) if plan.layers else "all linear and convolution layers",
        "attacked": plan.attacked,
        "calibration": plan.calibration,
        "fit_share": plan.fit,
        "seeds": list(plan.seeds),
        "alpha": plan.alpha,
        "bootstrap": plan.bootstrap,
        "versions": {**library_versions(), "netpaths": __version__},
        "threads": torch.get_num_threads(),
    }


def _save(subject: Subject, plan: Plan, rows: Rows, judged: Judged, folder: FilePath) -> None:
    detector = judged.detectors[MAIN]
    calibration = rows.main.take(judged.rows["calibration"])
    detector.calibrate(calibration.take(calibration.is_counted), plan.alpha)
    save_detector(
        folder / "detector.safetensors",
        detector,
        subject.graph.fingerprint,
        plan.layers or subject.graph.layers,
        plan.method.describe(),
        stored_checksum(folder / "profile.safetensors"),
        {"kind": plan.kinds[0], "input_shape": subject.graph.input_shape, "classes": list(subject.test.classes)},
    )
    for kind, features in rows.features.items():
        features.save(folder / f"features-{kind}.safetensors")
    judged.evaluation.to_csv(folder / "evaluation.csv")
    judged.evaluation.to_json(folder / "evaluation.json")


def write_summary(findings: Findings, file: FilePath) -> FilePath:
    """Write the figures of ``findings`` that documentation quotes as JSON, atomically."""
    matrix = findings.class_matrix
    off = ~np.eye(len(matrix), dtype=bool)
    return write_json(
        file,
        {
            "command": findings.command,
            "model": findings.model,
            "data": findings.data,
            "settings": findings.settings,
            "density": findings.density,
            "densities": findings.densities,
            "growth": findings.growth,
            "class_matrix": matrix,
            "class_similarity": _matrix_summary(matrix, off, findings.class_names),
            "attacks": findings.attacks,
            "seeds": findings.seeds,
            "unseen": findings.unseen,
            "sweeps": findings.sweeps,
            "cost": findings.cost,
            "evaluation": findings.evaluation.rows(),
            "ablation": [row for curve in findings.ablation for row in curve.rows()],
            "seconds": findings.seconds,
        },
    )


def _matrix_summary(matrix: Any, off: Any, names: Sequence[str]) -> dict[str, Any]:
    rows = np.array([matrix[index][off[index]].mean() for index in range(len(matrix))])
    first, second = np.unravel_index(np.argmax(np.where(off, matrix, -1)), matrix.shape)
    return {
        "mean": float(matrix[off].mean()),
        "mean_per_class": {str(name): float(value) for name, value in zip(names, rows)},
        "lowest_class": str(names[int(rows.argmin())]),
        "highest_pair": [str(names[int(first)]), str(names[int(second)])],
        "highest": float(matrix[first, second]),
    }
