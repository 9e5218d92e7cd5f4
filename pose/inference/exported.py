"""Inference with exported models without PyTorch: NumPy, OpenCV, and ONNX Runtime or OpenVINO.

    >>> from pose import ExportedPredictor
    >>> poses = ExportedPredictor("model.onnx")("person.jpg")

``dyconv-pose export`` writes such a file. Its metadata (`pose.inference.metadata`) holds everything needed to run it.
"""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from pose.config.pose import STRIDE
from pose.errors import CheckpointError
from pose.geometry import Array, Float32, transform_points
from pose.heatmap import DecodeMethod, decode, flip_average
from pose.images import Image
from pose.inference.backends import open_exported
from pose.inference.detectors import Detector
from pose.inference.find_detector import AUTO
from pose.inference.metadata import HEATMAPS, KEYPOINTS, SCORES, read_metadata
from pose.inference.predictor import CropPredictor
from pose.packaged import weights_path


class ExportedPredictor(CropPredictor):
    """Predicts the keypoints of the persons in an image with an exported model.

    A file that was exported with flip averaging always averages. A file that decodes does so by ``quarter``; with
    ``dark`` its heatmaps are decoded here. Threads may call one predictor at the same time.

    Args:
        path: file that `dyconv-pose export` wrote: ONNX (.onnx) or OpenVINO (.xml, with its .bin in the same folder);
            or the name of a packaged model of this kind (NAME-int8).
        decode: ``"quarter"``, or ``"dark"`` for sub-pixel keypoints (`pose.heatmap.decode`).
        flip: average with the mirrored crop, if the file does not: twice the time, about one AP more.
        threads: number of compute threads on the CPU; 0 for one per core.
        batch_size: crops per batch; larger batches are hardly faster on a CPU.
        providers: ONNX Runtime's execution providers, preferred first, such as ``["CUDAExecutionProvider"]``; by
            default the CPU's. Operators that a provider lacks run on the CPU.
        bf16: compute in bfloat16, in OpenVINO on processors that have it: about half the time, up to 0.3 AP less.
        detector: as of `pose.PosePredictor`.

    Raises:
        PoseError: the backend is not installed, a provider is not available, or ``bf16`` is not possible.
        CheckpointError: the file is missing, damaged, or not an exported model.
        MediaError: the detector cannot be loaded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        decode: DecodeMethod = "quarter",
        flip: bool = False,
        threads: int = 0,
        batch_size: int = 8,
        providers: Sequence[str] | None = None,
        bf16: bool = False,
        detector: str | Path | Detector = AUTO,
    ) -> None:
        path = weights_path(path)
        self._session = open_exported(path, threads, providers, bf16)
        self.metadata = read_metadata(self._session.metadata, path)
        super().__init__(self.metadata.skeleton, self.metadata.input_config, batch_size, detector)
        self.runtime = self._session.runtime
        self.decode, self.flip = decode, flip and self.metadata.flip_shift is None
        self._check_outputs(path)

    def _check_outputs(self, path: Path) -> None:
        """Run the model once, which also allocates its memory before the first image.

        Raises:
            CheckpointError: the heatmaps have another shape than the metadata say, or are not finite.
        """
        heatmaps = self._session.run(np.zeros((1, *self.input_config.size_hw, 3), dtype=np.uint8)).get(HEATMAPS)
        expected = (1, self.skeleton.num_keypoints, *self.input_config.heatmap_wh[::-1])
        if heatmaps is None or heatmaps.shape != expected:
            found = "none" if heatmaps is None else heatmaps.shape
            raise CheckpointError(f"{path}: expected an output of heatmaps {expected}, got {found}; export it again")
        if not np.isfinite(heatmaps).all():
            raise CheckpointError(
                f"{path}: its heatmaps are not finite, so there are NaN or infinite weights; export other weights"
            )

    def without_flip(self) -> "ExportedPredictor":
        """See `CropPredictor.without_flip`."""
        other = copy(self)
        other.flip = False
        return other

    def heatmaps(self, crops_rgb: Image) -> Float32:
        """Return heatmaps (B, K, h / 4, w / 4) of crops (B, h, w, 3) uint8 RGB, flip-averaged as the predictor is."""
        if not self.flip:
            return self._session.run(crops_rgb)[HEATMAPS]
        both = self._session.run(np.concatenate([crops_rgb, crops_rgb[:, :, ::-1]]))[HEATMAPS]
        heatmaps, flipped = np.split(both, 2)
        return flip_average(heatmaps, flipped, self.skeleton.flip_pairs, self.metadata.test_flip_shift)

    def find_keypoints(self, crops_rgb: Image, heatmap_to_image: Array) -> tuple[Float32, Float32]:
        """See `CropPredictor.find_keypoints`."""
        keypoints_heatmap: Array | Float32
        if KEYPOINTS in self._session.outputs and self.decode == "quarter" and not self.flip:
            outputs = self._session.run(crops_rgb)
            keypoints_heatmap, scores = outputs[KEYPOINTS] / np.float32(STRIDE), outputs[SCORES]
        else:
            keypoints_heatmap, scores = decode(self.heatmaps(crops_rgb), self.decode, self.input_config.sigma)
        return transform_points(keypoints_heatmap, heatmap_to_image).astype(np.float32), scores
