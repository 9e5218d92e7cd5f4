"""Detectors in ONNX files: opened with ONNX Runtime, or with OpenCV where that is not installed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.errors import MediaError, PoseError
from pose.geometry import Float32
from pose.images import Image
from pose.inference.backends import import_onnxruntime, open_session
from pose.inference.detectors.detections import Detections, clip, nms, sort_by_score
from pose.inference.detectors.formats import DEFAULT_SIDE, DetectorFormat, Signature, Stem, Tensor, recognize

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Execution providers of ONNX Runtime for detectors, preferred first."""
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
"""NumPy's names of ONNX Runtime's types; the others are ``tensor(NAME)``."""
MAX_SCORE = 1.001
"""Maximum of a person score; 1, but for rounding."""
Model = Callable[[Float32], Sequence[Any]]
"""Function from an input tensor to the outputs that the format decodes."""


@dataclass(frozen=True)
class OnnxDetector:
    """A detector file of a known format.

    Attributes:
        run: the model; one image at a time, as exported files have a batch of 1.
        format: how to prepare its input and decode its outputs.
        score_threshold: minimum person score.
        nms_threshold: NMS drops the lower-scored of two boxes above this IoU, unless the model applies NMS itself.
    """

    run: Model
    format: DetectorFormat
    score_threshold: float
    nms_threshold: float

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the persons of each image; the model runs on one image at a time."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        tensor, scale_xy = self.format.model_input.prepare(image)
        bboxes_input, scores = self.format.decode(*self.run(tensor))
        if (scores > MAX_SCORE).any():
            raise MediaError(
                f"detector: expected scores from 0 to 1, got {scores[scores > MAX_SCORE][0]:g}; take another detector"
            )
        keep = (scores > self.score_threshold) & np.isfinite(bboxes_input).all(axis=1)  # NaN compares false
        top_left, bottom_right = bboxes_input[keep, :2] / scale_xy, bboxes_input[keep, 2:] / scale_xy
        persons = Detections(np.concatenate([top_left, bottom_right - top_left], axis=1), scores[keep])
        ordered = sort_by_score(persons) if self.format.has_nms else nms(persons, self.nms_threshold)
        return clip(ordered, (image.shape[1], image.shape[0]))


def open_onnx_detector(path: Path, score_threshold: float, nms_threshold: float) -> OnnxDetector:
    """Open a detector's ONNX file with ONNX Runtime, on a GPU if it can, or with OpenCV if onnxruntime is missing.

    OpenCV reports neither inputs nor outputs: it runs YOLOX with raw output only.

    Raises:
        MediaError: the file is missing, not an ONNX model, or not a detector of a known format.
    """
    if not path.is_file():
        raise MediaError(f"{path}: no such detector file")
    try:
        available = import_onnxruntime().get_available_providers()
    except PoseError:
        return OnnxDetector(_open_with_opencv(path), _opencv_format(path), score_threshold, nms_threshold)
    session = open_session(
        path,
        threads=0,
        providers=[name for name in PROVIDERS if name in available],
        error_type=MediaError,
    )
    signature = Signature(_tensors(session.get_inputs()), _tensors(session.get_outputs()), lambda: read_stem(path))
    detector_format = recognize(path, signature)
    input_name = detector_format.model_input.name

    def run(tensor: Float32) -> Sequence[Any]:
        try:
            return list(session.run(detector_format.outputs, {input_name: tensor}))
        except Exception as error:  # onnxruntime has a different class for each cause
            reason = " ".join(str(error).split())[:120]
            raise MediaError(f"{path}: the detector fails on an input of {tensor.shape} ({reason})") from None

    return OnnxDetector(run, detector_format, score_threshold, nms_threshold)


def _tensors(values: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            value.name,
            tuple(size if isinstance(size, int) and size >= 0 else None for size in value.shape or ()),
            DTYPES.get(value.type, value.type.removeprefix("tensor(").removesuffix(")")),
        )
        for value in values
    )


def read_stem(path: Path) -> Stem:
    """Return what a model does first with its input: YOLOX takes every second pixel, RTMDet convolves.

    Raises:
        PoseError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise PoseError(
            f"{path}: need the package onnx to tell RTMDet and YOLOX apart; pip install 'dyconv-pose[export]'"
        ) from None
    graph = onnx.load_model_from_string(path.read_bytes()).graph
    first = [node for node in graph.node if graph.input[0].name in node.input and node.op_type != "Shape"]
    if first and all(node.op_type == "Slice" for node in first):
        return "slices"
    if len(first) == 1 and first[0].op_type == "Conv":
        options = {attribute.name: list(attribute.ints) for attribute in first[0].attribute}
        if options.get("kernel_shape") == [3, 3] and options.get("strides") == [2, 2]:
            return "3x3 convolution, stride 2"
    return "other"


def _opencv_format(path: Path) -> DetectorFormat:
    sides = (DEFAULT_SIDE, DEFAULT_SIDE)
    image, rows = Tensor("", (1, 3, *sides), "float32"), Tensor("", (1, None, 85), "float32")
    return recognize(path, Signature((image,), (rows,), lambda: "other"))


def _open_with_opencv(path: Path) -> Model:
    try:
        model = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), dtype=np.uint8))
    except cv2.error as error:
        raise _opencv_error(path, error) from None

    def run(tensor: Float32) -> Sequence[Any]:
        try:
            model.setInput(tensor)
            return [np.asarray(model.forward(), dtype=np.float32)]
        except cv2.error as error:
            raise _opencv_error(path, error) from None

    return run


def _opencv_error(path: Path, error: cv2.error) -> MediaError:
    reason = " ".join(str(error).split())[:120]
    return MediaError(
        f"{path}: not an ONNX model that can be read without onnxruntime ({reason}); "
        "pip install 'dyconv-pose[export]' reads more"
    )
