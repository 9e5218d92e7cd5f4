"""tools/gpu_check.py in its small version on a CPU: every part measures, and one failure does not end the others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pose.cli import run
from pose.tools import _gpu_parts, gpu_check

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(gpu_check.main, ["--json", str(tmp_path / "gpu.json")])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1
    assert "sees no NVIDIA GPU here" in error
    assert not list(tmp_path.iterdir())


def test_the_time_limits_are_those_of_all_parts_and_together_under_ten_minutes() -> None:
    assert list(gpu_check.LIMITS_S) == list(_gpu_parts.PARTS)
    assert sum(gpu_check.LIMITS_S.values()) < 600 and gpu_check.LIMITS_S["tests"] > _gpu_parts.TESTS_LIMIT_S


@pytest.mark.parametrize(
    ("part", "cases", "figures"),
    [
        ("channels_last", 4, {"images_per_s", "first_loss", "last_loss"}),
        ("compile", 2, {"eager_ms", "compiled_ms", "difference"}),
        ("train", 4, {"images_per_s", "first_loss", "last_loss"}),
    ],
)
def test_every_case_of_a_part_is_measured_on_a_cpu(
    part: str, cases: int, figures: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gpu_parts, "WARMUP", 1)
    scale = replace(_gpu_parts.SMALL, models=_gpu_parts.SMALL.models[-1:])
    rows = {case: measure() for case, measure in _gpu_parts.PARTS[part](CPU, scale)}
    assert len(rows) == cases
    for row in rows.values():
        assert figures <= set(row) and "failed" not in row, row


def test_the_training_step_learns_and_the_packaged_model_agrees_in_every_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_gpu_parts, "WARMUP", 6)
    compared = 0
    for case, measure in _gpu_parts.check_precision(CPU, _gpu_parts.SMALL):
        row = measure()
        assert "failed" not in row, (case, row)
        assert "packaged" in case or row["last_loss"] < row["first_loss"], case
        compared += "packaged" in case
    assert compared >= 2


def test_a_difference_above_the_tolerance_is_a_failure() -> None:
    same, other = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])
    assert _gpu_parts._compare(same, same, 0.1) == {"difference": 0}
    assert _gpu_parts._compare(other, same, 0.1)["failed"] == "heatmaps differ by 2.5e-01 of the largest"
    assert _gpu_parts._compare(other / 0, same, 0.1) == {"failed": "the difference of the heatmaps is inf"}


def test_a_part_in_its_own_process_leaves_its_rows_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "gpu.json"
    gpu_check.main(["--json", str(report), "--device", "cpu", "--only", "nccl"])
    part = json.loads(report.read_text())["parts"]["nccl"]
    assert not part["failed"] and part["rows"][0]["all_reduce"] == 1 and part["rows"][0]["backend"] == "gloo"
    assert "nccl          1 cases in" in capsys.readouterr().out


def test_a_part_that_hangs_is_stopped_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu_check.LIMITS_S, "train", 0.1)
    with pytest.raises(SystemExit) as caught:
        gpu_check.main(["--json", str(tmp_path / "gpu.json"), "--device", "cpu", "--only", "train"])
    assert caught.value.code == 1
    assert "FAILED: the first case did not end" in capsys.readouterr().out


def test_a_failed_case_and_one_without_memory_do_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> dict[str, object]:
        raise error

    cases = [
        ("a", lambda: fail(RuntimeError("no\nkernel"))),
        ("b", lambda: fail(torch.cuda.OutOfMemoryError("CUDA out of memory"))),
        ("c", lambda: {"ms": 1}),
    ]
    monkeypatch.setitem(_gpu_parts.PARTS, "train", lambda device, scale: iter(cases))
    gpu_check.main(["--json", str(tmp_path / "rows.json"), "--device", "cpu", "--part", "train"])
    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {"case": "a", "failed": "RuntimeError: no kernel"},
        {"case": "b", "skipped": "out of GPU memory"},
        {"case": "c", "ms": 1},
    ]
