"""`load_detector` selects a detector by name."""

import numpy as np
import pytest

from pose.errors import MediaError
from pose.inference.detectors import load_detector


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(MediaError, match="no such detector file"):
        load_detector(tmp_path / "no.onnx")
    with pytest.raises(MediaError, match="did you mean 'ssdlite320_mobilenet_v3_large'"):
        load_detector("ssdlite320_mobilenetv3_large")


def test_detector_none_returns_each_whole_image_as_one_person():
    first, second = load_detector("none")([np.zeros((4, 6, 3), np.uint8), np.zeros((5, 7, 3), np.uint8)])
    assert first.bboxes_xywh.tolist() == [[0, 0, 6, 4]]
    assert second.bboxes_xywh.tolist() == [[0, 0, 7, 5]]
    assert first.scores.tolist() == [1]
