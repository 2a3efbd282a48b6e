"""Figures of gates and of rival notions of path: what is drawn is what the rows say, readable for any rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from netpaths.report.rivals_figures import bytes_text, cost_figure, rivals_figure
from netpaths.report.routing_figures import (
    EXAMPLES,
    KEEP_OR_REMOVE,
    PANELS,
    SMALL,
    Cluster,
    agreement_figure,
    curves_figure,
    embedding_figure,
    montage_figure,
    per_class_figure,
    separation_figure,
    sparsity_figure,
)
from netpaths.report.style import ADVERSARIAL, PAPER, svg_bytes
from netpaths.report.tables import NOTHING, percent

from .test_figures import texts

NAN = float("nan")
Row = dict[str, Any]
LONG = "a_name_that_is_much_longer_than_any_place_for_it"
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSIFIERS = ("forest", "adaboost", "boosting")


def embedding(layers: int, images: int = 60, classes: int = 10, layer: str = "layer{}") -> Figure:
    rng = np.random.default_rng(0)
    points = {layer.format(place): rng.normal(size=(images, 2)) for place in range(layers)}
    labels = np.arange(images) % classes
    return embedding_figure(points, labels, NAMES, {name: 0.125 * place for place, name in enumerate(points)})


def depth_rows(layers: int, kinds: Sequence[str] = (), layer: str = "layer{}") -> list[Row]:
    return [
        {
            "layer": layer.format(at),
            "separation": at / 30 - 0.1,
            "neighbours": at / 30,
            **({"values": kind} if kind else {}),
        }
        for kind in kinds or [""]
        for at in range(layers)
    ]


def clusters(number: int, images: int, shape: tuple[int, ...] = (3, 8, 8), title: str = "group {}") -> list[Cluster]:
    drawn = torch.rand(images, *shape, generator=torch.Generator().manual_seed(0))
    return [Cluster(title.format(place), drawn, np.arange(images) == place) for place in range(number)]


def step_rows(gammas: Sequence[float], steps: Sequence[int]) -> list[Row]:
    return [
        {"gamma": gamma, "steps": step, "sparsity": 1 / (1 + gamma * step), "accuracy": 1 - gamma * step / 100}
        for gamma in gammas
        for step in steps
    ]


def share_rows(methods: Sequence[str], shares: Sequence[float], modes: Sequence[str] = ("keep", "remove")) -> list[Row]:
    return [
        {"method": method, "mode": mode, "share": share, "accuracy": share if mode == "keep" else 1 - share}
        for method in methods
        for mode in modes
        for share in shares
    ]


def setting_rows(settings: Sequence[str], kinds: Sequence[str] = ()) -> list[Row]:
    return [
        {"setting": name, "jaccard": 0.1 * (place + 1), "chance": 0.05, **({"selected": kind} if kind else {})}
        for place, name in enumerate(settings)
        for kind in kinds or [""]
    ]


def learning_rows(classifiers: Sequence[str] = CLASSIFIERS, kinds: Sequence[str] = ()) -> list[Row]:
    return [
        {
            "images per class": number,
            "classifier": name,
            **interval(0.7 + 0.05 * place),
            **({"values": kind} if kind else {}),
        }
        for kind in kinds or [""]
        for name in classifiers
        for place, number in enumerate((1, 5, 10, 50))
    ]


def interval(value: float) -> Row:
    return {"auroc": value, "low": value - 0.03, "high": value + 0.02}


def rival_rows(notions: Sequence[str], classifiers: Sequence[str], attacks: Sequence[str]) -> list[Row]:
    return [
        {"notion": notion, "classifier": name, "attack": attack, **interval(0.8 + 0.02 * place)}
        for place, notion in enumerate(notions)
        for name in classifiers
        for attack in attacks
    ]


def cost_rows(*points: tuple[str, float, float, float]) -> list[Row]:
    return [dict(zip(("notion", "ms per image", "bytes per image", "auroc"), point)) for point in points]


FIGURES: dict[str, Callable[[], Figure]] = {
    "embedding": lambda: embedding(5),
    "embedding, one layer of one class": lambda: embedding(1, 4, 1),
    "embedding, deep, long names": lambda: embedding(27, 20, 10, LONG + "_{}"),
    "embedding, one long word": lambda: embedding(40, 20, 10, "averyveryveryverylongword{}"),
    "embedding, a hundred classes": lambda: embedding(3, 100, 100),
    "separation": lambda: separation_figure(depth_rows(8), 0.1),
    "separation, one layer": lambda: separation_figure(depth_rows(1)),
    "separation, deep, long names": lambda: separation_figure(depth_rows(27, ("a", "b"), LONG + "{}"), 0.1),
    "montage": lambda: montage_figure(clusters(3, 12)),
    "montage, one image": lambda: montage_figure(clusters(1, 1, (1, 4, 9), LONG.replace("_", " "))),
    "sparsity": lambda: sparsity_figure(step_rows((0.025, 0.05, 0.1), (10, 20, 25, 28, 30, 32, 35, 40, 60))),
    "sparsity, one point": lambda: sparsity_figure(step_rows((0.05,), (30,))),
    "sparsity, every step": lambda: sparsity_figure(step_rows((0.05,), range(61))),
    "curves": lambda: curves_figure(share_rows(NAMES[:8], (0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1)), 10),
    "curves, one point": lambda: curves_figure(share_rows([LONG], (0.1,), ("keep",)), 0),
    "curves, many shares": lambda: curves_figure(share_rows(["a"], np.linspace(0.01, 1, 100).tolist()), 2),
    "agreement": lambda: agreement_figure(setting_rows(("start: random", "seed 1", "γ = 0.1", "T = 60"))),
    "agreement, long names": lambda: agreement_figure(setting_rows([LONG.replace("_", " ") * i for i in (1, 2, 3)])),
    "agreement, two sizes": lambda: agreement_figure(setting_rows(("seed 1",), ("as found", "strongest tenth"))),
    "per class": lambda: per_class_figure(learning_rows(), learning_rows(("forest",))),
    "per class, one classifier": lambda: per_class_figure(learning_rows((LONG,))),
    "per class, two kinds": lambda: per_class_figure(learning_rows(kinds=("gates", "mean activations"))),
    "rivals": lambda: rivals_figure(rival_rows(("effective path", "routing path"), CLASSIFIERS, ("fgsm", "bim", "cw"))),
    "rivals, one": lambda: rivals_figure(rival_rows(("routing path",), ("forest",), ("fgsm",))),
    "rivals, many": lambda: rivals_figure(rival_rows(NAMES[:4], (*CLASSIFIERS, LONG), ("fgsm", *NAMES[:6]))),
    "cost": lambda: cost_figure(cost_rows(("effective", 12.3, 14200, 0.96), ("gates", 840, 4608, 0.94))),
    "cost, one point": lambda: cost_figure(cost_rows((LONG, 12.3, 14200, 0.96))),
    "cost, close points": lambda: cost_figure(cost_rows(*[(f"n{i}", 90 + i, 10.0**i, 0.9) for i in range(6)])),
}  # fmt: skip


@pytest.fixture(scope="module", params=FIGURES)
def figure(request: pytest.FixtureRequest) -> Figure:
    """Every kind of figure, of ordinary and of extreme rows, laid out."""
    found = FIGURES[request.param]()
    found.draw_without_rendering()
    return found


def shown_texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, tick labels outside their axis left out."""
    ticks = [tick for tick in figure.findobj(Tick) if isinstance(tick, Tick)]
    labels = {id(label) for tick in ticks for label in (tick.label1, tick.label2)}
    free = [text for text in figure.findobj(Text) if isinstance(text, Text) and id(text) not in labels]
    marked = [
        label
        for axes in figure.axes
        if axes.get_visible()
        for axis in (axes.xaxis, axes.yaxis)
        for label in tick_labels(axis)
    ]
    return [text for text in (*free, *marked) if text.get_visible() and text.get_text().strip()]


def tick_labels(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    places = zip(axis.get_majorticklocs(), axis.get_major_ticks())
    return [tick.label1 for place, tick in places if low <= place <= high and axis.get_visible()]


def test_nothing_leaves_the_figure(figure: Figure) -> None:
    box, width, height = figure.get_tightbbox(), figure.get_figwidth(), figure.get_figheight()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


def test_no_text_covers_another(figure: Figure) -> None:
    level = [text for text in shown_texts(figure) if text.get_rotation() in (0, 90)]
    boxes = [text.get_window_extent().padded(-1) for text in level]
    for place, (text, box) in enumerate(zip(level, boxes)):
        for other, its in zip(level[place + 1 :], boxes[place + 1 :]):
            assert not box.overlaps(its), (text.get_text(), other.get_text())


def test_no_text_is_tiny(figure: Figure) -> None:
    assert min(float(text.get_fontsize()) for text in shown_texts(figure)) >= 7


def test_a_drawing_is_small_and_valid(figure: Figure) -> None:
    drawing = svg_bytes(figure)
    assert len(drawing) < 700_000
    assert ElementTree.fromstring(drawing).tag.endswith("svg")


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """The labelled lines of a panel: x and y."""
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): data(line) for line in named}


def data(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def dotted(axes: Axes) -> list[float]:
    """Where horizontal dotted lines stand."""
    return [data(line)[1][0] for line in axes.lines if line.get_linestyle() == ":"]


def test_an_embedding_has_a_panel_per_layer_with_its_separation() -> None:
    figure = embedding(3)
    assert [axes.get_title() for axes in figure.axes] == ["layer0", "layer1", "layer2"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["silhouette 0.00", "silhouette 0.12", "silhouette 0.25"]
    assert legend(figure) == list(NAMES)
    for axes in figure.axes:
        assert sum(len(np.asarray(dots.get_offsets())) for dots in axes.collections) == 60
        assert not axes.get_xticks().size


def test_an_embedding_keeps_points_with_their_class() -> None:
    points = np.array([[0.0, 0], [1, 1], [2, 4], [3, 9]])
    figure = embedding_figure({"fc": points}, np.array([7, 2, 7, 2]), NAMES, {}, "separation")
    second, first = figure.axes[0].collections
    np.testing.assert_array_equal(np.asarray(first.get_offsets()), points[[0, 2]])
    np.testing.assert_array_equal(np.asarray(second.get_offsets()), points[[1, 3]])
    assert legend(figure) == ["bird", "horse"]
    assert figure.axes[0].get_xlabel() == "separation unknown"


def test_ten_classes_differ_in_colour_and_in_shape() -> None:
    dots = [each for each in embedding(1).axes[0].collections if isinstance(each, PathCollection)]
    assert len({to_hex(each.get_facecolor()[0]) for each in dots}) == 10  # type: ignore[arg-type]
    assert len({each.get_paths()[0].vertices.tobytes() for each in dots}) == 10  # type: ignore[union-attr]


def test_a_deep_embedding_is_sampled_and_says_so() -> None:
    figure = embedding(45, 20)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == PANELS
    assert (shown[0].get_title(), shown[-1].get_title()) == ("layer0", "layer44")
    assert f"{PANELS} of 45 layers, evenly spaced" in texts(figure)


def test_many_dots_become_an_image_and_many_classes_no_legend() -> None:
    assert b"<image" not in svg_bytes(embedding(2, 100))
    assert b"<image" in svg_bytes(embedding(5, 1000))
    figure = embedding(2, 100, 50)
    assert legend(figure) == []
    assert "50 classes; colours and shapes repeat" in texts(figure)


def test_separation_is_drawn_over_depth() -> None:
    rows = depth_rows(4)
    rows[1]["separation"], rows[2]["neighbours"] = NAN, None
    above, below = separation_figure(rows, 0.1).axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), [row["separation"] for row in rows])
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [0, 1 / 30, NAN, 0.1])
    assert [label.get_text() for label in below.get_xticklabels()] == ["layer0", "layer1", "layer2", "layer3"]
    assert (dotted(above), dotted(below)) == ([0], [0.1])
    assert dotted(separation_figure(rows).axes[1]) == []


def test_separation_of_several_values_has_a_line_for_each() -> None:
    figure = separation_figure(depth_rows(3, ("gates", "mean activations")))
    assert legend(figure) == ["gates", "mean activations"]
    assert all(lines(axes)["gates"][0] == [0, 1, 2] for axes in figure.axes)


def test_a_montage_shows_ten_images_a_row_and_frames_the_hard_ones() -> None:
    figure = montage_figure(clusters(3, 14))
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 3 * EXAMPLES
    hard = [to_hex(axes.spines["left"].get_edgecolor()) == ADVERSARIAL for axes in pictures]
    assert [place for place, framed in enumerate(hard) if framed] == [0, EXAMPLES + 1, 2 * EXAMPLES + 2]
    assert legend(figure) == ["hard example"]
    assert {"group 0", "group 1", "group 2"} <= set(texts(figure))


def test_a_montage_takes_arrays_of_any_size() -> None:
    large = Cluster("large", np.ones((2, 3, 448, 224)), [False, False])
    figure = montage_figure([large, Cluster("grey\nof two lines", torch.zeros(1, 1, 8, 8), [False])])
    first, _, grey = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert first.shape == (SMALL, SMALL // 2, 3)
    np.testing.assert_allclose(first, 1)
    assert grey.shape == (8, 8)
    assert legend(figure) == []
    assert "grey\nof two lines" in texts(figure)


def test_sparsity_has_a_line_per_gamma() -> None:
    rows = step_rows((0.05, 0.1), (10, 20, 30))
    left, right = sparsity_figure(rows).axes
    for key, axes in (("sparsity", left), ("accuracy", right)):
        assert lines(axes)["γ = 0.05"] == ([10, 20, 30], [row[key] for row in rows[:3]])
        assert lines(axes)["γ = 0.1"] == ([10, 20, 30], [row[key] for row in rows[3:]])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "20", "30"]


def test_curves_have_a_panel_per_mode_and_a_line_per_method() -> None:
    rows = share_rows(("gates", "random"), (0.5, 0.1, 0.9))
    figure = curves_figure(rows, 4)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(KEEP_OR_REMOVE.values())
    assert lines(figure.axes[0])["gates"] == ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9])
    assert lines(figure.axes[1])["random"] == ([0.1, 0.5, 0.9], [0.9, 0.5, pytest.approx(0.1)])
    assert [dotted(axes) for axes in figure.axes] == [[0.25], [0.25]]
    assert legend(figure) == ["gates", "random"]
    assert len(curves_figure(rows[:3], 0).axes) == 1


def test_shares_are_marked_where_there_is_room() -> None:
    axes = curves_figure(share_rows(("gates",), (0, 0.01, 0.1, 0.5, 0.7, 0.8, 0.9, 1)), 0).axes[0]
    marks = [label.get_text() for label in axes.get_xticklabels()]
    assert marks == ["0%", "1%", "10%", "50%", "100%"]


def test_agreement_has_a_bar_per_setting_and_a_tick_at_chance() -> None:
    rows = [*setting_rows(("seed 1", "T = 60")), {"setting": "γ = 0.1", "jaccard": NAN, "chance": None}]
    axes = agreement_figure(rows).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0.05, 0.05, NAN])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["seed 1", "T = 60", "γ = 0.1"]
    written = [text.get_text() for text in axes.texts]
    assert written == [percent(0.1), percent(0.2), NOTHING]


@pytest.mark.parametrize(("jaccard", "chance", "place"), [(0.024, 0.053, 0.024), (0.5, 0.52, 0.52), (0.5, 0.2, 0.5)])
def test_a_share_stands_at_its_bar_unless_chance_is_in_the_way(jaccard: float, chance: float, place: float) -> None:
    text = agreement_figure([{"setting": "random", "jaccard": jaccard, "chance": chance}]).axes[0].texts[0]
    assert isinstance(text, Annotation)
    assert text.xy == (place, 0)


def test_agreement_at_two_sizes_has_two_bars_a_setting() -> None:
    figure = agreement_figure(setting_rows(("seed 1", "T = 60"), ("as found", "strongest tenth")))
    middles = [bar.get_y() + bar.get_height() / 2 for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert middles == pytest.approx([-0.175, 0.825, 0.175, 1.175])
    assert legend(figure) == ["as found", "strongest tenth", "chance"]


def intervals(axes: Axes) -> list[np.ndarray]:
    """The intervals of every series: (points with an interval, 2 ends, x and y)."""
    found = []
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        (bars,) = container.lines[2]
        assert isinstance(bars, LineCollection)
        found.append(np.array([ends for ends in bars.get_segments() if np.isfinite(ends).all() and len(ends)]))
    return found


def test_auroc_per_class_with_intervals_and_the_papers() -> None:
    rows = learning_rows(("forest", "boosting"))
    paper = [{"images per class": number, "classifier": "forest", "auroc": 0.9} for number in (1, 5, 10)]
    figure = per_class_figure(rows, paper)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "10", "50"]
    first, second = intervals(axes)
    np.testing.assert_allclose(first[:, :, 1], [[row["low"], row["high"]] for row in rows[:4]])
    np.testing.assert_allclose(second[:, :, 0] / first[:, :, 0], 1.05)
    hollow = [data(line)[1] for line in axes.lines if line.get_markerfacecolor() == PAPER and data(line)[0]]
    assert hollow == [[0.9, 0.9, 0.9]]
    assert legend(figure) == ["random forest", "gradient boosting", "paper"]


def test_what_learns_nothing_is_a_level_in_every_panel() -> None:
    softmax = {"values": "softmax", "images per class": 0, "classifier": "1 − maximum", "auroc": 0.83}
    figure = per_class_figure([*learning_rows(kinds=("gates", "mean activations")), softmax])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Gates", "Mean activations"]
    assert [dotted(axes) for axes in figure.axes] == [[0.83], [0.83]]
    assert legend(figure) == ["random forest", "AdaBoost", "gradient boosting", "softmax"]


def test_an_interval_without_both_ends_is_not_drawn() -> None:
    rows = learning_rows(("forest",))
    rows[0]["low"], rows[1]["auroc"] = None, NAN
    del rows[2]["high"]
    (found,) = intervals(per_class_figure(rows).axes[0])
    np.testing.assert_allclose(found[:, :, 1], [[rows[3]["low"], rows[3]["high"]]])


def test_rivals_have_a_panel_per_attack_and_a_series_per_notion() -> None:
    rows = rival_rows(("effective path", "routing path"), ("forest", "boosting"), ("fgsm", "cw"))
    figure = rivals_figure([row for row in rows if row["notion"] == "routing path" or row["classifier"] == "forest"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["FGSM", "C&W"]
    assert legend(figure) == ["effective path", "routing path"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["random forest", "gradient boosting"]
    for axes in figure.axes:
        effective, routing = intervals(axes)
        np.testing.assert_allclose(effective[:, :, 0], [[0.77, 0.82]])
        np.testing.assert_allclose(routing[:, :, 0], [[0.79, 0.84], [0.79, 0.84]])
        assert effective[0, 0, 1] < 0 < routing[0, 0, 1] < 0.5 < routing[1, 0, 1]


def test_costs_are_points_with_their_bytes_beside_them() -> None:
    rows = cost_rows(("effective", 12.3, 14200, 0.96), ("gates", 840, NAN, 0.94), ("lost", NAN, 3, 0.9))
    figure = cost_figure(rows)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert data(axes.lines[1]) == ([840], [0.94])
    assert [text.get_text() for text in axes.texts] == ["14 kB", "unknown"]
    assert legend(figure) == ["effective", "gates", "lost"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1234, "1.2 kB"),
        (99_600, "100 kB"),
        (34e6, "34 MB"),
        (2e9, "2 GB"),
        (NAN, "unknown"),
    ],
)
def test_sizes_are_told_in_two_digits(size: float, text: str) -> None:
    assert bytes_text(size) == text


def test_unknown_numbers_draw() -> None:
    keys = ("auroc", "low", "high", "jaccard", "chance", "separation", "neighbours", "sparsity", "accuracy")
    nothing = dict.fromkeys((*keys, "ms per image", "bytes per image"), NAN)
    assert svg_bytes(embedding_figure({"fc": np.full((3, 2), NAN)}, np.arange(3), NAMES, {"fc": NAN}))
    assert svg_bytes(separation_figure([{**row, **nothing} for row in depth_rows(3)], NAN))
    assert svg_bytes(sparsity_figure([{**row, **nothing} for row in step_rows((0.1,), (1, 2))]))
    assert svg_bytes(curves_figure([{**row, **nothing} for row in share_rows("a", (0.1, 0.5))], 2))
    assert svg_bytes(agreement_figure([{**row, **nothing} for row in setting_rows("ab")]))
    assert svg_bytes(per_class_figure([{**row, **nothing} for row in learning_rows()], learning_rows()))
    assert svg_bytes(rivals_figure([{**row, **nothing} for row in rival_rows("ab", "cd", "ef")]))
    assert svg_bytes(cost_figure([{**row, **nothing} for row in cost_rows(("a", 1, 1, 1))]))


def test_figures_are_deterministic_and_leave_matplotlib_as_it_was() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    for name in ("embedding", "montage", "cost"):
        assert svg_bytes(FIGURES[name]()) == svg_bytes(FIGURES[name]())
    assert svg_bytes(embedding(5, 1000)) == svg_bytes(embedding(5, 1000))
    assert dict(rcParams) == before
