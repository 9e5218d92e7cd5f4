"""Plots: lines, texts and limits of the axes, and the files written."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pose.engine.curves import Curves
from pose.engine.plots import COLORS, check_plot_name, draw_attention, draw_learning_curves, smooth, spread
from pose.errors import MediaError

BLUE, VERMILLION = COLORS[:2]


def curves(aps: dict[int, float], until: int = 1000, level: float = 3.0) -> Curves:
    """Curves with a loss that falls linearly from ``level`` by 1 per 1000 samples."""
    samples = np.arange(10.0, until + 1, 10)
    return Curves(samples, level - samples / 1000, np.array([*aps], dtype=float), np.array([*aps.values()], float))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Axes]]:
    """Call a drawing function and return the axes of its image."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(function: Callable[..., None], *arguments: Any) -> list[Axes]:
        function(*arguments, tmp_path / "image.png")
        return figures[-1].axes

    return draw


def opaque_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_alpha() is None]


def faint_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_alpha() is not None]


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# --- smoothing


def test_smooth_is_a_gaussian_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    samples, values, at = np.sort(rng.uniform(0, 100, 30)), rng.normal(size=30), np.array([0.0, 37.5, 100.0])

    smoothed = smooth(samples, values, at, 5.0)

    for position, value in zip(at, smoothed, strict=True):
        weights = [np.exp(-((position - sample) ** 2) / 50) for sample in samples]
        assert value == pytest.approx(np.average(values, weights=weights))


def test_smooth_keeps_a_constant_and_uses_the_nearest_value_in_a_gap() -> None:
    samples = np.array([0.0, 1.0, 1e6])
    np.testing.assert_allclose(smooth(samples, np.full(3, 2.5), np.linspace(0, 1e6, 7), 1.0), 2.5)
    np.testing.assert_allclose(smooth(samples, np.array([1.0, 1, 9]), np.array([4e5, 6e5]), 1.0), [1, 9])


# --- learning curves


def test_loss_and_ap_are_drawn_in_the_color_of_their_case(drawn: Callable[..., list[Axes]]) -> None:
    cases = {"static": [curves({500: 10, 1000: 20})], "dynamic": [curves({500: 15, 1000: 25.25}, level=2.5)]}

    loss, ap = drawn(draw_learning_curves, cases, {})

    assert [line.get_color() for line in opaque_lines(loss)] == [line.get_color() for line in opaque_lines(ap)]
    assert [line.get_color() for line in opaque_lines(ap)] == [BLUE, VERMILLION]
    assert [points(line) for line in opaque_lines(ap)] == [[(500, 10), (1000, 20)], [(500, 15), (1000, 25.25)]]
    assert texts(ap) == ["20.0", "25.2"]
    middle = np.asarray(opaque_lines(loss)[1].get_xydata())[150:250]
    np.testing.assert_allclose(middle[:, 1], 2.5 - middle[:, 0] / 1000, atol=1e-3)  # smoothing keeps a straight line


def test_the_legend_lists_every_case_once(drawn: Callable[..., list[Axes]]) -> None:
    run = curves({500: 10})
    axes = drawn(draw_learning_curves, {"static": [run, run], "dynamic": [run]}, {"dynamic": LAYERS, "other": LAYERS})

    figure = axes[0].figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["static", "dynamic", "other"]


def test_seeds_are_drawn_as_an_opaque_mean_and_faint_single_runs(drawn: Callable[..., list[Axes]]) -> None:
    seeds = [curves({500: 10, 1000: 20}, level=3), curves({500: 20, 1000: 22}, level=5)]

    loss, ap = drawn(draw_learning_curves, {"static": seeds}, {})

    assert [points(line) for line in opaque_lines(ap)] == [[(500, 15), (1000, 21)]]
    assert [points(line) for line in faint_lines(ap)] == [[(500, 10), (1000, 20)], [(500, 20), (1000, 22)]]
    assert texts(ap) == ["21.0"]
    (mean,) = opaque_lines(loss)
    assert len(faint_lines(loss)) == 2
    np.testing.assert_allclose(np.interp(500, *np.asarray(mean.get_xydata()).T), 4 - 0.5, atol=1e-3)


def test_the_mean_ends_with_the_shortest_run(drawn: Callable[..., list[Axes]]) -> None:
    seeds = [curves({400: 10, 800: 20, 1200: 30}, 1200), curves({200: 0, 600: 20}, 700)]

    loss, ap = drawn(draw_learning_curves, {"static": seeds}, {})

    assert points(opaque_lines(ap)[0]) == [(400, (10 + 10) / 2), (600, (15 + 20) / 2)]
    assert points(opaque_lines(loss)[0])[-1][0] == 700


def test_runs_without_common_samples_have_no_mean(drawn: Callable[..., list[Axes]]) -> None:
    _, ap = drawn(draw_learning_curves, {"static": [curves({100: 1, 200: 2}), curves({800: 5, 900: 6})]}, {})

    assert opaque_lines(ap) == []
    assert len(faint_lines(ap)) == 2


def test_the_loss_of_a_run_without_validation_is_drawn(drawn: Callable[..., list[Axes]]) -> None:
    loss, ap = drawn(draw_learning_curves, {"new": [curves({})], "old": [curves({900: 0.0})]}, {})

    assert len(opaque_lines(loss)) == 2
    assert [line.get_color() for line in opaque_lines(ap)] == [VERMILLION]


@pytest.mark.parametrize(
    ("metrics", "title"),
    [
        (["AP"], "validation AP"),
        (["top1"], "validation top-1 accuracy"),
        (["top1", "AP"], "validation AP or top-1 accuracy"),
    ],
)
def test_the_validation_panel_is_named_after_the_metrics(
    metrics: list[str], title: str, drawn: Callable[..., list[Axes]]
) -> None:
    _, validation = drawn(draw_learning_curves, {m: [replace(curves({500: 10}), metric=m)] for m in metrics}, {})

    assert validation.get_title(loc="left") == title


def test_a_run_with_one_row_is_drawn(drawn: Callable[..., list[Axes]]) -> None:
    loss, _ = drawn(draw_learning_curves, {"new": [curves({}, until=10)]}, {})

    assert points(opaque_lines(loss)[0])[0] == (10, pytest.approx(2.99))


def test_high_first_losses_do_not_set_the_axis_limit(drawn: Callable[..., list[Axes]]) -> None:
    run = curves({1000: 1})
    run.losses[0] = 1000.0

    loss, _ = drawn(draw_learning_curves, {"a": [run]}, {})

    assert loss.get_ylim()[1] < 150
    assert loss.get_ylim()[0] < 2 < loss.get_ylim()[1]


def test_labels_of_close_last_values_do_not_overlap(drawn: Callable[..., list[Axes]]) -> None:
    cases = {name: [curves({500: 1, 1000: ap})] for name, ap in (("a", 20), ("b", 20.1), ("c", 40), ("d", 20.2))}

    _, ap = drawn(draw_learning_curves, cases, {})

    label_ys = sorted(text.xy[1] for text in ap.texts)  # type: ignore[attr-defined]
    assert np.diff(label_ys).min() >= 0.05 * ap.get_ylim()[1]
    assert np.mean(label_ys[:3]) == pytest.approx(20.1)
    assert label_ys[-1] == 40
    assert all(text.get_annotation_clip() is False for text in ap.texts)  # type: ignore[attr-defined]


def test_many_cases_have_different_line_styles(drawn: Callable[..., list[Axes]]) -> None:
    _, ap = drawn(draw_learning_curves, {str(n): [curves({500: n, 1000: 2 * n})] for n in range(20)}, {})

    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in opaque_lines(ap)}
    assert len(styles) == 20


# --- attention

LAYERS = [
    {"name": "a", "kind": "1x1", "stride": 4, "entropy_mean": 1.0, "entropy_std": 0.01, "variation": 0.0},
    {"name": "b", "kind": "depthwise 3x3", "stride": 8, "entropy_mean": 0.8, "entropy_std": 0.1, "variation": 0.1},
    {"name": "c", "kind": "1x1", "stride": 8, "entropy_mean": 0.5, "entropy_std": 0.2, "variation": 0.3},
    {"name": "d", "kind": "1x1", "stride": 4, "entropy_mean": 0.9, "entropy_std": 0.0, "variation": 0.2},
]


def test_entropy_is_a_third_panel_in_the_color_of_its_case(drawn: Callable[..., list[Axes]]) -> None:
    axes = drawn(draw_learning_curves, {"static": [curves({})], "dynamic": [curves({})]}, {"dynamic": LAYERS})

    assert len(axes) == 3
    (line,) = axes[2].get_lines()
    assert line.get_color() == VERMILLION
    assert points(line) == [(1, 1.0), (2, 0.8), (3, 0.5), (4, 0.9)]
    assert axes[2].get_ylim()[0] < 0.3


def test_draw_attention_plots_entropy_and_variation_by_layer(drawn: Callable[..., list[Axes]]) -> None:
    entropy, variation = drawn(draw_attention, LAYERS)

    line, pointwise, depthwise = entropy.get_lines()
    assert points(line) == [(1, 1.0), (2, 0.8), (3, 0.5), (4, 0.9)]
    assert points(pointwise) == [(1, 1.0), (3, 0.5), (4, 0.9)]
    assert points(depthwise) == [(2, 0.8)]
    bars = {
        (round(bar.get_x() + bar.get_width() / 2), bar.get_height()): to_hex(bar.get_facecolor()).upper()
        for container in variation.containers
        for bar in container
    }
    assert bars == {(1, 0.0): BLUE, (3, 0.3): BLUE, (4, 0.2): BLUE, (2, 0.1): VERMILLION}
    assert texts(entropy) == ["1/4", "1/8", "1/4"]
    assert max(entropy.get_yticks()) <= 1
    spread = np.vstack([path.vertices for lines in entropy.collections for path in lines.get_paths()])
    assert spread[:, 1].max() == 1  # the largest possible entropy


def test_uniform_attention_in_all_layers_is_drawn(drawn: Callable[..., list[Axes]]) -> None:
    flat = [{**layer, "entropy_mean": 1.0, "entropy_std": 0.0, "variation": 0.0} for layer in LAYERS]

    entropy, _ = drawn(draw_attention, flat)

    assert entropy.get_ylim()[0] < 1 < entropy.get_ylim()[1]


# --- files


def test_the_image_is_1600_pixels_wide_and_no_temporary_file_remains(tmp_path: Path) -> None:
    draw_learning_curves({"a": [curves({500: 10})]}, {}, tmp_path / "new/a.png")

    image = cv2.imread(str(tmp_path / "new/a.png"))
    assert image is not None
    assert image.shape[1] == 1600
    blue = np.array([int(BLUE[start : start + 2], 16) for start in (5, 3, 1)])
    assert (image == blue).all(axis=2).sum() > 500
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")])
def test_the_suffix_sets_the_image_format(suffix: str, start: bytes, tmp_path: Path) -> None:
    draw_attention(LAYERS, tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["curves.xyz", "curves"])
def test_a_plot_name_with_an_unknown_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=f"{name}: expected the name of a plot"):
        check_plot_name(tmp_path / name)


def test_without_matplotlib_the_error_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MediaError, match=r"needs matplotlib; pip install 'dyconv-pose\[plot\]'"):
        check_plot_name(tmp_path / "a.png")


def test_drawing_does_not_change_matplotlib_settings(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_attention(LAYERS, tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([5, 5], [4.5, 5.5]),
        ([0, 5, 5, 5, 9], [0, 4, 5, 6, 9]),
        ([1.0, 1.2, 2.1], [0.4333, 1.4333, 2.4333]),
    ],
)
def test_spread_moves_values_apart_with_the_least_squared_moves(values, expected):
    np.testing.assert_allclose(spread(np.array(values, dtype=float), 1.0), expected, atol=1e-3)
