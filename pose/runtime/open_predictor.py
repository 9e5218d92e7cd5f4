"""Open a predictor for a file: a weight file in the fastest runtime, or an exported model."""

from pathlib import Path

from pose.errors import ConfigError
from pose.inference.backends import is_exported
from pose.inference.exported import ExportedPredictor
from pose.inference.predictor import CropPredictor
from pose.runtime.pose_predictor import PosePredictor, Runtime


def open_predictor(
    weights: Path | None, device: str | None, flip: bool, bf16: bool, runtime: Runtime = "auto"
) -> CropPredictor:
    """Open a weight file in a runtime, or an exported model.

    Args:
        weights: weight file, run folder or exported model; None for the packaged model.
        device: see `PosePredictor`.
        flip: average with the mirrored crop.
        bf16: compute in bfloat16; of exported models only OpenVINO's can.
        runtime: of a weight file, see `PosePredictor`.

    Raises:
        ConfigError: no ``flip`` or a ``runtime`` for an exported model, for which these are fixed.
        PoseError: ``bf16`` is not possible.
        CheckpointError: the weights are missing or do not fit this version.
    """
    if weights is None or not is_exported(weights):
        return PosePredictor(weights, device, flip=flip, bf16=bf16, runtime=runtime)
    if not flip:
        raise ConfigError("--no-flip: the flip averaging of an exported model is fixed; export it without --flip")
    if runtime != "auto":
        raise ConfigError("--runtime: the runtime of an exported model is fixed by its suffix; leave the option out")
    return ExportedPredictor(weights, bf16=bf16)
