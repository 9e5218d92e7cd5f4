"""Comparisons as JSON rows and printed lines; discovery of the suites."""

import inspect
import json
from dataclasses import replace
from importlib import import_module

import cv2
import numpy as np
import pytest
import torch

from pose.errors import PoseError
from pose.tools.benchmarks import (
    HEADING,
    compare,
    compare_first,
    describe_machine,
    one_thread,
    require_same,
    suite_names,
)
from pose.tools.benchmarks._timing import Budget

OURS, AGAINST = np.array([0.003, 0.002, 0.004]), np.array([0.001, 0.002, 0.001])


def comparison(target):
    return compare("a case", OURS, AGAINST, "the other", np.random.default_rng(0), target)


def test_a_row_has_medians_in_milliseconds_and_the_ratio():
    assert json.loads(json.dumps(comparison(1.25).row("a suite"))) == {
        "suite": "a suite",
        "case": "a case",
        "ours": pytest.approx(3),
        "against": pytest.approx(1),
        "against_name": "the other",
        "unit": "ms",
        "ratio": pytest.approx(3),
        "bar": 1.25,
    }
    assert comparison(None).row("a suite")["bar"] is None


def test_a_line_is_aligned_with_the_heading():
    line = comparison(1.25).line()

    assert line.startswith("            3.00 (2.50-3.50)            1.00 (1.00-1.50)")
    assert line.split()[-10:] == ["ms", "3.000", "(1.000-4.000)", "1.25", "3", "a", "case", "/", "the", "other"]
    assert line.index(" ms ") == HEADING.index("nit ")
    assert line.index(" a case") == comparison(None).line().index(" a case") == HEADING.index(" case")


def test_a_note_is_a_line_of_its_own():
    noted = replace(comparison(1.25), note="a note")

    assert noted.line() == f"{comparison(1.25).line()}\na note"
    assert noted.row("a suite") == comparison(1.25).row("a suite")


def test_long_times_fit_into_their_columns():
    line = compare("a case", OURS * 1e5, AGAINST * 1e4, "the other", np.random.default_rng(0)).line()

    assert line.startswith("      300000 (250000-350000)         10000 (10000-15000)")
    assert line.index(" a case") == HEADING.index(" case")


def test_memory_is_compared_in_megabytes():
    memory = compare("a case", np.array([3e8]), np.array([6e8]), "the other", np.random.default_rng(0), unit="MB")

    assert (memory.ours.median, memory.against.median, memory.ratio.value) == pytest.approx((300, 600, 0.5))
    assert memory.row("a suite")["unit"] == "MB"
    assert " MB " in memory.line()


def test_compare_first_compares_processor_time_per_item_with_each_other_call(timed):
    calls = {"ours": int, "first": int, "second": int}

    rows = list(compare_first("a case", calls, Budget(rounds=1), np.random.default_rng(0), {"second": 0.1}, items=4))

    assert timed == [calls]
    assert [(c.case, c.against_name, c.target) for c in rows] == [("a case", "first", None), ("a case", "second", 0.1)]
    assert [(c.ours.median, c.against.median, c.ratio.value) for c in rows] == [(250, 2500, 0.1), (250, 5000, 0.05)]


def test_equal_results_within_the_tolerance_are_accepted():
    require_same("numbers", "the other", [1, 2], np.array([1.0, 2.5]), 0.5)
    require_same("numbers", "the other", [], [], 0)


@pytest.mark.parametrize(
    ("others", "got"),
    [
        ([1, 2.6], "a difference of 0.6"),
        ([1, np.nan], "a difference of nan"),
        ([1], r"shape \(1,\) for \(2,\)"),
        ([[1, 2]], r"shape \(1, 2\) for \(2,\)"),
    ],
)
def test_different_results_are_a_one_line_error(others, got):
    with pytest.raises(PoseError, match=f"^the other: expected numbers within 0.5 of ours, got {got}; nothing"):
        require_same("numbers", "the other", [1, 2], others, 0.5)


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_has_a_docstring_and_the_expected_signature(name):
    suite = import_module(f"pose.tools.benchmarks.{name}")

    assert suite.__doc__.partition("\n")[0].endswith(".")
    parameters = inspect.signature(suite.measure).parameters
    assert list(parameters)[:2] == ["budget", "rng"]
    assert callable(suite.add_arguments)


def test_suites_are_found_by_module_name():
    assert {"decode", "evaluate", "latency", "nms", "peer", "pipeline"} <= set(suite_names())


def test_private_modules_are_not_suites():
    assert not [name for name in suite_names() if name.startswith("_")]
    assert import_module("pose.tools.benchmarks._hrnet")


def test_one_thread_is_restored_at_the_end():
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    try:
        with pytest.raises(OSError), one_thread():
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
            raise OSError
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_the_machine_is_described_by_processor_cores_and_versions():
    machine, versions = describe_machine()

    assert " cores" in machine
    assert f"torch {torch.__version__.partition('+')[0]}" in versions
    assert f"numpy {np.__version__}" in versions
