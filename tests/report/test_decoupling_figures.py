"""Figures of decoupled networks: what is drawn is what the rows say, readable for any number of layers and classes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from netpaths.report.decoupling_figures import (
    COURSES,
    MEASURES,
    SHEET,
    accuracy_figure,
    alike_figure,
    alike_order,
    clustered,
    distinct_figure,
    firing_figure,
    latency_figure,
    losses_figure,
    preferred_order,
    static_figure,
    time_rows,
    training_figure,
    varying,
)
from netpaths.report.style import ACCENT, svg_bytes

from . import test_routing_figures as routing
from .decoupled import (
    NAN,
    Row,
    correlations,
    curve_rows,
    distinct_rows,
    history_rows,
    latency_rows,
    layer_names,
    loss_rows,
    names,
    shares,
    static_rows,
)
from .test_figures import texts
from .test_routing_figures import LONG, data, dotted, legend, lines

READABLE = (
    routing.test_nothing_leaves_the_figure,
    routing.test_no_text_covers_another,
    routing.test_no_text_is_tiny,
    routing.test_a_drawing_is_small_and_valid,
)
CLOSE = (0.6, 0.61, 0.62, 0.63)
WORDS = LONG.replace("_", " ")


def firing(layers: int, filters: int, classes: int, layer: str = "layer{}") -> Figure:
    found = {layer.format(place): shares(classes, filters, place) for place in range(layers)}
    return firing_figure(found, names(classes))


FIGURES: dict[str, Callable[[], Figure]] = {
    "accuracy": lambda: accuracy_figure(curve_rows(), 0.6),
    "accuracy, one target": lambda: accuracy_figure(curve_rows((0.6,)), 0.6),
    "accuracy, close targets": lambda: accuracy_figure(curve_rows(CLOSE), 0.6),
    "accuracy, dense network alone": lambda: accuracy_figure(curve_rows(()), 0.6),
    "latency": lambda: latency_figure(latency_rows()),
    "latency, one point": lambda: latency_figure(latency_rows((0.6,), (1,))),
    "latency, four batches": lambda: latency_figure(latency_rows(batches=(1, 4, 16, 64))),
    "latency, threads": lambda: latency_figure([*latency_rows(), *latency_rows(threads=2)]),
    "training": lambda: training_figure(history_rows()),
    "training, one epoch": lambda: training_figure(history_rows((0.6,), 1)),
    "training, 200 epochs": lambda: training_figure(history_rows(epochs=200)),
    "losses": lambda: losses_figure(loss_rows()),
    "losses, one, long name": lambda: losses_figure(loss_rows((WORDS,))),
    "firing, 19 layers of 64": lambda: firing(19, 64, 10),
    "firing, deep, long names": lambda: firing(40, 16, 10, LONG + "_{}"),
    "firing, one layer": lambda: firing(1, 64, 10),
    "firing, one class": lambda: firing(4, 16, 1),
    "firing, a hundred classes": lambda: firing(4, 16, 100),
    "alike": lambda: alike_figure(correlations(64), "layer3_0_conv1"),
    "alike, few filters": lambda: alike_figure(correlations(26), LONG * 2),
    "alike, one filter": lambda: alike_figure(correlations(2), "layer1"),
    "alike, none": lambda: alike_figure(correlations(1), "layer1"),
    "distinct": lambda: distinct_figure(distinct_rows(layer_names(18))),
    "distinct, one layer": lambda: distinct_figure(distinct_rows(["conv2"])),
    "distinct, deep": lambda: distinct_figure(distinct_rows([f"{LONG}_{place}" for place in range(40)])),
    "static": lambda: static_figure(static_rows(names(10))),
    "static, one class": lambda: static_figure(static_rows(["a class"])),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_readable(name: str) -> None:
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    for check in READABLE:
        check(figure)


def points(axes: Axes) -> list[tuple[float, float]]:
    """Lines of a single point."""
    found = [data(line) for line in axes.lines]
    return [(x[0], y[0]) for x, y in found if len(x) == 1]


def test_accuracy_has_a_named_point_per_target_and_the_dense_network_as_a_level() -> None:
    rows = curve_rows((0.9, 0.5, 0.7))
    axes = accuracy_figure(rows, 0.7).axes[0]
    made = sorted(rows[1:], key=lambda row: row["target"])
    assert points(axes) == [(row["MACs"], row["accuracy"]) for row in made]
    assert data(axes.lines[0]) == ([row["MACs"] for row in made], [row["accuracy"] for row in made])
    assert dotted(axes) == [rows[0]["accuracy"]]
    large = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]  # type: ignore[index]
    assert large == [rows[3]["MACs"]]
    written = [text.get_text() for text in axes.texts]
    assert sorted(written) == ["dense network", "τ = 0.5", "τ = 0.7", "τ = 0.9"]


def test_labels_of_targets_stay_off_the_line() -> None:
    figure = accuracy_figure(curve_rows(), 0.6)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    line = axes.transData.transform(np.asarray(axes.lines[0].get_xydata()))
    along = np.concatenate([np.linspace(*ends, 200) for ends in pairwise(line)])
    for text in axes.texts:
        box = text.get_window_extent()
        assert not any(box.contains(*spot) for spot in along), text.get_text()


def test_times_are_over_the_dense_networks() -> None:
    row = latency_rows((0.6,), (1,))[0]
    found = {each["program"]: each for each in time_rows([row])}
    for name in ("runtime", "all on", "masked"):
        assert found[name]["over dense"] == pytest.approx(row[f"{name} ms"] / row["dense ms"])
    assert (found["runtime"]["low"], found["runtime"]["high"]) == (row["low"], row["high"])
    assert "low" not in found["masked"]


def test_latency_has_a_panel_per_batch_and_the_diagonal_of_operations() -> None:
    rows = latency_rows((0.9, 0.3, 0.6))
    figure = latency_figure(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["One image at a time", "32 images at once"]
    for axes, own in zip(figure.axes, (rows[:3], rows[3:])):
        made = sorted(own, key=lambda row: row["MACs"])
        drawn = lines(axes)
        assert drawn["runtime"][0] == [row["MACs"] for row in made]
        assert drawn["runtime"][1] == pytest.approx([row["over dense"] for row in made])
        assert drawn["torch, outputs masked"][1] == pytest.approx([1.24] * 3)
        assert drawn["runtime, every filter on"][1] == pytest.approx([0.86] * 3)
        assert drawn["operations alone"] == ([0, 1], [0, 1])
        (bars, *_) = [each for each in axes.collections if isinstance(each, LineCollection)]
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, [[row["low"], row["high"]] for row in made])
        assert 1.0 in dotted(axes)
    assert legend(figure) == list(drawn)


def test_threads_are_named_where_they_differ() -> None:
    figure = latency_figure([*latency_rows(batches=(1,)), *latency_rows(batches=(1,), threads=2)])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["One image at a time, 1 thread", "One image at a time, 2 threads"]


def test_training_has_a_line_per_target_and_the_targets_themselves() -> None:
    rows = history_rows((0.9, 0.5), 3)
    figure = training_figure(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(COURSES.values())
    for axes, key in zip(figure.axes, COURSES):
        assert lines(axes)["τ = 0.9"] == ([1, 2, 3], [row[key] for row in rows[:3]])
        assert lines(axes)["τ = 0.5"] == ([1, 2, 3], [row[key] for row in rows[3:]])
    levels = [data(line)[1][0] for line in figure.axes[1].lines if str(line.get_label()).startswith("_")]
    assert levels == [0.5, 0.9]
    assert legend(figure) == ["τ = 0.5", "τ = 0.9"]


def test_every_variant_of_the_loss_is_a_dot_with_its_value() -> None:
    rows = loss_rows(("all parts", "cross entropy alone"))
    rows[1]["nats"], rows[1]["neighbours"] = NAN, None
    figure = losses_figure(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(MEASURES.values())
    for axes, key in zip(figure.axes, MEASURES):
        x, y = data(axes.lines[0])
        np.testing.assert_array_equal(x, [NAN if row[key] is None else row[key] for row in rows])
        assert y == [0, 1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["91.1%", "90.7%"]
    assert [text.get_text() for text in figure.axes[3].texts] == ["1.31", "unknown"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [row["loss"] for row in rows]


def test_filters_are_ordered_by_the_class_that_they_prefer() -> None:
    found = np.array(
        [
            # off, second class, always on, first class a little, first class, both alike
            [0.0, 0.2, 1.0, 0.6, 0.9, 0.5],
            [0.0, 0.8, 1.0, 0.5, 0.1, 0.5],
        ]
    )
    assert preferred_order(found).tolist() == [2, 4, 3, 5, 1, 0]
    assert varying(found) == 4
    unknown = np.vstack([found, np.full(6, NAN)])
    assert varying(unknown) == 4
    assert sorted(preferred_order(unknown).tolist()) == list(range(6))


def heat(axes: Axes) -> np.ndarray:
    """What the picture of a panel shows, NaN where nothing is known."""
    return np.ma.filled(np.ma.asarray(axes.images[0].get_array()), NAN)


def test_firing_has_a_heat_map_per_layer() -> None:
    found = {f"layer{place}": shares(4, 8 * (place + 1), place) for place in range(4)}
    found["layer1"][2] = NAN
    figure = firing_figure(found, names(4))
    panels = [axes for axes in figure.axes if axes.images and axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == list(found)
    for axes, own in zip(panels, found.values()):
        np.testing.assert_array_equal(heat(axes), own[:, preferred_order(own)])
        assert axes.images[0].get_clim() == (0, 1)
        assert axes.get_title(loc="right") == f"{varying(own)} of {own.shape[1]} vary"
    assert [label.get_text() for label in panels[0].get_yticklabels()] == list(names(4))


def test_a_deep_network_is_sampled_and_says_so() -> None:
    figure = firing(45, 4, 3)
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert len(shown) == SHEET
    assert (shown[0], shown[-1]) == ("layer0", "layer44")
    assert f"{SHEET} of 45 layers, evenly spaced" in texts(figure)


def test_similar_filters_stand_side_by_side() -> None:
    kinds = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    found = np.where(kinds[:, None] == kinds, 0.9, -0.2)
    np.fill_diagonal(found, 1)
    ordered = kinds[alike_order(found)].tolist()
    assert sum(one != other for one, other in pairwise(ordered)) == 2
    assert alike_order(found[:2, :2]).tolist() == [0, 1]


def test_filters_that_never_change_are_left_out() -> None:
    found = correlations(20)
    order, shown = clustered(found)
    assert sorted(order.tolist()) == [place for place in range(20) if place % 5]
    np.testing.assert_array_equal(shown, found[np.ix_(order, order)])
    axes = alike_figure(found, "conv2").axes[0]
    np.testing.assert_array_equal(heat(axes), shown)
    assert axes.images[0].get_clim() == (-1, 1)
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(place) for place in order]
    assert axes.get_xlabel().startswith("16 of 20 filters change")


def test_a_layer_that_never_changes_says_so() -> None:
    figure = alike_figure(np.full((4, 4), NAN), "conv2")
    assert "no filter of this layer changes" in texts(figure)
    assert not figure.axes[0].images


def test_distinct_codes_are_bars_and_the_whole_path_stands_out() -> None:
    rows = [*distinct_rows(["conv2", "conv3"])]
    rows[0]["share"] = NAN
    axes = distinct_figure(rows).axes[0]
    bars: Any = axes.patches
    assert [bar.get_height() for bar in bars] == [0, *(row["share"] for row in rows[1:])]
    colours = [bar.get_facecolor() for bar in bars]
    assert colours[0] == colours[1] != colours[2]
    assert bars[2].get_facecolor() == pytest.approx((*(int(ACCENT[at : at + 2], 16) / 255 for at in (1, 3, 5)), 1))
    assert [text.get_text() for text in axes.texts] == ["–", "5%", "10%"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["conv2", "conv3", "whole path"]


def test_static_removal_shows_what_is_left_and_both_accuracies() -> None:
    rows = static_rows(names(10))
    left, right = static_figure(rows).axes
    drawn = {**lines(left), **lines(right)}
    for name, key in (
        ("filters", "filters kept"),
        ("parameters", "parameters"),
        ("MACs", "MACs"),
        ("accuracy before", "before"),
        ("accuracy after", "accuracy"),
    ):
        assert drawn[name][0] == [row[key] for row in rows]
        assert drawn[name][1] == pytest.approx([0, 1, 2], abs=0.3)
    assert [label.get_text() for label in left.get_yticklabels()][:2] == ["1 class", "2 classes"]


def test_unknown_numbers_draw() -> None:
    def emptied(rows: list[Row], kept: tuple[str, ...]) -> list[Row]:
        return [{key: value if key in kept else NAN for key, value in row.items()} for row in rows]

    assert svg_bytes(accuracy_figure(emptied(curve_rows(), ("target",)), 0.6))
    assert svg_bytes(latency_figure(emptied(latency_rows(), ("target", "batch", "threads"))))
    assert svg_bytes(training_figure(emptied(history_rows(), ("target", "epoch"))))
    assert svg_bytes(losses_figure(emptied(loss_rows(), ("loss",))))
    assert svg_bytes(firing_figure({"conv2": np.full((3, 4), NAN)}, names(3)))
    assert svg_bytes(distinct_figure(emptied(distinct_rows(["conv2"]), ("layer",))))
    assert svg_bytes(static_figure(emptied(static_rows(names(3)), ("classes",))))


def test_figures_are_deterministic() -> None:
    for name in ("accuracy", "firing, one class", "alike"):
        assert svg_bytes(FIGURES[name]()) == svg_bytes(FIGURES[name]())
