"""From crops to keypoints: flip average, batching, and `PosePredictor`, the one way in for test, demo and export check.

Extend it by adding a function that takes and returns arrays; nothing here knows about files of annotations.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pose.datasets.samples import person_crop
from pose.errors import DataError
from pose.geometry import transform_points
from pose.heatmap import decode
from pose.images import Image, read_image
from pose.skeleton import Skeleton
from pose.weights import DEFAULT_WEIGHTS, load_pose_net

Maps = TypeVar("Maps", torch.Tensor, NDArray[np.float32])

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in 0..1, as torchvision's ImageNet weights expect."""
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Poses:
    """N persons of one picture.

    Attributes:
        keypoints: (N, K, 2) x, y in image pixels.
        scores: (N, K) heights of the heatmaps' peaks, about 0 to 1.
        bboxes_xywh: (N, 4) the boxes they were looked for in.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    bboxes_xywh: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def person_scores(self) -> NDArray[np.float32]:
        """(N,) mean keypoint score of each person."""
        return self.scores.mean(axis=1) if len(self) else np.zeros(0, dtype=np.float32)


def normalize(crops_rgb: torch.Tensor) -> torch.Tensor:
    """(B, h, w, 3) uint8 RGB to the nets' input: (B, 3, h, w) float32, ImageNet mean and deviation, on its device."""
    mean = torch.tensor(IMAGENET_MEAN, device=crops_rgb.device) * 255
    std = torch.tensor(IMAGENET_STD, device=crops_rgb.device) * 255
    return ((crops_rgb.float() - mean) / std).permute(0, 3, 1, 2)


def flip_average(heatmaps: Maps, flipped: Maps, flip_pairs: Sequence[tuple[int, int]], shift: int = 1) -> Maps:
    """Average heatmaps with those of the mirrored crop.

    The mirrored maps are turned back, left and right exchanged, and moved right by ``shift`` columns, because the grid
    of a mirrored crop lies that much off (protocol: SimpleBaseline and HRNet, ``SHIFT_HEATMAP``).

    Args:
        heatmaps: (..., K, H, W) of the crop, tensor or array.
        flipped: of the mirrored crop, alike.
        flip_pairs: (left, right) keypoint indices.
        shift: columns; the first ``shift`` columns keep their place.
    """
    order = list(range(heatmaps.shape[-3]))
    for left, right in flip_pairs:
        order[left], order[right] = right, left
    width = heatmaps.shape[-1]
    columns = [width - 1 - (column if column < shift else column - shift) for column in range(width)]
    return (heatmaps + flipped[..., order, :, :][..., columns]) * 0.5


@torch.inference_mode()
def predict_heatmaps(
    heatmaps_of: Callable[[torch.Tensor], torch.Tensor],
    crops_rgb: torch.Tensor,
    flip_pairs: Sequence[tuple[int, int]] | None,
    shift: int = 1,
) -> torch.Tensor:
    """Return (B, K, H, W) heatmaps of (B, h, w, 3) uint8 crops on the net's device.

    Args:
        heatmaps_of: `PoseNet.heatmaps`, or what takes its place.
        crops_rgb: RGB.
        flip_pairs: to average with the mirrored crop, or None to leave that out.
        shift: see `flip_average`.
    """
    inputs = normalize(crops_rgb).contiguous()
    heatmaps = heatmaps_of(inputs)
    if flip_pairs is None:
        return heatmaps
    return flip_average(heatmaps, heatmaps_of(inputs.flip(-1)), flip_pairs, shift)


def keypoints_in_image(heatmaps: torch.Tensor, matrices: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode (B, K, H, W) heatmaps and send the keypoints through (B, 2, 3) heatmap-to-image matrices.

    Returns:
        keypoints_image (B, K, 2) and scores (B, K).
    """
    keypoints_heatmap, scores = decode(heatmaps.float().cpu().numpy())
    return transform_points(keypoints_heatmap, matrices).astype(np.float32), scores


class PosePredictor:
    """Finds the keypoints of the persons in a picture.

    Args:
        weights: file that tools/train.py wrote, or a run folder; by default the net that comes with the package.
        device: ``"cpu"``, ``"cuda"``, ...; by default a GPU where there is one.
        flip: average with the mirrored crop: twice the time, about one AP.
        batch_size: crops a batch.

    Raises:
        CheckpointError: there are no such weights, or they do not fit.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        *,
        flip: bool = True,
        batch_size: int = 32,
    ) -> None:
        self.net, self.config = load_pose_net(weights or DEFAULT_WEIGHTS)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net.to(self.device)
        self.flip, self.batch_size = flip, batch_size

    @property
    def skeleton(self) -> Skeleton:
        """The keypoint set of the net."""
        return self.config.keypoints

    def __call__(self, image: str | Path | Image, boxes: ArrayLike | None = None) -> Poses:
        """Find the keypoints of one picture.

        Args:
            image: path, or (H, W, 3) uint8 BGR.
            boxes: (N, 4) persons as left, top, width, height in pixels; by default the whole picture is one person.

        Raises:
            DataError: the picture cannot be read, or the boxes have another form.
        """
        pixels = read_image(image) if isinstance(image, (str, Path)) else _pixels(image)
        return self.predict_batch([pixels], [_whole(pixels) if boxes is None else boxes])[0]

    def predict_batch(self, images: Sequence[Image], boxes: Sequence[ArrayLike]) -> list[Poses]:
        """Find the keypoints of several pictures, the persons of all of them in common batches.

        Args:
            images: (H, W, 3) uint8 BGR each.
            boxes: (N_i, 4) xywh in pixels of each picture.
        """
        checked = [_boxes(rows) for rows in boxes]
        crops = [
            person_crop(_pixels(image), bbox, self.config.input)
            for image, rows in zip(images, checked, strict=True)
            for bbox in rows
        ]
        parts = [self._predict(part) for part in _parts(crops, self.batch_size)]
        count = self.skeleton.num_keypoints
        empty = (np.zeros((0, count, 2), dtype=np.float32), np.zeros((0, count), dtype=np.float32))
        keypoints, scores = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
        ends = np.cumsum([len(rows) for rows in checked], dtype=np.intp)
        found = zip(np.split(keypoints, ends)[:-1], np.split(scores, ends)[:-1], checked, strict=True)
        return [Poses(*columns) for columns in found]

    def _predict(
        self, crops: Sequence[tuple[Image, NDArray[np.float64], float]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = torch.from_numpy(np.stack([image for image, _, _ in crops])).to(self.device)
        pairs = self.skeleton.flip_pairs if self.flip else None
        heatmaps = predict_heatmaps(self.net.heatmaps, batch, pairs, self.config.test.flip_shift)
        return keypoints_in_image(heatmaps, np.stack([matrix for _, matrix, _ in crops]))


Item = TypeVar("Item")


def _parts(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _pixels(image: Image) -> Image:
    array = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not array or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            "PosePredictor: expected a picture of (H, W, 3) uint8 BGR, got "
            f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}; read it with cv2.imread"
        )
    return image


def _boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    try:
        rows = np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"PosePredictor: expected boxes (N, 4) as numbers, got {boxes!r:.80} ({error})") from None
    if rows.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != 4 or not np.isfinite(rows).all() or rows[:, 2:].min() <= 0:
        raise DataError(
            f"PosePredictor: expected boxes (N, 4) as left, top, width, height in pixels with positive sizes, got "
            f"{rows.tolist() if rows.size <= 8 else rows.shape}"
        )
    return rows


def _whole(image: Image) -> NDArray[np.float32]:
    return np.array([[0, 0, image.shape[1], image.shape[0]]], dtype=np.float32)
