"""Figures: right numbers, no warnings for odd input, and a deterministic file."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from netpaths.detection import Features, auroc
from netpaths.graph import Graph
from netpaths.methods import EffectivePath
from netpaths.path import Path
from netpaths.report import Example, Findings, Flagged
from netpaths.report.density_figures import ablation_figure, density_figure, growth_figure
from netpaths.report.detection_figures import auroc_figure, flagged_figure, roc_figure, roc_points, score_figure
from netpaths.report.path_picture import LAYERS, input_panel, path_figure, picture, shown_layers
from netpaths.report.similarity_figures import (
    class_matrix_figure,
    class_similarity_figure,
    image_layers_figure,
    layer_similarity_figure,
)
from netpaths.report.style import png_bytes, svg_bytes

from .conftest import CLASSES, make_features


def texts(figure: Figure) -> list[str]:
    """Every text of a figure."""
    from matplotlib.text import Text

    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def test_a_path_picture_counts_what_the_path_selects(example: Example) -> None:
    figure = path_figure(example, CLASSES)
    written = "\n".join(texts(figure))
    for layer in ("conv1", "conv2", "fc"):
        elements = example.path[layer, "neuron"]
        assert layer in written
        assert f"{len(elements)} of {elements.total}" in written
    pixels = input_panel(example)
    assert pixels is not None
    assert f"{pixels.selected} of {8 * 8 * 3}" in written
    assert len(figure.axes) == 5


def test_a_partial_path_has_no_pixels(graph: Graph, images: torch.Tensor) -> None:
    path = EffectivePath(last=1).extract(graph, images[:1])[0]
    example = Example(images[0], path, -1)
    assert input_panel(example) is None
    assert "pixels" not in texts(path_figure(example, CLASSES))


@pytest.mark.parametrize("kinds", [("weight",), ("synapse",), ("neuron",)])
def test_every_kind_of_path_can_be_drawn(graph: Graph, images: torch.Tensor, kinds: tuple[str, ...]) -> None:
    path = EffectivePath(kinds=kinds).extract(graph, images[:1])[0]
    assert svg_bytes(path_figure(Example(images[0], path, 0), CLASSES))


def test_a_deep_path_is_sampled_and_says_so(example: Example) -> None:
    deep = {(f"layer{i}", "neuron"): example.path["fc", "neuron"] for i in range(20)}
    path = Path(deep, 0, 0, layers=tuple(f"layer{i}" for i in range(20)))  # type: ignore[arg-type]
    layers, count = shown_layers(path)
    assert (len(layers), count) == (LAYERS, 20)
    assert (layers[0], layers[-1]) == ("layer0", "layer19")
    assert f"{LAYERS} of 20 layers shown, evenly spaced" in texts(path_figure(replace(example, path=path), CLASSES))


@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 8)), (3, (8, 8, 3)), (4, (8, 8))])
def test_pictures_of_any_number_of_channels(channels: int, shape: tuple[int, ...]) -> None:
    assert picture(torch.rand(channels, 8, 8)).shape == shape


def test_roc_points_enclose_the_auroc() -> None:
    rng = np.random.default_rng(0)
    clean, attacked = rng.integers(0, 9, 60).astype(float), rng.integers(3, 12, 40).astype(float)
    false, true = roc_points(clean, attacked)
    area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
    truth = np.repeat([False, True], [60, 40])
    assert area == pytest.approx(auroc(np.concatenate([clean, attacked]), truth))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_roc_legend_holds_the_evaluated_auroc(findings: Findings) -> None:
    figure = roc_figure(findings.features, findings.scores["joint"], findings.alpha)
    written = "\n".join(texts(figure))
    rows = [row for row in findings.evaluation.results if row.detector == "joint" and row.kind == "attack"]
    assert rows
    for row in rows:
        assert f"AUROC {row.metrics['auroc'].value:.3f}, n = {row.n}" in written


def test_matrix_values_only_for_few_classes() -> None:
    small = np.full((3, 3), 0.25)
    assert ".25" in texts(class_matrix_figure(small, CLASSES))
    large = np.full((13, 13), 0.25)
    assert ".25" not in texts(class_matrix_figure(large, [str(i) for i in range(13)]))


def test_unknown_similarities_are_not_drawn_as_zero() -> None:
    matrix = np.array([[1, np.nan], [np.nan, 1]])
    assert "–" in texts(class_matrix_figure(matrix, ("a", "b")))
    assert "no\ninfo" in texts(image_layers_figure({"conv1": float("nan"), "fc": 0.5}))
    assert "no information" in texts(class_similarity_figure({0: float("nan"), 1: 0.5}, CLASSES, 1))


@pytest.mark.parametrize(("value", "ends"), [(1.0, (0.9, 1.0)), (0.5, (0.4, 0.5)), (0.0, (0.0, 0.1))])
def test_class_paths_that_are_all_alike_have_a_plain_scale(value: float, ends: tuple[float, float]) -> None:
    figure = class_matrix_figure(np.full((3, 3), value), CLASSES)
    assert figure.axes[0].images[0].get_clim() == pytest.approx(ends)
    assert not any("e" in text for text in texts(figure) if text.startswith("1"))


def test_features_without_any_information_draw(findings: Findings) -> None:
    features = make_features(30, missing=1.0)
    assert png_bytes(layer_similarity_figure(features))


def test_a_threshold_and_scores_without_spread_draw(findings: Findings) -> None:
    scores = np.zeros(len(findings.features))
    assert png_bytes(score_figure(findings.features, scores, float("nan")))
    assert png_bytes(score_figure(findings.features, scores, 0.0))


def test_no_attack_left_still_draws(findings: Findings) -> None:
    clean: Features = findings.features.take(findings.features.is_clean)
    assert png_bytes(roc_figure(clean, np.zeros(len(clean)), 0.05))


def test_an_unchanged_image_has_no_amplification(findings: Findings) -> None:
    flagged = findings.flagged[0]
    same = Flagged(flagged.example, flagged.example.image, "fgsm", 1.0, 0.5, [])
    assert "none" in texts(flagged_figure(same, CLASSES))


def test_large_networks_and_many_classes_stay_small(findings: Findings) -> None:
    nodes = {f"layer{i}": i / 200 for i in range(200)}
    figures = [
        density_figure({"weight": nodes}, {"weight": 0.5}),
        growth_figure({"weight": [i / 1000 for i in range(1000)]}),
        class_matrix_figure(np.random.default_rng(0).random((200, 200)), [f"class {i}" for i in range(200)]),
        ablation_figure(findings.ablation, 3),
        auroc_figure(findings.evaluation, "joint"),
    ]
    for figure in figures:
        drawing = svg_bytes(figure)
        assert len(drawing) < 400_000
        ElementTree.fromstring(drawing)


def test_the_same_figure_gives_the_same_bytes(example: Example) -> None:
    assert svg_bytes(path_figure(example, CLASSES)) == svg_bytes(path_figure(example, CLASSES))


def test_figures_leave_matplotlib_as_it_was(example: Example) -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    path_figure(example, CLASSES)
    assert dict(rcParams) == before
