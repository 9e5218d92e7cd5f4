"""Verify exported models against PyTorch, and make crops for verification and int8 calibration.

A float file has the model's heatmaps up to rounding, on any crop. An int8 file is another model: single heatmap values
may differ by more than half of the peak on crops where its keypoints are right, so it is its keypoints that are
compared, over all calibration crops, as COCO compares keypoints with annotations.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
import torch

from pose.config.pose import STRIDE, InputConfig
from pose.datasets.synthetic.dataset import mask_box
from pose.datasets.synthetic.scene import draw_scene
from pose.errors import PoseError
from pose.evaluation.oks import oks
from pose.geometry import Float32
from pose.heatmap import decode
from pose.images import Image, find_images, person_crop, read_upright_image
from pose.inference.metadata import HEATMAPS, KEYPOINTS, SCORES
from pose.inference.pytorch import HeatmapFn

TOLERANCE = 1e-3
"""Largest heatmap difference, relative to the largest heatmap value. Rounding gives about 1e-6 in trained models and up
to 1e-4 in newly initialized ones."""
MIN_INT8_AP = 0.9
"""Smallest `Agreement.ap` of a model quantized to int8. On 100 crops of four kinds, the packaged model has 0.98 to 1.00
with calibration on real or synthetic people. It has 0.91 to 0.95 with the first convolutions quantized too, which costs
two AP on COCO, and 0.79 to 0.93 with calibration on black images."""
VISIBLE = 0.3
"""Score above which a keypoint of the float model counts for the agreement: below it, the position is noise."""
COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""OKS thresholds over which COCO averages AP."""
BOX_TO_PERSON_AREA = 0.53
"""Usual area of a person relative to its box, where there is no outline."""
PIXEL_TOLERANCE = 1e-3
"""Largest keypoint difference in crop pixels, between decoding in the file and `pose.heatmap.decode`."""
BATCH = 8
"""Crops that are compared at a time."""
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


@dataclass(frozen=True)
class Agreement:
    """Agreement of an int8 model's keypoints with the float model's, over the crops that show a person.

    Attributes:
        persons: number of crops in which the float model finds a visible keypoint.
        mean_oks: mean OKS of the two models' keypoints, where the float model finds them visible.
        ap: fraction of persons whose OKS is above a threshold, averaged over COCO's thresholds. If the float model's
            keypoints were the annotations, it would be the recall of the int8 model.
    """

    persons: int
    mean_oks: float
    ap: float


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
) -> Parity:
    """Compare an exported predictor with the PyTorch model.

    Heatmaps are compared with the model's, decoded keypoints and scores with `pose.heatmap.decode` of the file's
    heatmaps.

    Args:
        exported: `pose.inference.backends.InferenceSession.run` of a `pose.export.onnx.predictor_to_onnx` model.
        original: returns the expected (N, K, H / 4, W / 4) heatmaps for (N, H, W, 3) uint8 RGB crops.
        crops_rgb: (N, H, W, 3) crops to compare on.

    Raises:
        RuntimeError: a difference exceeds its tolerance; the export is wrong.
    """
    outputs = exported(crops_rgb)
    expected = original(torch.from_numpy(crops_rgb)).float().cpu().numpy()
    heatmap_difference = _compare_heatmaps(outputs[HEATMAPS], expected, TOLERANCE)
    keypoints_crop, _ = _decode(outputs)
    return Parity(heatmap_difference, float(np.abs(keypoints_crop - decode(expected)[0] * STRIDE).max()))


def check_int8(
    exported: Callable[[Image], Mapping[str, Float32]],
    original: HeatmapFn,
    crops_rgb: Image,
    input_config: InputConfig,
    sigmas: Sequence[float],
) -> Agreement:
    """Compare the keypoints of an int8 model with those of the float model.

    Args:
        exported: `pose.inference.backends.InferenceSession.run` of the int8 model.
        original: the float model: (N, K, H / 4, W / 4) heatmaps for (N, H, W, 3) uint8 RGB crops.
        crops_rgb: (N, H, W, 3), one person each.
        input_config: gives the size of the person's box in a crop.
        sigmas: (K,) OKS constants.

    Raises:
        PoseError: no crop shows a person, or the agreement is below `MIN_INT8_AP`.
        RuntimeError: the file's keypoints are not those of its heatmaps; the export is wrong.
    """
    height, width = input_config.size_hw
    area = BOX_TO_PERSON_AREA * height * width / input_config.padding**2
    similarities = []
    for crops in np.split(crops_rgb, range(BATCH, len(crops_rgb), BATCH)):
        ours, _ = _decode(exported(crops))
        expected_heatmap, scores = decode(original(torch.from_numpy(crops)).float().cpu().numpy())
        expected = expected_heatmap * STRIDE
        for person in np.flatnonzero((scores > VISIBLE).any(axis=1)):
            visible = scores[person] > VISIBLE
            pair = (expected[person, visible], area, ours[person, visible][None], [area])
            similarities.append(oks(*pair, np.asarray(sigmas)[visible])[0])
    if not similarities:
        raise PoseError(
            f"--int8: the model sees no keypoint with a score above {VISIBLE} on any of {len(crops_rgb)} calibration "
            "crops; give images of one person each by --images"
        )
    above = np.asarray(similarities)[:, None] > COCO_THRESHOLDS
    agreement = Agreement(len(similarities), float(np.mean(similarities)), float(above.mean()))
    if agreement.ap < MIN_INT8_AP:
        raise PoseError(
            f"--int8: the keypoints differ too much from the float model's: AP {agreement.ap:.2f} with the float "
            f"model's keypoints as truth, expected at least {MIN_INT8_AP} (mean OKS {agreement.mean_oks:.2f}, "
            f"{agreement.persons} persons); calibrate on images like those that the model will see, by --images, or "
            "leave --int8 out"
        )
    return agreement


def _decode(outputs: Mapping[str, Float32]) -> tuple[Float32, Float32]:
    """Decode a file's heatmaps to keypoints in crop pixels and scores, and compare those that the file decoded."""
    keypoints_heatmap, scores = decode(outputs[HEATMAPS])
    keypoints_crop = keypoints_heatmap * np.float32(STRIDE)
    if KEYPOINTS in outputs:
        _compare_decoded(KEYPOINTS, outputs[KEYPOINTS], keypoints_crop, PIXEL_TOLERANCE)
        _compare_decoded(SCORES, outputs[SCORES], scores, TOLERANCE * float(np.abs(scores).max()))
    return keypoints_crop, scores


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
