"""Packaged models have names; a path is never mistaken for one."""

from pathlib import Path

import numpy as np
import pytest

from pose import PosePredictor
from pose.errors import CheckpointError
from pose.models.weights import load_pose_net
from pose.packaged import PACKAGED_WEIGHTS, results_folder, weights_path


def test_a_name_gives_a_file_of_the_package_with_a_model_card() -> None:
    for name, path in PACKAGED_WEIGHTS.items():
        assert weights_path(name) == path
        assert path.is_file() and path.with_suffix(".md").is_file()


@pytest.mark.parametrize("path", ["./default", Path("default"), "runs/default", "best.pt"])
def test_a_path_remains_a_path(path: str | Path) -> None:
    assert weights_path(path) == Path(path)


def test_results_of_a_packaged_model_are_not_written_into_the_package() -> None:
    assert results_folder(PACKAGED_WEIGHTS["default"]) == Path("runs/default")
    assert results_folder(Path("runs/a/best.pt")) == Path("runs/a")


def test_the_predictor_takes_the_name_and_a_misspelled_one_is_named() -> None:
    image = np.full((60, 40, 3), 128, np.uint8)
    by_name, by_default = (PosePredictor(*name, device="cpu", flip=False)(image, "image") for name in (["default"], []))
    np.testing.assert_array_equal(by_name.keypoints, by_default.keypoints)
    with pytest.raises(CheckpointError, match=r"defualt: no such weight file; did you mean 'default'\?"):
        load_pose_net("defualt")
