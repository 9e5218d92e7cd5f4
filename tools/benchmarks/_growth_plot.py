"""Plot of the suite growth: time and peak memory over the size of the data, both axes logarithmic."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pose.engine.plots import COLORS, MARKERS, open_figure
from pose.errors import DataError

from ._record import Record, Row

CASE = re.compile(r"(?P<step>.+), (?P<factor>\d+) x val2017, (?P<quantity>time|peak memory)")
PANELS = {"time": ("processor time, seconds", 1e-3), "peak memory": ("peak memory above the imports, MB", 1.0)}
"""By quantity: title and factor from the unit of the row."""

Points = dict[str, dict[int, float]]
"""Values by step and factor."""


def draw_growth(records: Mapping[str, Record], path: Path) -> None:
    """Draw the rows of the suite growth; a dashed line continues the smallest size in proportion.

    Raises:
        DataError: there is no such row.
        MediaError: matplotlib is missing, or cannot write a file with this suffix.
    """
    rows = [row for record in records.values() for row in record.rows if row.suite == "growth"]
    if not rows:
        raise DataError("growth: expected its measurement among the records, got none; run tools/benchmark.py growth")
    with open_figure(path, (8.0, 3.4)) as figure:
        for axes, (quantity, (title, unit)) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            for index, (step, values) in enumerate(growth_points(rows, quantity).items()):
                factors = sorted(values)
                style = {"color": COLORS[index], "label": step, "marker": MARKERS[index]}
                axes.plot(factors, [values[factor] * unit for factor in factors], **style)
                ends = [factors[0], factors[-1]]
                proportional = [values[factors[0]] * unit * factor / factors[0] for factor in ends]
                axes.plot(ends, proportional, color=COLORS[index], linestyle="--", linewidth=0.9)
            axes.set(xscale="log", yscale="log", title=title, xlabel="times val2017")
            axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)


def growth_points(rows: Sequence[Row], quantity: str) -> Points:
    """Return the values of one quantity, ``time`` or ``peak memory``, in the units of the rows."""
    points: Points = {}
    for row in rows:
        match = CASE.fullmatch(row.case)
        if match and match["quantity"] == quantity:
            points.setdefault(match["step"], {})[int(match["factor"])] = row.ours
    return points
