"""Images of figures: learning curves of runs, and attention layer by layer.

Needs matplotlib (``pip install dyconv-pose[plot]``), imported where it draws and without its global state. Colors are
those of Okabe & Ito, which people with any color vision tell apart; markers tell the same without color.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.engine.metrics_log import Curves, LayerRow
from pose.errors import MediaError
from pose.files import replacing
from pose.geometry import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":", "-.")
"""After seven cases colors and markers repeat with the next dashes."""

STYLE: dict[Any, Any] = {
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
"""Standard deviation of the Gaussian that smooths losses, of the longest run's samples."""
GRID_POINTS = 400
FAINT = 0.3


def check_plot_name(path: Path) -> None:
    """Refuse a plot that could not be written, before the work for it is done.

    Raises:
        MediaError: matplotlib is missing, or has no writer for the name's suffix.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise MediaError(f"{path}: drawing needs matplotlib; pip install 'dyconv-pose[plot]'") from None
    if path.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise MediaError(f"{path}: expected the name of a plot to write, such as curves.png, .svg or .pdf")


@contextmanager
def _figure(path: Path, size_inches: tuple[float, float]) -> "Iterator[Figure]":
    """Give a figure to draw on, which is written at the end."""
    check_plot_name(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(size_inches, layout="constrained")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DOTS_PER_INCH)


def _look(case: int) -> dict[str, Any]:
    """Color, marker and dashes of a case."""
    turn, place = divmod(case, len(COLORS))
    return {"color": COLORS[place], "marker": MARKERS[place], "linestyle": DASHES[turn % len(DASHES)]}


# --- learning curves


def draw_learning_curves(
    cases: Mapping[str, Sequence[Curves]], entropies: Mapping[str, Sequence[LayerRow]], path: Path
) -> None:
    """Write one image of several cases: smoothed training loss and validation AP against samples seen.

    A case of several runs is drawn as their mean as far as all have come, the single runs faintly behind it. A third
    panel shows the entropy of attention by layer, for those cases that ``entropies`` names.

    Args:
        cases: runs by label.
        entropies: layers by label; labels that are no case get the next colors.
        path: of the image to write.

    Raises:
        MediaError: see `check_plot_name`.
    """
    labels = list(dict.fromkeys([*cases, *entropies]))
    looks = {label: _look(place) for place, label in enumerate(labels)}
    panels = 3 if entropies else 2
    with _figure(path, (3.2 * panels if entropies else 8.0, 3.2)) as figure:
        from matplotlib.lines import Line2D

        axes = figure.subplots(1, panels)
        _draw_losses(axes[0], cases, looks)
        _draw_aps(axes[1], cases, looks)
        if entropies:
            _draw_entropies(axes[2], entropies, looks)
        handles = [Line2D([], [], label=label, **looks[label]) for label in labels]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(labels), 3 * panels // 2 + 1))


def smooth(samples: Array, values: Array, at: Array, width: float) -> Array:
    """Return (G,) means of ``values`` (T,) around the places ``at`` (G,), weighted by a Gaussian of sigma ``width``."""
    logits = -0.5 * ((at[:, None] - samples) / width) ** 2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))  # in a gap the nearest value holds
    smoothed: Array = (weights @ values) / weights.sum(axis=1)
    return smoothed


def _draw_losses(axes: "Axes", cases: Mapping[str, Sequence[Curves]], looks: Mapping[str, dict[str, Any]]) -> None:
    width = max(SMOOTHING * max(run.samples[-1] for runs in cases.values() for run in runs), 1e-9)
    shown = []
    for label, runs in cases.items():
        look = looks[label] | {"marker": ""}
        smoothed = []
        for run in runs:
            at = np.linspace(run.samples[0], run.samples[-1], GRID_POINTS)
            smoothed.append((at, smooth(run.samples, run.losses, at, width)))
        shown += [values for _, values in smoothed]
        if len(runs) == 1:
            axes.plot(runs[0].samples, runs[0].losses, color=look["color"], alpha=0.6 * FAINT, linewidth=0.6)
        _draw_mean(axes, smoothed, look)
    # Without the first steps, which would press all that follows to the floor.
    low, high = np.min(shown), np.quantile(np.concatenate(shown), 0.97)
    axes.set_ylim(low - 0.08 * (high - low) - 1e-9, high + 0.08 * (high - low) + 1e-9)
    axes.set_title("training loss, smoothed")
    _count_samples(axes)


def _draw_aps(axes: "Axes", cases: Mapping[str, Sequence[Curves]], looks: Mapping[str, dict[str, Any]]) -> None:
    highest, ends = 0.1, []
    for label, runs in cases.items():
        validated = [(run.validation_samples, run.aps) for run in runs if len(run.aps)]
        if validated:
            highest = max(highest, *(aps.max() for _, aps in validated))
            ends.append((*_draw_mean(axes, validated, looks[label]), looks[label]["color"]))
    axes.set_title("validation AP")
    axes.set_ylim(0, 1.1 * highest)
    _count_samples(axes)
    _name_ends(axes, ends)


def _name_ends(axes: "Axes", ends: Sequence[tuple[float, float, str]]) -> None:
    """Write the last values (x, y, color) beside their curves, apart where one would lie on another."""
    width, height = axes.get_xlim()[1], 0.08 * axes.get_ylim()[1]
    axes.set_xlim(right=1.1 * width)
    for _, column in groupby(sorted(ends), key=lambda end: round(8 * end[0] / width)):
        near = sorted(column, key=lambda end: end[1])
        places = spread(np.array([y for _, y, _ in near]), height)
        for (x, y, color), place in zip(near, places, strict=True):
            axes.annotate(
                f"{y:.1f}", (x, place), (6, 0), textcoords="offset points", va="center", color=color, fontweight="bold",
                annotation_clip=False,
            )  # fmt: skip


def spread(values: Array, distance: float) -> Array:
    """Move ascending values apart to ``distance`` or more, by as little as their squared moves allow."""
    steps = distance * np.arange(len(values))
    # What is left without the steps must not fall; where it does, neighbours share their mean (isotonic regression).
    blocks: list[list[float]] = []
    for value in values - steps:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    places: Array = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) + steps
    return places


def _draw_mean(axes: "Axes", curves: Sequence[tuple[Array, Array]], look: dict[str, Any]) -> tuple[float, float]:
    """Draw curves' mean, as far as all have come, and return its end; several curves are drawn faintly themselves."""
    if len(curves) > 1:
        for places, values in curves:
            axes.plot(places, values, color=look["color"], linestyle=look["linestyle"], alpha=FAINT, linewidth=0.9)
    first, last = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    everywhere = np.unique(np.concatenate([places for places, _ in curves]))
    shared = everywhere[(everywhere >= first) & (everywhere <= last)]
    if not len(shared):  # one run ended before another began
        return float(curves[0][0][-1]), float(curves[0][1][-1])
    mean = np.mean([np.interp(shared, places, values) for places, values in curves], axis=0)
    axes.plot(shared, mean, **look)
    return float(shared[-1]), float(mean[-1])


def _count_samples(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlabel("samples seen")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


# --- attention


def draw_attention(rows: Sequence[LayerRow], path: Path) -> None:
    """Write one image of a model's attention: entropy and variation layer by layer.

    Args:
        rows: of the layers from input to output.
        path: of the image to write.

    Raises:
        MediaError: see `check_plot_name`.
    """
    means, spreads, variations = (_column(rows, name) for name in ("entropy_mean", "entropy_std", "variation"))
    places = np.arange(1, len(rows) + 1)
    with _figure(path, (8.0, 4.6)) as figure:
        entropy, variation = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        entropy.plot(places, means, color="#BBBBBB", linewidth=1.0)
        for case, kind in enumerate(dict.fromkeys(row["kind"] for row in rows)):
            chosen = np.array([row["kind"] == kind for row in rows])
            at, mean, spread, look = places[chosen], means[chosen], spreads[chosen], _look(case)
            entropy.vlines(at, mean - spread, np.minimum(mean + spread, 1), color=look["color"], alpha=0.5)
            entropy.plot(at, mean, **look | {"linestyle": ""}, label=kind)
            variation.bar(at, variations[chosen], width=0.7, color=look["color"])
        entropy.set_title("entropy of the attention, mean and spread over inputs (1 = flat, 0 = one kernel alone)")
        _end_at_one(entropy, float((means - spreads).min()))
        variation.set_title("variation of the attention between inputs (0 = the same for all)")
        variation.set_xlabel("dynamic convolution, from input to output")
        variation.set_xlim(0.3, len(rows) + 0.7)
        for axes in (entropy, variation):
            _mark_strides(axes, rows, named=axes is entropy)
        figure.legend(loc="outside upper right", ncols=4)


def _draw_entropies(
    axes: "Axes", entropies: Mapping[str, Sequence[LayerRow]], looks: Mapping[str, dict[str, Any]]
) -> None:
    lowest = 1.0
    for label, rows in entropies.items():
        mean, spread = _column(rows, "entropy_mean"), _column(rows, "entropy_std")
        places, look = np.arange(1, len(rows) + 1), looks[label]
        axes.fill_between(
            places, mean - spread, np.minimum(mean + spread, 1), color=look["color"], alpha=0.2, linewidth=0
        )
        axes.plot(places, mean, **look | {"marker": ""}, linewidth=1.3)
        lowest = min(lowest, float((mean - spread).min()))
    axes.set_title("entropy of the attention (1 = flat)")
    axes.set_xlabel("dynamic convolution, input to output")
    _end_at_one(axes, lowest)


def _column(rows: Sequence[LayerRow], name: str) -> Array:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _end_at_one(axes: "Axes", lowest: float) -> None:
    """Show from below the lowest value to a little above 1, without ticks where no value can be."""
    room = max(1 - lowest, 1e-3)
    axes.set_ylim(lowest - 0.2 * room, 1 + 0.06 * room)
    axes.set_yticks([tick for tick in axes.get_yticks() if lowest - 0.1 * room < tick <= 1 + 1e-9])


def _mark_strides(axes: "Axes", rows: Sequence[LayerRow], named: bool) -> None:
    """Ground every other run of layers of one stride, and name the strides below if ``named``."""
    start = 1
    for number, (stride, group) in enumerate(groupby(row["stride"] for row in rows)):
        count = len(list(group))
        if number % 2 == 0:
            axes.axvspan(start - 0.5, start + count - 0.5, color="#F4F4F4", zorder=0, linewidth=0)
        if named:
            at, below = (start + (count - 1) / 2, 0), ("data", "axes fraction")
            axes.annotate(f"1/{stride}", at, (0, 3), below, "offset points", ha="center", color="#777777", fontsize=8)
        start += count
