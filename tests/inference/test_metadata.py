"""What exported files say about their models comes back, or is named."""

from pathlib import Path

import pytest

from pose.config.pose import Config, InputConfig, SkeletonConfig
from pose.errors import CheckpointError
from pose.inference.metadata import ExportMetadata, read_metadata
from pose.skeleton import COCO

CARD = ExportMetadata(InputConfig(size_hw=(96, 64), padding=1.4), COCO, flip_shift=None, licence="of the test")


def test_a_card_comes_back_from_its_metadata():
    fingers = Config(skeleton=SkeletonConfig(names=("left_tip", "right_tip"), limbs=((0, 1),), sigmas=(0.1, 0.2)))

    for card in (CARD, ExportMetadata(InputConfig(), fingers.keypoints, flip_shift=0, licence="CC0")):
        assert read_metadata(card.metadata(), Path("model.onnx")) == card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": None}, r"model\.onnx: has no 'input' in its metadata; export"),
        ({"licence": None}, "has no 'licence'"),
        ({"input": '{"size_hw": [100, 100]}'}, "does not fit this version .*multiples of 32"),
        ({"input": '{"size": 1}'}, "does not fit this version"),
        ({"skeleton": "nothing"}, "does not fit this version"),
        ({"skeleton": '{"names": ["a", "a"]}'}, "does not fit this version .*different"),
        ({"skeleton": '{"joints": 3}'}, "does not fit this version"),
        ({"flip_shift": "perhaps"}, "does not fit this version"),
        ({"flip_shift": "true"}, "does not fit this version .*expected columns"),
        ({"flip_shift": "-1"}, "does not fit this version .*expected columns"),
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_are_named(change, message):
    metadata = {key: value for key, value in (CARD.metadata() | change).items() if value is not None}

    with pytest.raises(CheckpointError, match=message) as caught:
        read_metadata(metadata, Path("model.onnx"))
    assert "\n" not in str(caught.value)
