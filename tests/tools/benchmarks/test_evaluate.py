"""The evaluate suite: the same figures from the same predictions, or nothing is timed; memory of either side."""

import logging

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks import evaluate
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(evaluate.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, images=12))


@pytest.fixture
def memory(monkeypatch):
    """What was run to measure its memory; ours takes 1 GB, the other 2 GB."""
    found = []

    def fake(call):
        found.append(call)
        call()
        return len(found) * 10**9

    monkeypatch.setattr(evaluate, "peak_bytes", fake)
    return found


def test_results_meet_pycocotools_and_predictions_meet_hrnet(timed, memory, checkout):
    (alone,) = measure()
    found = measure(checkout.path)

    assert alone.case == found[0].case
    assert alone.case.endswith(" results to AP")
    assert [(c.against_name, c.ratio.value, c.bar, c.unit) for c in found] == [
        ("pycocotools", 0.1, None, "ms"),
        ("HRNet's code", 0.1, 1 / 3, "ms"),
        ("HRNet's code", 0.5, None, "MB"),
    ]
    assert [c.case for c in found[1:]] == [
        "250 boxes on 12 images to AP",
        "250 boxes on 12 images to AP, peak memory",
    ]
    assert (found[2].ours.median, found[2].against.median) == (1000, 2000)
    assert len(memory) == 2


def test_figures_are_neither_perfect_nor_nothing(timed, memory, checkout, monkeypatch):
    seen = {}
    monkeypatch.setattr(evaluate, "require_same", lambda what, name, ours, others, tolerance: seen.update({name: ours}))
    measure(checkout.path)

    ap = {name: figures[0] for name, figures in seen.items()}
    assert ap.keys() == {"pycocotools", "HRNet's code"}
    assert all(0.05 < value < 0.95 for value in ap.values())


def test_nothing_is_printed_and_no_round_is_for_warmth(checkout, memory, monkeypatch, capsys):
    budgets = []
    monkeypatch.setattr(evaluate, "compare_first", lambda case, calls, budget, rng, bars: budgets.append(budget) or ())
    measure(checkout.path)

    assert [budget.warmup for budget in budgets] == [0, 0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("old", ["cfg.TEST.IN_VIS_THRE", "all_boxes[:, 5]"])
def test_other_figures_are_not_timed(timed, memory, checkout, old):
    checkout.edit("dataset/coco.py", old, f"0.5 + 0 * {old}")

    with pytest.raises(PoseError, match=r"^HRNet's code: expected the figures AP, AP50"):
        measure(checkout.path)
    assert len(timed) == 1
    assert not memory


def test_where_memory_cannot_be_measured_only_time_is(timed, memory, checkout, monkeypatch, caplog):
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)

    with caplog.at_level(logging.WARNING):
        assert [c.unit for c in measure(checkout.path)] == ["ms", "ms"]
    assert "memory is not measured" in caplog.text
    assert not memory


def test_a_real_measurement_ends_and_leaves_nothing(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = left_in(tmp_path)

    *times, memory = measure(checkout.path)

    assert all(0 < comparison.ours.median < 1e6 for comparison in times)
    assert 50 < memory.ours.median < 10_000  # MB; torch alone is more than the one
    assert left_in(tmp_path) == before


def left_in(folder):
    """What lies there, but for the server that processes are forked from, which lives as long as the tests."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("pymp-"))
