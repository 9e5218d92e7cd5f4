"""dyconv-pose: human pose estimation with dynamic convolution.

    >>> from pose import PosePredictor
    >>> poses = PosePredictor()("person.jpg")
    >>> poses.keypoints.shape  # persons, keypoints, (x, y) in image pixels

``import pose`` takes milliseconds: each public name loads its module on first use. `ExportedPredictor` never imports
PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference.exported import ExportedPredictor
    from pose.inference.predictor import Poses
    from pose.inference.pytorch import PosePredictor
    from pose.models.dynamic_conv import DynamicConv2d

__version__ = "0.1.0"
__all__ = ["DynamicConv2d", "ExportedPredictor", "PosePredictor", "Poses", "__version__"]

_MODULES = {
    "DynamicConv2d": "pose.models.dynamic_conv",
    "ExportedPredictor": "pose.inference.exported",
    "PosePredictor": "pose.inference.pytorch",
    "Poses": "pose.inference.predictor",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'pose' has no attribute {name!r}")
