"""Person detectors behind one call: images in, a box and a score for each person out.

Three kinds, chosen by name in `load_detector`: an ONNX file of the YOLOX family, a detector of torchvision with its
COCO weights, and ``none``, the whole frame as one person. To add another, write a class with `Detector`'s ``__call__``
and name it in `load_detector`; nothing else knows how boxes are found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from pose.errors import MediaError, near_name
from pose.geometry import Array
from pose.images import Image

Model = Callable[[NDArray[np.float32]], NDArray[np.float32]]
WHOLE_FRAME = "none"
PERSON = 0
"""Of the 80 classes of COCO detectors trained without a background class."""
STRIDES = (8, 16, 32)
"""Of YOLOX's three output grids, in the order of its rows (Ge et al. 2021, section 2)."""
LETTERBOX_GRAY = 114
DEFAULT_INPUT_WH = (416, 416)
"""YOLOX nano and tiny; for files whose input size is free or that OpenCV reads, which does not tell it."""


class Detections(NamedTuple):
    """Persons of one image, best first: boxes (N, 4) as left, top, width, height in its pixels, and scores (N,)."""

    bboxes_xywh: Array
    scores: Array


class Detector(Protocol):
    """Finds the persons of some (H, W, 3) uint8 BGR images."""

    def __call__(self, images: Sequence[Image]) -> list[Detections]: ...


def load_detector(
    name_or_path: str | Path,
    *,
    score_threshold: float = 0.3,
    nms_threshold: float = 0.65,
    device: str | None = None,
) -> Detector:
    """Return a detector of persons.

    Args:
        name_or_path: a YOLOX ``.onnx`` file, a detector of `torchvision.models.detection`, or ``none`` (whole frame).
        score_threshold: persons scored lower are left out.
        nms_threshold: IoU above which the lower-scored of two boxes is dropped (ONNX; torchvision brings its own).
        device: of torchvision's detectors, such as ``cuda``; by default the GPU where there is one.

    Raises:
        MediaError: the name is unknown, the file is not a YOLOX model, or weights cannot be fetched.
    """
    name = str(name_or_path)
    if name == WHOLE_FRAME:
        return whole_frame
    if name.lower().endswith(".onnx"):
        run, input_wh = open_onnx(Path(name))
        return YoloxDetector(run, input_wh, score_threshold, nms_threshold)
    return _load_torchvision(name, score_threshold, device)


def whole_frame(images: Sequence[Image]) -> list[Detections]:
    """Take every image as one person with score 1."""
    return [Detections(np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]), np.ones(1)) for image in images]


@dataclass(frozen=True)
class YoloxDetector:
    """YOLOX with its raw grid output: (1, 3, H, W) BGR 0..255 in, rows of box offsets, objectness and classes out.

    Attributes:
        run: the model, one image at a time: exported files fix their batch at 1.
        input_wh: width and height of its input.
        score_threshold: of objectness times class.
        nms_threshold: IoU.
    """

    run: Model
    input_wh: tuple[int, int]
    score_threshold: float
    nms_threshold: float

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        blob, ratio = letterbox(image, self.input_wh)
        bboxes_input, scores = decode_yolox(self.run(blob), self.input_wh)
        keep = scores > self.score_threshold
        found = _suppress(Detections(bboxes_input[keep] / ratio, scores[keep]), self.nms_threshold)
        return _clip(found, (image.shape[1], image.shape[0]))


def letterbox(image: Image, input_wh: tuple[int, int]) -> tuple[NDArray[np.float32], float]:
    """Fit an image into the top left of a gray input.

    Pillow's filter widens as the image shrinks, where OpenCV's would skip pixels: small persons keep their shape.

    Returns:
        (1, 3, H, W) float32 BGR 0..255, and input pixels an image's pixel.
    """
    height, width = image.shape[:2]
    ratio = min(input_wh[0] / width, input_wh[1] / height)
    fitted_wh = max(1, int(width * ratio)), max(1, int(height * ratio))
    canvas = np.full((input_wh[1], input_wh[0], 3), LETTERBOX_GRAY, dtype=np.uint8)
    fitted = PIL.Image.fromarray(image).resize(fitted_wh, PIL.Image.Resampling.BILINEAR)
    canvas[: fitted_wh[1], : fitted_wh[0]] = np.asarray(fitted)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32), ratio


def decode_yolox(rows: NDArray[np.float32], input_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Turn raw rows (1, A, 5 + classes) into boxes (A, 4) xywh in input pixels and person scores (A,).

    A row holds the centre's offset from its grid cell and the log of the size, both in strides; objectness; classes.
    A person's score is objectness times class.

    Raises:
        MediaError: the rows do not fit the grids of the input.
    """
    cells, strides = _grid(input_wh)
    if rows.ndim != 3 or rows.shape[:2] != (1, len(cells)) or rows.shape[2] < 6:
        raise MediaError(
            f"detector: expected YOLOX's raw output (1, {len(cells)}, 5 + classes) for a {input_wh[0]}x{input_wh[1]} "
            f"input, got {rows.shape}; export it without decoding (and, without onnxruntime, for 416x416)"
        )
    values = rows[0, :, : 5 + PERSON + 1].astype(np.float64)
    center = (values[:, :2] + cells) * strides
    size = np.exp(values[:, 2:4]) * strides
    return np.concatenate([center - size / 2, size], axis=1), values[:, 4] * values[:, 5 + PERSON]


def _grid(input_wh: tuple[int, int]) -> tuple[Array, Array]:
    """Cell (A, 2) and stride (A, 1) of every output row."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: input_wh[1] // stride, : input_wh[0] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64))
        strides.append(np.full((x.size, 1), float(stride)))
    return np.concatenate(cells), np.concatenate(strides)


def _suppress(found: Detections, nms_threshold: float) -> Detections:
    """Drop boxes that overlap a better one; best first."""
    if not len(found.scores):
        return found
    kept = cv2.dnn.NMSBoxes(found.bboxes_xywh.tolist(), found.scores.tolist(), 0.0, nms_threshold)
    index = np.asarray(kept, dtype=np.intp).reshape(-1)
    return Detections(found.bboxes_xywh[index], found.scores[index])


def _clip(found: Detections, image_wh: tuple[int, int]) -> Detections:
    """Cut boxes at the image's edge and leave out those beyond it."""
    top_left = found.bboxes_xywh[:, :2].clip(0, image_wh)
    size = (found.bboxes_xywh[:, :2] + found.bboxes_xywh[:, 2:]).clip(0, image_wh) - top_left
    inside = (size > 0).all(axis=1)
    return Detections(np.concatenate([top_left, size], axis=1)[inside], found.scores[inside])


def open_onnx(path: Path) -> tuple[Model, tuple[int, int]]:
    """Open an ONNX model with onnxruntime, or with OpenCV where that is not installed.

    Returns:
        The model as a function of its input, and the width and height of that input.

    Raises:
        MediaError: the file is missing or not an ONNX model.
    """
    if not path.is_file():
        raise MediaError(f"{path}: no such detector file")
    try:
        import onnxruntime
    except ImportError:
        return _open_with_opencv(path)
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = onnxruntime.get_available_providers()
    try:
        session = onnxruntime.InferenceSession(str(path), providers=[name for name in wanted if name in available])
    except Exception as error:  # onnxruntime raises a class of its own for each way a file can be wrong
        raise _not_a_model(path, error) from None
    entry = session.get_inputs()[0]
    height, width = entry.shape[2:4] if len(entry.shape) == 4 else (None, None)
    input_wh = (width, height) if isinstance(width, int) and isinstance(height, int) else DEFAULT_INPUT_WH

    def run(blob: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {entry.name: blob})[0], dtype=np.float32)

    return run, input_wh


def _open_with_opencv(path: Path) -> tuple[Model, tuple[int, int]]:
    try:
        net = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise _not_a_model(path, error) from None

    def run(blob: NDArray[np.float32]) -> NDArray[np.float32]:
        net.setInput(blob)
        return np.asarray(net.forward(), dtype=np.float32)

    return run, DEFAULT_INPUT_WH


def _not_a_model(path: Path, error: Exception) -> MediaError:
    return MediaError(f"{path}: not an ONNX model that can be read ({' '.join(str(error).split())[:120]})")


@dataclass(frozen=True)
class TorchvisionDetector:
    """A detector of torchvision.

    Attributes:
        model: in evaluation mode: a list of (3, H, W) RGB images in 0..1 to ``boxes`` (xyxy), ``labels``, ``scores``.
        person_label: the label that means a person.
        score_threshold: persons scored lower are left out.
        device: of the model.
    """

    model: Callable[[list[Any]], list[dict[str, Any]]]
    person_label: int
    score_threshold: float
    device: str

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
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
            f"detector '{name}': expected an .onnx file, '{WHOLE_FRAME}' or a detector of torchvision"
            f"{near_name(name, [WHOLE_FRAME, *names])}"
        )
    weights = models.get_model_weights(name).DEFAULT
    try:
        model = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no network, no disk space, or a broken file in the cache
        reason = " ".join(str(error).split())
        raise MediaError(
            f"detector '{name}': cannot fetch {weights.url} ({reason}); check the network, or give an .onnx file"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    label = weights.meta["categories"].index("person")
    return TorchvisionDetector(model.to(device).eval(), label, score_threshold, device)
