"""What a run writes about itself."""

import json
import logging

import pytest

from pose.engine import metrics_log
from pose.engine.metrics_log import Meter, MetricsLog, start_logging


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved: ``clock[0] += seconds``."""
    now = [1000.0]
    monkeypatch.setattr(metrics_log.time, "monotonic", lambda: now[0])
    return now


def test_rows_are_json_and_curves_are_tensorboard_events(tmp_path):
    log = MetricsLog(tmp_path, active=True)
    log.write("train", 16, {"loss": 0.5, "epoch": 1.0})
    log.write("validation", 16, {"AP": 0.25})
    log.close()

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert rows == [
        {"kind": "train", "samples": 16, "loss": 0.5, "epoch": 1.0},
        {"kind": "validation", "samples": 16, "AP": 0.25},
    ]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["train/epoch", "train/loss", "validation/AP"]
    (curve,) = events.Scalars("validation/AP")
    assert (curve.step, curve.value) == (16, 0.25)


def test_a_resumed_run_adds_to_its_rows(tmp_path):
    for samples in (16, 32):
        log = MetricsLog(tmp_path, active=True)
        log.write("train", samples, {"loss": 0.5})
        log.close()

    rows = [json.loads(line)["samples"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert rows == [16, 32]


def test_other_processes_write_nothing(tmp_path):
    log = MetricsLog(tmp_path, active=False)
    log.write("train", 16, {"loss": 0.5})
    log.close()

    assert not list(tmp_path.iterdir())


def test_figures_are_means_since_the_last_reading(clock):
    meter = Meter(samples=100)
    clock[0] += 2
    assert meter.add(1.0, 1e-3, 0.5, 108) == pytest.approx(2)
    clock[0] += 2
    meter.add(None, 1e-3, 0.0, 116)
    clock[0] += 1
    meter.add(2.0, 5e-4, 0.5, 124)

    assert meter.read() == pytest.approx(
        {"loss": 1.5, "learning_rate": 5e-4, "images_per_second": 24 / 5, "data_wait_share": 0.2}
    )
    clock[0] += 4
    meter.add(4.0, 5e-4, 1.0, 132)
    assert meter.metrics() == pytest.approx(
        {"loss": 4.0, "learning_rate": 5e-4, "images_per_second": 2, "data_wait_share": 0.25}
    )


def test_a_row_is_due_every_ten_seconds(clock):
    meter = Meter(samples=0)
    dues = []
    for _ in range(6):
        clock[0] += 4
        meter.add(1.0, 1e-3, 0.0, 8)
        dues.append(meter.due)
        if meter.due:
            meter.read()

    assert dues == [False, False, True, False, False, True]


def test_before_the_first_loss_nothing_false_is_shown(clock):
    meter = Meter(samples=0)
    clock[0] += 1
    meter.add(None, 1e-3, 0.0, 8)

    assert "loss" not in meter.metrics()
    assert meter.summary() == {"loss": "nan", "lr": "1.0e-03", "images/s": "8.0", "wait": "0%"}


def test_the_first_process_logs_to_stderr_and_to_the_runs_file(tmp_path, capsys):
    start_logging(tmp_path / "run")
    logging.getLogger("pose.engine.trainer").info("epoch %d", 3)

    assert "epoch 3" in capsys.readouterr().err
    assert "epoch 3" in (tmp_path / "run/train.log").read_text()


@pytest.mark.usefixtures("_root_logger_restored")
def test_without_a_folder_only_warnings_are_heard(capsys):
    start_logging(None)
    logging.getLogger("pose").info("quiet")
    logging.getLogger("pose").warning("loud")

    heard = capsys.readouterr().err
    assert "loud" in heard
    assert "quiet" not in heard
