"""Averaged weights of several runs."""

from pathlib import Path

import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig, TrainConfig
from pose.errors import CheckpointError
from pose.models import build_pose_net
from pose.models.weight_averaging import average_weights
from pose.models.weights import write_weights

CONFIG = Config(
    model=ModelConfig(width=0.35, head_width=0.25, dynamic_backbone=True), input=InputConfig(size_hw=(64, 64))
)


def save(path: Path, config: Config = CONFIG, shift: float = 0.0, **more: object) -> dict[str, torch.Tensor]:
    """Write a weight file of the same random model with ``shift`` added to all weights; return the original weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build_pose_net(config).state_dict()
    shifted = {name: value + shift if value.is_floating_point() else value for name, value in state.items()}
    write_weights({"model": shifted, "config": config.model_dump(mode="json"), **more}, path)
    return state


def test_average_is_the_mean_of_the_inference_weights(tmp_path: Path) -> None:
    state = save(tmp_path / "first.pt")
    save(tmp_path / "second.pt", shift=1.0, ema=None)
    save(tmp_path / "run" / "best.pt", shift=100.0, ema={key: value + 5 for key, value in state.items()})

    mean = average_weights([tmp_path / "first.pt", tmp_path / "second.pt", tmp_path / "run"])["model"]

    assert mean.keys() == state.keys()
    for name, value in state.items():
        if value.is_floating_point():
            torch.testing.assert_close(mean[name], value + 2, msg=name)
        else:
            assert torch.equal(mean[name], value), name


def test_a_static_file_is_averaged_with_each_kernel_of_a_dynamic_one(tmp_path: Path) -> None:
    static = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"dynamic_backbone": False})})
    dynamic_state, static_state = save(tmp_path / "dynamic.pt"), save(tmp_path / "static.pt", static)

    mean = average_weights([tmp_path / "dynamic.pt", tmp_path / "static.pt"])

    assert mean["config"] == CONFIG.model_dump(mode="json")
    for name, value in dynamic_state.items():
        if ".attention." in name:
            torch.testing.assert_close(mean["model"][name], value, msg=name)
        elif value.is_floating_point():
            torch.testing.assert_close(mean["model"][name], (value + static_state[name]) / 2, msg=name)
    inflated = [name for name, value in static_state.items() if dynamic_state[name].dim() == value.dim() + 1]
    assert len(inflated) > 20
    build_pose_net(CONFIG).load_state_dict(mean["model"])
    with pytest.raises(CheckpointError, match="another model"):
        average_weights([tmp_path / "static.pt", tmp_path / "dynamic.pt"])


def test_average_of_one_file_is_unchanged(tmp_path: Path) -> None:
    state = save(tmp_path / "one.pt", CONFIG)

    content = average_weights([tmp_path / "one.pt"])

    assert content["config"] == CONFIG.model_dump(mode="json")
    assert all(torch.equal(content["model"][name], value) for name, value in state.items())


@pytest.mark.parametrize(
    "sections",
    [
        {"model": ModelConfig(width=0.35, head_width=0.5)},
        {"model": ModelConfig(width=0.35, head_width=0.25, dynamic_backbone=True, attention="sigmoid")},
        {"train": TrainConfig(loss="cross_entropy")},
        {"input": InputConfig(size_hw=(64, 64), sigma=3.0)},
    ],
)
def test_files_of_different_models_cannot_be_averaged(sections: dict[str, object], tmp_path: Path) -> None:
    save(tmp_path / "one.pt")
    save(tmp_path / "other.pt", CONFIG.model_copy(update=sections))

    with pytest.raises(CheckpointError, match=r"other\.pt: trained as another model than .*one\.pt"):
        average_weights([tmp_path / "one.pt", tmp_path / "other.pt"])


def test_files_with_different_input_sizes_can_be_averaged(tmp_path: Path) -> None:
    save(tmp_path / "one.pt")
    save(tmp_path / "larger.pt", CONFIG.model_copy(update={"input": InputConfig(size_hw=(96, 64))}))

    assert average_weights([tmp_path / "one.pt", tmp_path / "larger.pt"])["config"] == CONFIG.model_dump(mode="json")
