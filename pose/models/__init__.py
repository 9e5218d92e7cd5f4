"""Models: `build_pose_net` and `build_classifier` build the model that a config describes."""

from pose.models.factory import build_backbone, build_classifier, build_pose_net

__all__ = ["build_backbone", "build_classifier", "build_pose_net"]
