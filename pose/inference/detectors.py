"""Person detectors: images in, person boxes and scores out.

`load_detector` selects one of three kinds by name: an ONNX file of the YOLOX family, a torchvision detector with its
COCO weights, or ``none``, which returns the whole frame as one person. To add another, write a callable with the
signature of `Detector` and return it from `load_detector`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import PIL.Image

from pose.errors import MediaError, PoseError, near_name
from pose.geometry import Array, Float32
from pose.images import Image
from pose.inference.backends import import_onnxruntime, open_session

Model = Callable[[Float32], Float32]
"""Function from an input (1, 3, H, W) to the raw output of a YOLOX model."""
WHOLE_FRAME = "none"
PERSON_CLASS = 0
"""Index of the person among the 80 COCO classes, without a background class."""
STRIDES = (8, 16, 32)
"""Strides of YOLOX's three output grids, in the order of its output rows (Ge et al. 2021, section 2)."""
LETTERBOX_GRAY = 114
DEFAULT_INPUT_WH = (416, 416)
"""Input size of YOLOX nano and tiny: for files of free input size, and for OpenCV, which does not report the size."""
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Execution providers of ONNX Runtime for detectors, preferred first."""


class Detections(NamedTuple):
    """Detected persons of one image, highest score first.

    Attributes:
        bboxes_xywh: (N, 4) left, top, width, height in image pixels.
        scores: (N,).
    """

    bboxes_xywh: Array
    scores: Array


class Detector(Protocol):
    """Detects the persons in (H, W, 3) uint8 BGR images."""

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the persons of each image."""


def load_detector(
    name_or_path: str | Path,
    *,
    score_threshold: float = 0.3,
    nms_threshold: float = 0.65,
    device: str | None = None,
) -> Detector:
    """Load a person detector.

    Args:
        name_or_path: a YOLOX ``.onnx`` file, a detector of `torchvision.models.detection`, or ``none`` (whole frame).
        score_threshold: minimum person score.
        nms_threshold: NMS drops the lower-scored of two boxes above this IoU (ONNX only; torchvision has its own NMS).
        device: device of a torchvision detector, such as ``cuda``; by default a GPU if there is one.

    Raises:
        MediaError: the name is unknown, the file is not a YOLOX model, or the weights cannot be downloaded.
    """
    name = str(name_or_path)
    if name == WHOLE_FRAME:
        return whole_frame
    if name.lower().endswith(".onnx"):
        run, input_wh = open_onnx(Path(name))
        return YoloxDetector(run, input_wh, score_threshold, nms_threshold)
    return _load_torchvision(name, score_threshold, device)


def whole_frame(images: Sequence[Image]) -> list[Detections]:
    """Return the whole of each image as one person with score 1."""
    return [Detections(np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]), np.ones(1)) for image in images]


@dataclass(frozen=True)
class YoloxDetector:
    """YOLOX detector with raw grid output: letterbox, forward pass, decoding, NMS.

    Attributes:
        run: the model, from (1, 3, H, W) BGR 0..255 to raw rows; one image at a time, as exported files have batch 1.
        input_wh: width and height of its input.
        score_threshold: minimum of objectness times class score.
        nms_threshold: IoU above which NMS drops the lower-scored box.
    """

    run: Model
    input_wh: tuple[int, int]
    score_threshold: float
    nms_threshold: float

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the persons of each image; the model runs on one image at a time."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        blob, ratio = letterbox(image, self.input_wh)
        bboxes_input, scores = decode_yolox(self.run(blob), self.input_wh)
        keep = scores > self.score_threshold
        detections = _nms(Detections(bboxes_input[keep] / ratio, scores[keep]), self.nms_threshold)
        return _clip(detections, (image.shape[1], image.shape[0]))


def letterbox(image: Image, input_wh: tuple[int, int]) -> tuple[Float32, float]:
    """Resize an image to fit the top left of a gray input.

    Pillow's filter widens as the image shrinks, whereas OpenCV's skips pixels: small persons keep their shape.

    Returns:
        (1, 3, H, W) float32 BGR 0..255, and the scale in input pixels per image pixel.
    """
    height, width = image.shape[:2]
    ratio = min(input_wh[0] / width, input_wh[1] / height)
    resized_wh = max(1, int(width * ratio)), max(1, int(height * ratio))
    canvas = np.full((input_wh[1], input_wh[0], 3), LETTERBOX_GRAY, dtype=np.uint8)
    resized = PIL.Image.fromarray(image).resize(resized_wh, PIL.Image.Resampling.BILINEAR)
    canvas[: resized_wh[1], : resized_wh[0]] = np.asarray(resized)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32), ratio


def decode_yolox(rows: Float32, input_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Decode YOLOX's raw output to boxes and person scores.

    A row holds the offset of the box center from its grid cell and the log of the box size, both in strides, then the
    objectness and the class scores. The person score is objectness times class score.

    Args:
        rows: (1, A, 5 + classes).
        input_wh: width and height of the model's input.

    Returns:
        bboxes_input (A, 4) xywh in input pixels, and scores (A,).

    Raises:
        MediaError: the number of rows does not match the grids of the input.
    """
    cells, strides = _grid(input_wh)
    if rows.ndim != 3 or rows.shape[:2] != (1, len(cells)) or rows.shape[2] < 6:
        raise MediaError(
            f"detector: expected YOLOX's raw output (1, {len(cells)}, 5 + classes) for a {input_wh[0]}x{input_wh[1]} "
            f"input, got {rows.shape}; export it without decoding (and, without onnxruntime, for 416x416)"
        )
    values = rows[0, :, : 5 + PERSON_CLASS + 1].astype(np.float64)
    center = (values[:, :2] + cells) * strides
    size = np.exp(values[:, 2:4]) * strides
    return np.concatenate([center - size / 2, size], axis=1), values[:, 4] * values[:, 5 + PERSON_CLASS]


def _grid(input_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Return the grid cell (A, 2) and the stride (A, 1) of each output row."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: input_wh[1] // stride, : input_wh[0] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64))
        strides.append(np.full((x.size, 1), float(stride)))
    return np.concatenate(cells), np.concatenate(strides)


def _nms(detections: Detections, nms_threshold: float) -> Detections:
    """Sort by score and drop boxes that overlap a higher-scored one."""
    if not len(detections.scores):
        return detections
    kept = cv2.dnn.NMSBoxes(detections.bboxes_xywh.tolist(), detections.scores.tolist(), 0.0, nms_threshold)
    index = np.asarray(kept, dtype=np.intp).reshape(-1)
    return Detections(detections.bboxes_xywh[index], detections.scores[index])


def _clip(detections: Detections, image_wh: tuple[int, int]) -> Detections:
    """Clip boxes to the image and drop those outside."""
    top_left = detections.bboxes_xywh[:, :2].clip(0, image_wh)
    size = (detections.bboxes_xywh[:, :2] + detections.bboxes_xywh[:, 2:]).clip(0, image_wh) - top_left
    inside = (size > 0).all(axis=1)
    return Detections(np.concatenate([top_left, size], axis=1)[inside], detections.scores[inside])


def open_onnx(path: Path) -> tuple[Model, tuple[int, int]]:
    """Open a detector's ONNX file with ONNX Runtime, on a GPU if it can, or with OpenCV if onnxruntime is missing.

    Returns:
        The model as a function, and the width and height of its input.

    Raises:
        MediaError: the file is missing or not an ONNX model.
    """
    if not path.is_file():
        raise MediaError(f"{path}: no such detector file")
    try:
        available = import_onnxruntime().get_available_providers()
    except PoseError:
        return _open_with_opencv(path)
    providers = [name for name in PROVIDERS if name in available]
    session = open_session(path, threads=0, providers=providers, error_type=MediaError)
    model_input = session.get_inputs()[0]
    height, width = model_input.shape[2:4] if len(model_input.shape) == 4 else (None, None)
    input_wh = (width, height) if isinstance(width, int) and isinstance(height, int) else DEFAULT_INPUT_WH

    def run(blob: Float32) -> Float32:
        return np.asarray(session.run(None, {model_input.name: blob})[0], dtype=np.float32)

    return run, input_wh


def _open_with_opencv(path: Path) -> tuple[Model, tuple[int, int]]:
    try:
        model = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        reason = " ".join(str(error).split())[:120]
        raise MediaError(f"{path}: not an ONNX model that can be read ({reason})") from None

    def run(blob: Float32) -> Float32:
        model.setInput(blob)
        return np.asarray(model.forward(), dtype=np.float32)

    return run, DEFAULT_INPUT_WH


@dataclass(frozen=True)
class TorchvisionDetector:
    """Detector from `torchvision.models.detection`.

    Attributes:
        model: in evaluation mode, from a list of (3, H, W) RGB images in 0..1 to dicts of ``boxes`` (xyxy), ``labels``
            and ``scores``.
        person_label: label of the person class.
        score_threshold: minimum person score.
        device: the model's device.
    """

    model: Callable[[list[Any]], list[dict[str, Any]]]
    person_label: int
    score_threshold: float
    device: str

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the persons of each image; the model runs on all images at once."""
        import torch

        inputs = [
            torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).to(self.device).float() / 255
            for image in images
        ]
        with torch.inference_mode():
            return [self._persons(output) for output in self.model(inputs)]

    def _persons(self, output: dict[str, Any]) -> Detections:
        boxes, labels, scores = (output[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
        keep = (labels == self.person_label) & (scores > self.score_threshold)
        keep &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        bboxes_xywh = boxes[keep].astype(np.float64)
        bboxes_xywh[:, 2:] -= bboxes_xywh[:, :2]
        return Detections(bboxes_xywh, scores[keep].astype(np.float64))


def _load_torchvision(name: str, score_threshold: float, device: str | None) -> TorchvisionDetector:
    import torch
    from torchvision import models

    names = models.list_models(module=models.detection)
    if name not in names:
        raise MediaError(
            f"detector '{name}': expected an .onnx file, '{WHOLE_FRAME}' or the name of a torchvision detector"
            f"{near_name(name, [WHOLE_FRAME, *names])}"
        )
    weights = models.get_model_weights(name).DEFAULT
    try:
        model = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no network, no disk space, or a broken file in the cache
        reason = " ".join(str(error).split())
        raise MediaError(
            f"detector '{name}': cannot download {weights.url} ({reason}); check the network, or give an .onnx file"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    person_label = weights.meta["categories"].index("person")
    return TorchvisionDetector(model.to(device).eval(), person_label, score_threshold, device)
