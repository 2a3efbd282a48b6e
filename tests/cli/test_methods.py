"""Every notion of path on the command line: profiles, traces, detectors and comparisons of channels, and mistakes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from netpaths import Graph, Profile, cli, load_path
from netpaths import Path as NetPath
from netpaths.cli import study_cdrp, study_effective_path, study_head_to_head
from netpaths.data import load_data
from netpaths.detection import Features, load_detector
from netpaths.methods import Activation, DistillationGuidedRouting, EffectivePath, MarginalContribution
from netpaths.path import union
from netpaths.similarity import image_class_similarity, jaccard, total_similarity
from netpaths.zoo import load_model

from .conftest import Call, Outcome

MODEL = "--model lenet5 --weights runs/lenet5"
ROUTING = DistillationGuidedRouting(steps=5, gamma=0.1)
SPELLED = "routing:steps=5,gamma=0.1"
STUDIES = {"cdrp": study_cdrp, "head-to-head": study_head_to_head, "effective-path": study_effective_path}


@pytest.fixture(scope="module")
def runs(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile of gates and a detector calibrated on the world's attacks with it."""
    folder = tmp_path_factory.mktemp("gates")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        for command in (
            f"profile {MODEL} --data digits --limit 100 --method {SPELLED} --out {folder}/profile",
            f"calibrate {MODEL} --profile {folder}/profile --attacks runs/attacks --fpr 0.2 --out {folder}/detector",
        ):
            assert cli.run(shlex.split(command)) == 0
    return folder


@pytest.fixture(scope="module")
def graph(world: Path) -> Graph:
    """The world's network."""
    return Graph(load_model("lenet5", world / "runs/lenet5/model.safetensors"), torch.zeros(1, 1, 28, 28))


def digit(index: int) -> Tensor:
    """A test image by its position: (1, 1, 28, 28)."""
    return load_data("digits", "test")[index : index + 1][0]


def united(method: object, graph: Graph, limit: int) -> dict[int, NetPath]:
    """The class paths of ``limit`` training images, one image at a time."""
    images, labels = load_data("digits", "train", limit=limit, seed=0)[:]
    found: dict[int, list[NetPath]] = {}
    for image, label in zip(images, labels.tolist()):
        (path,) = method.extract(graph, image[None])  # type: ignore[attr-defined]
        if int(graph.run(image[None]).predicted) == label:
            found.setdefault(label, []).append(path)
    return {label: union(paths) for label, paths in found.items()}


def assert_alike(first: NetPath, second: NetPath) -> None:
    """The same elements with the same values, up to the rounding of batches of another size."""
    assert set(first) == set(second)
    for site, part in first.items():
        assert part.members().tolist() == second[site].members().tolist()
        assert np.allclose(part.member_values(), second[site].member_values(), atol=1e-4)


# --- profiles --------------------------------------------------------------------------------------------------------


def test_a_profile_of_gates_unites_the_gates_of_correct_images(inside: Path, runs: Path, graph: Graph) -> None:
    made = Profile.load(runs / "profile" / "profile.safetensors")
    assert made.method == ROUTING.describe()
    assert made.overall().kinds() == ("channel",)
    expected = united(ROUTING, graph, 100)
    assert list(made) == sorted(expected)
    for label, path in expected.items():
        assert_alike(made[label], path)
        assert made[label].layers == ("conv1", "conv2")
    config = json.loads((runs / "profile" / "config.json").read_text())
    assert config["options"]["method"] == SPELLED


def test_a_profile_of_chosen_neurons(inside: Path, call: Call, graph: Graph, tmp_path: Path) -> None:
    text = "activation:share=0.2,kind=neuron,layers=relu1+relu3"
    command = f"profile {MODEL} --data digits --limit 40 --method {text} --out {tmp_path / 'run'} --allow-empty"
    outcome = call(command)
    assert outcome.code == 0, outcome.err
    made = Profile.load(tmp_path / "run" / "profile.safetensors")
    method = Activation(share=0.2, kind="neuron", layers=("relu1", "relu3"))
    assert made.method == method.describe()
    assert made.overall().nodes("neuron") == ("relu1", "relu3")
    assert made.overall().kinds() == ("neuron",)
    expected = united(method, graph, 40)
    assert list(made) == sorted(expected)
    for label, path in expected.items():
        assert_alike(made[label], path)
    header, rows = table_rows(outcome.out.partition("Density")[2])
    selected, total = len(made.overall()["relu1", "neuron"]) + len(made.overall()["relu3", "neuron"]), 6 * 784 + 120
    assert header == ["layer", "kind", "selected", "total", "density"]
    assert rows == [["overall", "neuron", str(selected), str(total), f"{selected / total:.4g}"]]


def test_presets_and_other_options_reach_the_profile(inside: Path, call: Call, tmp_path: Path) -> None:
    for number, (text, name, expected) in enumerate(
        [
            ("aar", "activation", {"share": None, "kind": "channel", "relative": True}),
            ("aar:relative=no,layers=conv2", "activation", {"share": None, "relative": False, "layers": ["conv2"]}),
            ("awr:step=0.25", "weight", {"share": None, "step": 0.25}),
            ("effective:theta=0.8,kinds=weight", "effective", {"theta": 0.8, "kinds": ["weight"]}),
            ("integrated-gradients:points=2,binary=yes", "integrated-gradients", {"points": 2, "binary": True}),
        ]
    ):
        out = tmp_path / str(number)
        outcome = call(f"profile {MODEL} --data digits --limit 10 --method {text} --out {out} --allow-empty")
        assert outcome.code == 0, outcome.err
        method = Profile.load(out / "profile.safetensors").method
        assert {option: method[option] for option in ("name", *expected)} == {"name": name, **expected}


# --- traces ----------------------------------------------------------------------------------------------------------


def table_rows(text: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the first printed table: cells stand two spaces or more apart."""
    lines = text.splitlines()
    rule = next(place for place, line in enumerate(lines) if set(line.strip()) == {"─"})
    body = lines[rule + 1 :]
    end = next(place for place, line in enumerate([*body, ""]) if not line.strip())
    cells = [re.split(r"\s{2,}", line.strip()) for line in [lines[rule - 1], *body[:end]]]
    return cells[0], cells[1:]


def test_trace_with_a_profile_of_gates(inside: Path, call: Call, runs: Path, graph: Graph, tmp_path: Path) -> None:
    out = tmp_path / "run"
    common = f"trace --data digits --index 7 {MODEL} --profile {runs}/profile"
    outcome = call(f"{common} --out {out}")
    assert outcome.code == 0, outcome.err
    (expected,) = ROUTING.extract(graph, digit(7))
    header, rows = table_rows(outcome.out)
    assert header == ["layer", "channels", "of all channels", "inside class path"]
    assert [row[:3] for row in rows] == [
        [node, str(len(expected[node, "channel"])), f"{expected.densities('channel')[node]:.2%}"]
        for node in ("conv1", "conv2")
    ]
    path = load_path(out / "path.safetensors")
    assert path.kinds() == ("channel",)
    assert path.equals(expected)
    assert path.method == ROUTING.describe()
    page = (out / "trace.html").read_text()
    assert "Put a gate on every channel of the routed layers" in page
    assert "Of the gates met in 5 such steps" in page
    assert "Keep the smallest set of those inputs" not in page
    assert "synapse" not in page.partition("<style")[0] + page.partition("</style>")[2]


def test_the_json_of_a_trace_of_gates(inside: Path, call: Call, runs: Path, graph: Graph) -> None:
    found = json.loads(call(f"trace --data digits --index 7 {MODEL} --profile {runs}/profile --json -").out)
    (path,) = ROUTING.extract(graph, digit(7))
    profile = Profile.load(runs / "profile" / "profile.safetensors")
    assert found["predicted"] == found["seed"] == path.predicted
    assert found["label"] == int(load_data("digits", "test").labels[7])
    assert found["class_similarity"] == pytest.approx(
        {str(label): total_similarity(path, profile[label]) for label in profile}
    )
    shares = image_class_similarity(path, profile[path.seed])
    assert set(shares) == {"conv1", "conv2"}
    for row in found["layers"]:
        part = path[row["node"], row["kind"]]
        assert (row["kind"], row["selected"], row["total"]) == ("channel", len(part), part.total)
        assert row["density"] == pytest.approx(len(part) / part.total)
        assert row["similarity"] == pytest.approx(shares[row["node"]])


@pytest.mark.parametrize(
    ("text", "method", "said"),
    [
        ("contribution", MarginalContribution(), "judged by what weakening it slightly does"),
        ("contribution:share=0.5,layers=relu3+conv1", MarginalContribution(0.5, layers=("relu3", "conv1")), "50%"),
        ("aar", Activation(share=None), "1% at a time"),
        ("effective:theta=0.9,kinds=synapse", EffectivePath(theta=0.9, kinds=("synapse",)), "at least 90%"),
    ],
)
def test_trace_by_a_method(
    inside: Path, call: Call, graph: Graph, tmp_path: Path, text: str, method: EffectivePath, said: str
) -> None:
    outcome = call(f"trace --data digits --index 3 {MODEL} --method {text} --out {tmp_path / 'run'} --json -")
    assert outcome.code == 0, outcome.err
    (expected,) = method.extract(graph, digit(3))
    path = load_path(tmp_path / "run" / "path.safetensors")
    assert path.equals(expected)
    budget = {"budget": True} if "budget" in expected.method else {}
    assert path.method == {**expected.method, **budget}
    found = {(row["node"], row["kind"]): row["selected"] for row in json.loads(outcome.out)["layers"]}
    assert found == {(site.node, site.kind): len(part) for site, part in expected.items()}
    assert said in (tmp_path / "run" / "trace.html").read_text()


# --- detectors and comparisons ---------------------------------------------------------------------------------------


def test_a_detector_on_gates_checks_images_with_gates(inside: Path, call: Call, runs: Path, graph: Graph) -> None:
    detector, header = load_detector(runs / "detector" / "detector.safetensors")
    assert header["layers"] == ["conv1", "conv2"]
    assert header["method"] == ROUTING.describe()
    assert [tuple(name) for name in detector.names_] == [("conv1", 1), ("conv2", 1)]
    outcome = call(f"check photos {MODEL} --profile {runs}/profile --detector {runs}/detector --json -")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["images"]
    assert len(found) == 5
    profile = Profile.load(runs / "profile" / "profile.safetensors")
    images = load_data("digits", "test")[:5][0]
    pixels = (images * 255).round() / 255
    for row, image in zip(found, pixels):
        (path,) = ROUTING.extract(graph, image[None])
        assert row["predicted"] == path.predicted
        shares = image_class_similarity(path, profile[int(path.predicted or 0)])
        reasons = {reason["layer"]: reason["value"] for reason in row["reasons"]}
        assert reasons == pytest.approx(shares, abs=1e-4)
        assert row["flagged"] == (row["score"] > row["threshold"])


def test_features_of_gates_are_similarities_to_class_paths(inside: Path, runs: Path, graph: Graph) -> None:
    features = Features.load(runs / "detector" / "features.safetensors")
    assert set(features.attacks) == {"clean", "fgsm", "deepfool"}
    profile = Profile.load(runs / "profile" / "profile.safetensors")
    images = load_data("digits", "test")
    places = {identifier: place for place, identifier in enumerate(images.identifiers)}
    for row in np.flatnonzero(features.is_clean)[:6]:
        (path,) = ROUTING.extract(graph, digit(places[str(features.sources[row])]))
        shares = image_class_similarity(path, profile[int(features.predicted[row])])
        assert features.values[row] == pytest.approx([shares["conv1"], shares["conv2"]], abs=1e-4)


def test_compare_of_class_paths_of_gates(inside: Path, call: Call, runs: Path) -> None:
    found = json.loads(call(f"compare {runs}/profile --json -").out)
    profile = Profile.load(runs / "profile" / "profile.safetensors")
    matrix = np.array(found["matrix"])
    expected = [[jaccard(profile[row], profile[column]) for column in profile] for row in profile]
    assert found["classes"] == [list(profile)]
    assert np.allclose(matrix, expected)
    assert matrix[0, 1] == pytest.approx(by_hand(profile[0], profile[1]))
    same = json.loads(call(f"compare {runs}/profile --kind channel --json -").out)
    assert same["matrix"] == found["matrix"]


def by_hand(one: NetPath, other: NetPath) -> float:
    """Weighted Jaccard of all channels: Σ min over Σ max."""
    pairs = [(one.channels(node).float(), other.channels(node).float()) for node in ("conv1", "conv2")]
    least, most = (sum(float(take(*pair).sum()) for pair in pairs) for take in (torch.minimum, torch.maximum))
    return least / most


# --- mistakes --------------------------------------------------------------------------------------------------------

PROFILE = f"profile {MODEL} --data digits --limit 20 --out OUT"
TRACE = f"trace photo.png {MODEL} --out OUT"
GATED = f"{TRACE} --profile RUNS/profile"
CALIBRATE = f"calibrate {MODEL} --profile RUNS/profile --attacks runs/attacks --fpr 0.2 --out OUT"
BELONGS = "--theta, --last and --kind belong to effective paths; write --method routing:OPTION=VALUE,…"
MISTAKES = {
    "unknown method": (f"{PROFILE} --method rooting", "there is no method 'rooting'; nearest: routing", "aar, awr"),
    "unknown method of a trace": (f"{TRACE} --method gradients", "'gradients'; nearest: integrated-gradients"),
    "no name": (f"{PROFILE} --method :steps=5", "there is no method ''; nearest: none"),
    "part without =": (f"{PROFILE} --method routing:steps", "--method 'routing:steps': 'steps' is no OPTION=VALUE"),
    "second part without =": (f"{TRACE} --method routing:steps=5,fast", "'fast' is no OPTION=VALUE"),
    "unknown option": (f"{PROFILE} --method routing:stepz=5", "routing has no option 'stepz'; it has steps, lr, mom"),
    "option of another method": (f"{PROFILE} --method weight:relative=no", "weight has no option 'relative'"),
    "wrong value": (f"{PROFILE} --method routing:steps=5.5", "steps of routing is '5.5', expected a whole number"),
    "no value": (f"{PROFILE} --method routing:gamma=", "gamma of routing is '', expected a number"),
    "wrong word": (f"{PROFILE} --method routing:start=zero", "start of routing is 'zero', expected ones or random"),
    "out of range": (f"{PROFILE} --method routing:gamma=-1", "gamma of routing is -1, which is out of range"),
    "no number": (f"{PROFILE} --method routing:lr=nan", "lr of routing is nan, which is out of range"),
    "share out of range": (f"{TRACE} --method aar:share=2", "share must lie in (0, 1], or be None to remove units"),
    "unknown layer": (f"{PROFILE} --method routing:layers=convo1", "there is no node 'convo1'; nearest: conv1"),
    "no layers": (f"{PROFILE} --method routing:layers=+", "layers must name at least one node, each once, not none"),
    "layer without a weight": (f"{PROFILE} --method awr:layers=relu1", "relu1 has no weight and so no weight norm"),
    "theta of gates": (f"{PROFILE} --theta 0.9 --method routing", BELONGS),
    "last of gates": (f"{PROFILE} --last 2 --method routing", BELONGS),
    "kind of gates": (f"{PROFILE} --kind weight --method routing", BELONGS),
    "theta of gates in a trace": (f"{TRACE} --theta 0.9 --method routing:steps=5", BELONGS),
    "rank of gates": (
        f"{TRACE} --rank 2 --method routing",
        "--rank is 2, but routing paths are of the predicted class",
    ),
    "rank with a profile of gates": (f"{GATED} --rank 2", "--rank is 2, but routing paths are of the predicted class"),
    "method against the profile": (
        f"{TRACE} --method routing --profile runs/profile",
        "--method is 'routing' but --profile says that its paths are effective; leave it out",
    ),
    "method beside a profile of gates": (
        f"{GATED} --method {SPELLED}",
        f"--method is '{SPELLED}' but --profile says that its paths are routing; leave it out",
    ),
    "theta with a profile of gates": (
        f"{GATED} --theta 0.9",
        "--theta is 0.9 but the profile was made with routing paths, which have none; leave it out",
    ),
    "last with a profile of gates": (f"{GATED} --last 2", "--last is 2 but the profile was made with routing paths"),
    "synapses of gates": (f"{CALIBRATE} --kind synapse", "--kind is 'synapse', the profile's paths have channel"),
    "layer that is not routed": (
        f"{CALIBRATE} --layers relu1",
        "relu1 is no layer that the paths compare; these are conv1, conv2",
    ),
    "comparison of synapses of gates": (
        "compare RUNS/profile --kind synapse --out OUT",
        "--kind is 'synapse', the profile's paths have channel",
    ),
    "comparison of synapses that one profile lacks": (
        "compare runs/profile RUNS/profile --kind synapse --out OUT",
        "--kind is 'synapse', the profile's paths have channel",
    ),
    "comparison of a kind that is none": ("compare runs/profile --kind neurons", "--kind is 'neurons', the profile's"),
    "gates against effective paths": ("compare RUNS/profile runs/profile --out OUT", "share no kind of site"),
    "detector of another notion": (
        f"check photo.png {MODEL} --profile RUNS/profile --detector runs/detector",
        "was made for another profile",
    ),
}


@pytest.fixture
def fails(inside: Path, call: Call, runs: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Run a command that must fail; ``OUT`` in it is a folder that must stay away, ``RUNS`` that of the gates."""

    def run(command: str, *expected: str) -> Outcome:
        out = tmp_path / "out"
        outcome = call(command.replace("OUT", str(out)).replace("RUNS", str(runs)))
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("netpaths: error: ")
        assert outcome.err.count("\n") == 1, outcome.err
        for text in expected:
            assert text in outcome.err
        assert not out.exists(), list(out.iterdir())
        return outcome

    return run


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(fails: Callable[..., Outcome], mistake: str) -> None:
    fails(*MISTAKES[mistake])


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", STUDIES)
def test_help_of_a_study_names_every_option_with_its_default_and_examples(call: Call, study: str) -> None:
    outcome = call("study", study, "--help")
    assert outcome.code == 0
    assert all(example in outcome.out for example in STUDIES[study].EXAMPLES)
    assert len(STUDIES[study].EXAMPLES) >= 2
    options = outcome.out.partition("Options:")[2].partition("Examples:")[0]
    found = re.split(r"\n  (?=--)", options)[1:]
    assert len(found) > 15
    for option in found:
        takes_a_value = re.match(r"--[\w-]+ [A-Z<]", option) is not None
        told = any(mark in " ".join(option.split()) for mark in ("[default: ", "[required]", "--json"))
        assert told or not takes_a_value, option


@pytest.mark.parametrize("study", STUDIES)
def test_examples_of_a_study_are_commands_of_it(call: Call, study: str) -> None:
    """They are parsed and their plan is possible: nothing is wrong with them but a device that is not there."""
    for example in STUDIES[study].EXAMPLES:
        words = shlex.split(example)
        assert words[:3] == ["netpaths", "study", study]
        outcome = call(*words[1:], "--device", "nowhere")
        assert outcome.code == 2
        assert outcome.err == "netpaths: error: there is no device 'nowhere'; use cpu, cuda, cuda:1, … or auto\n"


def test_the_studies_are_listed(call: Call) -> None:
    outcome = call("study", "--help")
    assert outcome.code == 0
    for study in STUDIES:
        assert re.search(rf"^  {study} +\w", outcome.out, re.MULTILINE)


def test_every_method_is_named_in_the_help(call: Call) -> None:
    from netpaths.methods.registry import METHODS, PRESETS

    text = " ".join(call("profile", "--help").out.split())
    for name in (*METHODS, *PRESETS):
        assert re.search(rf"[ ,:]{name}[ ,.]", text), name


def test_a_rank_in_the_method_is_the_traced_one(inside: Path, call: Call) -> None:
    first, second = (
        json.loads(call(f"trace --data digits --index 3 {MODEL} {options} --json -").out)["seed"]
        for options in ("", "--method effective:rank=2")
    )
    assert first != second
    named = json.loads(call(f"trace --data digits --index 3 {MODEL} --rank 2 --json -").out)["seed"]
    assert named == second


def test_an_option_given_twice_is_refused(inside: Path, call: Call, tmp_path: Path) -> None:
    outcome = call(f"profile {MODEL} --data digits --method effective:theta=0.9 --theta 0.7 --out {tmp_path / 'run'}")
    assert outcome.code == 2
    assert "theta is given by --method and by an option of its own" in outcome.err
    outcome = call(f"profile {MODEL} --data digits --method effective:kinds= --out {tmp_path / 'run'}")
    assert outcome.code == 2
    assert "effective paths need at least one kind of site" in outcome.err
    assert not (tmp_path / "run").exists()
