"""What a suite gives back, in numbers, as a row and as a line; and that every suite can be found and called."""

import inspect
import json
from importlib import import_module

import numpy as np
import pytest
import torch

from pose.benchmarks import HEADING, compare, describe_machine, one_thread, suite_names

OURS, AGAINST = np.array([0.003, 0.002, 0.004]), np.array([0.001, 0.002, 0.001])


def comparison(bar):
    return compare("a case", OURS, AGAINST, "the other", np.random.default_rng(0), bar)


def test_a_row_has_the_medians_in_milliseconds_and_ours_over_the_other():
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


def test_a_line_shows_quartiles_interval_bar_and_rounds_under_the_heading():
    line = comparison(1.25).line()

    assert line.startswith("            3.00 (2.50-3.50)            1.00 (1.00-1.50)")
    assert line.split()[-8:] == ["(1.000-4.000)", "1.25", "3", "a", "case", "/", "the", "other"]
    assert line.index(" a case") == comparison(None).line().index(" a case") == HEADING.index(" case")


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_explains_itself_and_can_be_called(name):
    suite = import_module(f"pose.benchmarks.{name}")

    assert suite.__doc__.partition("\n")[0].endswith(".")
    parameters = inspect.signature(suite.measure).parameters
    assert list(parameters)[:2] == ["budget", "rng"]
    assert callable(suite.add_arguments)


def test_the_suites_are_found_by_their_files():
    assert {"latency", "peer"} <= set(suite_names())


def test_one_thread_is_for_a_while():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(OSError), one_thread():
            assert torch.get_num_threads() == 1
            raise OSError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_machine_is_described_by_processor_cores_and_versions():
    machine, versions = describe_machine().splitlines()

    assert machine.startswith("machine   ")
    assert " cores" in machine
    assert f"torch {torch.__version__.partition('+')[0]}" in versions
    assert f"numpy {np.__version__}" in versions
