"""A training run: its folder, its stops, and going on as if it had never stopped."""

import json
import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.loader import load_config
from pose.engine import pose_task as pose_module
from pose.engine import trainer as run_module
from pose.engine.losses import LOSSES
from pose.engine.run_folder import check_run_folder, find_last, new_run_folder, runs_folder
from pose.errors import CheckpointError, ConfigError, TrainingError
from pose.evaluation.coco_ap import METRIC_NAMES, Metrics
from pose.tools.train import train_pose as train

FORGETFUL = (
    "model.dynamic_head=true",
    "train.epochs=3",
    "train.learning_rate=0.02",
    "train.schedule=cosine",
    "train.warmup_steps=3",
    "train.temperature_final=1",
    "train.temperature_epochs=2",
    "train.ema_decay=0.9",
    "train.gradient_clip=1",
    "train.checkpoint_minutes=1e-9",  # after every step
)
"""Everything that could forget where it was."""


@pytest.fixture(scope="module", autouse=True)
def _scored_by_peaks():
    """Stands in for AP, which is 0 for a model this small: a figure that every change of the weights changes."""

    def score(results, test_set, config):
        mean = float(np.mean([result["keypoints"] for result in results]))
        figures = dict.fromkeys(METRIC_NAMES, 1 - mean / 1000)
        return Metrics(**figures, keypoint_similarity={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose_module, "score_results", score)
        yield


@pytest.fixture(scope="module")
def straight_run(tiny_config, alone, tmp_path_factory):
    """Folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    train(tiny_config(*FORGETFUL), folder, alone)
    return folder


def read_rows(folder, kind):
    """Rows of metrics.jsonl without what the clock says."""
    clock = ("seconds", "images_per_second", "data_wait_share")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if name not in clock} for row in rows if row["kind"] == kind]


def read_state(path):
    """All of a checkpoint but the clock and the config."""
    content = torch.load(path, weights_only=True)
    del content["progress"]["seconds"], content["config"]
    return content


def stop_when(condition, patch):
    """Pull the plug as soon as a checkpoint has been written for which condition(number, progress, name) holds."""
    save, written = run_module.save_checkpoint, []

    def save_and_stop(state, config, path):
        save(state, config, path)
        written.append(path.name)
        if condition(len(written), state.progress, path.name):
            raise KeyboardInterrupt

    patch.setattr(run_module, "save_checkpoint", save_and_stop)


@pytest.mark.parametrize("saves", range(1, 9))  # inside two epochs, at their ends, between best.pt and last.pt
def test_a_run_stopped_anywhere_and_resumed_ends_as_if_it_had_not(saves, straight_run, tiny_config, alone, tmp_path):
    config = tiny_config(*FORGETFUL)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_when(lambda number, progress, name: number == saves, patch)
        train(config, tmp_path, alone)
    torch.manual_seed(1234)  # a new process

    train(config, tmp_path, alone, resume=tmp_path / "last.pt")

    for name in ("last.pt", "best.pt"):
        ours, expected = read_state(tmp_path / name), read_state(straight_run / name)
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert read_rows(tmp_path, "validation")[-1] == read_rows(straight_run, "validation")[-1]


def test_rate_and_temperature_follow_their_schedules_through_a_stop(tiny_config, straight_run, alone, tmp_path):
    config = tiny_config(*FORGETFUL)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_when(lambda number, progress, name: progress.step == 0 and name == "last.pt", patch)
        train(config, tmp_path, alone)
    train(config, tmp_path, alone, resume=tmp_path / "last.pt")

    rows = read_rows(tmp_path, "train")

    assert [row["temperature"] for row in rows] == [30, 15.5, 1]
    assert rows == read_rows(straight_run, "train")
    state = read_state(tmp_path / "last.pt")
    for part in ("model", "ema"):
        assert {value.item() for name, value in state[part].items() if name.endswith("temperature")} == {1.0}


def test_a_longer_run_goes_on_from_a_finished_one(tiny_config, alone, tmp_path, caplog):
    config = tiny_config("train.epochs=1")
    train(config, tmp_path, alone)
    longer = tiny_config("train.epochs=2")

    with caplog.at_level(logging.INFO):
        train(longer, tmp_path, alone, resume=tmp_path / "last.pt")

    assert [row["epoch"] for row in read_rows(tmp_path, "validation")] == [1, 2]
    assert "after 1 epochs and 0 steps" in caplog.text
    assert "train.epochs is now 2, the checkpoint was written with 1" in caplog.text
    assert load_config(tmp_path / "config.yaml") == longer


def test_the_run_folder_holds_what_the_house_promises(straight_run, tiny_config):
    names = {path.name for path in straight_run.iterdir()}

    assert {"config.yaml", "metrics.jsonl", "last.pt", "best.pt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert load_config(straight_run / "config.yaml") == tiny_config(*FORGETFUL)


def test_rows_hold_what_a_learning_curve_needs(straight_run):
    rows = [json.loads(line) for line in (straight_run / "metrics.jsonl").read_text().splitlines()]

    assert [row["kind"] for row in rows] == 3 * ["train", "validation"]
    assert [row["epoch"] for row in rows] == [1, 1, 2, 2, 3, 3]
    epoch = rows[0]["samples"]
    assert epoch % 8 == 0  # whole batches
    assert [row["samples"] for row in rows] == [epoch, epoch, 2 * epoch, 2 * epoch, 3 * epoch, 3 * epoch]
    train_figures = {"loss", "learning_rate", "temperature", "images_per_second", "data_wait_share", "seconds"}
    assert train_figures <= rows[0].keys()
    assert {*METRIC_NAMES, "seconds"} <= rows[1].keys()
    assert rows[5]["seconds"] > rows[0]["seconds"] > 0


def test_best_is_the_epoch_with_the_best_score(straight_run, alone, tiny_config):
    scores = [row["AP"] for row in read_rows(straight_run, "validation")]
    best, last = read_state(straight_run / "best.pt"), read_state(straight_run / "last.pt")

    assert len(set(scores)) == 3
    assert best["progress"]["epoch"] == 1 + scores.index(max(scores))
    assert best["progress"]["best_score"] == last["progress"]["best_score"] == max(scores)


@pytest.mark.parametrize(("scores", "epoch"), [((0.2, 0.5, 0.3), 2), ((0.5, 0.5, 0.4), 1), ((0.0, 0.0, 0.0), 1)])
def test_a_worse_or_equal_score_keeps_best(scores, epoch, tiny_config, alone, tmp_path, monkeypatch):
    given = iter(scores)
    metrics = lambda *_: Metrics(**dict.fromkeys(METRIC_NAMES, next(given)), keypoint_similarity={})  # noqa: E731
    monkeypatch.setattr(pose_module, "score_results", metrics)

    assert train(tiny_config("train.epochs=3"), tmp_path, alone) == max(scores)

    assert read_state(tmp_path / "best.pt")["progress"]["epoch"] == epoch
    assert read_state(tmp_path / "last.pt")["progress"]["epoch"] == 3


def test_the_last_epoch_is_always_validated(tiny_config, alone, tmp_path):
    train(tiny_config("train.epochs=3", "train.validate_every=2"), tmp_path, alone)

    assert [row["epoch"] for row in read_rows(tmp_path, "validation")] == [2, 3]


@pytest.mark.parametrize(("decay", "part"), [(0.99, "ema"), (0, "model")])
def test_the_moving_average_is_what_is_validated_where_there_is_one(
    decay, part, tiny_config, alone, tmp_path, monkeypatch
):
    seen = []
    predict = pose_module.predict_persons

    def remember(heatmap_fn, *args):
        model = heatmap_fn.__self__
        seen.append((model.training, {name: value.clone() for name, value in model.state_dict().items()}))
        return predict(heatmap_fn, *args)

    monkeypatch.setattr(pose_module, "predict_persons", remember)
    train(tiny_config("train.epochs=1", f"train.ema_decay={decay}"), tmp_path, alone)

    content = read_state(tmp_path / "best.pt")
    ((was_training, validated),) = seen
    assert not was_training
    torch.testing.assert_close(validated, dict(content[part]), rtol=0, atol=0)
    if part == "ema":
        assert any(not torch.equal(content["ema"][name], content["model"][name]) for name in validated)
    else:
        assert content["ema"] is None


def test_workers_do_not_change_the_result(tiny_config, alone, tmp_path):
    for workers in (0, 2):
        train(tiny_config(f"train.workers={workers}"), tmp_path / str(workers), alone)

    one, other = (read_state(tmp_path / str(workers) / "last.pt")["model"] for workers in (0, 2))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tiny_config, alone, tmp_path, monkeypatch):
    config = tiny_config("train.epochs=3", "train.loss=mse")

    def breaks_in_the_second_epoch(maps, heatmaps, weights):
        factor = math.nan if (tmp_path / "last.pt").exists() else 1
        return LOSSES["cross_entropy"](maps, heatmaps, weights) * factor

    monkeypatch.setitem(LOSSES, "mse", breaks_in_the_second_epoch)
    with pytest.raises(TrainingError, match=r"not finite \(nan\) on the records \[\d+, .*\]; look at them"):
        train(config, tmp_path, alone)

    content = read_state(tmp_path / "last.pt")
    assert content["progress"]["epoch"] == 1
    assert all(value.isfinite().all() for value in content["model"].values())
    assert [row["epoch"] for row in read_rows(tmp_path, "train")] == [1]


def test_a_batch_larger_than_the_data_is_the_users_mistake(tiny_config, alone, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.batch_size 64 is larger than the \d+ training persons"):
        train(tiny_config("train.batch_size=64"), tmp_path, alone)


def test_a_run_is_named_by_its_config_and_time(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    folder = new_run_folder(tiny_config())

    assert folder.parent == runs_folder(tiny_config()) == Path("runs/quickstart")
    assert not folder.exists()


def test_the_newest_last_checkpoint_is_resumed(tmp_path):
    files = [tmp_path / name / "last.pt" for name in ("b", "c", "a")]
    for age, file in enumerate(files):
        file.parent.mkdir()
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))
    (tmp_path / "a/best.pt").touch()

    assert find_last(tmp_path) == files[0]
    assert find_last(tmp_path / "a") == tmp_path / "a/last.pt"


def test_without_a_run_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match=r"new: no run to resume"):
        find_last(tmp_path / "new")


def test_a_new_run_never_overwrites_an_old_one(tmp_path):
    check_run_folder(tmp_path, None)
    (tmp_path / "last.pt").touch()

    with pytest.raises(CheckpointError, match=r"already holds a run; resume it with --resume .*last\.pt"):
        check_run_folder(tmp_path, None)
    check_run_folder(tmp_path, tmp_path / "last.pt")
