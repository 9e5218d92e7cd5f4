"""Inference in PyTorch: crops to heatmaps to keypoints, and `PyTorchPredictor`.

Evaluation, the demo and the export check use the same functions.
"""

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.utils import convert_conv2d_weight_memory_format

from pose.geometry import Array, Float32, transform_points
from pose.heatmap import DecodeMethod, decode, flip_average
from pose.images import IMAGENET_MEAN, IMAGENET_STD, Image
from pose.inference.detectors import Detector
from pose.inference.find_detector import AUTO
from pose.inference.predictor import CropPredictor
from pose.models.devices import choose_device
from pose.models.fuse import fuse
from pose.models.pose_net import PoseNet
from pose.models.weights import load_pose_net

HeatmapFn = Callable[[torch.Tensor], torch.Tensor]
"""Function from normalized images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4), such as `PoseNet.heatmaps`."""


def normalize(crops_rgb: torch.Tensor) -> torch.Tensor:
    """Normalize crops by ImageNet's mean and standard deviation.

    Args:
        crops_rgb: (B, h, w, 3) uint8 RGB.

    Returns:
        model input (B, 3, h, w) float32, on the same device.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=crops_rgb.device)[:, None, None] * 255
    std = torch.tensor(IMAGENET_STD, device=crops_rgb.device)[:, None, None] * 255
    # Channels first: arithmetic on interleaved pixels of three channels takes a CPU several times longer.
    channels = crops_rgb.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return (channels - mean) / std


@torch.inference_mode()
def predict_heatmaps(
    heatmap_fn: HeatmapFn,
    crops_rgb: torch.Tensor,
    flip_pairs: Sequence[tuple[int, int]] | None,
    shift: int = 1,
) -> torch.Tensor:
    """Return the (B, K, H, W) heatmaps of crops.

    Args:
        heatmap_fn: `PoseNet.heatmaps` or an equivalent function.
        crops_rgb: (B, h, w, 3) uint8 RGB, on the model's device.
        flip_pairs: left-right keypoint pairs for flip averaging; None for a single forward pass.
        shift: see `flip_average`.
    """
    inputs = normalize(crops_rgb).contiguous()
    heatmaps = heatmap_fn(inputs)
    if flip_pairs is None:
        return heatmaps
    return flip_average(heatmaps, heatmap_fn(inputs.flip(-1)), flip_pairs, shift)


def in_bf16(heatmap_fn: HeatmapFn, device: torch.device) -> HeatmapFn:
    """Wrap a function to run in bfloat16 where autocast allows it; the heatmaps stay float32.

    It is faster where the processor multiplies in bfloat16: with AVX512-BF16 the default model takes two thirds of the
    time for one crop and half of it for four. Other processors emulate it.
    """

    def heatmaps_in_bf16(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return heatmap_fn(images).float()

    return heatmaps_in_bf16


def keypoints_in_image(
    heatmaps: torch.Tensor, heatmap_to_image: ArrayLike, method: DecodeMethod = "quarter", sigma: float = 2
) -> tuple[Float32, Float32]:
    """Decode heatmaps and map the keypoints to image pixels.

    Args:
        heatmaps: (B, K, H, W).
        heatmap_to_image: (B, 2, 3) affine matrices.
        method: see `pose.heatmap.decode`.
        sigma: see `pose.heatmap.decode`.

    Returns:
        keypoints_image (B, K, 2) and scores (B, K).
    """
    keypoints_heatmap, scores = decode(heatmaps.float().cpu().numpy(), method, sigma)
    return transform_points(keypoints_heatmap, heatmap_to_image).astype(np.float32), scores


def prepare_for_inference(device: torch.device, model: PoseNet) -> PoseNet:
    """Return an equivalent, faster copy of a model on a device.

    Batch norm is fused into the convolutions (`pose.models.fuse`); on a CPU the weights are converted to channels_last.
    """
    fused = fuse(model).to(device)
    if device.type == "cpu":
        convert_conv2d_weight_memory_format(fused, torch.channels_last)
    return fused


class PyTorchPredictor(CropPredictor):
    """Predicts the keypoints of the persons in an image with a PyTorch model.

    The model has its batch norm fused, and channels_last convolutions on a CPU: it takes three quarters of the time.

    Args:
        weights: file that ``dyconv-pose train`` wrote, a run folder, or the name of a packaged model.
        device: ``"cpu"``, ``"cuda"``, ...; by default a GPU if there is one.
        flip: average with the mirrored crop: twice the time, about one AP more.
        decode: ``"quarter"``, or ``"dark"`` for sub-pixel keypoints (`pose.heatmap.decode`).
        bf16: compute in bfloat16, see `in_bf16`; costs up to 0.3 AP.
        batch_size: crops per batch; by default 32, and 4 on a CPU, whose caches do not hold larger feature maps.
        detector: as of `pose.PosePredictor`.

    Raises:
        CheckpointError: the weights are missing or do not fit this version.
        ConfigError: there is no such device.
        MediaError: the detector cannot be loaded.
    """

    runtime = "pytorch"

    def __init__(
        self,
        weights: str | Path | None = "default",
        device: str | torch.device | None = None,
        *,
        flip: bool = True,
        decode: DecodeMethod = "quarter",
        bf16: bool = False,
        batch_size: int | None = None,
        detector: str | Path | Detector = AUTO,
    ) -> None:
        self.device = choose_device(device)
        model, self.config = load_pose_net(weights or "default")
        batch_size = batch_size or (4 if self.device.type == "cpu" else 32)
        super().__init__(self.config.keypoints, self.config.input, batch_size, detector, str(self.device))
        self.model = prepare_for_inference(self.device, model)
        self.flip, self.decode, self.bf16 = flip, decode, bf16

    def without_flip(self) -> "PyTorchPredictor":
        """See `CropPredictor.without_flip`."""
        other = copy(self)
        other.flip = False
        return other

    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        batch = torch.from_numpy(crops_rgb).to(self.device)
        flip_pairs = self.skeleton.flip_pairs if self.flip else None
        heatmap_fn = in_bf16(self.model.heatmaps, self.device) if self.bf16 else self.model.heatmaps
        heatmaps = predict_heatmaps(heatmap_fn, batch, flip_pairs, self.config.test.flip_shift)
        return keypoints_in_image(heatmaps, heatmap_to_image, self.decode, self.input_config.sigma)
