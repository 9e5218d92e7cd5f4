"""Plots of an analysis of keypoint results, as PNG bytes for a page; needs matplotlib (``dyconv-pose[plot]``)."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from pose.engine.plots import RC_PARAMS
from pose.evaluation.error_classes import CLASS_NAMES, GOOD
from pose.evaluation.error_costs import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_COLORS = ("#009E73", "#56B4E9", "#E69F00", "#CC79A7", "#D55E00")
"""Colors of good, jitter, inversion, swap and miss (Okabe and Ito)."""
BAR = "#0072B2"
PALE = "#B8D4E8"
DOTS_PER_INCH = 140


def draw_png(draw: "Callable[[Figure], None]", size_inches: tuple[float, float]) -> bytes:
    """Return a figure that ``draw`` draws as a PNG file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(RC_PARAMS), BytesIO() as file:
        figure = Figure(size_inches, layout="constrained")
        draw(figure)
        figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        return file.getvalue()


def corrections_png(steps: Sequence[Figures]) -> bytes:
    """Plot the AP after each correction as bars, with what each adds in dark."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        values = np.array([_percent(step["AP"]) for step in steps])
        before = np.concatenate([[0], values[:-1]])
        rows = np.arange(len(steps))
        shared = np.minimum(before, values)
        axes.barh(rows, shared, color=PALE)
        axes.barh(rows, values - shared, left=shared, color=BAR)
        for row, (value, gain) in enumerate(zip(values, values - before, strict=True)):
            text = f" {value:.1f}" if row == 0 else f" {value:.1f}  ({gain:+.1f})"
            axes.text(value, row, text, va="center")
        axes.set_yticks(rows, ["as given", *(f"+ {step['step']}" for step in steps[1:])])
        axes.invert_yaxis()
        axes.set_xlim(0, 118)
        axes.set_xticks(range(0, 101, 20))
        axes.grid(visible=False, axis="y")
        axes.set_title("AP with one kind of error after the other corrected")

    return draw_png(draw, (7.2, 3.2))


def keypoints_png(rows: Sequence[Figures]) -> bytes:
    """Plot the shares of the error classes of each keypoint as stacked bars."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        left = np.zeros(len(rows))
        for index, name in enumerate(CLASS_NAMES):
            if index != GOOD:
                widths = np.array([_percent(row["classes"][name]) for row in rows])
                axes.barh(range(len(rows)), widths, left=left, color=CLASS_COLORS[index], label=name)
                left += widths
        axes.set_yticks(range(len(rows)), [row["keypoint"] for row in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("% of the evaluated keypoints; the rest is good")
        figure.legend(loc="outside upper left", ncols=4)

    return draw_png(draw, (7.2, 0.9 + 0.22 * len(rows)))


def groups_png(groups: dict[str, Sequence[Figures]], overall: float | None) -> bytes:
    """Plot the AP of the groups of persons, one panel for each kind of group; a line shows the AP of all persons."""

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(groups), sharey=True, width_ratios=[len(rows) for rows in groups.values()])
        for axes, (title, rows) in zip(np.atleast_1d(panels), groups.items(), strict=True):
            values = [_percent(row["AP"]) for row in rows]
            axes.bar(range(len(rows)), values, color=BAR, width=0.7)
            for index, (row, value) in enumerate(zip(rows, values, strict=True)):
                text = "-" if row["AP"] is None else f"{value:.1f}"
                if value > 8:
                    axes.text(index, value / 2, text, ha="center", va="center", color="white")
                else:
                    axes.text(index, value + 1, text, ha="center")
            labels = [f"{row['group'].replace(' to ', '-')}\n{row['persons']}" for row in rows]
            axes.set_xticks(range(len(rows)), labels, fontsize=8)
            axes.grid(visible=False, axis="x")
            axes.set_title(title)
            if overall is not None:
                axes.axhline(100 * overall, color="#D55E00", linewidth=1, linestyle="--")
        figure.supxlabel("group, and number of persons; dashed: all persons", fontsize=9)

    return draw_png(draw, (9.4, 3.2))


def calibration_png(calibration: Figures) -> bytes:
    """Plot the mean quality of persons and keypoints by score, with the diagonal of calibrated scores."""

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, 2)
        for axes, name, quality in zip(panels, ("persons", "keypoints"), ("OKS", "similarity"), strict=True):
            _draw_calibration(axes, calibration[name])
            axes.set_title(f"{name}: mean {quality} by score")
            axes.set_xlabel("score")

    return draw_png(draw, (7.2, 3.4))


def _draw_calibration(axes: "Axes", bins: Figures) -> None:
    highest = max(1.0, *bins["scores"], 0.0)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    axes.plot(bins["scores"], bins["quality"], color=BAR, marker="o")
    axes.set_xlim(min(0.0, *bins["scores"], 0.0), 1.03 * highest)
    axes.set_ylim(0, 1.03)


def _percent(value: float | None) -> float:
    """Return a share in percent, 0 for None."""
    return 100 * (value or 0)
