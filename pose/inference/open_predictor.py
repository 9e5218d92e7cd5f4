"""Open a predictor for a file: a model in PyTorch, or an exported model without it."""

from pathlib import Path

from pose.errors import ConfigError
from pose.inference.backends import is_exported
from pose.inference.predictor import CropPredictor


def open_predictor(weights: Path | None, device: str | None, flip: bool, bf16: bool) -> CropPredictor:
    """Load a model in PyTorch, or an exported model without it.

    Args:
        weights: weight file, run folder or exported model; None for the packaged model.
        device: see `pose.inference.pytorch.PosePredictor`.
        flip: average with the mirrored crop.
        bf16: compute in bfloat16.

    Raises:
        ConfigError: ``bf16`` or no ``flip`` for an exported model, for which both are fixed.
        CheckpointError: the weights are missing or do not fit this version.
    """
    if weights is None or not is_exported(weights):
        from pose.inference.pytorch import PosePredictor

        return PosePredictor(weights, device, flip=flip, bf16=bf16)
    if bf16:
        raise ConfigError("--bf16: the precision of an exported model is fixed; leave the option out")
    if not flip:
        raise ConfigError("--no-flip: the flip averaging of an exported model is fixed; export it without --flip")
    from pose.inference.exported import ExportedPredictor

    return ExportedPredictor(weights)


def open_search_predictor(
    predictor: CropPredictor, weights: Path | None, device: str | None, bf16: bool
) -> CropPredictor:
    """Return the predictor for the search windows of `pose.video.tracking`: without flip averaging where possible.

    Args:
        predictor: opened by `open_predictor`; of an exported model it is the search predictor, too.
        weights: as of `open_predictor`.
        device: as of `open_predictor`.
        bf16: as of `open_predictor`.
    """
    if weights is not None and is_exported(weights):
        return predictor
    return open_predictor(weights, device, flip=False, bf16=bf16)
