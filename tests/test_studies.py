"""The experiment's stages by laws that must hold, on digits with few images."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from netpaths import Graph, Profile, load_data
from netpaths.errors import BadOption
from netpaths.studies import experiment
from netpaths.studies.experiment import Plan, Subject
from netpaths.studies.sweeps import profile_sweep, sweeps

PLAN = Plan(
    attacks=("fgsm",),
    controls=(),
    attacked=40,
    calibration=40,
    kinds=("synapse",),
    seeds=(0,),
    profile_sizes=(5, 20, 60),
)


def quiet(title: str, done: int, total: int, unit: str = "images") -> None:
    """Progress that nobody sees."""


@pytest.fixture(scope="module")
def subject(digits_lenet: nn.Module) -> Subject:
    train, test = load_data("digits", "train"), load_data("digits", "test")
    return Subject(digits_lenet, Graph(digits_lenet, test[[0]][0]), train, test)


def test_images_are_balanced_and_apart(subject: Subject) -> None:
    attacked, calibration = experiment.test_images(subject, PLAN)
    assert np.bincount(attacked.labels).tolist() == [4] * 10
    assert not set(attacked.identifiers) & set(calibration.identifiers)
    with pytest.raises(BadOption, match="540 test images are too few to attack 530"):
        experiment.test_images(subject, Plan(attacked=530))


def test_larger_profiles_hold_more_of_every_path(subject: Subject) -> None:
    """Class paths of nested training images are nested, so no similarity can fall."""
    attacked, calibration = experiment.test_images(subject, PLAN)
    results = experiment.attack_images(subject, PLAN, attacked, quiet)
    found = profile_sweep(subject, PLAN, attacked, calibration, results, quiet)
    similarity = [row["clean_similarity"] for row in found if row["detector"] == "joint"]
    assert [row["value"] for row in found if row["detector"] == "joint"] == [5, 20, 60]
    assert similarity == sorted(similarity)
    assert similarity[0] < similarity[-1] <= 1


def test_all_layers_and_all_images_are_the_experiment_itself(subject: Subject) -> None:
    attacked, calibration = experiment.test_images(subject, PLAN)
    results = experiment.attack_images(subject, PLAN, attacked, quiet)
    profile = Profile.build(PLAN.method, subject.graph, subject.train.batches(64))
    rows = experiment.collect_rows(subject, PLAN, profile, attacked, calibration, results, quiet)
    judged = experiment.judge(PLAN, rows, {}, 0, 2)
    expected = next(row for row in judged.evaluation.results if (row.detector, row.kind) == ("joint", "all"))
    found = {(row["sweep"], row["value"]): row["auroc"] for row in sweeps(PLAN, rows) if row["detector"] == "joint"}
    assert found["layers", 5] == pytest.approx(expected.metrics["auroc"].value)
    assert found["samples", max(value for sweep, value in found if sweep == "samples")] == pytest.approx(
        expected.metrics["auroc"].value
    )
    fit, test = (set(rows.main.take(judged.rows[name]).sources) for name in ("fit", "test"))
    assert not fit & test
