"""The study of decoupled networks on digits: what it leaves, what it says, and that it goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from netpaths import Graph, cli, load_data, load_decoupled
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.loss import Objective
from netpaths.decoupling.observed import Observed
from netpaths.decoupling.training import Recipe, evaluate
from netpaths.errors import BadOption
from netpaths.report.decoupling_findings import DecouplingFindings
from netpaths.report.rivals_findings import BETWEEN
from netpaths.studies import decoupling
from netpaths.studies.decoupling_plan import VARIANTS, DecouplingPlan
from netpaths.studies.experiment import Subject
from netpaths.studies.head_to_head import RivalsPlan
from netpaths.zoo import save_weights
from test_head_to_head import CDRP
from test_head_to_head import RIVALS as RIVALS_TABLES
from trained import trained

RECIPE = Recipe(epochs=4, batch_size=32, lr=0.01, pace=3, objective=Objective(kept=0.5, distillation=1.0, hints=0.1))
RIVALS = RivalsPlan(
    attacks=("fgsm",), controls=("noise",), attacked=40, calibration=40, profiled=5, bootstrap=50, timed=2
)
PLAN = DecouplingPlan(
    recipe=RECIPE,
    targets=(0.8, 0.5),
    ablated_epochs=1,
    profiled=15,
    evaluated=80,
    shown=40,
    batches=(1, 4),
    repeats=3,
    sets=(1, 10),
    ablated=16,
    rivals=RIVALS,
    extracted=16,
)
DECOUPLING = (
    *("curve", "latency", "losses", "filters", "pairs", "distinct", "within", "static"),
    *("codes", "codes differences", "codes cost", "codes attacks"),
)
NAMES = decoupling.Names("lenet5", "digits", None, "lenet5 on digits", "netpaths study decoupling")


def quiet(title: str, done: int, total: int, unit: str = "images") -> None:
    """Progress that nobody sees."""


def subject() -> Subject:
    own = trained()
    return Subject(own.model, own.graph, own.train, load_data("digits", "test"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def findings(folder: Path) -> DecouplingFindings:
    return decoupling.run(subject(), PLAN, folder, NAMES, quiet)


def test_the_curve_is_that_of_the_networks_it_leaves(findings: DecouplingFindings, folder: Path) -> None:
    assert [row["target"] for row in findings.curve[1:]] == [0.8, 0.5]
    assert findings.dense["MACs"] == 1
    test = load_data("digits", "test")
    for row in findings.curve[1:]:
        network = load_decoupled(folder / "networks" / f"kept-{row['target']:g}.safetensors")
        found = evaluate(network, test)
        assert (row["accuracy"], row["filters on"], row["MACs"]) == pytest.approx(
            (found["accuracy"], found["kept"], found["macs"])
        )
    main = load_decoupled(folder)
    own = load_decoupled(folder / "networks" / "kept-0.5.safetensors")
    assert all(torch.equal(main.state_dict()[name], tensor) for name, tensor in own.state_dict().items())


def test_a_second_run_trains_nothing(findings: DecouplingFindings, folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (folder / "networks").glob("*.checkpoint.safetensors")}
    assert len(before) == 2 + len(findings.losses)
    again = decoupling.run(subject(), replace(PLAN, rivals=None), folder, NAMES, quiet)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert again.rivals is None
    told = lambda found: [{k: v for k, v in row.items() if k != "seconds"} for row in found.history]
    assert told(again) == told(findings)
    for name in ("curve", "losses", "filters", "pairs", "distinct", "within", "static"):
        assert str(getattr(again, name)) == str(getattr(findings, name)), name


def test_timing_says_what_it_timed(findings: DecouplingFindings) -> None:
    assert [(row["target"], row["batch"]) for row in findings.latency] == [(0.8, 1), (0.8, 4), (0.5, 1), (0.5, 4)]
    for row in findings.latency:
        assert row["threads"] == torch.get_num_threads()
        assert row["low"] <= row["over dense"] <= row["high"]
        assert all(row[f"{name} ms"] > 0 for name in ("dense", "masked", "runtime", "all on"))


def test_operations_are_counted_on_the_timed_images(findings: DecouplingFindings, folder: Path) -> None:
    network = load_decoupled(folder)
    images = load_data("digits", "test")[:16][0]
    cost = Cost(Graph(network, images[:1]))
    with torch.no_grad():
        wanted = float(cost.of(Observed(network)(images).codes).mean()) / cost.dense
    row = next(row for row in findings.latency if (row["target"], row["batch"]) == (0.5, 4))
    assert row["MACs"] == pytest.approx(wanted)


def test_the_loss_ablation_has_a_row_for_every_variant(findings: DecouplingFindings) -> None:
    assert [row["loss"] for row in findings.losses] == list(VARIANTS)
    assert all(0 <= row["accuracy"] <= 1 and row["nats"] >= 0 for row in findings.losses)


def test_variants_switch_parts_off() -> None:
    recipes = PLAN.variants()
    assert recipes["all parts"] == replace(RECIPE, epochs=1)
    for name, missing in VARIANTS.items():
        objective = recipes[name].objective
        for part in ("information", "alignment", "sparsity", "distillation", "hints"):
            assert getattr(objective, part) == (0 if part in missing else getattr(RECIPE.objective, part)), (name, part)
    plain = replace(PLAN, recipe=replace(RECIPE, objective=replace(RECIPE.objective, distillation=0.0)))
    assert "without distillation" not in plain.variants()


def test_nothing_but_unused_filters_is_removed(findings: DecouplingFindings) -> None:
    """Where codes of test images lie in the class paths, the smaller network answers as the whole one."""
    assert [row["classes"] for row in findings.static] == [1, 10]
    for row in findings.static:
        assert row["accuracy"] == pytest.approx(row["before"], abs=0.1)
        assert row["parameters"] <= 1
        assert row["filters kept"] <= 1


def test_detection_is_of_three_notions(findings: DecouplingFindings) -> None:
    assert findings.rivals is not None
    names = {row.detector.partition(BETWEEN)[0] for row in findings.rivals.evaluation.results}
    assert names == {"effective path", "CDRP", "decoupling", "softmax"}
    assert {(row["first"], row["second"]) for row in findings.rivals.differences} == {
        ("effective path", "CDRP"),
        ("effective path", "decoupling"),
        ("CDRP", "decoupling"),
    }
    assert [row["notion"] for row in findings.rivals.cost] == ["effective path", "CDRP", "decoupling"]


def test_every_table_can_be_made(findings: DecouplingFindings, study_tables: ModuleType, tmp_path: Path) -> None:
    decoupling.write_summary(findings, tmp_path / "summary.json")
    run = json.loads((tmp_path / "summary.json").read_text())
    assert {*DECOUPLING, *RIVALS_TABLES, *CDRP} == set(study_tables.TABLES)
    for name in DECOUPLING:
        text = study_tables.section(name, run)
        assert text.startswith("Made by `netpaths study decoupling`."), name
        assert len(text.splitlines()) >= 5, name
    curve = study_tables.section("curve", run)
    assert f"| 0.5 | {findings.of(0.5)['accuracy']:.3g} |" in curve


def test_the_command_leaves_a_page_and_a_summary(tmp_path: Path) -> None:
    weights = save_weights(trained().model, tmp_path / "lenet5.safetensors", {"classes": 10})
    out = tmp_path / "run"
    command = f"study decoupling --model lenet5 --weights {weights} --data digits --quick --targets 0.8,0.6 --kept 0.6"
    words = [*command.split(), "--epochs", "2", "--ablated-epochs", "0", "--no-detection", "--fired", "10"]
    assert cli.run([*words, "--evaluated", "60", "--quiet", "--out", str(out)]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    assert summary["main"] == 0.6
    assert len(summary["curve"]) == 3
    assert summary["losses"] == []
    assert "rivals" not in summary
    assert "</html>" in (out / "report.html").read_text()
    assert load_decoupled(out).layers == ("conv2",)


def test_a_stopped_study_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoupling, "_losses", stop)
    out = tmp_path / "run"
    command = f"study decoupling --model lenet5 --data digits --limit 40 --fired 2 --quick --quiet --out {out}"
    assert cli.run(command.split()) == 130
    assert (
        f"the epochs trained so far are kept in {out / 'networks'}; the same command goes on" in capsys.readouterr().err
    )
    assert (out / "networks" / "kept-0.65.checkpoint.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--kept 0.3", "the main one, 0.3, among them"),
        ("--targets 0.8,zwei", "--targets is '0.8,zwei', expected shares in [0, 1] with commas"),
        ("--fired 5000", "training images, --fired asks for 5000; give fewer"),
    ],
)
def test_mistakes(options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"study decoupling --model lenet5 --data digits {options} --out {tmp_path / 'run'}"
    assert cli.run(command.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"targets": (0.5, 0.5)}, {"repeats": 0}, {"ablated_epochs": -1}])
def test_plans_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        replace(PLAN, **wrong).check()
