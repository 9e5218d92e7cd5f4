"""Check the installed package: one prediction with the packaged model and one with the model that was exported from it.

Examples:
    python check_installed.py CLONE people.mp4 x.onnx
    python check_installed.py --notebook quickstart.ipynb       (runs its cells)
"""

import json
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


def run_notebook(path: str) -> None:
    """Run the code cells of a notebook in order."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    exec("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"), {})


if __name__ == "__main__":
    run_notebook(sys.argv[2]) if sys.argv[1] == "--notebook" else main(*sys.argv[1:])
