"""Checkpoints: bit-exact resume, error messages for unusable files, atomic writes."""

import math
from pathlib import Path

import pytest
import torch

from pose.engine.checkpoint import TRAINING_KEYS, load_checkpoint, save_checkpoint
from pose.engine.distributed import DistContext, seed_step
from pose.engine.ema import MovingAverage
from pose.engine.state import Progress, TrainState
from pose.errors import CheckpointError, TrainingError
from pose.models import build_pose_net
from pose.models.weights import load_pose_net, write_weights


def make_state(config, ema: bool = True, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    model = build_pose_net(config)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    average = MovingAverage(model, 0.9) if ema else None
    return TrainState(model, optimizer, torch.amp.GradScaler("cpu", init_scale=4.0), average, model)


def train_steps(state: TrainState, steps: int = 2) -> None:
    """Train on random data drawn from torch's random state, which each step seeds."""
    for _ in range(steps):
        seed_step(0, state.progress.global_step, DistContext(0, 1, torch.device("cpu")))
        loss = state.model(torch.randn(2, 3, 64, 64)).square().mean()
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
        if state.ema is not None:
            state.ema.update(state.model, state.progress.global_step)
        state.progress.global_step += 1


def assert_same(one: TrainState, other: TrainState) -> None:
    """Compare bit for bit."""
    assert one.progress == other.progress
    pairs = [
        (one.model.state_dict(), other.model.state_dict()),
        (one.ema.model.state_dict(), other.ema.model.state_dict()),
        (one.optimizer.state_dict(), other.optimizer.state_dict()),
        (one.scaler.state_dict(), other.scaler.state_dict()),
    ]
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_training_resumed_from_a_checkpoint_equals_uninterrupted_training(tiny_config, tmp_path):
    config = tiny_config()
    uninterrupted = make_state(config)
    uninterrupted.progress = Progress(epoch=3, samples=77, seconds=1.5, best_score=0.25)
    train_steps(uninterrupted, 2)
    save_checkpoint(uninterrupted, config, tmp_path / "last.pt")
    train_steps(uninterrupted, 2)

    resumed = make_state(config, seed=123)  # other weights, other random state
    assert load_checkpoint(resumed, tmp_path / "last.pt") == config
    train_steps(resumed, 2)

    assert_same(resumed, uninterrupted)


def test_a_checkpoint_restores_the_moments_of_adam_but_not_its_options(tiny_config, tmp_path):
    config = tiny_config()
    state = make_state(config)
    train_steps(state)
    state.optimizer.param_groups[0]["weight_decay"] = 0.5
    save_checkpoint(state, config, tmp_path / "last.pt")

    loaded = make_state(config, seed=9)
    loaded.optimizer.param_groups[0]["weight_decay"] = 0.25
    load_checkpoint(loaded, tmp_path / "last.pt")

    assert loaded.optimizer.param_groups[0]["weight_decay"] == 0.25  # the option of this run, as the log says
    first = next(iter(loaded.model.parameters()))
    assert loaded.optimizer.state[first]["exp_avg"].any()
    assert loaded.optimizer.state[first]["step"] == 2


def test_a_moving_average_enabled_on_resume_is_initialized_with_the_weights(tiny_config, tmp_path):
    config = tiny_config()
    without = make_state(config, ema=False)
    train_steps(without)
    save_checkpoint(without, config, tmp_path / "last.pt")

    resumed = make_state(config, seed=9)
    load_checkpoint(resumed, tmp_path / "last.pt")

    torch.testing.assert_close(resumed.ema.model.state_dict(), without.model.state_dict(), rtol=0, atol=0)


def test_the_temperature_is_saved_with_the_weights(tiny_config, tmp_path):
    config = tiny_config("model.dynamic_head=true")
    state = make_state(config)
    buffers = [name for name in state.model.state_dict() if name.endswith("temperature")]
    assert buffers
    for name in buffers:
        state.model.get_buffer(name).fill_(7.5)
    save_checkpoint(state, config, tmp_path / "last.pt")

    loaded = make_state(config, seed=9)
    load_checkpoint(loaded, tmp_path / "last.pt")

    assert {loaded.model.get_buffer(name).item() for name in buffers} == {7.5}


def test_load_pose_net_loads_the_moving_average_of_a_checkpoint(tiny_config, tmp_path):
    config = tiny_config()
    state = make_state(config)
    train_steps(state)
    save_checkpoint(state, config, tmp_path / "last.pt")

    model, saved = load_pose_net(tmp_path / "last.pt")

    assert saved == config
    torch.testing.assert_close(model.state_dict(), state.ema.model.state_dict(), rtol=0, atol=0)


def test_weights_without_training_state_are_refused(tiny_config, tmp_path):
    config = tiny_config()
    state = make_state(config)
    content = {"model": state.model.state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "weights.pt")

    with pytest.raises(CheckpointError, match=r"weights\.pt: holds weights but no training state .*optimizer"):
        load_checkpoint(state, tmp_path / "weights.pt")


def test_a_checkpoint_of_another_model_is_refused(tiny_config, tmp_path):
    config, wider = tiny_config(), tiny_config("model.head_width=0.25")
    save_checkpoint(make_state(config), config, tmp_path / "last.pt")

    with pytest.raises(CheckpointError, match=r"last\.pt: made for another model: .*differences"):
        load_checkpoint(make_state(wider), tmp_path / "last.pt")


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_refused_with_its_name(damage, tiny_config, tmp_path):
    config, path = tiny_config(), tmp_path / "last.pt"
    state = make_state(config)
    save_checkpoint(state, config, path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello\n", "empty": b""}[damage])

    with pytest.raises(CheckpointError, match=r"last\.pt: not a readable weight file"):
        load_checkpoint(state, path)


def test_an_interrupted_write_keeps_the_old_checkpoint_and_leaves_no_other_file(tiny_config, tmp_path, monkeypatch):
    config, path = tiny_config(), tmp_path / "run/last.pt"
    state = make_state(config)
    save_checkpoint(state, config, path)
    before = path.read_bytes()

    def write_half(path, data):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write_half)
    train_steps(state)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(state, config, path)

    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_every_key_of_a_checkpoint_is_required(tiny_config, tmp_path):
    config = tiny_config()
    state = make_state(config)
    save_checkpoint(state, config, tmp_path / "last.pt")
    content = torch.load(tmp_path / "last.pt", weights_only=True)

    assert content.keys() == TRAINING_KEYS
    for key in sorted(TRAINING_KEYS - {"model", "config"}):
        write_weights({name: value for name, value in content.items() if name != key}, tmp_path / "part.pt")
        with pytest.raises(CheckpointError, match=key):
            load_checkpoint(state, tmp_path / "part.pt")


def test_weights_that_are_not_finite_do_not_overwrite_a_checkpoint(tiny_config, tmp_path):
    state = make_state(tiny_config())
    save_checkpoint(state, tiny_config(), tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match="not finite"):
        save_checkpoint(state, tiny_config(), tmp_path / "last.pt")

    assert (tmp_path / "last.pt").read_bytes() == before


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


DAMAGE = {
    "no epoch": lambda c: c.update(progress=without(c["progress"], "epoch")),
    "another name": lambda c: c["progress"].update(epochs=3),
    "epoch as text": lambda c: c["progress"].update(epoch="3"),
    "negative epoch": lambda c: c["progress"].update(epoch=-1),
    "half an epoch": lambda c: c["progress"].update(epoch=0.5),
    "samples beyond 64 bits": lambda c: c["progress"].update(samples=2**64),
    "boolean step": lambda c: c["progress"].update(step=True),
    "NaN as best score": lambda c: c["progress"].update(best_score=math.nan),
    "progress as list": lambda c: c.update(progress=[1, 2]),
    "no optimizer": lambda c: c.update(optimizer=None),
    "no groups": lambda c: c.update(optimizer=without(c["optimizer"], "param_groups")),
    "groups of numbers": lambda c: c["optimizer"].update(param_groups=[1]),
    "a parameter without state": lambda c: c["optimizer"]["state"].pop(3),
    "a parameter without a moment": lambda c: c["optimizer"]["state"][3].pop("exp_avg"),
    "a moment of another shape": lambda c: c["optimizer"]["state"][3].update(exp_avg=torch.zeros(7)),
    "a moment that is NaN": lambda c: c["optimizer"]["state"][3]["exp_avg"].fill_(math.nan),
    "a moment of whole numbers": lambda c: c["optimizer"]["state"][3].update(
        exp_avg=c["optimizer"]["state"][3]["exp_avg"].long()
    ),
    "a learning rate that is NaN": lambda c: c["optimizer"]["param_groups"][0].update(lr=math.nan),
    "a step as text": lambda c: c["optimizer"]["state"][3].update(step="2"),
    "an incomplete scaler": lambda c: c.update(scaler=without(c["scaler"], "scale")),
    "a scale that is NaN": lambda c: c["scaler"].update(scale=math.nan),
    "average as list": lambda c: c.update(ema=[1]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_training_state_is_refused_in_one_line(damage, tiny_config, tmp_path):
    config, path = tiny_config(), tmp_path / "last.pt"
    state = make_state(config)
    train_steps(state)
    save_checkpoint(state, config, path)
    content = torch.load(path, weights_only=True)
    damage(content)
    write_weights(content, path)

    with pytest.raises(CheckpointError, match=r"last\.pt: (its .* is damaged|expected a state dict)") as raised:
        load_checkpoint(make_state(config), path)
    assert "\n" not in str(raised.value)


def test_a_run_that_changes_to_fp16_starts_with_a_new_loss_scaler(tiny_config, tmp_path):
    config, path = tiny_config(), tmp_path / "last.pt"
    state = make_state(config)
    state.scaler = torch.amp.GradScaler("cpu", enabled=False)
    save_checkpoint(state, config, path)

    resumed = make_state(config)
    load_checkpoint(resumed, path)

    assert resumed.scaler.get_scale() == 4
