"""Report of an evaluation: protocol line and image of predictions."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose.config.pose import Config
from pose.engine.evaluate import TestSet
from pose.evaluation.coco_results import Result
from pose.images import read_image, write_image
from pose.inference.poses import Poses
from pose.inference.visualize import prediction_sheet

logger = logging.getLogger(__name__)

MIN_SCORE = 0.2
"""Only persons with a higher score are drawn."""


def protocol_line(config: Config, test_set: TestSet, weights: Path) -> str:
    """Describe the evaluation protocol in one line."""
    test = config.test
    height, width = config.input.size_hw
    decoding = "quarter-offset" if test.decode == "quarter" else f"DARK (blur sigma {config.input.sigma:g})"
    return (
        f"{config.name}: {len(test_set.persons)} {test_set.boxes}; input {height}x{width} (h x w), "
        f"flip average {f'on, shift {test.flip_shift}' if test.flip else 'off'}, {decoding} decoding, "
        f"score box x mean of keypoints > {test.keypoint_threshold:g}, OKS-NMS {test.nms_threshold:g}; "
        f"weights {weights}"
    )


def draw_predictions(results: Sequence[Result], test_set: TestSet, config: Config, path: Path, count: int = 12) -> None:
    """Draw the predictions of ``count`` images, evenly spread over the test set, into one image file.

    Args:
        results: results of all images.
        test_set: test set of the results.
        config: its skeleton is used.
        path: image file to write.
        count: number of images.

    Raises:
        MediaError: the file cannot be written.
    """
    persons = test_set.persons
    if not len(persons):
        logger.warning("%s: not written, because there are no %s", path, test_set.boxes)
        return
    _, first_rows = np.unique(persons.image_ids, return_index=True)
    rows = first_rows[np.linspace(0, len(first_rows) - 1, min(count, len(first_rows))).astype(int)]
    records = [persons.record(int(row)) for row in rows]
    poses = [_poses([r for r in results if r["image_id"] == record.image_id], config) for record in records]
    images = [read_image(record.image_path) for record in records]
    write_image(path, prediction_sheet(images, poses, config.keypoints, columns=4, cell_wh=(320, 240)))


def _poses(results: Sequence[Result], config: Config) -> Poses:
    drawn = [result for result in results if result["score"] > MIN_SCORE]
    keypoints = np.array([result["keypoints"] for result in drawn], dtype=np.float32)
    keypoints = keypoints.reshape(len(drawn), config.keypoints.num_keypoints, 3)
    return Poses(keypoints[..., :2], keypoints[..., 2], np.zeros((len(drawn), 4), dtype=np.float32))
