"""Metadata of exported models: round trip, and errors for missing or invalid values."""

from pathlib import Path

import pytest

from pose.config.pose import Config, InputConfig
from pose.config.skeleton import SkeletonConfig
from pose.errors import CheckpointError
from pose.inference.metadata import ExportMetadata, read_metadata
from pose.skeleton import COCO, make_skeleton

METADATA = ExportMetadata(InputConfig(size_hw=(96, 64), padding=1.4), COCO, flip_shift=None, licence="of the test")


def test_metadata_survives_a_round_trip():
    fingers = Config(skeleton=SkeletonConfig(names=("left_tip", "right_tip"), limbs=((0, 1),), sigmas=(0.1, 0.2)))

    declared = make_skeleton(["wing_1", "wing_2", "left_a", "right_a"], flip_pairs=[(0, 1)], upper_body=[2])
    for skeleton in (COCO, fingers.keypoints, declared):
        metadata = ExportMetadata(InputConfig(), skeleton, flip_shift=0, licence="CC0")
        assert read_metadata(metadata.to_properties(), Path("model.onnx")) == metadata
    assert read_metadata(METADATA.to_properties(), Path("model.onnx")) == METADATA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": None}, r"model\.onnx: has no 'input' in its metadata; export"),
        ({"licence": None}, "has no 'licence'"),
        ({"input": '{"size_hw": [100, 100]}'}, "does not fit this version .*multiples of 32"),
        ({"input": '{"size": 1}'}, "does not fit this version"),
        ({"skeleton": "nothing"}, "does not fit this version"),
        ({"skeleton": '{"names": ["a", "a"]}'}, "does not fit this version .*unique"),
        ({"skeleton": '{"joints": 3}'}, "does not fit this version"),
        ({"flip_shift": "perhaps"}, "does not fit this version"),
        ({"flip_shift": "true"}, "does not fit this version .*expected a number of columns"),
        ({"flip_shift": "-1"}, "does not fit this version .*expected a number of columns"),
    ],
    ids=str,
)
def test_missing_and_invalid_metadata_are_refused_with_one_line(change, message):
    properties = {key: value for key, value in (METADATA.to_properties() | change).items() if value is not None}

    with pytest.raises(CheckpointError, match=message) as caught:
        read_metadata(properties, Path("model.onnx"))
    assert "\n" not in str(caught.value)
