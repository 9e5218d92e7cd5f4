"""tools/benchmark.py: printed rows, JSON rows and user errors."""

import json
import re
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pose.tools.benchmarks
from pose.cli import run
from pose.errors import PoseError
from pose.tools import benchmark
from pose.tools.benchmark import main
from pose.tools.benchmarks import _all, _record, compare, describe_machine
from pose.tools.benchmarks._record import command_line, read_record
from pose.tools.benchmarks._timing import Budget

KEYS = {"suite", "case", "ours", "against", "against_name", "unit", "ratio", "bar"}


def test_a_suite_prints_the_machine_and_rows_and_writes_the_rows_as_json(tmp_path, capsys):
    main(["latency", "--widths", "0.35", "--rounds", "1", "--json", str(tmp_path / "new/rows.json")])

    rows = json.loads((tmp_path / "new/rows.json").read_text())["rows"]
    printed = capsys.readouterr().out
    assert len(rows) == 5  # a classifier, and backbone and pose model in two layouts
    assert all(set(row) == KEYS and row["suite"] == "latency" and row["unit"] == "ms" for row in rows)
    assert all(row["ratio"] == pytest.approx(row["ours"] / row["against"]) for row in rows)
    assert printed.startswith("suite     latency, one thread\nmachine   ")
    assert all(f"{row['case']} / {row['against_name']}\n" in printed for row in rows)


def test_a_suite_runs_without_a_peer(tmp_path, capsys):
    main(["nms", "--pictures", "3", "--rounds", "1", "--json", str(tmp_path / "rows.json")])

    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert set(row) == KEYS
    assert (row["suite"], row["unit"], row["bar"]) == ("nms", "ms", None)


def test_the_file_says_how_when_and_where_it_was_measured(tmp_path):
    file = tmp_path / "rows.json"
    main(["nms", "--pictures", "3", "--rounds", "1", "--json", str(file), "--conditions", "a test"])

    record = read_record(file)
    assert (record.suite, record.conditions) == ("nms", "a test")
    assert record.command == "python tools/benchmark.py nms --pictures 3 --rounds 1"
    assert record.versions == describe_machine()[1]
    assert record.commit


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["nms", "--peer", "/home/me/HRNet", "--json=a.json", "--rounds", "2"], "nms --peer HRNet --rounds 2"),
        (["nms", "--conditions", "--", "--peer", "../HRNet"], "nms --peer HRNet"),
        (["peer", "--weights", "runs/a b.pt"], "peer --weights 'runs/a b.pt'"),
    ],
)
def test_the_command_has_no_folders_of_this_machine_and_no_file_name(words, command):
    assert command_line(words) == f"python tools/benchmark.py {command}"


@pytest.fixture
def suite(monkeypatch):
    """Fake suite with one case; returns the arguments it was called with."""
    received = {}

    def measure(budget, rng, **options):
        received.update(budget=budget, draw=rng.random(), threads=torch.get_num_threads(), **options)
        yield compare("case", np.array([2.0]), np.array([1.0]), "other", rng)

    module = SimpleNamespace(
        __doc__="One case.", add_arguments=lambda parser: parser.add_argument("--size"), measure=measure
    )
    monkeypatch.setattr(pose.tools.benchmarks, "suite_names", lambda: ["tiny"])
    modules = {"pose.tools.benchmarks": pose.tools.benchmarks, "pose.tools.benchmarks.tiny": module}
    monkeypatch.setattr(benchmark, "import_module", lambda name: modules.get(name) or import_module(name))
    return received


@pytest.mark.parametrize(
    ("arguments", "budget"),
    [
        ([], Budget(seconds=10)),
        (["--seconds", "0.5"], Budget(seconds=0.5)),
        (["--rounds", "7"], Budget(rounds=7)),
        (["--rounds", "7", "--seconds", "2"], Budget(seconds=2, rounds=7)),
    ],
)
def test_a_suite_gets_its_options_a_budget_and_one_thread(suite, arguments, budget):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        main(["tiny", "--size", "3", *arguments])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)

    assert suite == {"budget": budget, "draw": np.random.default_rng(0).random(), "threads": 1, "size": "3"}


def test_help_lists_the_suites(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for name in pose.tools.benchmarks.suite_names():
        assert f"    {name}" in [line[: len(name) + 4] for line in printed.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: SUITE"),
        (["latncy"], "invalid choice: 'latncy'"),
        (["latency", "--seconds", "0"], "expected seconds above 0, got '0'"),
        (["latency", "--seconds", "nan"], "expected seconds above 0, got 'nan'"),
        (["latency", "--seconds", "soon"], "expected seconds above 0, got 'soon'"),
        (["latency", "--rounds", "0"], "expected a whole number from 1 to 2147483647, got '0'"),
        (["latency", "--images", "0"], "expected a whole number from 1 to 2147483647, got '0'"),
        (["latency", "--parts", "heads"], "invalid choice: 'heads'"),
        (["latency", "--widths", "0.6"], "invalid choice: 0.6"),
        (["peer", "--weights", "a.pt"], "required: --peer"),
        (["peer", "--weights", "none.pt", "--peer", "none.onnx"], "none.onnx: no such ONNX file"),
        (["nms", "--pictures", "0"], "expected a whole number from 1 to 2147483647, got '0'"),
        (["nms", "--pictures", "2", "--peer", "none"], "--peer none: expected a checkout of https://"),
        (["decode", "--peer", "none"], "--peer none: expected a checkout of https://"),
        (["pipeline", "--peer", "none"], "--peer none: expected a checkout of https://"),
        (["evaluate", "--pictures", "2", "--rounds", "1", "--peer", "none"], "--peer none: expected a checkout of"),
    ],
)
def test_user_errors_exit_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(main, arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_failing_suite_writes_no_file(suite, tmp_path, monkeypatch):
    def measure(budget, rng, size):
        raise RuntimeError("slow")
        yield

    monkeypatch.setattr(benchmark.import_module("pose.tools.benchmarks.tiny"), "measure", measure)

    with pytest.raises(RuntimeError, match="slow"):
        main(["tiny", "--json", str(tmp_path / "rows.json")])
    assert not list(tmp_path.iterdir())


def test_all_runs_every_suite_with_its_peer_in_a_process_of_its_own(tmp_path):
    peers = {"movenet": tmp_path / "movenet.onnx", "hrnet": None}
    lines = dict(_all.commands(tmp_path, sorted(_all.ARGUMENTS), peers, "a test"))

    assert set(lines) == set(pose.tools.benchmarks.suite_names())
    for name, (python, script, *words) in lines.items():
        assert (python, script, words[0]) == (sys.executable, str(_all.BENCHMARK), name)
        options = vars(benchmark._parser().parse_args(words))
        assert (options["json"], options["conditions"]) == (tmp_path / f"{name}.json", "a test")
        assert options.get("peer") == (peers["movenet"] if name == "peer" else None)
    assert "peer" not in dict(_all.commands(tmp_path, sorted(_all.ARGUMENTS), {"movenet": None}, ""))


def test_all_writes_a_file_for_each_suite_and_reports_those_that_fail(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(_all, "ARGUMENTS", {"nms": ("--pictures", "3", "--rounds", "1"), "evaluate": ("--unknown",)})
    before = '{"suite": "evaluate"}'
    (tmp_path / "evaluate.json").write_text(before)

    with pytest.raises(PoseError, match="benchmark all: evaluate failed"):
        _all.run_all(tmp_path, ["evaluate", "nms"], {}, "")

    assert read_record(tmp_path / "nms.json").suite == "nms"
    assert (tmp_path / "evaluate.json").read_text() == before
    assert "unrecognized arguments: --unknown" in capfd.readouterr().err


def test_the_commit_is_dirty_if_code_differs_and_not_if_measurements_do(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    for file in ("pose/a.py", "docs/a.json"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("1")
    monkeypatch.setattr(_record, "ROOT", tmp_path)
    assert _record.current_commit() == "unknown"

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    commit = _record.current_commit()
    assert re.fullmatch("[0-9a-f]{8}", commit)
    (tmp_path / "docs/a.json").write_text("2")
    assert _record.current_commit() == commit
    (tmp_path / "pose/a.py").write_text("2")
    assert _record.current_commit() == f"{commit}-dirty"
