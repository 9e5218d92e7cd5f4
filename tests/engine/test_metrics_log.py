"""Metrics log: rows, TensorBoard events, meter and log file."""

import json
import logging

import cv2
import numpy as np
import pytest

from pose.engine import metrics_log
from pose.engine.events import EventWriter
from pose.engine.metrics_log import EpochLog, Meter, MetricsLog, RunClock, start_logging
from pose.engine.state import Progress
from pose.errors import MediaError


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that only the test advances: ``clock[0] += seconds``."""
    now = [1000.0]
    monkeypatch.setattr(metrics_log.time, "monotonic", lambda: now[0])
    return now


def test_metrics_are_written_as_json_rows_and_tensorboard_events(tmp_path):
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


def test_values_that_are_not_finite_are_written_as_null(tmp_path):
    with MetricsLog(tmp_path, active=True) as log:
        log.write("validation", 16, {"AP": float("nan"), "AR": float("inf"), "APM": 0.5})

    (row,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert row == '{"kind": "validation", "samples": 16, "AP": null, "AR": null, "APM": 0.5}'


def test_a_resumed_run_appends_rows(tmp_path):
    for samples in (16, 32):
        log = MetricsLog(tmp_path, active=True)
        log.write("train", samples, {"loss": 0.5})
        log.close()

    rows = [json.loads(line)["samples"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert rows == [16, 32]


def test_an_inactive_log_writes_nothing(tmp_path):
    log = MetricsLog(tmp_path, active=False)
    log.write("train", 16, {"loss": 0.5})
    log.close()

    assert not list(tmp_path.iterdir())


def test_meter_averages_since_the_last_read(clock):
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


def test_meter_is_due_every_ten_seconds(clock):
    meter = Meter(samples=0)
    due_after_steps = []
    for _ in range(6):
        clock[0] += 4
        meter.add(1.0, 1e-3, 0.0, 8)
        due_after_steps.append(meter.due)
        if meter.due:
            meter.read()

    assert due_after_steps == [False, False, True, False, False, True]


def test_meter_has_no_loss_before_the_first_check(clock):
    meter = Meter(samples=0)
    clock[0] += 1
    meter.add(None, 1e-3, 0.0, 8)

    assert "loss" not in meter.metrics()
    assert meter.summary() == {"loss": "nan", "lr": "1.0e-03", "images/s": "8.0", "wait": "0%"}


def test_start_logging_logs_to_stderr_and_to_train_log(tmp_path, capsys):
    start_logging(tmp_path / "run")
    logging.getLogger("pose.engine.trainer").info("epoch %d", 3)

    assert "epoch 3" in capsys.readouterr().err
    assert "epoch 3" in (tmp_path / "run/train.log").read_text()


@pytest.mark.usefixtures("_root_logger_restored")
def test_start_logging_without_a_folder_logs_only_warnings(capsys):
    start_logging(None)
    logging.getLogger("pose").info("some info")
    logging.getLogger("pose").warning("some warning")

    stderr = capsys.readouterr().err
    assert "some warning" in stderr
    assert "some info" not in stderr


def test_images_are_written_to_the_run_folder_and_to_tensorboard(tmp_path):
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 2] = 200  # red
    with MetricsLog(tmp_path, active=True) as log:
        log.write_images(16, {"val_pred": image})
        log.write_images(32, {"val_pred": image})

    assert cv2.imread(str(tmp_path / "val_pred.jpg")).mean(axis=(0, 1)) == pytest.approx([0, 0, 200], abs=4)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.width, event.height) for event in events.Images("val_pred")] == [
        (16, 48, 32),
        (32, 48, 32),
    ]
    assert events.Images("val_pred")[0].encoded_image_string == (tmp_path / "val_pred.jpg").read_bytes()


def test_an_inactive_log_writes_no_images(tmp_path):
    with MetricsLog(tmp_path, active=False) as log:
        log.write_images(16, {"val_pred": np.zeros((4, 4, 3), np.uint8)})

    assert not list(tmp_path.iterdir())


def test_the_time_left_counts_from_the_start_of_a_resumed_run(clock):
    run = RunClock(epochs=10, done=4.5)
    clock[0] += 60

    assert run.seconds_left(6) == pytest.approx(60 / 1.5 * 4)
    assert run.seconds_left(10) == 0


def run_epoch(log, clock, losses, progress, epochs=4):
    with EpochLog(log, progress, RunClock(epochs, progress.epoch), len(losses), 30.0) as epoch:
        for loss in losses:
            clock[0] += 5
            progress.step += 1
            progress.samples += 8
            epoch.step(loss, 1e-3)


def test_an_epoch_logs_its_mean_loss_its_time_and_the_time_left(tmp_path, clock, caplog):
    with MetricsLog(tmp_path, active=True) as log, caplog.at_level(logging.INFO):
        run_epoch(log, clock, [1.0, None, 2.0], Progress(epoch=1))

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1] == {"kind": "epoch", "samples": 24, "epoch": 2, "loss": 1.5, "seconds": pytest.approx(15)}
    assert "epoch 2/4: loss 1.5, 15 s, the run has about 30 s left" in caplog.text


def test_an_interrupted_epoch_logs_no_mean_loss(tmp_path, clock):
    log, progress = MetricsLog(tmp_path, active=True), Progress()
    with log, pytest.raises(KeyboardInterrupt), EpochLog(log, progress, RunClock(2, 0), 3, 30.0) as epoch:
        clock[0] += 5
        progress.step += 1
        epoch.step(1.0, 1e-3)
        raise KeyboardInterrupt

    assert '"epoch", ' not in (tmp_path / "metrics.jsonl").read_text()


@pytest.fixture
def no_space():
    """Let no file of this process grow beyond 4 KB, as a full disk does."""
    resource = pytest.importorskip("resource", reason="needs limits of POSIX")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_a_full_disk_is_one_line_that_names_the_metrics_and_keeps_whole_rows(tmp_path, no_space, monkeypatch):
    log = MetricsLog(tmp_path, active=True)
    monkeypatch.setattr(log._board, "write", lambda *_: None)
    with pytest.raises(MediaError, match=r"metrics\.jsonl: cannot write it \(File too large\)"):
        for samples in range(1000):
            log.write("train", samples, {"loss": 0.5})

    log.close()
    MetricsLog(tmp_path, active=True).close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 50


def test_a_full_disk_is_one_line_that_names_the_events(tmp_path, no_space):
    events = EventWriter(tmp_path)
    with pytest.raises(MediaError, match=r"events\.out\.tfevents\..*: cannot write it \(File too large\)"):
        for step in range(1000):
            events.write(step, [{"tag": "loss", "simple_value": 0.5}])
    events.close()


def test_a_full_disk_is_one_line_that_names_the_image(tmp_path, no_space):
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    (tmp_path / "val_pred.jpg").write_text("older")

    with MetricsLog(tmp_path, active=True) as log, pytest.raises(MediaError, match=r"val_pred\.jpg: cannot write it"):
        log.write_images(16, {"val_pred": image})

    assert (tmp_path / "val_pred.jpg").read_text() == "older"
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_one_line_that_names_the_log(tmp_path, no_space):
    start_logging(tmp_path)

    with pytest.raises(MediaError, match=r"train\.log: cannot write it .*File too large"):
        for _ in range(1000):
            logging.getLogger("pose").info("epoch")


def test_a_row_that_a_killed_run_left_half_written_is_cut_off(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "samples": 8}\n{"kind": "tra')

    with MetricsLog(tmp_path, active=True) as log:
        log.write("train", 16, {"loss": 0.5})

    rows = [json.loads(line)["samples"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [8, 16]
