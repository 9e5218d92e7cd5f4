"""Plots: learning curves of training runs, and attention entropy layer by layer.

Needs matplotlib (``pip install dyconv-pose[plot]``), imported only where something is drawn; its global state is not
changed. The palette is Okabe & Ito's, safe for color-blind readers; markers tell cases apart without color.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.engine.curves import VALIDATION_METRICS, Curves, LayerRow
from pose.errors import MediaError
from pose.files import replacing
from pose.geometry import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
MARKERS = "osD^vPX"
LINE_STYLES = ("-", "--", ":", "-.")
"""After seven cases colors and markers repeat with the next line style."""

RC_PARAMS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
}
DOTS_PER_INCH = 200
SMOOTHING = 0.015
"""Standard deviation of the Gaussian that smooths losses, as a fraction of the longest run's samples."""
GRID_POINTS = 400
FAINT_ALPHA = 0.3
METRIC_TITLES = {"AP": "AP", "top1": "top-1 accuracy"}

Style = Mapping[str, Any]
"""Keyword arguments for ``Axes.plot``."""


def check_plot_name(path: Path) -> None:
    """Check that a plot can be written to ``path``; call it before long work.

    Raises:
        MediaError: matplotlib is missing, or cannot write a file with this suffix.
    """
    require_matplotlib(path)
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise MediaError(f"{path}: expected the name of a plot to write, such as curves.png, .svg or .pdf")


def require_matplotlib(path: Path) -> None:
    """Raise a `MediaError` that names ``path`` if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise MediaError(f"{path}: drawing needs matplotlib; pip install 'dyconv-pose[plot]'")


@contextmanager
def open_figure(path: Path, size_inches: tuple[float, float]) -> "Iterator[Figure]":
    """Yield a figure to draw on, and write it to ``path`` at the end."""
    check_plot_name(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(RC_PARAMS):
        figure = Figure(size_inches, layout="constrained")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DOTS_PER_INCH)


def _case_style(case: int) -> dict[str, Any]:
    """Return color, marker and line style of the case with this number."""
    repeat, index = divmod(case, len(COLORS))
    return {"color": COLORS[index], "marker": MARKERS[index], "linestyle": LINE_STYLES[repeat % len(LINE_STYLES)]}


# --- learning curves


def draw_learning_curves(
    cases: Mapping[str, Sequence[Curves]], entropies: Mapping[str, Sequence[LayerRow]], path: Path
) -> None:
    """Plot smoothed training loss and validation metric of several cases against samples seen.

    A case with several runs is drawn as their mean, up to the end of the shortest run, with the single runs faint
    behind it. A third panel shows attention entropy by layer for the labels in ``entropies``.

    Args:
        cases: runs by label.
        entropies: layers by label; labels that are not in ``cases`` get the next colors.
        path: image to write.

    Raises:
        MediaError: as `check_plot_name`.
    """
    labels = list(dict.fromkeys([*cases, *entropies]))
    styles = {label: _case_style(index) for index, label in enumerate(labels)}
    panels = 3 if entropies else 2
    with open_figure(path, (3.2 * panels if entropies else 8.0, 3.2)) as figure:
        from matplotlib.lines import Line2D

        axes = figure.subplots(1, panels)
        _draw_losses(axes[0], cases, styles)
        _draw_validation(axes[1], cases, styles)
        if entropies:
            _draw_entropies(axes[2], entropies, styles)
        handles = [Line2D([], [], label=label, **styles[label]) for label in labels]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(labels), 3 * panels // 2 + 1))


def smooth(samples: Array, values: Array, at: Array, width: float) -> Array:
    """Smooth ``values`` (T,) with a Gaussian of standard deviation ``width``; return means (G,) at positions ``at``."""
    logits = -0.5 * ((at[:, None] - samples) / width) ** 2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))  # in a gap the nearest value counts alone
    smoothed: Array = (weights @ values) / weights.sum(axis=1)
    return smoothed


def _draw_losses(axes: "Axes", cases: Mapping[str, Sequence[Curves]], styles: Mapping[str, Style]) -> None:
    width = max(SMOOTHING * max(run.samples[-1] for runs in cases.values() for run in runs), 1e-9)
    drawn = []
    for label, runs in cases.items():
        style = {**styles[label], "marker": ""}
        smoothed = []
        for run in runs:
            grid = np.linspace(run.samples[0], run.samples[-1], GRID_POINTS)
            smoothed.append((grid, smooth(run.samples, run.losses, grid, width)))
        drawn += [values for _, values in smoothed]
        if len(runs) == 1:
            axes.plot(runs[0].samples, runs[0].losses, color=style["color"], alpha=0.6 * FAINT_ALPHA, linewidth=0.6)
        _draw_mean(axes, smoothed, style)
    # Cut off the high losses of the first steps, which would flatten the rest of the curve.
    low, high = np.min(drawn), np.quantile(np.concatenate(drawn), 0.97)
    axes.set_ylim(low - 0.08 * (high - low) - 1e-9, high + 0.08 * (high - low) + 1e-9)
    axes.set_title("training loss, smoothed")
    _format_samples_axis(axes)


def _draw_validation(axes: "Axes", cases: Mapping[str, Sequence[Curves]], styles: Mapping[str, Style]) -> None:
    highest, ends = 0.1, []
    for label, runs in cases.items():
        validated = [(run.validation_samples, run.validation_values) for run in runs if len(run.validation_values)]
        if validated:
            highest = max(highest, *(values.max() for _, values in validated))
            ends.append((*_draw_mean(axes, validated, styles[label]), styles[label]["color"]))
    used = {run.metric for runs in cases.values() for run in runs if len(run.validation_values)}
    titles = [METRIC_TITLES[metric] for metric in VALIDATION_METRICS if metric in used] or [METRIC_TITLES["AP"]]
    axes.set_title(f"validation {' or '.join(titles)}")
    axes.set_ylim(0, 1.1 * highest)
    _format_samples_axis(axes)
    _label_ends(axes, ends)


def _label_ends(axes: "Axes", ends: Sequence[tuple[float, float, str]]) -> None:
    """Write the last value (x, y, color) next to each curve, moved apart where labels would overlap."""
    width, height = axes.get_xlim()[1], 0.08 * axes.get_ylim()[1]
    axes.set_xlim(right=1.1 * width)
    for _, column in groupby(sorted(ends), key=lambda end: round(8 * end[0] / width)):
        near = sorted(column, key=lambda end: end[1])
        label_ys = spread(np.array([y for _, y, _ in near]), height)
        for (x, y, color), label_y in zip(near, label_ys, strict=True):
            axes.annotate(
                f"{y:.1f}", (x, label_y), (6, 0), textcoords="offset points", va="center", color=color,
                fontweight="bold", annotation_clip=False,
            )  # fmt: skip


def spread(values: Array, distance: float) -> Array:
    """Move ascending values at least ``distance`` apart, with the least sum of squared moves."""
    steps = distance * np.arange(len(values))
    # After subtracting the steps, values must not decrease; where they do, neighbors take their mean (isotonic
    # regression by pooling adjacent violators).
    blocks: list[list[float]] = []
    for value in values - steps:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    moved: Array = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) + steps
    return moved


def _draw_mean(axes: "Axes", curves: Sequence[tuple[Array, Array]], style: Style) -> tuple[float, float]:
    """Draw the mean of curves (x, y) where all are defined, each curve faint if several; return the last point."""
    if len(curves) > 1:
        for x, y in curves:
            axes.plot(x, y, color=style["color"], linestyle=style["linestyle"], alpha=FAINT_ALPHA, linewidth=0.9)
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    all_x = np.unique(np.concatenate([x for x, _ in curves]))
    shared_x = all_x[(all_x >= first) & (all_x <= last)]
    if not len(shared_x):  # one run ended before another began
        return float(curves[0][0][-1]), float(curves[0][1][-1])
    mean = np.mean([np.interp(shared_x, x, y) for x, y in curves], axis=0)
    axes.plot(shared_x, mean, **style)
    return float(shared_x[-1]), float(mean[-1])


def _format_samples_axis(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlabel("samples seen")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


# --- attention


def draw_attention(rows: Sequence[LayerRow], path: Path) -> None:
    """Plot the attention of a model layer by layer: entropy, and variation between inputs.

    Args:
        rows: the layers from input to output.
        path: image to write.

    Raises:
        MediaError: as `check_plot_name`.
    """
    means, stds, variations = (_column(rows, name) for name in ("entropy_mean", "entropy_std", "variation"))
    numbers = np.arange(1, len(rows) + 1)
    with open_figure(path, (8.0, 4.6)) as figure:
        entropy, variation = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        entropy.plot(numbers, means, color="#BBBBBB", linewidth=1.0)
        for case, kind in enumerate(dict.fromkeys(row["kind"] for row in rows)):
            chosen = np.array([row["kind"] == kind for row in rows])
            x, mean, std, style = numbers[chosen], means[chosen], stds[chosen], _case_style(case)
            entropy.vlines(x, mean - std, np.minimum(mean + std, 1), color=style["color"], alpha=0.5)
            entropy.plot(x, mean, **style | {"linestyle": ""}, label=kind)
            variation.bar(x, variations[chosen], width=0.7, color=style["color"])
        entropy.set_title("attention entropy, mean and spread over inputs (1 = uniform, 0 = one kernel only)")
        _set_entropy_limits(entropy, float((means - stds).min()))
        variation.set_title("variation of the attention between inputs (0 = the same for all)")
        variation.set_xlabel("dynamic convolution, from input to output")
        variation.set_xlim(0.3, len(rows) + 0.7)
        for axes in (entropy, variation):
            _shade_strides(axes, rows, labeled=axes is entropy)
        figure.legend(loc="outside upper right", ncols=4)


def _draw_entropies(axes: "Axes", entropies: Mapping[str, Sequence[LayerRow]], styles: Mapping[str, Style]) -> None:
    lowest = 1.0
    for label, rows in entropies.items():
        mean, std = _column(rows, "entropy_mean"), _column(rows, "entropy_std")
        numbers, style = np.arange(1, len(rows) + 1), styles[label]
        axes.fill_between(
            numbers, mean - std, np.minimum(mean + std, 1), color=style["color"], alpha=0.2, linewidth=0
        )  # fmt: skip
        axes.plot(numbers, mean, **{**style, "marker": ""}, linewidth=1.3)
        lowest = min(lowest, float((mean - std).min()))
    axes.set_title("attention entropy (1 = uniform)")
    axes.set_xlabel("dynamic convolution, input to output")
    _set_entropy_limits(axes, lowest)


def _column(rows: Sequence[LayerRow], name: str) -> Array:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _set_entropy_limits(axes: "Axes", lowest: float) -> None:
    """Show from below ``lowest`` to a little above 1, with ticks only where values are possible."""
    margin = max(1 - lowest, 1e-3)
    axes.set_ylim(lowest - 0.2 * margin, 1 + 0.06 * margin)
    axes.set_yticks([tick for tick in axes.get_yticks() if lowest - 0.1 * margin < tick <= 1 + 1e-9])


def _shade_strides(axes: "Axes", rows: Sequence[LayerRow], labeled: bool) -> None:
    """Shade every second group of layers with one stride, and write the strides at the bottom if ``labeled``."""
    start = 1
    for index, (stride, group) in enumerate(groupby(row["stride"] for row in rows)):
        count = len(list(group))
        if index % 2 == 0:
            axes.axvspan(start - 0.5, start + count - 0.5, color="#F4F4F4", zorder=0, linewidth=0)
        if labeled:
            at, below = (start + (count - 1) / 2, 0), ("data", "axes fraction")
            axes.annotate(f"1/{stride}", at, (0, 3), below, "offset points", ha="center", color="#777777", fontsize=8)
        start += count
