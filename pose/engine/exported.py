"""An exported net in the place of one in PyTorch, for `tools/test.py`: what do its 8-bit integers cost?"""

from collections.abc import Callable
from pathlib import Path

import torch

from pose.config import Config
from pose.engines import open_exported
from pose.errors import CheckpointError
from pose.net_card import HEATMAPS, read_card


def open_to_test(config: Config, path: Path) -> tuple[Callable[[torch.Tensor], torch.Tensor], Config]:
    """Open an exported net, on as many threads as PyTorch has.

    Returns:
        what `pose.engine.testing.predict_crops` takes, and the config with the flip average that the file does.

    Raises:
        PoseError: its engine is not installed.
        CheckpointError: it is missing, damaged, or made for other crops or keypoints than the config's.
    """
    net = open_exported(path, torch.get_num_threads())
    card = read_card(net.metadata, path)
    for key, theirs, ours in (
        ("input", card.geometry, config.input),
        ("skeleton", card.skeleton, config.keypoints),
    ):
        if theirs != ours:
            raise CheckpointError(
                f"{path}: exported with another {key} than the config's; use the config that it was trained with"
            )
    averages = {"flip": card.flip_shift is not None, "flip_shift": card.flip_shift or 0}
    test = config.test.model_copy(update=averages)

    def find_heatmaps(crops_rgb: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(net.run(crops_rgb.numpy())[HEATMAPS])

    return find_heatmaps, config.model_copy(update={"test": test})
