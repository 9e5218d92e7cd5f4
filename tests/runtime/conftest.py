"""Tiny weight files of a static and a dynamic model, in a cache folder of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.models import build_pose_net
from pose.models.weights import write_weights


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a tiny model, static or dynamic."""

    def write(dynamic: bool) -> Path:
        path = tmp_path_factory.mktemp("weights") / "best.pt"
        size = ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_backbone=dynamic)
        config = Config(model=size, input=InputConfig(size_hw=(64, 64)))
        torch.manual_seed(0)
        model = build_pose_net(config)
        torch.nn.init.normal_(model.head[-1].weight, std=0.1)
        write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, path)
        return path

    return write


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DYCONV_POSE_CACHE", str(folder))
    return folder
