"""Whole training runs: contents of the run folder, validation, best checkpoint, exact resume after interruption."""

import json
import logging
import math

import numpy as np
import pytest
import torch

from pose.config.loader import load_config
from pose.engine import pose_task, trainer
from pose.engine.losses import LOSSES
from pose.errors import ConfigError, TrainingError
from pose.evaluation.coco_ap import METRIC_NAMES, Metrics
from pose.tools.train import train_pose as train

STATEFUL_OPTIONS = (
    "model.dynamic_head=true",
    "train.epochs=3",
    "train.learning_rate=0.02",
    "train.attention_learning_rate=0.005",
    "train.schedule=cosine",
    "train.warmup_steps=3",
    "train.temperature_final=1",
    "train.temperature_epochs=2",
    "train.ema_decay=0.9",
    "train.gradient_clip=1",
    "train.checkpoint_minutes=1e-9",  # after every step
)
"""Options with state or a schedule that a resumed run must continue."""


@pytest.fixture(scope="module", autouse=True)
def _score_by_keypoint_positions():
    """Replace AP, which is 0 for a model this small, by a score that depends on every weight."""

    def score(results, test_set, config):
        mean = float(np.mean([result["keypoints"] for result in results]))
        values = dict.fromkeys(METRIC_NAMES, 1 - mean / 1000)
        return Metrics(**values, keypoint_similarity={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose_task, "score_results", score)
        yield


@pytest.fixture(scope="module")
def uninterrupted_run(tiny_config, dist, tmp_path_factory):
    """Folder of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(tiny_config(*STATEFUL_OPTIONS), folder, dist)
    return folder


def read_rows(folder, kind):
    """Read the rows of metrics.jsonl without measured times."""
    timings = ("seconds", "images_per_second", "data_wait_share")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name not in timings} for row in rows if row["kind"] == kind]


def read_state(path):
    """Read a checkpoint without training time and config."""
    content = torch.load(path, weights_only=True)
    del content["progress"]["seconds"], content["config"]
    return content


def interrupt_when(condition, patch):
    """Interrupt training after the first saved checkpoint for which condition(number, progress, name) is true."""
    save, written = trainer.save_checkpoint, []

    def save_and_interrupt(state, config, path):
        save(state, config, path)
        written.append(path.name)
        if condition(len(written), state.progress, path.name):
            raise KeyboardInterrupt

    patch.setattr(trainer, "save_checkpoint", save_and_interrupt)


@pytest.mark.parametrize("saves", range(1, 9))  # inside two epochs, at their ends, between best.pt and last.pt
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    saves, uninterrupted_run, tiny_config, dist, tmp_path
):
    config = tiny_config(*STATEFUL_OPTIONS)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_when(lambda number, progress, name: number == saves, patch)
        train(config, tmp_path, dist)
    torch.manual_seed(1234)  # a new process

    train(config, tmp_path, dist, resume=tmp_path / "last.pt")

    for name in ("last.pt", "best.pt"):
        actual, expected = read_state(tmp_path / name), read_state(uninterrupted_run / name)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert read_rows(tmp_path, "validation")[-1] == read_rows(uninterrupted_run, "validation")[-1]


def test_learning_rate_and_temperature_follow_their_schedules_in_a_resumed_run(
    tiny_config, uninterrupted_run, dist, tmp_path
):
    config = tiny_config(*STATEFUL_OPTIONS)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_when(lambda number, progress, name: progress.step == 0 and name == "last.pt", patch)
        train(config, tmp_path, dist)
    train(config, tmp_path, dist, resume=tmp_path / "last.pt")

    rows = read_rows(tmp_path, "train")

    assert [row["temperature"] for row in rows] == [30, 15.5, 1]
    assert rows == read_rows(uninterrupted_run, "train")
    state = read_state(tmp_path / "last.pt")
    for part in ("model", "ema"):
        assert {value.item() for name, value in state[part].items() if name.endswith("temperature")} == {1.0}


def test_a_finished_run_is_resumed_with_more_epochs(tiny_config, dist, tmp_path, caplog):
    config = tiny_config("train.epochs=1")
    train(config, tmp_path, dist)
    longer = tiny_config("train.epochs=2")

    with caplog.at_level(logging.INFO):
        train(longer, tmp_path, dist, resume=tmp_path / "last.pt")

    assert [row["epoch"] for row in read_rows(tmp_path, "validation")] == [1, 2]
    assert "after 1 epochs and 0 steps" in caplog.text
    assert "train.epochs is now 2, the checkpoint was written with 1" in caplog.text
    assert load_config(tmp_path / "config.yaml") == longer


def test_the_run_folder_holds_config_metrics_and_checkpoints(uninterrupted_run, tiny_config):
    names = {path.name for path in uninterrupted_run.iterdir()}

    assert {"config.yaml", "metrics.jsonl", "last.pt", "best.pt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert load_config(uninterrupted_run / "config.yaml") == tiny_config(*STATEFUL_OPTIONS)


def test_metrics_rows_hold_samples_epoch_and_metrics(uninterrupted_run):
    rows = [json.loads(line) for line in (uninterrupted_run / "metrics.jsonl").read_text().splitlines()]

    assert [row["kind"] for row in rows] == 3 * ["train", "epoch", "validation"]
    assert [row["epoch"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    epoch = rows[0]["samples"]
    assert epoch % 8 == 0  # whole batches
    assert [row["samples"] for row in rows] == [number * epoch for number in (1, 1, 1, 2, 2, 2, 3, 3, 3)]
    train_metrics = {"loss", "learning_rate", "temperature", "images_per_second", "data_wait_share", "seconds"}
    assert train_metrics <= rows[0].keys()
    assert {"loss", "seconds"} <= rows[1].keys()
    assert {*METRIC_NAMES, "seconds"} <= rows[2].keys()
    assert rows[8]["seconds"] > rows[0]["seconds"] > 0


def test_best_checkpoint_is_of_the_epoch_with_the_best_score(uninterrupted_run, dist, tiny_config):
    scores = [row["AP"] for row in read_rows(uninterrupted_run, "validation")]
    best, last = read_state(uninterrupted_run / "best.pt"), read_state(uninterrupted_run / "last.pt")

    assert len(set(scores)) == 3
    assert best["progress"]["epoch"] == 1 + scores.index(max(scores))
    assert best["progress"]["best_score"] == last["progress"]["best_score"] == max(scores)


@pytest.mark.parametrize(("scores", "epoch"), [((0.2, 0.5, 0.3), 2), ((0.5, 0.5, 0.4), 1), ((0.0, 0.0, 0.0), 1)])
def test_a_worse_or_equal_score_does_not_replace_the_best_checkpoint(
    scores, epoch, tiny_config, dist, tmp_path, monkeypatch
):
    remaining = iter(scores)
    metrics = lambda *_: Metrics(**dict.fromkeys(METRIC_NAMES, next(remaining)), keypoint_similarity={})  # noqa: E731
    monkeypatch.setattr(pose_task, "score_results", metrics)

    assert train(tiny_config("train.epochs=3"), tmp_path, dist) == max(scores)

    assert read_state(tmp_path / "best.pt")["progress"]["epoch"] == epoch
    assert read_state(tmp_path / "last.pt")["progress"]["epoch"] == 3


def test_the_last_epoch_is_always_validated(tiny_config, dist, tmp_path):
    train(tiny_config("train.epochs=3", "train.validate_every=2"), tmp_path, dist)

    assert [row["epoch"] for row in read_rows(tmp_path, "validation")] == [2, 3]


@pytest.mark.parametrize(("decay", "part"), [(0.99, "ema"), (0, "model")])
def test_validation_uses_the_moving_average_if_enabled(decay, part, tiny_config, dist, tmp_path, monkeypatch):
    validated_models = []
    predict = pose_task.predict_persons

    def record_model(heatmap_fn, *args):
        model = heatmap_fn.__self__
        validated_models.append((model.training, {name: value.clone() for name, value in model.state_dict().items()}))
        return predict(heatmap_fn, *args)

    monkeypatch.setattr(pose_task, "predict_persons", record_model)
    train(tiny_config("train.epochs=1", f"train.ema_decay={decay}"), tmp_path, dist)

    content = read_state(tmp_path / "best.pt")
    ((was_training, validated),) = validated_models
    assert not was_training
    torch.testing.assert_close(validated, dict(content[part]), rtol=0, atol=0)
    if part == "ema":
        assert any(not torch.equal(content["ema"][name], content["model"][name]) for name in validated)
    else:
        assert content["ema"] is None


def test_the_number_of_workers_does_not_change_the_result(tiny_config, dist, tmp_path):
    for workers in (0, 2):
        train(tiny_config(f"train.workers={workers}"), tmp_path / str(workers), dist)

    without_workers, with_workers = (read_state(tmp_path / str(workers) / "last.pt")["model"] for workers in (0, 2))
    torch.testing.assert_close(with_workers, without_workers, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tiny_config, dist, tmp_path, monkeypatch):
    config = tiny_config("train.epochs=3", "train.loss=mse")

    def not_finite_in_the_second_epoch(maps, heatmaps, weights):
        factor = math.nan if (tmp_path / "last.pt").exists() else 1
        return LOSSES["cross_entropy"](maps, heatmaps, weights) * factor

    monkeypatch.setitem(LOSSES, "mse", not_finite_in_the_second_epoch)
    with pytest.raises(TrainingError, match=r"not finite \(nan\) on the records \[\d+, .*\]; look at them"):
        train(config, tmp_path, dist)

    content = read_state(tmp_path / "last.pt")
    assert content["progress"]["epoch"] == 1
    assert all(value.isfinite().all() for value in content["model"].values())
    assert [row["epoch"] for row in read_rows(tmp_path, "train")] == [1]


def test_a_batch_larger_than_the_data_set_is_refused(tiny_config, dist, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.batch_size 64 is larger than the \d+ training persons"):
        train(tiny_config("train.batch_size=64"), tmp_path, dist)
