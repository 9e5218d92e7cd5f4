"""dyconv-pose: human pose estimation with dynamic convolution.

    >>> from pose import PosePredictor
    >>> poses = PosePredictor()("person.jpg")
    >>> poses.keypoints.shape  # persons, keypoints, (x, y) in image pixels

``import pose`` takes milliseconds: each public name loads its module on first use. `ExportedPredictor` never imports
PyTorch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference.exported import ExportedPredictor
    from pose.inference.poses import Pose, Poses
    from pose.models.dynamic_conv import DynamicConv2d
    from pose.models.dynamic_report import dynamic_report
    from pose.models.kernel_attention import set_temperature
    from pose.models.make_dynamic import attention_parameters, make_dynamic
    from pose.runtime.pose_predictor import PosePredictor

# OpenCV reads it when it is imported, and refuses larger images before it allocates them: 2**28 pixels are 0.8 GB.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))

__version__ = "0.1.0"
__all__ = [
    "DynamicConv2d",
    "ExportedPredictor",
    "Pose",
    "PosePredictor",
    "Poses",
    "__version__",
    "attention_parameters",
    "dynamic_report",
    "make_dynamic",
    "set_temperature",
]

_MODULES = {
    "DynamicConv2d": "pose.models.dynamic_conv",
    "ExportedPredictor": "pose.inference.exported",
    "PosePredictor": "pose.runtime.pose_predictor",
    "Pose": "pose.inference.poses",
    "Poses": "pose.inference.poses",
    "attention_parameters": "pose.models.make_dynamic",
    "dynamic_report": "pose.models.dynamic_report",
    "make_dynamic": "pose.models.make_dynamic",
    "set_temperature": "pose.models.kernel_attention",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'pose' has no attribute {name!r}")
