"""Verify exported models against PyTorch, and make crops for verification and int8 calibration."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
import torch

from pose.config.pose import STRIDE, InputConfig
from pose.datasets.synthetic.dataset import mask_box
from pose.datasets.synthetic.scene import draw_scene
from pose.geometry import Float32
from pose.heatmap import decode
from pose.images import Image, find_images, person_crop, read_upright_image
from pose.inference.metadata import HEATMAPS, KEYPOINTS, SCORES
from pose.inference.pytorch import HeatmapFn

TOLERANCE = 1e-3
"""Largest heatmap difference, relative to the largest heatmap value. Rounding gives about 1e-6 in trained models and up
to 1e-4 in newly initialized ones."""
INT8_TOLERANCE = 0.3
"""The same for models quantized to int8."""
PIXEL_TOLERANCE = 1e-3
"""Largest keypoint difference in crop pixels, between decoding in the file and `pose.heatmap.decode`."""
SCENE_WH = (320, 240)
"""Width and height of the synthetic images that crops are taken from."""


@dataclass(frozen=True)
class Parity:
    """Largest differences between an exported predictor and its PyTorch model.

    Attributes:
        heatmap: heatmap difference, relative to the largest heatmap value.
        pixels: keypoint difference in crop pixels. It can be large where two heatmap pixels are almost equal: rounding
            decides which one is the peak.
    """

    heatmap: float
    pixels: float


def check_export(exported: HeatmapFn, original: HeatmapFn, images: torch.Tensor) -> float:
    """Compare the heatmaps of an exported model with those of the PyTorch model.

    Args:
        exported: runs the exported model.
        original: runs the PyTorch model.
        images: (N, 3, H, W), normalized.

    Returns:
        The largest difference of the heatmaps, relative to the largest heatmap value.

    Raises:
        RuntimeError: the difference exceeds `TOLERANCE`; the export is wrong.
    """
    with torch.inference_mode():
        return _compare_heatmaps(exported(images).numpy(), original(images).numpy(), TOLERANCE)


def check_predictor(
    exported: Callable[[Image], Mapping[str, Float32]],
    original: HeatmapFn,
    crops_rgb: Image,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Compare an exported predictor with the PyTorch model.

    Heatmaps are compared with the model's, decoded keypoints and scores with `pose.heatmap.decode` of the file's
    heatmaps.

    Args:
        exported: `pose.inference.backends.InferenceSession.run` of a `pose.export.onnx.predictor_to_onnx` model.
        original: returns the expected (N, K, H / 4, W / 4) heatmaps for (N, H, W, 3) uint8 RGB crops.
        crops_rgb: (N, H, W, 3) crops to compare on.
        tolerance: largest heatmap difference, relative to the largest heatmap value.

    Raises:
        RuntimeError: a difference exceeds its tolerance; the export is wrong.
    """
    outputs = exported(crops_rgb)
    expected = original(torch.from_numpy(crops_rgb)).float().cpu().numpy()
    heatmap_difference = _compare_heatmaps(outputs[HEATMAPS], expected, tolerance)
    keypoints_heatmap, scores = decode(outputs[HEATMAPS])
    keypoints_crop = keypoints_heatmap * STRIDE
    if KEYPOINTS in outputs:
        _compare_decoded(KEYPOINTS, outputs[KEYPOINTS], keypoints_crop, PIXEL_TOLERANCE)
        _compare_decoded(SCORES, outputs[SCORES], scores, TOLERANCE * float(np.abs(scores).max()))
    return Parity(heatmap_difference, float(np.abs(keypoints_crop - decode(expected)[0] * STRIDE).max()))


def _compare_heatmaps(actual: Float32, expected: Float32, tolerance: float) -> float:
    if actual.shape != expected.shape:
        raise RuntimeError(f"export: expected heatmaps of shape {expected.shape}, got {actual.shape}")
    difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
    if not difference <= tolerance:
        raise RuntimeError(f"export: heatmaps differ by {difference:.1e} of the largest value, tolerance {tolerance}")
    return difference


def _compare_decoded(name: str, actual: Float32, expected: Float32, tolerance: float) -> None:
    if actual.shape != expected.shape:
        raise RuntimeError(f"export: expected {name} of shape {expected.shape}, got {actual.shape}")
    difference = float(np.abs(actual - expected).max())
    if not difference <= tolerance:
        raise RuntimeError(f"export: {name} differ by {difference:.1e} from decoding the file's own heatmaps")


def synthetic_crops(input_config: InputConfig, number: int) -> Image:
    """Return (number, h, w, 3) uint8 RGB crops of synthetic people, always the same ones."""
    return np.stack(list(islice(_synthetic_crops(input_config), number)))


def _synthetic_crops(input_config: InputConfig) -> Iterator[Image]:
    for index in count():
        scene = draw_scene(np.random.default_rng((0, index)), SCENE_WH)
        for person in scene.people:
            if not person.crowd:
                yield person_crop(scene.image, mask_box(person.mask), input_config)[0]


def image_crops(folder: Path, input_config: InputConfig, number: int) -> Image:
    """Return the images of a folder as crops, each whole image one person, repeated if there are too few.

    Args:
        folder: of images, or one image file.
        input_config: size and padding of the crops.
        number: of crops to return.

    Returns:
        (number, h, w, 3) uint8 RGB crops.

    Raises:
        MediaError: there are no images, or one cannot be read.
    """
    paths = [folder] if folder.is_file() else find_images(folder)
    images = [read_upright_image(path) for path in paths[:number]]
    crops = [person_crop(image, (0, 0, image.shape[1], image.shape[0]), input_config)[0] for image in images]
    return np.stack(list(islice(cycle(crops), number)))
