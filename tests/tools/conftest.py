"""Fixtures of the tools that draw: a tiny model and a short video."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A tiny untrained model."""
    from pose.config.pose import Config
    from pose.models import build_pose_net
    from pose.models.weights import write_weights

    config = Config.model_validate({"model": {"width": 0.35, "head_width": 0.25}, "input": {"size_hw": [64, 64]}})
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    write_weights({"model": build_pose_net(config).state_dict(), "config": config.model_dump(mode="json")}, path)
    return path


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "in.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.5, (64, 48))
    for index in range(5):
        writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    writer.release()
    return path
