"""Check the installed package: one prediction with the packaged model and one with the model that was exported from it.

Example:
    python check_installed.py CLONE people.mp4 x.onnx
"""

import sys
from pathlib import Path

import cv2
import numpy as np

import pose
from pose import ExportedPredictor, PosePredictor

BOX_XYWH = (380, 0, 180, 400)
"""Around the person in the first frame of data/samples/people.mp4."""


def main(clone: str, video: str, exported: str) -> None:
    """Predict with PyTorch and with the exported model, and compare."""
    assert not Path(pose.__file__).is_relative_to(clone), f"imported {pose.__file__}, expected the installed package"
    decoded, frame = cv2.VideoCapture(video).read()
    assert decoded, f"cannot read {video}"
    ours = PosePredictor(flip=False)(frame, boxes=[BOX_XYWH])
    theirs = ExportedPredictor(exported)(frame, boxes=[BOX_XYWH])
    assert ours.keypoints.shape == (1, 17, 2), ours.keypoints.shape
    assert ours.person_scores[0] > 0.5, f"expected a person, got a score of {ours.person_scores[0]:.2f}"
    distance = np.abs(ours.keypoints - theirs.keypoints).max()
    assert distance < 1, f"exported keypoints differ by {distance:.1f} px"
    print(f"keypoints of one person, mean score {ours.person_scores[0]:.2f}; exported: at most {distance:.3f} px apart")


if __name__ == "__main__":
    main(*sys.argv[1:])
