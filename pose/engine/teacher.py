"""Distillation: training targets from the heatmaps of a teacher model (``train.teacher``).

A teacher's heatmap of a keypoint is read as a probability map over its pixels. The target of a labeled keypoint is a
mix of its Gaussian and this map; a keypoint without a label gets the map alone where the teacher is confident. As the
heatmap losses are linear in the target up to a constant, training on the mix equals training on the weighted sum of two
losses, one for the labels and one for the teacher.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pose.config.pose import Config
from pose.errors import ConfigError
from pose.geometry import Float32
from pose.heatmap import flip_average
from pose.inference.backends import open_session
from pose.inference.metadata import CROPS
from pose.inference.pytorch import normalize

NOISE_LEVEL = 0.1
"""Pixels below this fraction of a teacher map's peak are set to zero: background noise of a map of 3,072 pixels can sum
to more than its peak."""
FLIP_SHIFT = 1
"""Columns by which the heatmaps of the flipped crop are shifted, as in the test protocol."""


class Teacher:
    """A pose model in an ONNX file that gives heatmaps of the same keypoints.

    The file is an export of this project, or another model with one float input (N, 3, H, W), RGB normalized by
    ImageNet's mean and standard deviation, and an output of heatmaps (N, K, H / 4, W / 4) whose pixel u shows the
    keypoint at input pixel 4 u. N may be fixed to 1.

    Args:
        path: the ONNX file.
        config: its keypoint set and input size must be the teacher's.

    Raises:
        PoseError: onnxruntime is not installed.
        ConfigError: the file is missing, not an ONNX model, or has other inputs or outputs.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.flip_pairs: Sequence[tuple[int, int]] = config.keypoints.flip_pairs
        self._flip = config.train.teacher_flip
        self._session = open_session(path, torch.get_num_threads(), error_type=ConfigError)
        inputs = self._session.get_inputs()
        width, height = config.input.size_wh
        self._takes_crops = len(inputs) == 1 and inputs[0].name == CROPS
        expected = [height, width, 3] if self._takes_crops else [3, height, width]
        kind = "tensor(uint8)" if self._takes_crops else "tensor(float)"
        if len(inputs) != 1 or inputs[0].type != kind or not _fits(inputs[0].shape[1:], expected):
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
            raise ConfigError(
                f"train.teacher {path}: expected one input {kind} of shape (N, {', '.join(map(str, expected))}), found "
                f"{found}; use a model for input.size_hw {[height, width]}"
            )
        self._input, self._single = inputs[0].name, inputs[0].shape[0] == 1
        shape = (config.keypoints.num_keypoints, *config.input.heatmap_wh[::-1])
        names = [output.name for output in self._session.get_outputs()]
        blank = torch.zeros((1, height, width, 3), dtype=torch.uint8)
        outputs = dict(zip(names, self._run(names, blank), strict=True))
        fitting = [name for name, value in outputs.items() if value.shape == (1, *shape)]
        if len(fitting) != 1:
            found = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
            raise ConfigError(
                f"train.teacher {path}: expected one output of heatmaps of shape {[1, *shape]} (keypoints, height and "
                f"width of the config), found {found}"
            )
        self._output = fitting[0]

    def heatmaps(self, crops_rgb: Tensor) -> Tensor:
        """Return heatmaps (B, K, h / 4, w / 4) float32 of crops (B, h, w, 3) uint8 RGB, flip-averaged if so configured.

        Both are on the CPU.
        """
        heatmaps = self._heatmaps(crops_rgb)
        if self._flip:
            heatmaps = flip_average(heatmaps, self._heatmaps(crops_rgb.flip(2)), self.flip_pairs, FLIP_SHIFT)
        return heatmaps

    def _heatmaps(self, crops_rgb: Tensor) -> Tensor:
        parts = crops_rgb.split(1) if self._single else (crops_rgb,)
        maps = [self._run([self._output], part)[0] for part in parts]
        return torch.from_numpy(np.concatenate(maps)).float()

    def _run(self, outputs: list[str], crops_rgb: Tensor) -> list[Float32]:
        value = crops_rgb if self._takes_crops else normalize(crops_rgb)
        results: list[Float32] = self._session.run(outputs, {self._input: value.contiguous().numpy()})
        return results


def _fits(found: Sequence[object], expected: Sequence[int]) -> bool:
    """Return whether a shape in an ONNX file, whose free sizes are not integers, can take an expected shape."""
    sizes = zip(found, expected, strict=False)
    return len(found) == len(expected) and all(not isinstance(size, int) or size == want for size, want in sizes)


def mix_targets(
    heatmaps: Tensor, weights: Tensor, teacher_maps: Tensor, sigma: float, teacher_weight: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """Mix the targets of the labels with a teacher's heatmaps.

    Args:
        heatmaps: (B, K, H, W) targets of the labels: Gaussians with peak 1.
        weights: (B, K) 1 if the keypoint is labeled and in the crop, else 0.
        teacher_maps: (B, K, H, W) heatmaps of the teacher.
        sigma: standard deviation of the Gaussians in heatmap pixels; each teacher map is scaled to the sum of such a
            Gaussian, so that a confident teacher has peaks near 1.
        teacher_weight: fraction of the teacher in the targets of labeled keypoints, 0 to 1.
        threshold: keypoints whose teacher map has a lower peak get nothing from the teacher.

    Returns:
        heatmaps (B, K, H, W) and weights (B, K), which are also 1 for keypoints that only the teacher shows.
    """
    peaks = teacher_maps.flatten(2).amax(2)
    confident = peaks >= max(threshold, torch.finfo(torch.float32).tiny)
    clean = torch.where(teacher_maps >= NOISE_LEVEL * peaks[..., None, None], teacher_maps.clamp_min(0), 0)
    total = clean.sum((2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).eps)
    soft = clean * (2 * math.pi * sigma**2 / total)
    labeled = weights > 0
    share = torch.where(labeled, teacher_weight, 1.0) * confident
    mixed = torch.lerp(heatmaps, soft, share[..., None, None])
    return mixed, (labeled | confident).to(weights.dtype)
