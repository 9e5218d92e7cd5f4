"""Formats of detector files, recognized by the inputs and outputs of the ONNX model before it runs.

To add a format, write a function of a `Signature` that returns a `DetectorFormat`, or None for other models, and call
it in `recognize`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pose.errors import MediaError
from pose.geometry import Array
from pose.images import IMAGENET_MEAN, IMAGENET_STD
from pose.inference.detectors.decoding import (
    cell_count,
    decode_boxes_and_class_scores,
    decode_boxes_labels_scores,
    decode_dets,
    decode_yolox,
)
from pose.inference.detectors.model_input import ModelInput
from pose.inference.metadata import CROPS

DEFAULT_SIDE = 416
"""Width and height of the input of files of free input size: that of YOLOX nano and tiny."""
MIN_SIDE, MAX_SIDE = 32, 4096
"""Minimum and maximum width and height of a detector's input."""
FLOAT, INTEGERS = "float32", ("int64", "int32")
RTMDET_MEAN_BGR, RTMDET_STD_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
"""Of MMDetection's RTMDet configs, in 0..255."""
IMAGENET_MEAN_255, IMAGENET_STD_255 = (
    (255 * red, 255 * green, 255 * blue) for red, green, blue in (IMAGENET_MEAN, IMAGENET_STD)
)
KNOWN = (
    "YOLOX with raw output, RTMDet or YOLOX with NMS (dets, labels), PicoDet without NMS (boxes, scores), "
    "a torchvision detector (boxes, labels, scores)"
)
Stem: TypeAlias = Literal["slices", "3x3 convolution, stride 2", "other"]
"""What a model does first with its input; see `pose.inference.detectors.onnx_file.read_stem`."""


class Tensor(NamedTuple):
    """An input or output of an ONNX model.

    Attributes:
        name: name.
        shape: sizes; None where the file leaves a size free.
        dtype: NumPy's name of the type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


@dataclass(frozen=True)
class Signature:
    """What is known of an ONNX model before it runs.

    Attributes:
        inputs: its inputs.
        outputs: its outputs.
        read_stem: returns what the model does first with its input.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    read_stem: Callable[[], Stem]

    def __str__(self) -> str:
        inputs, outputs = ("; ".join(map(str, tensors)) for tensors in (self.inputs, self.outputs))
        return f"inputs: {inputs or 'none'}; outputs: {outputs or 'none'}"


@dataclass(frozen=True)
class DetectorFormat:
    """How to run a detector file.

    Attributes:
        title: name of the format, for people.
        model_input: from image to input.
        outputs: names of the outputs that ``decode`` takes.
        decode: from these outputs to boxes (N, 4) xyxy in input pixels and person scores (N,).
        has_nms: whether the model applies NMS itself.
    """

    title: str
    model_input: ModelInput
    outputs: tuple[str, ...]
    decode: Callable[..., tuple[Array, Array]]
    has_nms: bool


class _ImageInput(NamedTuple):
    """Name, layout and size of an image input; None where the file leaves a side free."""

    name: str
    layout: Literal["NCHW", "NHWC", "CHW"]
    width: int | None
    height: int | None

    @property
    def size_wh(self) -> tuple[int, int]:
        """The size to use: free sides take the length of the other one, or the default."""
        return self.width or self.height or DEFAULT_SIDE, self.height or self.width or DEFAULT_SIDE

    def model_input(self, **options: Any) -> ModelInput:
        """Return the input with its preprocessing."""
        return ModelInput(self.name, self.layout, **{"size_wh": self.size_wh, **options})


def recognize(path: Path, signature: Signature) -> DetectorFormat:
    """Return the format of a detector file.

    Raises:
        MediaError: it has no known format, or takes several images at a time.
        PoseError: its format depends on its layers, and the package onnx is not installed.
    """
    found = None
    if len(signature.inputs) == 1 and (image := _image_input(signature.inputs[0])) is not None:
        batch = signature.inputs[0].shape[0]
        if image.layout != "CHW" and batch not in (None, 1):
            raise MediaError(f"{path}: takes {batch} images at a time; export the detector with a batch size of 1")
        if any(side is not None and not MIN_SIDE <= side <= MAX_SIDE for side in (image.width, image.height)):
            raise MediaError(
                f"{path}: takes images of {image.width}x{image.height} pixels; expected {MIN_SIDE} to {MAX_SIDE}"
            )
        found = (
            _yolox(image, signature)
            or _dets_and_labels(image, signature)
            or _boxes_and_class_scores(image, signature)
            or _boxes_labels_scores(image, signature)
        )
    if found is None:
        is_pose_model = any(tensor.name == CROPS for tensor in signature.inputs)
        hint = "it is a pose model: give it as weights. " if is_pose_model else ""
        raise MediaError(f"{path}: not a person detector of a known format; {hint}Known: {KNOWN}. Found {signature}")
    return found


def _image_input(tensor: Tensor) -> _ImageInput | None:
    sizes = tensor.shape
    if tensor.dtype != FLOAT:
        return None
    if len(sizes) == 4 and sizes[1] == 3:
        return _ImageInput(tensor.name, "NCHW", sizes[3], sizes[2])
    if len(sizes) == 4 and sizes[3] == 3:
        return _ImageInput(tensor.name, "NHWC", sizes[2], sizes[1])
    if len(sizes) == 3 and sizes[0] == 3:
        return _ImageInput(tensor.name, "CHW", sizes[2], sizes[1])
    return None


def _yolox(image: _ImageInput, signature: Signature) -> DetectorFormat | None:
    """YOLOX as its authors export it: one output (1, A, 5 + classes) before decoding; BGR in 0..255."""
    if [(tensor.dtype, len(tensor.shape)) for tensor in signature.outputs] != [(FLOAT, 3)] or image.layout == "CHW":
        return None
    (output,) = signature.outputs
    _, rows, columns = output.shape
    if rows not in (None, cell_count(image.size_wh)) or columns is None or columns < 6:
        return None
    model_input = image.model_input(keep_aspect=True, rgb=False)
    decode = partial(decode_yolox, input_wh=image.size_wh)
    return DetectorFormat("YOLOX, raw output", model_input, (output.name,), decode, has_nms=False)


def _dets_and_labels(image: _ImageInput, signature: Signature) -> DetectorFormat | None:
    """RTMDet and YOLOX as MMDeploy exports them: dets (1, N, 5) and labels (1, N), or dets alone.

    The file does not say how it was trained to see colors; its first layer says which of the two it is.
    """
    dets = [tensor for tensor in signature.outputs if tensor.dtype == FLOAT and len(tensor.shape) == 3]
    labels = [tensor for tensor in signature.outputs if tensor.dtype in INTEGERS and len(tensor.shape) == 2]
    if len(dets) != 1 or len(labels) > 1 or len(dets + labels) != len(signature.outputs) or image.layout == "CHW":
        return None
    if dets[0].shape[2] not in ((5, None) if labels else (5,)):
        return None
    stem = signature.read_stem()
    if stem == "other":
        return None
    is_yolox = stem == "slices"
    colors = {} if is_yolox else {"mean": RTMDET_MEAN_BGR, "std": RTMDET_STD_BGR}
    return DetectorFormat(
        f"{'YOLOX' if is_yolox else 'RTMDet'} with NMS",
        image.model_input(keep_aspect=True, rgb=False, **colors),
        tuple(tensor.name for tensor in dets + labels),
        decode_dets,
        has_nms=True,
    )


def _boxes_and_class_scores(image: _ImageInput, signature: Signature) -> DetectorFormat | None:
    """PicoDet as PaddleDetection exports it without NMS: boxes (1, A, 4) and scores (1, classes, A), in any order."""
    if [(tensor.dtype, len(tensor.shape)) for tensor in signature.outputs] != [(FLOAT, 3)] * 2:
        return None
    boxes, scores = sorted(signature.outputs, key=lambda tensor: tensor.shape[2] != 4)
    count, columns = boxes.shape[1:]
    if image.layout == "CHW" or columns != 4 or scores.shape[1] is None or scores.shape[2] not in (None, count):
        return None
    model_input = image.model_input(keep_aspect=False, rgb=True, mean=IMAGENET_MEAN_255, std=IMAGENET_STD_255)
    names = (boxes.name, scores.name)
    return DetectorFormat("PicoDet without NMS", model_input, names, decode_boxes_and_class_scores, has_nms=False)


def _boxes_labels_scores(image: _ImageInput, signature: Signature) -> DetectorFormat | None:
    """A torchvision detector's export: boxes (N, 4), labels (N,), scores (N,) in any order; RGB in 0..1, NMS inside.

    It normalizes the image itself. Where the sides of its input are free, it resizes it, too.
    """
    floats = [tensor for tensor in signature.outputs if tensor.dtype == FLOAT]
    boxes = [tensor for tensor in floats if len(tensor.shape) == 2 and tensor.shape[1] == 4]
    scores = [tensor for tensor in floats if len(tensor.shape) == 1]
    labels = [tensor for tensor in signature.outputs if tensor.dtype in INTEGERS and len(tensor.shape) == 1]
    if not len(boxes) == len(scores) == len(labels) == 1:
        return None
    any_size = image.width is None and image.height is None
    size = {"size_wh": None} if any_size else {}
    model_input = image.model_input(keep_aspect=True, rgb=True, std=(255.0, 255.0, 255.0), **size)
    names = (boxes[0].name, labels[0].name, scores[0].name)
    return DetectorFormat("torchvision detector", model_input, names, decode_boxes_labels_scores, has_nms=True)
