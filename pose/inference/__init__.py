"""Inference: images and person boxes in, keypoints out. Only `pose.inference.pytorch` imports PyTorch."""

from pose.heatmap import flip_average

__all__ = ["flip_average"]
