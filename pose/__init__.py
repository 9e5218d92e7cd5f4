"""dyconv-pose: human pose estimation with dynamic convolution, from a picture to COCO AP.

    >>> from pose import PosePredictor
    >>> poses = PosePredictor()("person.jpg")
    >>> poses.keypoints.shape  # persons, keypoints, (x, y) in image pixels

``import pose`` is quick: torch is loaded when the predictor is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference import PosePredictor, Poses

__version__ = "0.1.0"
__all__ = ["PosePredictor", "Poses", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("PosePredictor", "Poses"):
        from pose import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'pose' has no attribute {name!r}")
