"""dyconv-pose: human pose estimation with dynamic convolution, from a picture to COCO AP.

    >>> from pose import PosePredictor
    >>> poses = PosePredictor()("person.jpg")
    >>> poses.keypoints.shape  # persons, keypoints, (x, y) in image pixels

``import pose`` is quick: torch is loaded when `PosePredictor` is first used, and never by `ExportedPredictor`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference import PosePredictor
    from pose.predictor import Poses
    from pose.runtime import ExportedPredictor, OnnxPredictor

__version__ = "0.1.0"
__all__ = ["ExportedPredictor", "OnnxPredictor", "PosePredictor", "Poses", "__version__"]

_HOMES = {
    "ExportedPredictor": "pose.runtime",
    "OnnxPredictor": "pose.runtime",
    "PosePredictor": "pose.inference",
    "Poses": "pose.predictor",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pose' has no attribute {name!r}")
