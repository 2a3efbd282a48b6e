"""Two notions of path head to head on digits: every pair is compared, on the same images, and the tables say so."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from netpaths import Profile, cli, load_data, load_path
from netpaths.detection import DETECTORS
from netpaths.detection.metrics import auroc
from netpaths.methods import DistillationGuidedRouting, EffectivePath
from netpaths.path import save_path
from netpaths.similarity import image_class_similarity
from netpaths.studies import cdrp, experiment, head_to_head
from netpaths.studies.experiment import Subject
from netpaths.studies.head_to_head import FORMS, SIMILARITY, VECTOR, RivalsPlan
from netpaths.studies.routing_plan import RoutingPlan
from netpaths.zoo import save_weights
from trained import trained

DOCS = Path(__file__).resolve().parents[1] / "docs"
MACHINE = re.compile(r"(?<![\w.<)\]}:/])/(?:work|tmp|home|root|usr|mnt|data|var|private)\b")
NOTIONS = ("effective path", "CDRP")
ATTACKS = ("fgsm", "targeted-bim")
PAIRS = [(form, classifier) for form, classifiers in FORMS.items() for classifier in classifiers]
OPTIONS = (
    "--attacked 40 --calibration 30 --profiled 5 --attack fgsm:epsilon=0.2 --attack targeted-bim --attack noise "
    "--steps 5 --seed 1 --device cpu --quiet"
)
PLAN = RivalsPlan(
    routing=DistillationGuidedRouting(steps=5),
    attacks=ATTACKS,
    controls=("noise",),
    attacked=40,
    calibration=30,
    profiled=5,
    seed=1,
    options={"fgsm": {"epsilon": 0.2}},
)


def quiet(title: str, done: int, total: int, unit: str = "images") -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True)
class Done:
    """A finished run: its folder and its summary."""

    folder: Path
    summary: Mapping[str, Any]

    def table(self, name: str) -> list[dict[str, str]]:
        with open(self.folder / f"{name}.csv") as stream:
            return list(csv.DictReader(stream))

    def area(self, notion: str, form: str, classifier: str, attack: str) -> float:
        """What the evaluation says of one detector and attack."""
        name = f"{notion} | {form} | {classifier}"
        (row,) = (
            row
            for row in self.summary["evaluation"]
            if (row["detector"], row["attack"]) == (name, attack) and row["kind"] in ("attack", "all", "control")
        )
        return float(row["auroc"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(trained().model, tmp_path_factory.mktemp("weights") / "lenet5.safetensors")


@pytest.fixture(scope="module")
def done(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run of the command."""
    folder = tmp_path_factory.mktemp("study") / "rivals"
    command = f"study head-to-head --model lenet5 --weights {weights} --data digits {OPTIONS} --out {folder}"
    assert cli.run(shlex.split(command)) == 0
    return Done(folder, json.loads((folder / "summary.json").read_text()))


@pytest.fixture(scope="module")
def subject() -> Subject:
    own = trained()
    return Subject(own.model, own.graph, load_data("digits", "train"), load_data("digits", "test"))


# --- what a run says -------------------------------------------------------------------------------------------------


def test_every_notion_form_and_classifier_meets_every_attack(done: Done) -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for row in done.summary["evaluation"]:
        found.setdefault(row["detector"], {}).setdefault(row["kind"], []).append(row["attack"])
    wanted = {f"{notion} | {form} | {classifier}" for notion in NOTIONS for form, classifier in PAIRS}
    assert set(found) == {*wanted, "softmax"}
    assert len(wanted) == 14
    for kinds in found.values():
        assert sorted(kinds["attack"]) == sorted(ATTACKS)
        assert kinds["all"] == ["all attacks"]
        assert kinds["control"] == ["noise"]
        assert kinds["null"] == ["clean against clean"]
    for row in done.summary["evaluation"]:
        assert 0 <= row["auroc_low"] <= row["auroc"] <= row["auroc_high"] <= 1
    sizes = {(row["attack"], row["n"], row["n_clean"]) for row in done.summary["evaluation"]}
    assert len(sizes) == len({attack for attack, _, _ in sizes})  # the same images for all


def test_differences_are_of_the_two_areas(done: Done) -> None:
    rows = done.summary["differences"]
    found = {(row["form"], row["classifier"], row["attack"]): row for row in rows}
    assert set(found) == {(*pair, attack) for pair in PAIRS for attack in (*ATTACKS, "all attacks")}
    assert len(rows) == len(found)
    for key, row in found.items():
        assert row["difference"] == pytest.approx(done.area(NOTIONS[0], *key) - done.area(NOTIONS[1], *key))
        assert -1 <= row["low"] <= row["difference"] <= row["high"] <= 1
    assert sum(row["high"] - row["low"] > 0.01 for row in rows) > len(rows) / 2
    assert sum(row["n"] for row in rows if row["attack"] != "all attacks") == sum(
        row["n"] for row in rows if row["attack"] == "all attacks"
    )


def test_attacks_left_out_are_judged_for_both(done: Done) -> None:
    rows = done.summary["unseen"]
    found = [(row["notion"], row["form"], row["classifier"], row["attack"]) for row in rows]
    assert sorted(found) == sorted(
        (notion, *pair, attack) for notion in NOTIONS for pair in PAIRS for attack in ATTACKS
    )
    assert all(0 <= row["low"] <= row["auroc"] <= row["high"] <= 1 for row in rows)
    held = {(row["kind"], row["attack"]): row["n"] for row in done.summary["evaluation"]}
    assert all(row["n"] == held["attack", row["attack"]] for row in rows)


def test_costs_are_positive_and_their_ratio_is_their_ratio(done: Done) -> None:
    first, second = done.summary["cost"]
    assert (first["notion"], second["notion"]) == NOTIONS
    for row in (first, second):
        for key in ("ms per image", "ms per image, batch", "forward ms", "bytes per image", "bytes of a vector"):
            assert row[key] > 0
        assert row["ms per image"] > row["forward ms"]
        assert row["times the first"] == pytest.approx(row["ms per image"] / first["ms per image"])
        batch = row["ms per image, batch"] / first["ms per image, batch"]
        assert row["times the first, batch"] == pytest.approx(batch)
    assert second["bytes of a vector"] == 4 * 22
    nodes = trained().graph.nodes
    assert first["bytes of a vector"] == 4 * sum(nodes[name].shape[0] for name in trained().graph.layers)


def test_bytes_are_those_of_stored_paths(done: Done, subject: Subject, tmp_path: Path) -> None:
    clean, _ = experiment.test_images(subject, PLAN.experiment())
    for row, method in zip(done.summary["cost"], (EffectivePath(), PLAN.routing)):
        paths = method.extract(subject.graph, clean[np.arange(PLAN.timed)][0])
        files = [save_path(path, tmp_path / f"{row['notion']} {place}") for place, path in enumerate(paths)]
        assert load_path(files[0]).equals(paths[0])
        assert row["bytes per image"] == pytest.approx(np.mean([file.stat().st_size for file in files]), rel=0.01)


def test_the_settings_say_what_was_compared(done: Done) -> None:
    settings = done.summary["settings"]
    assert settings["effective path"] == json.loads(json.dumps(EffectivePath().describe()))
    assert settings["CDRP"] == json.loads(json.dumps(PLAN.routing.describe()))
    assert (settings["attacked"], settings["calibration"], settings["profiled"]) == (40, 30, 5)
    assert [row["name"] for row in done.summary["attacks"]] == [*ATTACKS, "noise"]
    assert done.summary["attacks"][0]["options"]["epsilon"] == 0.2
    assert done.summary["model"]["fingerprint"] == trained().graph.fingerprint


# --- the files -------------------------------------------------------------------------------------------------------


def test_figures_have_their_numbers_and_tables_are_files(done: Done) -> None:
    figures = {"rivals-1", "rivals-2", "cost"}
    found = {file.name for file in (done.folder / "figures").iterdir()}
    assert found == {f"{name}.{ending}" for name in figures for ending in ("png", "svg", "csv")}
    assert all(done.table(f"figures/{name}") for name in figures)
    tables = {file.stem for file in (done.folder / "tables").iterdir()}
    assert tables >= {"detection_1", "detection_2", "differences", "unseen", "cost", "attacks"}
    assert len(done.table("tables/differences")) == len(done.summary["differences"])
    for place, form in enumerate(FORMS, 1):
        rows = done.table(f"figures/rivals-{place}")
        assert len(rows) == 2 * len(FORMS[form]) * len(ATTACKS)
        for row in rows:
            assert row["form"] == form
            area = done.area(row["notion"], form, row["classifier"], row["attack"])
            assert float(row["auroc"]) == pytest.approx(area)


def test_the_page_names_both_papers_and_counts_its_verdicts(done: Done) -> None:
    page = (done.folder / "report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "Effective path (Qiu et al., CVPR 2019)" in text
    assert "critical data routing paths (Wang et al., CVPR 2018)" in text
    rows = [row for row in done.summary["differences"] if row["attack"] != "all attacks"]
    first, second = sum(row["low"] > 0 for row in rows), sum(row["high"] < 0 for row in rows)
    assert (
        f"Of {len(rows)} comparisons of an attack and a classifier, {first} favour effective path beyond the 95% "
        f"interval of the difference in AUROC, {second} favour CDRP, and {len(rows) - first - second} neither."
    ) in text
    assert not re.search(r"""(?:src|href|srcset|action)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert all(uri.startswith("data:image/") for uri in re.findall(r"<img\b[^>]*?\ssrc=\"([^\"]*)", page))


# --- the experiment by hand ------------------------------------------------------------------------------------------


def test_an_area_by_hand(done: Done, subject: Subject) -> None:
    """Joint detectors on similarities, and AdaBoost on vectors: made again from the paths of the same images."""
    plan = PLAN.experiment()
    clean, calibration = experiment.test_images(subject, plan)
    results = experiment.attack_images(subject, plan, clean, quiet)
    batches = experiment.image_groups(clean, calibration, results)
    order = experiment.balanced_order(subject.train.labels)[:50]
    profiled, labels = subject.train.take(np.sort(order))[np.arange(50)]
    for name, notion in PLAN.notions(subject).items():
        profile = Profile(subject.graph.fingerprint, notion.method.describe())
        profile.add_images(notion.method, subject.graph, profiled, labels)
        features = head_to_head._features(subject, PLAN, name, notion, profile, batches, quiet)
        rows = experiment.gathered(subject.graph, plan, {"own": features[SIMILARITY]}, batches, len(calibration))
        parts = experiment.split(plan, rows, PLAN.seed)
        for form, classifier in ((SIMILARITY, "joint"), (VECTOR, "adaboost")):
            fit, test = (features[form].take(parts[part]) for part in ("fit", "test"))
            fit, test = fit.take(fit.is_counted), test.take(test.is_counted)
            assert not set(fit.sources) & set(test.sources)
            made = DETECTORS[classifier](**({"seed": PLAN.seed} if classifier == "adaboost" else {})).fit(fit)
            for attack in ATTACKS:
                chosen = test.take(test.is_clean | (test.attacks == attack))
                expected = auroc(made.score(chosen), chosen.is_adversarial)
                assert done.area(name, form, classifier, attack) == pytest.approx(expected)


def test_both_forms_are_of_the_same_paths(subject: Subject) -> None:
    """Similarities to the class paths, of both ranks where a notion has them; channels 0 where not selected."""
    x, labels = trained().x[:6], trained().labels[:6]
    about = experiment.About(labels.numpy(), [f"image {place}" for place in range(6)])
    for name, notion in replace(PLAN, extracted=4).notions(subject).items():
        profile = Profile(subject.graph.fingerprint, notion.method.describe())
        profile.add_images(notion.method, subject.graph, trained().x[:60], trained().labels[:60])
        found = head_to_head._features(subject, replace(PLAN, extracted=4), name, notion, profile, [(x, about)], quiet)
        paths = notion.method.extract(subject.graph, x)
        vectors = [path if name == "CDRP" else path.project("channel") for path in paths]
        nodes = ("conv1", "conv2") if name == "CDRP" else subject.graph.layers
        for row, (path, vector) in enumerate(zip(paths, vectors)):
            shares = image_class_similarity(path, profile[int(path.predicted or 0)], notion.kind)
            own = [
                value for (_, rank), value in zip(found[SIMILARITY].names, found[SIMILARITY].values[row]) if rank == 1
            ]
            assert own == pytest.approx(list(shares.values()), abs=1e-5)
            expected = np.concatenate([vector.channels(node).float().numpy() for node in nodes])
            assert found[VECTOR].values[row] == pytest.approx(expected, abs=1e-4)
        assert {rank for _, rank in found[SIMILARITY].names} == ({1, 2} if name == "effective path" else {1})
        assert found[VECTOR].labels.tolist() == found[SIMILARITY].labels.tolist() == labels.tolist()


# --- the documentation's tables --------------------------------------------------------------------------------------

RIVALS = ("areas", "differences", "unseen", "cost", "attacks", "seconds")
CDRP = ("sparsity", "sweep", "detection", "separation", "agreement", "dead", "curves", "attacks", "seconds")


@pytest.fixture(scope="module")
def runs(done: Done, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of the run above, and that of a small study of gates whose command names directories."""
    folder = tmp_path_factory.mktemp("tables") / "gates"
    plan = RoutingPlan(
        method=DistillationGuidedRouting(steps=5),
        evaluated=30,
        per_class=(2,),
        gammas=(0.05, 0.1),
        steps=(5, 10),
        swept=4,
        compared=4,
        ablated=4,
        clusters=2,
        points=1,
        bootstrap=10,
    )
    command = "netpaths study cdrp --model lenet5 --weights /a/b/lenet5 --data mnist:/a/b/MNIST --out /c/d/gates"
    names = {"model": "lenet5", "data": "mnist:/a/b/MNIST"}
    cdrp.write_summary(cdrp.run(subject, plan, "lenet5", command, names, quiet), folder / "summary.json")
    return {"rivals": done.folder, "gates": folder}


@pytest.fixture(scope="module")
def sections(study_tables: ModuleType, runs: dict[str, Path]) -> dict[str, str]:
    """Every table of both runs by RUN/NAME."""
    found = study_tables.read_runs([str(folder) for folder in runs.values()], "summary.json", "study")
    assert set(found) == set(runs)
    wanted = [("rivals", name) for name in RIVALS] + [("gates", name) for name in CDRP]
    return {f"{run}/{name}": study_tables.section(name, found[run]) for run, name in wanted}


def cells(section: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a Markdown table."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return rows[0], rows[2:]


def test_every_table_can_be_made_and_names_no_directory(study_tables: ModuleType, sections: dict[str, str]) -> None:
    assert {*RIVALS, *CDRP} <= set(study_tables.TABLES)
    for name, text in sections.items():
        run = name.partition("/")[0]
        study = {"rivals": "head-to-head", "gates": "cdrp"}[run]
        assert text.startswith(f"Made by `netpaths study {study} --model lenet5 --weights WEIGHTS/lenet5")
        assert f"--out RUNS/{run}`" in text.partition("\n")[0]
        assert not MACHINE.search(text), text
        assert "/a/b" not in text
        header, rows = cells(text)
        assert rows
        assert all(len(row) == len(header) for row in rows)
        assert "None" not in text
        assert "nan" not in text


def test_tables_hold_the_summarys_numbers(done: Done, sections: dict[str, str]) -> None:
    header, rows = cells(sections["rivals/areas"])
    assert header == ["form", "classifier", "notion", "fgsm", "targeted-bim", "all attacks", "noise"]
    assert len(rows) == 15
    for form, classifier, notion, *areas in rows:
        if form:
            expected = [done.area(notion, form, classifier, attack) for attack in header[3:]]
            assert areas == [f"{value:.3g}" for value in expected]
    header, rows = cells(sections["rivals/differences"])
    assert header == ["first", "second", "form", "classifier", "attack", "n", "difference", "95% interval"]
    for row, expected in zip(rows, done.summary["differences"], strict=True):
        named = [expected[name] for name in ("first", "second", "form", "classifier", "attack")]
        assert row[:6] == [*named, str(expected["n"])]
        assert row[7] == f"{expected['low']:.3f} to {expected['high']:.3f}".replace("-", "−")
    header, rows = cells(sections["rivals/unseen"])
    assert header == ["form", "classifier", "notion", *ATTACKS]
    assert len(rows) == 14
    _, rows = cells(sections["rivals/seconds"])
    assert rows[-1][0] == "everything"
    assert float(rows[-1][1].replace(",", "")) == pytest.approx(sum(done.summary["seconds"].values()), rel=0.01)


def test_tables_of_gates_hold_the_summarys_numbers(runs: dict[str, Path], sections: dict[str, str]) -> None:
    summary = json.loads((runs["gates"] / "summary.json").read_text())
    header, rows = cells(sections["gates/sweep"])
    assert header == ["γ", "5 steps", "10 steps"]
    values = [f"{row['sparsity']:.3g}" for row in summary["sweep"]]
    assert rows == [["0.05", *values[:2]], ["0.1", *values[2:]]]
    header, rows = cells(sections["gates/detection"])
    assert header[:3] == ["values", "classifier", "2 a class"]
    assert len(rows) == 7
    own = next(row for row in summary["detection"] if (row["values"], row["classifier"]) == ("gates", "forest"))
    assert rows[0][:3] == ["gates", "forest", f"{own['auroc']:.3g}"]
    assert rows[0][header.index("null")] == f"{own['null']:.3g}"
    assert rows[-1][header.index("null")] == ""
    header, rows = cells(sections["gates/curves"])
    assert header == ["method", "keep 10%", "remove 10%", "keep 30%", "remove 30%"]
    accuracy = {(row["method"], f"{row['mode']} {row['share']:.0%}"): row["accuracy"] for row in summary["curves"]}
    assert [row[0] for row in rows] == list(dict.fromkeys(method for method, _ in accuracy))
    for row in rows:
        assert row[1:] == [f"{accuracy[row[0], column]:.3g}" for column in header[1:]]
    _, rows = cells(sections["gates/separation"])
    assert [row[1] for row in rows] == ["conv1", "conv2", "whole path"] * 2
    _, rows = cells(sections["gates/dead"])
    assert [row[0] for row in rows] == ["whole path"]
    header, rows = cells(sections["gates/sparsity"])
    assert [row[0] for row in rows] == [row["method"] for row in summary["sparsity"]]
    assert [row[header.index("sd")] for row in rows] == [f"{row['sd']:.3g}" for row in summary["sparsity"]]


def test_a_page_is_filled_between_its_marks(
    study_tables: ModuleType, runs: dict[str, Path], sections: dict[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    marks = "".join(f"\n<!-- table: {name} -->\nold\n<!-- end -->\n" for name in ("gates/sweep", "other/sweep"))
    page.write_text(f"# Title\n{marks}\nThe end.\n")
    study_tables.main([str(page), *map(str, runs.values())])
    text = page.read_text()
    assert f"<!-- table: gates/sweep -->\n\n{sections['gates/sweep']}\n\n<!-- end -->" in text
    assert "<!-- table: other/sweep -->\nold\n<!-- end -->" in text
    assert text.startswith("# Title\n")
    assert text.endswith("\nThe end.\n")
    study_tables.main([str(page), *map(str, runs.values())])
    assert page.read_text() == text


def test_tables_that_are_not_there_are_told(study_tables: ModuleType, runs: dict[str, Path], tmp_path: Path) -> None:
    found = study_tables.read_runs([str(runs["rivals"])], "summary.json", "study")["rivals"]
    with pytest.raises(SystemExit, match="there is no table 'area'; there are sparsity, sweep"):
        study_tables.section("area", found)
    with pytest.raises(SystemExit, match="has nothing for the table 'unseen'"):
        study_tables.section("unseen", {**found, "unseen": []})
    with pytest.raises(SystemExit, match="is missing; make it with netpaths study"):
        study_tables.read_runs([str(tmp_path)], "summary.json", "study")
    with pytest.raises(SystemExit, match="usage: python"):
        study_tables.main(["page.md"])


# --- mistakes --------------------------------------------------------------------------------------------------------

STUDY = "study head-to-head --model lenet5 --weights WEIGHTS --data digits --quiet --out OUT"
MISTAKES = {
    "unknown attack": ("--attack fgms", "there is no attack 'fgms'; nearest: fgsm"),
    "attack twice": ("--attack fgsm --attack fgsm:epsilon=0.1", "--attack names one attack twice"),
    "attack option": ("--attack fgsm:epsilom=0.1", "fgsm has no option 'epsilom'; it has epsilon"),
    "strength": ("--attack fgsm --attack noise:linf=2", "linf of noise is 2, expected a number from 0.0 to 1.0"),
    "controls alone": ("--attack noise", "a plan needs at least one attack"),
    "gates": ("--gamma -1", "gamma of routing is -1.0, which is out of range"),
    "steps": ("--steps 0", "'--steps'"),
    "theta": ("--theta 2", "theta must lie in (0, 1], not 2.0"),
    "too few to calibrate": ("--calibration 5", "needs at least 19 clean calibration images, not 5"),
    "too few test images": ("--attacked 530", "540 test images are too few to attack 530"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    options, expected = MISTAKES[mistake]
    out = tmp_path / "out"
    words = shlex.split(f"{STUDY.replace('WEIGHTS', str(weights)).replace('OUT', str(out))} {options}")
    assert cli.run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("netpaths: error: ")
    assert error.count("\n") == 1, error
    assert expected in error
    assert not out.exists()
