"""A short run of the harness: a few damaged inputs of each kind. `make fuzz` tries many more."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")
COUNT = 300
KINDS = (
    "annotations", "detections", "results", "configs", "weights", "checkpoints", "exports", "detectors", "teachers",
    "images", "videos", "caches", "curves", "commands", "predictor_calls", "arrays", "layers", "full_disk",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the report of one run over all kinds."""
    file = tmp_path_factory.mktemp("robustness") / "report.json"
    arguments = ["--count", str(COUNT), "--seed", "0", "--workers", "1", "--seconds", "30", "--json", str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=600
    )
    assert file.exists(), done.stderr
    return json.loads(file.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_input_is_refused_in_one_line_or_gives_a_right_answer(report, kind):
    assert sum(report["tried"][kind].values()) > 0
    faults = [
        f"{name}: {outcomes[0]['what']}" for name, outcomes in report["faults"].items() if outcomes[0]["kind"] == kind
    ]
    assert faults == []


def test_every_kind_is_tried(report):
    assert sorted(report["tried"]) == sorted(KINDS)


@pytest.mark.parametrize("kind", ["annotations", "checkpoints", "commands", "configs", "images", "weights"])
def test_some_inputs_are_taken_so_that_a_harness_that_refuses_all_is_seen(report, kind):
    assert report["tried"][kind].get("right", 0) > 0
