"""The harness sees every class of fault: each is made on purpose, and the right outcomes are not taken for faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")
EXPECTED = {
    "right": "right",
    "refused": "refused",
    "refused by a command": "refused",
    "traceback": "traceback",
    "traceback of a command": "message",
    "message of two lines": "message",
    "message that is long": "message",
    "message that is missing": "message",
    "exit status": "exit status",
    "wrong answer": "wrong answer",
    "accepted": "wrong answer",
    "valid input refused": "valid input refused",
    "JSON with NaN": "wrong answer",
    "JSON beyond range": "wrong answer",
    "lost file": "lost file",
    "changed file": "lost file",
    "changed file allowed": "right",
    "changed file although refused": "lost file",
    "left-over file": "left-over file",
    "empty file although refused": "left-over file",
    "file outside": "left-over file",
    "hang": "hang",
    "hang in C": "hang",
    "segmentation fault": "killed",
    "process ends": "killed",
    "memory bomb": "traceback",
    "much memory": "memory",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the result of each fault by its name."""
    folder = tmp_path_factory.mktemp("faults")
    arguments = ["--kinds", "planted", "--count", str(len(EXPECTED)), "--workers", "1", "--seconds", "4"]
    arguments += ["--keep", "kept", "--no-world", "--all", "all.jsonl", "--json", "report.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 1, done.stderr  # there are faults
    rows = [json.loads(line) for line in (folder / "all.jsonl").read_text().splitlines()]
    classes = json.loads((folder / "report.json").read_text())["classes"]
    assert len(list((folder / "kept").rglob("outcome.txt"))) == len(classes)  # one failing input of each
    return {row["what"]: row["result"] for row in rows}


@pytest.mark.parametrize("fault", EXPECTED)
def test_each_fault_is_seen_for_what_it_is(outcomes, fault):
    assert outcomes[fault] == EXPECTED[fault]


def test_a_hang_or_a_crash_ends_its_own_case_only(outcomes):
    assert len(outcomes) == len(EXPECTED)
