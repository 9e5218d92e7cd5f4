"""Whether an exported model computes what the model does: comparisons, and crops to compare on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
import torch

from pose.config.pose import STRIDE, InputConfig
from pose.datasets.synthetic.dataset import mask_box
from pose.datasets.synthetic.scene import draw_scene
from pose.export.onnx import Heatmaps
from pose.geometry import Float32
from pose.heatmap import decode
from pose.images import Image, find_images, person_crop, read_upright_image
from pose.inference.metadata import HEATMAPS, KEYPOINTS, SCORES

TOLERANCE = 1e-3
"""Of the largest heatmap value. Rounding gives about 1e-6 in trained models and up to 1e-4 in new ones."""
INT8_TOLERANCE = 0.3
"""The same of a model in 8-bit integers."""
PIXEL_TOLERANCE = 1e-3
"""Crop pixels between decoding inside the file and `pose.heatmap.decode` of the same heatmaps."""
SCENE_WH = (320, 240)


@dataclass(frozen=True)
class Parity:
    """The largest differences between an exported predictor and its model.

    Attributes:
        heatmap: of the largest heatmap value.
        pixels: between keypoints, in crop pixels. Where two pixels of a map are alike, rounding may choose either.
    """

    heatmap: float
    pixels: float


def check_export(exported: Heatmaps, original: Heatmaps, images: torch.Tensor) -> float:
    """Compare an exported model with the one it was made from.

    Returns:
        The largest difference of their heatmaps for ``images``, of the largest heatmap value.

    Raises:
        RuntimeError: it is more than rounding; the export is wrong.
    """
    with torch.inference_mode():
        return _compare_heatmaps(exported(images).numpy(), original(images).numpy(), TOLERANCE)


def check_predictor(
    exported: Callable[[Image], Mapping[str, Float32]],
    original: Heatmaps,
    crops_rgb: Image,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Compare what `pose.export.onnx.predictor_to_onnx` made with the model it was made from.

    Heatmaps must agree, and keypoints that the file decodes with `pose.heatmap.decode` of its heatmaps.

    Args:
        exported: `pose.inference.backends.InferenceSession.run` of the file.
        original: gives the (N, K, H / 4, W / 4) heatmaps that are expected of (N, H, W, 3) uint8 RGB crops.
        crops_rgb: to compare on, (N, H, W, 3).
        tolerance: between the heatmaps, of the largest value.

    Raises:
        RuntimeError: they do not; the export is wrong.
    """
    found = exported(crops_rgb)
    expected = original(torch.from_numpy(crops_rgb)).float().cpu().numpy()
    heatmap = _compare_heatmaps(found[HEATMAPS], expected, tolerance)
    keypoints_heatmap, scores = decode(found[HEATMAPS])
    keypoints = keypoints_heatmap * STRIDE
    if KEYPOINTS in found:
        _compare_decoded(KEYPOINTS, found[KEYPOINTS], keypoints, PIXEL_TOLERANCE)
        _compare_decoded(SCORES, found[SCORES], scores, TOLERANCE * float(np.abs(scores).max()))
    return Parity(heatmap, float(np.abs(keypoints - decode(expected)[0] * STRIDE).max()))


def _compare_heatmaps(found: Float32, expected: Float32, tolerance: float) -> float:
    if found.shape != expected.shape:
        raise RuntimeError(f"export: heatmaps of {found.shape}, the model gives {expected.shape}")
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= tolerance:
        raise RuntimeError(f"export: heatmaps differ by {difference:.1e} of their largest value, above {tolerance}")
    return difference


def _compare_decoded(name: str, found: Float32, expected: Float32, tolerance: float) -> None:
    if found.shape != expected.shape:
        raise RuntimeError(f"export: {name} of {found.shape}, expected {expected.shape}")
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise RuntimeError(f"export: {name} differ by {difference:.1e} from those of the file's own heatmaps")


def synthetic_crops(input_config: InputConfig, number: int) -> Image:
    """Draw people of the embedded data set; returns (number, h, w, 3) uint8 RGB crops."""
    return np.stack(list(islice(_synthetic_crops(input_config), number)))


def _synthetic_crops(input_config: InputConfig) -> Iterator[Image]:
    for index in count():
        scene = draw_scene(np.random.default_rng((0, index)), SCENE_WH)
        for person in scene.people:
            if not person.crowd:
                yield person_crop(scene.image, mask_box(person.mask), input_config)[0]


def image_crops(folder: Path, input_config: InputConfig, number: int) -> Image:
    """Take the images of a folder, each whole as one person, and again where they are too few.

    Returns:
        (number, h, w, 3) uint8 RGB crops.

    Raises:
        MediaError: there are no images, or one cannot be read.
    """
    paths = [folder] if folder.is_file() else find_images(folder)
    images = [read_upright_image(path) for path in paths[:number]]
    crops = [person_crop(image, (0, 0, image.shape[1], image.shape[0]), input_config)[0] for image in images]
    return np.stack(list(islice(cycle(crops), number)))
