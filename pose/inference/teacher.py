"""Teacher: a pose model of any origin in an ONNX file, for distillation and for labeling images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pose.config.pose import InputConfig
from pose.errors import ConfigError
from pose.geometry import Array, Float32
from pose.heatmap import flip_average
from pose.images import Image
from pose.inference.backends import open_session
from pose.inference.metadata import CROPS
from pose.inference.predictor import CropPredictor
from pose.inference.pytorch import keypoints_in_image, normalize
from pose.skeleton import Skeleton

FLIP_SHIFT = 1
"""Columns by which the heatmaps of the flipped crop are shifted, as in the test protocol."""


class Teacher(CropPredictor):
    """A pose model in an ONNX file that gives heatmaps at stride 4.

    The file is an export of this project, or another model with one float input (N, 3, H, W), RGB normalized by
    ImageNet's mean and standard deviation, and an output of heatmaps (N, K, H / 4, W / 4) whose pixel u shows the
    keypoint at input pixel 4 u. N may be fixed to 1. A file that fixes H and W to multiples of 32 sees crops of this
    size; with free H and W the crops have the size of ``input_config``.

    Args:
        path: the ONNX file.
        skeleton: keypoint set, in the order of the heatmaps.
        input_config: padding of the input crops, and their size where the file leaves it free.
        flip: average the heatmaps with those of the flipped crop.

    Raises:
        PoseError: onnxruntime is not installed.
        ConfigError: the file is missing, not an ONNX model, or has other inputs or outputs.
    """

    def __init__(self, path: Path, skeleton: Skeleton, input_config: InputConfig, *, flip: bool = True) -> None:
        self._session = open_session(path, torch.get_num_threads(), error_type=ConfigError)
        inputs = self._session.get_inputs()
        self._takes_crops = len(inputs) == 1 and inputs[0].name == CROPS
        if len(inputs) == 1:
            shape = inputs[0].shape
            input_config = _with_size(input_config, shape[1:3] if self._takes_crops else shape[2:])
        super().__init__(skeleton, input_config, batch_size=32)
        self.flip = flip
        width, height = input_config.size_wh
        expected = [height, width, 3] if self._takes_crops else [3, height, width]
        kind = "tensor(uint8)" if self._takes_crops else "tensor(float)"
        if len(inputs) != 1 or inputs[0].type != kind or not _fits(inputs[0].shape, [None, *expected]):
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
            raise ConfigError(
                f"teacher {path}: expected one input {kind} of shape (N, {', '.join(map(str, expected))}), found "
                f"{found:.120}; use a model with sides that are multiples of 32"
            )
        self._path, self._input, self._single = path, inputs[0].name, inputs[0].shape[0] == 1
        if not self._single and isinstance(inputs[0].shape[0], int):
            raise ConfigError(
                f"teacher {path}: takes {inputs[0].shape[0]} crops at a time; export it with a batch size of 1"
            )
        maps_shape = (1, skeleton.num_keypoints, *input_config.heatmap_wh[::-1])
        candidates = [
            output.name
            for output in self._session.get_outputs()
            if output.type == "tensor(float)" and _fits(output.shape, [None, *maps_shape[1:]])
        ]
        crop = torch.zeros((1, height, width, 3), dtype=torch.uint8)
        values = self._run(candidates, crop) if candidates else []
        fitting = [name for name, value in zip(candidates, values, strict=True) if value.shape == maps_shape]
        if len(fitting) != 1:
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in self._session.get_outputs())
            raise ConfigError(
                f"teacher {path}: expected one output of heatmaps tensor(float) of shape {list(maps_shape)} (keypoints "
                f"of the config, a quarter of the input's height and width), found {found:.120}"
            )
        self._output = fitting[0]

    def heatmaps(self, crops_rgb: Tensor) -> Tensor:
        """Return heatmaps (B, K, h / 4, w / 4) float32 of crops (B, h, w, 3) uint8 RGB; both on the CPU."""
        heatmaps = self._heatmaps(crops_rgb)
        if self.flip:
            flipped = self._heatmaps(crops_rgb.flip(2))
            heatmaps = flip_average(heatmaps, flipped, self.skeleton.flip_pairs, FLIP_SHIFT)
        return heatmaps

    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        return keypoints_in_image(self.heatmaps(torch.from_numpy(crops_rgb)), heatmap_to_image)

    def _heatmaps(self, crops_rgb: Tensor) -> Tensor:
        parts = crops_rgb.split(1) if self._single else (crops_rgb,)
        maps = [self._run([self._output], part)[0] for part in parts]
        return torch.from_numpy(np.concatenate(maps)).float()

    def _run(self, outputs: list[str], crops_rgb: Tensor) -> list[Float32]:
        value = crops_rgb if self._takes_crops else normalize(crops_rgb)
        try:
            results: list[Float32] = self._session.run(outputs, {self._input: value.contiguous().numpy()})
        except Exception as error:  # onnxruntime has a different class for each cause
            reason = " ".join(str(error).split())[:120]
            raise ConfigError(
                f"teacher {self._path}: fails on {len(value)} crops ({reason}); use another model"
            ) from None
        return results


def _with_size(input_config: InputConfig, found: Sequence[object]) -> InputConfig:
    """Return the config with the height and width in an ONNX file if they are fixed and possible, else unchanged."""
    try:
        return InputConfig.model_validate({**input_config.model_dump(), "size_hw": tuple(found)}, strict=True)
    except ValueError:
        return input_config


def _fits(found: Sequence[object], expected: Sequence[int | None]) -> bool:
    """Return whether a shape in an ONNX file, whose free sizes are not integers, can take an expected shape."""
    if not found or len(found) != len(expected):
        return False
    sizes = zip(found, expected, strict=True)
    return all(not isinstance(size, int) or want is None or size == want for size, want in sizes)
