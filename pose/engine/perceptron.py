"""One dynamic perceptron that computes XOR, and a plot of its two regions (paper, appendix A.3).

Needs matplotlib to draw, see `pose.engine.plots`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pose.engine.plots import COLORS, open_figure
from pose.geometry import Array
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.kernel_attention import set_temperature

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet

CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
"""Inputs (x1, x2) of XOR, whose values are 0, 1, 1, 0."""

GRID_MIN, GRID_MAX, GRID_POINTS = -0.5, 1.5, 201


def xor_perceptron() -> DynamicConv2d:
    """Return a perceptron y = sum_k pi_k(x) (w_k . x + b_k), K = 2, whose relu(y) equals XOR at the corners.

    The paper's appendix proves that such weights exist; these are ours. With s = x1 + x2, the kernels are 2s - 1 and
    3 - 2s, and the logits of the attention 1 - s and s - 1 (for s >= 0):

        s = 0: -1 and 3, attention 0.88 and 0.12, together -0.5
        s = 1:  1 and 1, attention 0.5 and 0.5, together 1
        s = 2:  3 and -1, attention 0.12 and 0.88, together -0.5
    """
    layer = DynamicConv2d(2, 1, 1, bias=True, num_kernels=2, temperature=1.0)
    values = {
        "weight": [[2.0, 2.0], [-2.0, -2.0]],
        "bias": [-1.0, 3.0],
        "attention.fc1.weight": [1.0, 1.0],
        "attention.fc1.bias": [0.0],
        "attention.fc2.weight": [-1.0, 1.0],
        "attention.fc2.bias": [1.0, -1.0],
        "attention.temperature": 1.0,
    }
    shapes = {name: value.shape for name, value in layer.state_dict().items()}
    layer.load_state_dict({name: torch.tensor(value).view(shapes[name]) for name, value in values.items()})
    return layer.eval()


def static_perceptron() -> DynamicConv2d:
    """Return `xor_perceptron` with uniform attention: its static mean kernel, which gives 1 everywhere."""
    layer = xor_perceptron()
    set_temperature(layer, 1e9)
    return layer


@torch.no_grad()
def apply_perceptron(layer: DynamicConv2d, points: Array) -> Array:
    """Return y (N,) before the ReLU at points (N, 2); a point is an image of one pixel with two channels."""
    images = torch.from_numpy(points).float()[:, :, None, None]
    outputs: Array = layer(images).flatten().double().numpy()
    return outputs


def draw_perceptron(path: Path) -> None:
    """Plot the outputs of `xor_perceptron` and of the static perceptron of uniform attention over the plane.

    Args:
        path: image to write.

    Raises:
        MediaError: matplotlib is missing, or cannot write a file with this suffix.
    """
    axis = np.linspace(GRID_MIN, GRID_MAX, GRID_POINTS)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    with open_figure(path, (7.6, 3.6)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        titles = ("dynamic perceptron, K = 2", "static perceptron, the mean of both kernels")
        for axes, layer, title in zip(panels, (xor_perceptron(), static_perceptron()), titles, strict=True):
            values = apply_perceptron(layer, points).reshape(GRID_POINTS, GRID_POINTS)
            filled = _draw_regions(axes, axis, values)
            axes.set_title(title)
        _draw_kernels(panels[0])
        figure.legend(loc="outside lower center", ncols=4)
        figure.colorbar(filled, ax=list(panels), label="y before the ReLU", ticks=[-2, -1, 0, 1])


def _draw_regions(axes: "Axes", axis: Array, values: Array) -> "QuadContourSet":
    """Fill the plane by the output, draw its zero line and the four corners; returns the filled contours."""
    filled = axes.contourf(axis, axis, values, levels=np.linspace(-2, 2, 17), cmap="RdBu_r", alpha=0.75, extend="both")
    if values.min() < 0 < values.max():
        axes.contour(axis, axis, values, levels=[0.0], colors="black", linewidths=1.6)
    for x1, x2 in CORNERS:
        is_one = x1 != x2
        axes.plot(x1, x2, "o", color="black", markerfacecolor="black" if is_one else "white", markersize=8)
        axes.annotate("1" if is_one else "0", (x1, x2), (8, 5), textcoords="offset points", fontweight="bold")
    axes.set_aspect("equal")
    axes.set_xlim(GRID_MIN, GRID_MAX)
    axes.set_ylim(GRID_MIN, GRID_MAX)
    axes.set_xlabel("x1")
    axes.set_ylabel("x2")
    return filled


def _draw_kernels(axes: "Axes") -> None:
    """Draw the line on which each kernel alone gives 0, and name all lines in the legend."""
    for kernel, (total, color) in enumerate(((0.5, COLORS[2]), (1.5, COLORS[4])), 1):
        ends = np.array([GRID_MIN, GRID_MAX])
        axes.plot(ends, total - ends, color=color, linestyle="--", label=f"kernel {kernel} alone: y = 0")
    axes.plot([], [], color="black", label="y = 0, the border of the regions")
