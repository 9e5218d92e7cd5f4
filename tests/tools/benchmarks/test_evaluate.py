"""The evaluate suite: calls are timed only if their metrics are equal; peak memory of both sides."""

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
    """The calls whose memory was measured; ours takes 1 GB, the other 2 GB."""
    measured = []

    def fake_peak(call):
        measured.append(call)
        call()
        return len(measured) * 10**9

    monkeypatch.setattr(evaluate, "peak_bytes", fake_peak)
    return measured


def test_results_are_compared_with_pycocotools_and_predictions_with_a_given_peer(timed, memory, checkout):
    (without_peer,) = measure()
    rows = measure(checkout.path)

    assert without_peer.case == rows[0].case
    assert without_peer.case.endswith(" results to AP")
    assert [(c.against_name, c.ratio.value, c.target, c.unit) for c in rows] == [
        ("pycocotools", 0.1, None, "ms"),
        ("HRNet's code", 0.1, 1 / 3, "ms"),
        ("HRNet's code", 0.5, None, "MB"),
    ]
    assert [c.case for c in rows[1:]] == [
        "250 boxes on 12 images to AP",
        "250 boxes on 12 images to AP, peak memory",
    ]
    assert (rows[2].ours.median, rows[2].against.median) == (1000, 2000)
    assert len(memory) == 2


def test_ap_of_the_synthetic_predictions_is_between_0_and_1(timed, memory, checkout, monkeypatch):
    metrics = {}
    monkeypatch.setattr(evaluate, "require_same", lambda _, name, ours, others, tolerance: metrics.update({name: ours}))
    measure(checkout.path)

    ap = {name: values[0] for name, values in metrics.items()}
    assert ap.keys() == {"pycocotools", "HRNet's code"}
    assert all(0.05 < value < 0.95 for value in ap.values())


def test_nothing_is_printed_and_there_is_no_warmup(checkout, memory, monkeypatch, capsys):
    budgets = []
    monkeypatch.setattr(
        evaluate, "compare_first", lambda case, calls, budget, rng, targets: budgets.append(budget) or ()
    )
    measure(checkout.path)

    assert [budget.warmup for budget in budgets] == [0, 0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("old", ["cfg.TEST.IN_VIS_THRE", "all_boxes[:, 5]"])
def test_different_metrics_are_an_error_and_not_timed(timed, memory, checkout, old):
    checkout.edit("dataset/coco.py", old, f"0.5 + 0 * {old}")

    with pytest.raises(PoseError, match=r"^HRNet's code: expected metrics AP, AP50"):
        measure(checkout.path)
    assert len(timed) == 1
    assert not memory


def test_without_the_resource_module_only_time_is_measured(timed, memory, checkout, monkeypatch, caplog):
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)

    with caplog.at_level(logging.WARNING):
        assert [c.unit for c in measure(checkout.path)] == ["ms", "ms"]
    assert "memory is not measured" in caplog.text
    assert not memory


def test_a_real_measurement_leaves_no_files(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = files_in(tmp_path)

    *times, memory = measure(checkout.path)

    assert all(0 < comparison.ours.median < 1e6 for comparison in times)
    assert 50 < memory.ours.median < 10_000  # MB; torch alone takes more than 50
    assert files_in(tmp_path) == before


def files_in(folder):
    """Names of the files, without those of the fork server, which runs until the end of the tests."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("pymp-"))
