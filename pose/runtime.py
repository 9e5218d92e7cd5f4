"""Exported nets without PyTorch: NumPy, OpenCV and ONNX Runtime find the keypoints.

    >>> from pose import OnnxPredictor
    >>> poses = OnnxPredictor("net.onnx")("person.jpg")

`pose.export` writes such a file (``tools/export.py``), with what is needed to use it as metadata: `NetCard`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.config import STRIDE, InputConfig
from pose.errors import CheckpointError, PoseError
from pose.geometry import transform_points
from pose.heatmap import decode
from pose.images import Image
from pose.predictor import Array, CropPredictor, Float32
from pose.skeleton import Skeleton, make_skeleton

CROPS, HEATMAPS, KEYPOINTS, SCORES = "crops", "heatmaps", "keypoints", "scores"
"""Of a file's input (N, h, w, 3) uint8 RGB, and of its outputs: (N, K, h / 4, w / 4); where it decodes, also (N, K, 2)
x, y in crop pixels and (N, K)."""


@dataclass(frozen=True)
class NetCard:
    """What a file says about its net.

    Attributes:
        geometry: of the crops that it takes.
        skeleton: of the keypoints that it gives.
        flip: whether it averages with the mirrored crop.
        licence: of the weights, in words.
    """

    geometry: InputConfig
    skeleton: Skeleton
    flip: bool
    licence: str

    def metadata(self) -> dict[str, str]:
        """Return it as an ONNX file's metadata, each value JSON but the licence."""
        skeleton = {"names": self.skeleton.names, "limbs": self.skeleton.limbs, "sigmas": self.skeleton.sigmas}
        return {
            "input": self.geometry.model_dump_json(),
            "skeleton": json.dumps(skeleton),
            "flip": json.dumps(self.flip),
            "licence": self.licence,
        }


def read_card(metadata: Mapping[str, str], path: Path) -> NetCard:
    """Read what `NetCard.metadata` wrote.

    Args:
        metadata: of an ONNX file.
        path: of that file, for the message.

    Raises:
        CheckpointError: something is missing or has another form.
    """
    try:
        return NetCard(
            InputConfig.model_validate_json(metadata["input"]),
            make_skeleton(**json.loads(metadata["skeleton"])),
            bool(json.loads(metadata["flip"])),
            metadata["licence"],
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: has no {error} in its metadata; export the net with tools/export.py") from None
    except (TypeError, ValueError, PoseError) as error:  # pydantic's and json's errors are ValueErrors
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path}: its metadata does not fit this version ({reason}); export the net with tools/export.py again"
        ) from None


def open_session(model: bytes | Path, threads: int) -> Any:
    """Open an ONNX file, or its content, with ONNX Runtime on the CPU.

    Args:
        model: the file or its content.
        threads: to compute with; 0 for as many as there are cores.

    Raises:
        PoseError: onnxruntime is not installed.
        CheckpointError: the file is missing or not an ONNX net.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PoseError("ONNX nets: need the package onnxruntime; pip install 'dyconv-pose[export]'") from None
    if isinstance(model, Path) and not model.is_file():
        raise CheckpointError(f"{model}: no such ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each way a file can be wrong
        if not isinstance(model, Path):
            raise
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{model}: not an ONNX net that can be read ({reason})") from None


class OnnxPredictor(CropPredictor):
    """Finds the keypoints of the persons in a picture with an exported net, on the CPU.

    Whether it averages with the mirrored crop was decided when the net was exported.

    Args:
        path: file that tools/export.py wrote.
        threads: to compute with; 0 for as many as there are cores.
        batch_size: crops a batch; more are hardly faster on a CPU.

    Raises:
        PoseError: onnxruntime is not installed.
        CheckpointError: the file is missing, damaged, or another kind of net.
    """

    def __init__(self, path: str | Path, *, threads: int = 0, batch_size: int = 8) -> None:
        path = Path(path)
        self._session = open_session(path, threads)
        self.card = read_card(self._session.get_modelmeta().custom_metadata_map, path)
        super().__init__(self.card.skeleton, self.card.geometry, batch_size)
        outputs = [output.name for output in self._session.get_outputs()]
        self._decodes = KEYPOINTS in outputs

    def find_keypoints(self, crops_rgb: Image, matrices: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        names = [KEYPOINTS, SCORES] if self._decodes else [HEATMAPS]
        found = self._session.run(names, {CROPS: crops_rgb})
        keypoints_heatmap, scores = (found[0] / STRIDE, found[1]) if self._decodes else decode(found[0])
        return transform_points(keypoints_heatmap, matrices).astype(np.float32), scores
