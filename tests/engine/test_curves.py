"""Reading metrics.jsonl and inspection.json, including damaged files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pose.engine.curves import read_curves, read_layers
from pose.engine.metrics_log import MetricsLog
from pose.errors import DataError


def train(samples: int, loss: float) -> dict[str, Any]:
    return {"kind": "train", "samples": samples, "loss": loss, "learning_rate": 1e-3}


def validation(samples: int, ap: float) -> dict[str, Any]:
    return {"kind": "validation", "samples": samples, "AP": ap, "AP50": 0.9}


def write_metrics(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "metrics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_read_curves_reads_what_the_metrics_log_writes(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, active=True)
    log.write("train", 10, {"loss": 3.5, "learning_rate": 1e-3})
    log.write("train", 20, {"learning_rate": 1e-3})  # a row without a loss
    log.write("train", 30, {"loss": 2.5})
    log.write("validation", 30, {"AP": 0.125, "AP50": 0.5})
    log.close()

    curves = read_curves(tmp_path)

    assert curves.samples.tolist() == [10, 30]
    assert curves.losses.tolist() == [3.5, 2.5]
    assert curves.validation_samples.tolist() == [30]
    assert curves.validation_values.tolist() == [12.5]
    assert curves.metric == "AP"


def test_validation_accuracy_of_a_classifier_is_read(tmp_path: Path) -> None:
    curves = read_curves(write_metrics(tmp_path, train(10, 5), {"kind": "validation", "samples": 10, "top1": 0.625}))

    assert curves.metric == "top1"
    assert curves.validation_samples.tolist() == [10]
    assert curves.validation_values.tolist() == [62.5]


def test_rows_of_a_resumed_run_replace_the_ones_they_repeat(tmp_path: Path) -> None:
    file = write_metrics(
        tmp_path,
        train(10, 5), train(20, 4), validation(20, 0.1), train(30, 9),
        train(15, 4.5), train(20, 3.5), validation(20, 0.2), validation(20, 0.3), train(28, 3),
    )  # fmt: skip

    curves = read_curves(file)

    assert curves.samples.tolist() == [10, 15, 20, 28]
    assert curves.losses.tolist() == [5, 4.5, 3.5, 3]
    assert curves.validation_values.tolist() == pytest.approx([30])


def test_a_run_without_validation_has_no_ap(tmp_path: Path) -> None:
    curves = read_curves(write_metrics(tmp_path, train(10, 5)))
    assert len(curves.validation_values) == len(curves.validation_samples) == 0


def test_the_newest_run_of_a_folder_is_read(tmp_path: Path) -> None:
    new, old = write_metrics(tmp_path / "run/0900", train(1, 2)), write_metrics(tmp_path / "run/1000", train(1, 3))
    os.utime(old, (1, 1))

    assert read_curves(tmp_path / "run").losses.tolist() == [2]
    assert new.exists()


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metrics\.jsonl below this folder"):
        read_curves(tmp_path)


def test_a_missing_metrics_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot read it"):
        read_curves(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    "line", ["{", "3", "[]", '{"samples": 3}', '{"kind": "train", "samples": "x"}', '{"kind": "train"}',
             '{"kind": "train", "samples": 3, "loss": "much"}', '{"kind": "train", "samples": 3, "loss": []}', "",
             '{"kind": "train", "samples": 3}\u2028'],
)  # fmt: skip
def test_a_damaged_line_is_refused_with_its_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(train(1, 2)) + f"\n{line}\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: "):
        read_curves(tmp_path / "metrics.jsonl")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match="cannot read it"):
        read_curves(tmp_path / "a.png")


@pytest.mark.parametrize("rows", [(), (validation(3, 0.5),)])
def test_a_run_without_losses_is_refused(rows: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training losses yet"):
        read_curves(write_metrics(tmp_path, *rows))


LAYER = {
    "name": "a", "kind": "1x1", "stride": 4, "entropy_mean": 0.5, "entropy_std": 0.1, "variation": 0.2,
    "mean_weights": [0.5, 0.5],
}  # fmt: skip


def test_read_layers_reads_the_layers_of_an_inspection(tmp_path: Path) -> None:
    (tmp_path / "inspection.json").write_text(json.dumps({"modes": {}, "layers": [LAYER]}))
    assert read_layers(tmp_path / "inspection.json") == [{k: v for k, v in LAYER.items() if k != "mean_weights"}]


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"layers": []}', '{"layers": [3]}', '{"layers": 3}', '{"layers": [{"name": "a"}]}']
)
def test_a_file_that_is_not_an_inspection_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json: (expected an inspection\.json|layers|not JSON)"):
        read_layers(tmp_path / "a.json")


def test_a_missing_inspection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        read_layers(tmp_path / "gone.json")
