"""Plot of AP against time and against multiply-adds of models, with the Pareto front. Needs matplotlib."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pose.engine.model_table import Row
from pose.engine.plots import COLORS, MARKERS, open_figure
from pose.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

AXES = {
    "time_ratio": "time for one person, relative to MoveNet Lightning",
    "madds_1e6": "multiply-adds of one forward pass, millions",
}
"""Cost columns and their labels."""
MARKER_OF = dict(zip(("float32", "bfloat16", "int8"), MARKERS, strict=False))
"""Marker by precision."""
GRAY = "#444444"

Point = tuple[float, float, Row]
"""Cost, AP, and the row they come from."""


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other point beats with at most their cost and at least their AP, by ascending cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def points_of(rows: Sequence[Row], column: str) -> list[Point]:
    """Return the points of the rows that have both AP and a cost.

    Multiply-adds count one forward pass, so rows with flip averaging, and other precisions of a model, are left out.
    """
    return [
        (float(row[column]), float(row["ap"]), row)
        for row in rows
        if row["ap"] and row[column] and (column != "madds_1e6" or (row["flip"], row["precision"]) == ("no", "float32"))
    ]


def draw_pareto(rows: Sequence[Row], path: Path) -> None:
    """Plot AP against each cost of `AXES`: color by model, marker by precision, hollow without flip averaging.

    Args:
        rows: of a table of models, see `pose.engine.model_table`.
        path: image to write.

    Raises:
        DataError: a panel would be empty.
        MediaError: as `pose.engine.plots.check_plot_name`.
    """
    panels = {column: points_of(rows, column) for column in AXES}
    for column, points in panels.items():
        if not points:
            raise DataError(f"{path}: no row has both ap and {column}; measure them with `model-table`")
    models = list(dict.fromkeys(row["model"] for points in panels.values() for _, _, row in points))
    colors = {model: COLORS[index % len(COLORS)] for index, model in enumerate(models)}
    with open_figure(path, (8.6, 4.2)) as figure:
        for axes, (column, points) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
            _draw_panel(axes, points, colors)
            axes.set_xlabel(AXES[column])
        figure.axes[0].set_ylabel("AP, ground-truth boxes")
        used = {row["precision"] for points in panels.values() for _, _, row in points}
        figure.legend(handles=list(_legend(colors, used)), loc="outside upper left", ncols=4)


def _legend(colors: Mapping[str, str], precisions: Collection[str]) -> "Iterator[Line2D]":
    from matplotlib.lines import Line2D

    for model, color in colors.items():
        yield Line2D([], [], color=color, marker="o", linestyle="", label=model)
    for precision, marker in MARKER_OF.items():
        if precision in precisions:
            yield Line2D([], [], color=GRAY, marker=marker, linestyle="", label=precision)
    yield Line2D([], [], color=GRAY, marker="o", markerfacecolor="white", linestyle="", label="without flip averaging")


def _draw_panel(axes: "Axes", points: Sequence[Point], colors: Mapping[str, str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    front = pareto_front(points)
    axes.step([x for x, _, _ in front], [y for _, y, _ in front], where="post", color="#BBBBBB", linewidth=1, zorder=1)
    for x, y, row in points:
        color = colors[row["model"]]
        face = color if row["flip"] == "yes" else "white"
        axes.plot(x, y, marker=MARKER_OF[row["precision"]], color=color, markerfacecolor=face, markersize=7)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    low, high = axes.get_xlim()
    ticks = [base * 10.0**power for power in range(-2, 6) for base in (1, 2, 3, 5, 7)]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
