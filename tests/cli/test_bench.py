"""The benchmark command: every part has its row, every curve its points, and no figure contradicts another."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from netpaths import cli
from netpaths.benchmark import CURVES, TABLES, table_rows, with_speed_ups
from netpaths.benchmark.cases import FULL, PROFILE, TARGETS, Case, Part, by_model, cases, parse_part, target_cases
from netpaths.benchmark.memory import peak
from netpaths.benchmark.timing import clocked, compilations, ratio, rounds, timed_rules
from netpaths.errors import BadOption
from netpaths.graph import Graph
from netpaths.methods import EffectivePath
from netpaths.report.cost_figures import cost_figure
from netpaths.report.style import svg_bytes
from netpaths.rules import RULES
from netpaths.zoo import load_model, save_weights

from .conftest import Call

DOCS = Path(__file__).resolve().parents[2] / "docs"
CPU = torch.device("cpu")
ONE = "--batch 2 --threads 1 --repeats 1"
ALL_PARTS = (
    "--part full --part last=1 --part last=2 --part similarity --part profile --part merge --part routing "
    "--part kept=50"
)
Measured = dict[str, Any]


@pytest.fixture
def bench(call: Call) -> Callable[[str], Measured]:
    """Run the command and return its JSON."""

    def run(options: str) -> Measured:
        outcome = call(f"bench {options} --json -")
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        found: Measured = json.loads(outcome.out)
        return found

    return run


Bench = Callable[[str], Measured]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of every part of lenet5 on digits with random weights."""
    place = tmp_path_factory.mktemp("bench") / "run"
    options = (
        f"--model lenet5 --data digits {ALL_PARTS} --images 40 {ONE} --json {place.parent}/copy.json --out {place}"
    )
    assert cli.run(["bench", *options.split()]) == 0
    return place


@pytest.fixture(scope="module")
def parts(folder: Path) -> Measured:
    """What the run measured."""
    found: Measured = json.loads((folder / "bench.json").read_text())
    return found


def _by_part(found: Measured) -> dict[str, Any]:
    return {row["part"]: row for row in found["rows"]}


def test_every_part_has_one_row_that_says_what_was_measured(parts: Measured) -> None:
    rows = _by_part(parts)
    assert list(rows) == ["full", "last=1", "last=2", "similarity", "profile", "merge", "routing", "kept=50"]
    assert len(parts["rows"]) == len(rows)
    for row in rows.values():
        assert (row["model"], row["weights"], row["data"], row["threads"]) == ("lenet5", "random, seed 0", "digits", 1)
        expected = ["channel"] if row["part"] in ("routing", "kept=50") else ["neuron", "synapse", "weight"]
        assert row["kinds"] == expected
    assert {part: row["batch"] for part, row in rows.items()} == {**dict.fromkeys(rows, 2), "merge": None}


def test_ratios_follow_from_the_times_of_a_single_round(parts: Measured) -> None:
    rows = _by_part(parts)
    full, partial, similarity = rows["full"], rows["last=2"], rows["similarity"]
    assert full["ratio"] == pytest.approx(full["extraction ms"] / full["forward ms"])
    assert not full["with forward"]
    with_forward = partial["recorded ms"] + partial["extraction ms"]
    assert partial["ratio"] == pytest.approx(with_forward / partial["forward ms"])
    assert partial["with forward"]
    assert similarity["ratio"] == pytest.approx(similarity["similarity ms"] / similarity["forward and path ms"])
    routing = rows["routing"]
    assert routing["ratio"] == pytest.approx(routing["routing ms"] / routing["passes ms"])
    assert routing["ratio, channels together"] == pytest.approx(
        routing["routing ms"] / routing["passes, channels together ms"]
    )
    kept = rows["kept=50"]
    assert kept["ratio"] == pytest.approx(kept["runtime ms"] / kept["dense ms"])
    assert kept["masked over dense"] == pytest.approx(kept["masked ms"] / kept["dense ms"])
    assert kept["over all on"] == pytest.approx(kept["runtime ms"] / kept["all on ms"])
    assert kept["filters"] == pytest.approx(0.5, abs=0.1)
    assert 0 < kept["MACs"] < 1
    for row in (full, partial, similarity, rows["merge"], routing, kept):
        assert row["ratio low"] == row["ratio"] == row["ratio high"] > 0
    assert full["ns each"] == pytest.approx(1e6 * full["extraction ms"] / full["contributions"])
    assert full["ms per image"] == pytest.approx(full["extraction ms"] / 2)


def test_the_last_layer_looks_at_one_neurons_inputs_an_image(parts: Measured) -> None:
    rows = _by_part(parts)
    assert rows["last=1"]["contributions"] == 2 * 84
    assert 2 <= rows["last=1"]["synapses"] <= rows["last=1"]["contributions"]
    for name in ("contributions", "synapses"):
        assert rows["last=1"][name] < rows["last=2"][name] < rows["full"][name]


def test_shares_name_layer_families_and_sum_to_one(parts: Measured) -> None:
    for part in ("full", "last=2"):
        shares = _by_part(parts)[part]["shares"]
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0
        assert {"linear", "bookkeeping"} <= set(shares) <= {*RULES, "bookkeeping"}
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert "convolution" not in _by_part(parts)["last=2"]["shares"]


def test_a_profile_row_adds_reading_building_and_writing(parts: Measured) -> None:
    row = _by_part(parts)["profile"]
    assert row["images"] == 40
    assert 0 < row["correct"] <= 40
    assert 0 < row["classes"] <= 10
    assert row["seconds"] == pytest.approx(row["read s"] + row["build s"] + row["write s"])
    assert row["ms per image"] == pytest.approx(1000 * row["seconds"] / 40)


def test_merging_reads_two_packed_paths_and_writes_one(parts: Measured) -> None:
    row = _by_part(parts)["merge"]
    path = EffectivePath().extract(Graph(load_model("lenet5"), torch.zeros(1, 1, 28, 28)), torch.rand(1, 1, 28, 28))[0]
    words = sum(-(-part.size // 64) for part in path.sites.values())
    assert row["moved MB"] == pytest.approx(3 * 8 * words / 1e6)
    assert row["merge GB/s"] == pytest.approx(row["moved MB"] / row["merge ms"])
    assert row["of copy"] == pytest.approx(row["copy ms"] / row["merge ms"])


def test_a_run_holds_the_same_as_the_json(parts: Measured, folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {"config.json", "bench.json", "bench.csv"}
    assert json.loads((folder.parent / "copy.json").read_text()) == parts
    with open(folder / "bench.csv") as stream:
        table = list(csv.DictReader(stream))
    assert [row["part"] for row in table] == [row["part"] for row in parts["rows"]]
    assert float(table[0]["ratio"]) == parts["rows"][0]["ratio"]
    assert parts["command"].startswith("netpaths bench --model lenet5 --data digits")
    assert parts["settings"]["theta"] == 0.5
    first = parts["models"][0]
    assert first["first s"] >= first["compiling s"] >= 0
    assert (first["model"], first["layers"]) == ("lenet5", 5)


def test_weights_belong_to_the_network_they_are_given_for(bench: Bench, tmp_path: Path) -> None:
    file = save_weights(load_model("lenet5"), tmp_path / "trained.safetensors")
    found = bench(f"--model lenet5 --model lenet300-100 --weights lenet5={file} --part merge --seed 3 {ONE}")
    said = {row["model"]: row["weights"] for row in found["rows"]}
    assert said == {"lenet5": "real: trained.safetensors", "lenet300-100": "random, seed 3"}
    alone = bench(f"--model lenet5 --weights {file} --part merge {ONE}")
    assert alone["rows"][0]["weights"] == "real: trained.safetensors"


def test_images_come_in_the_size_of_the_network(bench: Bench) -> None:
    found = bench(f"--model resnet20 --data digits --part last=1 --theta 0.9 --kind weight {ONE}")
    row = found["rows"][0]
    assert row["contributions"] == 2 * 64
    assert row["kinds"] == ["weight"]


def test_batches_and_models_multiply_and_threads_are_as_before(bench: Bench) -> None:
    before = torch.get_num_threads()
    found = bench("--model lenet5 --model lenet300-100 --part last=1 --batch 1 --batch 3 --threads 1 --repeats 1")
    assert [(row["model"], row["batch"]) for row in found["rows"]] == [
        (model, batch) for model in ("lenet5", "lenet300-100") for batch in (1, 3)
    ]
    assert torch.get_num_threads() == before


def test_curves_have_their_values_files_and_notes(bench: Bench, tmp_path: Path) -> None:
    chosen = " ".join(f"--curve {curve}" for curve in CURVES)
    found = bench(f"--model lenet5 {chosen} {ONE} --out {tmp_path / 'run'}")
    assert found["rows"] == []
    values = {name: [row["value"] for row in found["curves"] if row["curve"] == name] for name in CURVES}
    assert values["theta"] == pytest.approx([tenth / 10 for tenth in range(1, 11)])
    assert values["batch"] == [1, 2, 4, 8, 16, 32]
    assert values["depth"] == [1, 2, 3, 5]
    assert values["size"] == [28]
    assert [note.partition(":")[0] for note in found["notes"]] == [
        f"lenet5 takes no images of {size} × {size}" for size in (7, 10, 14, 17, 21, 24)
    ]
    for curve in ("theta", "depth"):
        synapses = [row["synapses"] for row in found["curves"] if row["curve"] == curve]
        assert synapses == sorted(synapses)
    full = [row["contributions"] for row in found["curves"] if row["value"] in (5, 28)]
    assert len(set(full)) == 1
    names = {f"curve-{curve}.{ending}" for curve in CURVES for ending in ("csv", "svg", "png")}
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"config.json", "bench.json", *names}


def test_a_network_of_free_size_is_measured_at_all_sizes(bench: Bench) -> None:
    found = bench("--model resnet20 --curve size --batch 1 --threads 1 --repeats 1")
    assert [row["value"] for row in found["curves"]] == [8, 12, 16, 20, 24, 28, 32]
    assert found["notes"] == []


def test_tables_are_printed(call: Call) -> None:
    outcome = call(f"bench --model lenet5 --part full --part merge {ONE}")
    assert outcome.code == 0, outcome.err
    for name in ("full", "memory", "merge"):
        assert TABLES[name].title in outcome.out
    assert TABLES["partial"].title not in outcome.out


def test_the_preset_profiles_where_there_is_data(bench: Bench) -> None:
    found = bench("--preset targets --model lenet5 --data lenet5=digits --images 30 --threads 1 --batch 8")
    assert [(row["part"], row["images"], row["batch"]) for row in found["rows"]] == [("profile", 30, 8)]


def test_the_preset_is_the_table_of_targets() -> None:
    everything = target_cases(list(TARGETS), [], [], [], None, ["resnet20", "lenet5"])
    full = {case.model for case in everything if case.part == FULL}
    assert len(full) == 7
    assert {(case.batch, case.threads) for case in everything if case.part == FULL} == {(1, 1), (1, 2), (8, 1), (8, 2)}
    profiled = {case.model: (case.images, case.kinds) for case in everything if case.part == PROFILE}
    assert profiled == {"lenet5": (60_000, None), "resnet20": (20_000, ("synapse", "weight"))}
    partial = {case.model: case.part.last for case in everything if case.part.name == "last"}
    assert partial == {"torchvision:alexnet": 3, "torchvision:resnet50": 10}
    without = target_cases(list(TARGETS), [], [], [], None, [])
    assert not [case for case in without if case.part == PROFILE]
    assert all(case.threads == 1 for case in target_cases(["resnet20"], [FULL], [], [1], None, []))


def test_an_interrupted_run_keeps_its_rows(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netpaths import benchmark

    def first_alone(case: Case, *rest: Any) -> dict[str, Any]:
        if case.batch == 2:
            raise KeyboardInterrupt
        return measure(case, *rest)

    measure = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", first_alone)
    outcome = call(f"bench --model lenet5 --batch 1 {ONE} --out {tmp_path / 'run'}")
    assert outcome.code == 130
    assert "interrupted: what was measured so far is in" in outcome.err
    assert [row["batch"] for row in json.loads((tmp_path / "run" / "bench.json").read_text())["rows"]] == [1]


MISTAKES = {
    "unknown part": (
        "--part ful",
        "--part is 'ful', expected full, last=N, similarity, profile, merge, routing, kept=PERCENT",
    ),
    "part without its number": ("--part last", "--part is 'last', N of last=N must be a whole number from 1"),
    "no layer": ("--part last=0", "--part is 'last=0', N of last=N must be a whole number from 1"),
    "no number": ("--part last=two", "--part is 'last=two'"),
    "more than all filters": ("--part kept=101", "PERCENT of kept=PERCENT must be a whole number from 1 to 100"),
    "unknown curve": ("--curve heat", "--curve is 'heat', expected theta, batch, depth, size"),
    "unknown preset": ("--preset target", "--preset is 'target', expected targets"),
    "model beyond the preset": ("--preset targets --model lenet300-100", "the preset does not measure lenet300-100"),
    "nothing of the preset": ("--preset targets --model lenet5", "no row of the preset is left", "--data MODEL=DATA"),
    "weights of any model": (
        "--model lenet5 --model resnet20 --weights w.safetensors",
        "--weights w.safetensors could be any network's; write MODEL=…, MODEL one of lenet5, resnet20",
    ),
    "weights of another model": (
        "--model lenet5 --model resnet20 --weights lenet=w.safetensors",
        "could be any network's",
    ),
    "weights given twice": (
        "--model lenet5 --weights lenet5=a.safetensors --weights lenet5=b.safetensors",
        "--weights is given twice for lenet5",
    ),
    "data given twice": ("--data digits --data digits", "--data is given twice"),
    "missing weights": ("--model lenet5 --weights none.safetensors", "there is no weights file none.safetensors"),
    "unknown model": ("--model lenet", "there is no model 'lenet'; nearest: lenet5"),
    "unknown data": ("--model lenet5 --data digit", "there is no data 'digit'"),
    "profile without data": ("--model lenet5 --part profile", "--part profile needs labelled images; give --data"),
    "unknown kind": ("--kind neurons", "--kind is 'neurons'"),
    "no batch": ("--batch 0", "invalid value for '--batch'"),
    "no images": ("--images 0", "invalid value for '--images'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(call: Call, tmp_path: Path, mistake: str) -> None:
    options, *expected = MISTAKES[mistake]
    outcome = call(f"bench {options} --threads 1 --repeats 1 --quiet --out {tmp_path / 'out'}")
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("netpaths: error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    for text in expected:
        assert text in outcome.err
    assert not (tmp_path / "out").exists()


def test_parts_are_written_as_they_are_read() -> None:
    for text in ("full", "last=12", "similarity", "profile", "merge", "routing"):
        assert str(parse_part(text)) == text
    found = cases(["a"], [FULL, PROFILE, Part("merge")], [2, 8], [1])
    assert [(str(case.part), case.batch) for case in found] == [
        ("full", 2),
        ("full", 8),
        ("profile", 8),
        ("merge", None),
    ]


def test_a_value_is_a_models_own_or_everyones() -> None:
    given = by_model("--data", ["digits", "b=mnist:x?y=z"], ["a", "b"], shared=True)
    assert (given.of("a"), given.of("b")) == ("digits", "mnist:x?y=z")
    assert by_model("--weights", ["x=y.safetensors"], ["a"]).of("a") == "x=y.safetensors"
    assert by_model("--weights", [], ["a"]).of("a") is None
    with pytest.raises(BadOption, match="given twice for a"):
        by_model("--weights", ["a=x", "a=y"], ["a", "b"])


def test_stages_take_what_the_one_before_returned() -> None:
    seen: list[object] = []
    times = rounds({"first": lambda given: seen.append(given) or 7, "second": seen.append}, 3, CPU)
    assert seen == [None, 7] * 4
    assert {name: len(own) for name, own in times.items()} == {"first": 3, "second": 3}
    found = ratio(np.array([2.0, 8.0, 6.0]), np.array([1.0, 2.0, 2.0]))
    assert found == {"ratio": 3, "ratio low": 2.5, "ratio high": 3.5}


def test_timed_rules_are_taken_back_after_an_exception() -> None:
    def broken() -> None:
        with timed_rules(CPU):
            assert RULES["linear"] is not before["linear"]
            raise ZeroDivisionError

    before = dict(RULES)
    with pytest.raises(ZeroDivisionError):
        broken()
    assert before == RULES


def test_timed_rules_select_the_same_paths() -> None:
    graph, images = Graph(load_model("lenet5"), torch.zeros(1, 1, 28, 28)), torch.rand(2, 1, 28, 28)
    plain = EffectivePath().extract(graph, images)
    with timed_rules(CPU) as seconds:
        timed, found = clocked(lambda: EffectivePath().extract(graph, images), CPU)
    assert all(first.equals(second) for first, second in zip(plain, found))
    assert 0 < sum(seconds.values()) <= timed
    assert {"linear", "convolution", "max pooling"} <= set(seconds)


def test_what_is_compiled_is_named_once() -> None:
    from numba import njit

    @njit
    def fresh(number: int) -> int:
        return number + 1

    with compilations() as compiled:
        assert fresh(1) == 2
        assert fresh(2) == 3
    (name, seconds), *rest = compiled
    assert name.endswith("fresh")
    assert seconds > 0
    assert rest == []


def test_the_peak_is_what_was_held_at_once() -> None:
    size = 40_000_000
    found = peak(lambda: np.ones(size, np.uint8), CPU)
    if found is None:
        pytest.skip("this system does not tell the peak of memory")
    assert found == pytest.approx(size / 1e6, rel=0.1)
    freed = peak(lambda: [np.ones(size, np.uint8).sum() for _ in range(3)], CPU)
    assert freed == pytest.approx(size / 1e6, rel=0.1)


def test_speed_ups_compare_the_same_work_with_the_fewest_threads() -> None:
    def row(part: str, threads: int, batch: int, ms: float) -> dict[str, Any]:
        return {"model": "a", "part": part, "batch": batch, "threads": threads, "extraction ms": ms}

    rows = [row("full", 2, 8, 6.0), row("full", 1, 8, 9.0), row("full", 1, 1, 2.0), row("last=2", 2, 8, 1.0)]
    assert [each.get("speed-up") for each in with_speed_ups(rows)] == [1.5, 1.0, None, None]


def test_the_figure_has_a_line_a_network_and_the_same_bytes_twice() -> None:
    rows = [
        {"model": name, "curve": "depth", "value": value, "batch": 2, "extraction ms": value, "forward ms": 1.0}
        | {"ratio": float(value)}
        for name in ("lenet5", "resnet20")
        for value in (1, 2, 5)
    ]
    figure = cost_figure(rows)
    assert [len(axes.lines) for axes in figure.axes] == [2 * 2 + 2, 2]
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.5, 1, 2.5]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "lenet5", "resnet20", "extraction", "forward pass",
    ]  # fmt: skip
    assert svg_bytes(figure) == svg_bytes(cost_figure(rows))


@pytest.fixture
def performance_page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/performance_page.py as a module."""
    monkeypatch.syspath_prepend(str(DOCS))
    return import_module("performance_page")


RESULT = {
    "command": "netpaths bench --model lenet5 --weights lenet5=/a/b/w.safetensors --data "
    "'folder:/a/b/images?classes=/c/d.json' --out /e/fast",
    "machine": {"processor": "P", "cpus": 2, "gpu": None, "versions": {"torch": "2"}},
    "settings": {"theta": 0.5, "kinds": ["weight"], "repeats": 5},
    "models": [
        {"model": "lenet5", "weights": "w", "data": "digits", "first s": 1.0, "compiling s": 0.5, "later s": 0.1}
    ],
    "rows": [
        {"model": "lenet5", "weights": "real: w.safetensors", "data": "folder:/a/b/images?classes=/c/d.json"}
        | {"part": "full", "batch": 8, "threads": 1, "extraction ms": 1234.5, "ratio": 1.2345, "contributions": 1234567}
        | {"shares": {"linear": 0.7, "bookkeeping": 0.3, "addition": 0.001}}
    ],
    "curves": [],
}  # fmt: skip


def test_a_page_is_filled_between_its_marks(performance_page: ModuleType) -> None:
    kept = "<!-- table: slow/full -->\nold\n<!-- end -->"
    shares = "<!-- table: fast/shares -->\nx\n<!-- end -->"
    page = f"# P\n\n<!-- table: fast/full -->\n<!-- end -->\n\nText.\n\n{kept}\n{shares}"
    text = performance_page.with_tables(page, {"fast": RESULT})
    assert kept in text
    assert "| lenet5 | real: w.safetensors | folder:images | 8 | 1 | 1,234 | 1.23 |" in text
    assert "| 1,234,567 | linear 70%, bookkeeping 30% |" in text
    command = "netpaths bench --model lenet5 --weights lenet5=WEIGHTS/w.safetensors --data "
    assert f"Made by `{command}folder:DATA/images?classes=DATA/d.json --out RUNS/fast`." in text
    assert performance_page.with_tables(text, {"fast": RESULT}) == text
    with pytest.raises(SystemExit, match="no table 'merge'"):
        performance_page.with_tables("<!-- table: fast/merge -->\n<!-- end -->", {"fast": RESULT})


def test_a_new_page_has_every_table_of_a_run(performance_page: ModuleType) -> None:
    text = performance_page.with_tables(performance_page.skeleton({"fast": RESULT}), {"fast": RESULT})
    for name in ("full", "memory", "shares", "first use"):
        assert f"<!-- table: fast/{name} -->" in text
        assert table_rows(name, RESULT)
    assert "fast/merge" not in text
    assert "/a/b" not in text
