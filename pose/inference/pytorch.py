"""From crops to keypoints: flip average, and `PosePredictor`, the one way in for test, demo and export check.

Extend it by adding a function that takes and returns arrays; nothing here knows about files of annotations.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.utils import convert_conv2d_weight_memory_format

from pose.geometry import Array, Float32, transform_points
from pose.heatmap import decode, flip_average
from pose.images import IMAGENET_MEAN, IMAGENET_STD, Image
from pose.inference.predictor import CropPredictor
from pose.models.fuse import fuse
from pose.models.pose_net import PoseNet
from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net

HeatmapFn = Callable[[torch.Tensor], torch.Tensor]
"""Normalized images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4), as `PoseNet.heatmaps`."""


def normalize(crops_rgb: torch.Tensor) -> torch.Tensor:
    """(B, h, w, 3) uint8 RGB to the models' input: (B, 3, h, w) float32, ImageNet mean and deviation, on its device."""
    mean = torch.tensor(IMAGENET_MEAN, device=crops_rgb.device)[:, None, None] * 255
    std = torch.tensor(IMAGENET_STD, device=crops_rgb.device)[:, None, None] * 255
    # Planes first: to calculate on pixels of three channels takes a CPU several times longer.
    planes = crops_rgb.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return (planes - mean) / std


@torch.inference_mode()
def predict_heatmaps(
    heatmap_fn: HeatmapFn,
    crops_rgb: torch.Tensor,
    flip_pairs: Sequence[tuple[int, int]] | None,
    shift: int = 1,
) -> torch.Tensor:
    """Return (B, K, H, W) heatmaps of (B, h, w, 3) uint8 crops on the model's device.

    Args:
        heatmap_fn: `PoseNet.heatmaps`, or what takes its place.
        crops_rgb: RGB.
        flip_pairs: to average with the mirrored crop, or None to leave that out.
        shift: see `flip_average`.
    """
    inputs = normalize(crops_rgb).contiguous()
    heatmaps = heatmap_fn(inputs)
    if flip_pairs is None:
        return heatmaps
    return flip_average(heatmaps, heatmap_fn(inputs.flip(-1)), flip_pairs, shift)


def in_bf16(heatmap_fn: HeatmapFn, device: torch.device) -> HeatmapFn:
    """Return a function that does the same in bfloat16 where autocast allows it, to float32 heatmaps.

    Worth it where the processor multiplies in bfloat16: with AVX512-BF16 the packaged model takes two thirds of the time
    for one crop and half of it for four. Elsewhere it is emulated.
    """

    def heatmaps_in_bf16(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return heatmap_fn(images).float()

    return heatmaps_in_bf16


def keypoints_in_image(heatmaps: torch.Tensor, matrices: ArrayLike) -> tuple[Float32, Float32]:
    """Decode (B, K, H, W) heatmaps and send the keypoints through (B, 2, 3) heatmap-to-image matrices.

    Returns:
        keypoints_image (B, K, 2) and scores (B, K).
    """
    keypoints_heatmap, scores = decode(heatmaps.float().cpu().numpy())
    return transform_points(keypoints_heatmap, matrices).astype(np.float32), scores


def prepare_for_inference(device: torch.device, model: PoseNet) -> PoseNet:
    """Return a copy on a device that predicts what a model does, faster: see `pose.models.fuse`; channels_last on a CPU."""
    fused = fuse(model).to(device)
    if device.type == "cpu":
        convert_conv2d_weight_memory_format(fused, torch.channels_last)
    return fused


class PosePredictor(CropPredictor):
    """Finds the keypoints of the persons in an image with a model in PyTorch.

    Its model is deployed, and on a CPU its convolutions lie in channels_last: models take three quarters of the time so.

    Args:
        weights: file that tools/train.py wrote, or a run folder; by default the model that comes with the package.
        device: ``"cpu"``, ``"cuda"``, ...; by default a GPU where there is one.
        flip: average with the mirrored crop: twice the time, about one AP.
        bf16: compute in bfloat16, see `in_bf16`; costs up to .3 AP.
        batch_size: crops a batch; by default 32, but 4 on a CPU, where larger maps leave its caches and win nothing.

    Raises:
        CheckpointError: there are no such weights, or they do not fit.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        *,
        flip: bool = True,
        bf16: bool = False,
        batch_size: int | None = None,
    ) -> None:
        model, self.config = load_pose_net(weights or DEFAULT_WEIGHTS)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        super().__init__(
            self.config.keypoints, self.config.input, batch_size or (4 if self.device.type == "cpu" else 32)
        )
        self.model = prepare_for_inference(self.device, model)
        self.flip, self.bf16 = flip, bf16

    def find_keypoints(self, crops_rgb: Image, matrices: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        batch = torch.from_numpy(crops_rgb).to(self.device)
        pairs = self.skeleton.flip_pairs if self.flip else None
        heatmap_fn = in_bf16(self.model.heatmaps, self.device) if self.bf16 else self.model.heatmaps
        heatmaps = predict_heatmaps(heatmap_fn, batch, pairs, self.config.test.flip_shift)
        return keypoints_in_image(heatmaps, matrices)
