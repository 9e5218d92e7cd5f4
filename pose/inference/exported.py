"""Inference with exported models without PyTorch: NumPy, OpenCV, and ONNX Runtime or OpenVINO.

    >>> from pose import ExportedPredictor
    >>> poses = ExportedPredictor("model.onnx")("person.jpg")

``dyconv-pose export`` writes such a file. Its metadata (`pose.inference.metadata`) holds everything needed to run it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose.config.pose import STRIDE
from pose.geometry import Array, Float32, transform_points
from pose.heatmap import DecodeMethod, decode
from pose.images import Image
from pose.inference.backends import open_exported
from pose.inference.detectors import Detector
from pose.inference.find_detector import AUTO
from pose.inference.metadata import HEATMAPS, KEYPOINTS, SCORES, read_metadata
from pose.inference.predictor import CropPredictor


class ExportedPredictor(CropPredictor):
    """Predicts the keypoints of the persons in an image with an exported model.

    Flip averaging was fixed when the model was exported. A file that decodes does so by ``quarter``; with ``dark`` its
    heatmaps are decoded here. Threads may call one predictor at the same time.

    Args:
        path: file that `dyconv-pose export` wrote: ONNX (.onnx) or OpenVINO (.xml, with its .bin in the same folder).
        decode: ``"quarter"``, or ``"dark"`` for sub-pixel keypoints (`pose.heatmap.decode`).
        threads: number of compute threads on the CPU; 0 for one per core.
        batch_size: crops per batch; larger batches are hardly faster on a CPU.
        providers: ONNX Runtime's execution providers, preferred first, such as ``["CUDAExecutionProvider"]``; by
            default the CPU's. Operators that a provider lacks run on the CPU.
        detector: as of `pose.inference.pytorch.PosePredictor`.

    Raises:
        PoseError: the backend is not installed, or a provider is not available.
        CheckpointError: the file is missing, damaged, or not an exported model.
        MediaError: the detector cannot be loaded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        decode: DecodeMethod = "quarter",
        threads: int = 0,
        batch_size: int = 8,
        providers: Sequence[str] | None = None,
        detector: str | Path | Detector = AUTO,
    ) -> None:
        path = Path(path)
        self._session = open_exported(path, threads, providers)
        self.metadata = read_metadata(self._session.metadata, path)
        super().__init__(self.metadata.skeleton, self.metadata.input_config, batch_size, detector)
        self.decode = decode

    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        outputs = self._session.run(crops_rgb)
        keypoints_heatmap, scores = (
            (outputs[KEYPOINTS] / STRIDE, outputs[SCORES])
            if KEYPOINTS in outputs and self.decode == "quarter"
            else decode(outputs[HEATMAPS], self.decode, self.input_config.sigma)
        )
        return transform_points(keypoints_heatmap, heatmap_to_image).astype(np.float32), scores
