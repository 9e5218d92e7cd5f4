"""Exported models without PyTorch: NumPy, OpenCV and ONNX Runtime or OpenVINO find the keypoints.

    >>> from pose import ExportedPredictor
    >>> poses = ExportedPredictor("model.onnx")("person.jpg")

``tools/export.py`` writes such a file, with what is needed to use it as metadata (`pose.inference.metadata`).
"""

from pathlib import Path

import numpy as np

from pose.config.pose import STRIDE
from pose.geometry import Array, Float32, transform_points
from pose.heatmap import decode
from pose.images import Image
from pose.inference.backends import open_exported
from pose.inference.metadata import HEATMAPS, KEYPOINTS, SCORES, read_metadata
from pose.inference.predictor import CropPredictor


class ExportedPredictor(CropPredictor):
    """Finds the keypoints of the persons in an image with an exported model, on the CPU.

    Whether it averages with the mirrored crop was decided when the model was exported.

    Args:
        path: file that tools/export.py wrote, of ONNX (.onnx) or OpenVINO (.xml, its .bin beside it).
        threads: to compute with; 0 for as many as there are cores.
        batch_size: crops a batch; more are hardly faster on a CPU.

    Raises:
        PoseError: the engine is not installed.
        CheckpointError: the file is missing, damaged, or another kind of model.
    """

    def __init__(self, path: str | Path, *, threads: int = 0, batch_size: int = 8) -> None:
        path = Path(path)
        self._model = open_exported(path, threads)
        self.card = read_metadata(self._model.metadata, path)
        super().__init__(self.card.skeleton, self.card.input_config, batch_size)

    def find_keypoints(self, crops_rgb: Image, matrices: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        found = self._model.run(crops_rgb)
        decodes = KEYPOINTS in found
        keypoints_heatmap, scores = (found[KEYPOINTS] / STRIDE, found[SCORES]) if decodes else decode(found[HEATMAPS])
        return transform_points(keypoints_heatmap, matrices).astype(np.float32), scores
