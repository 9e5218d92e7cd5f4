"""The dynamic perceptron of the paper's appendix A.3: its outputs, its two regions, and the plot."""

from pathlib import Path

import numpy as np
import pytest

from pose.engine.perceptron import CORNERS, apply_perceptron, draw_perceptron, static_perceptron, xor_perceptron
from pose.errors import MediaError
from pose.geometry import Array

XOR = [0.0, 1.0, 1.0, 0.0]


def sums(*values: float) -> Array:
    """Points (N, 2) with x1 = x2 whose sums are ``values``."""
    return np.repeat(np.array(values)[:, None] / 2, 2, axis=1)


def test_relu_of_the_outputs_is_xor_at_the_corners() -> None:
    outputs = apply_perceptron(xor_perceptron(), np.array(CORNERS))
    assert outputs.clip(min=0).tolist() == XOR
    np.testing.assert_allclose(outputs[[0, 3]], -0.5232, atol=1e-4)


def test_the_output_is_positive_in_a_strip_between_two_lines() -> None:
    outputs = apply_perceptron(xor_perceptron(), sums(*np.linspace(-1, 3, 81)))
    signs = np.flatnonzero(np.diff(np.sign(outputs)))
    assert len(signs) == 2
    assert (outputs[0] < 0, outputs[40] > 0, outputs[-1] < 0) == (True, True, True)


def test_outputs_equal_the_formula() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (50, 2))
    s = points.sum(axis=1)
    first = 1 / (1 + np.exp(2 * (s - 1)))  # softmax of 1 - s and s - 1
    expected = first * (2 * s - 1) + (1 - first) * (3 - 2 * s)
    np.testing.assert_allclose(apply_perceptron(xor_perceptron(), points), expected, atol=1e-5)


def test_uniform_attention_gives_one_everywhere() -> None:
    points = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    np.testing.assert_allclose(apply_perceptron(static_perceptron(), points), 1, atol=1e-5)


def test_the_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")
    draw_perceptron(tmp_path / "new/perceptron.png")
    assert (tmp_path / "new/perceptron.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(MediaError, match="expected the name of a plot"):
        draw_perceptron(tmp_path / "perceptron.txt")
