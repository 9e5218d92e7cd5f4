"""Sigmas from repeated annotations: they find the noise that the annotations were made with."""

import json

import numpy as np
import pytest

from pose.data.estimate_sigmas import main
from pose.datasets.sigmas import estimate_sigmas
from pose.errors import DataError
from pose.skeleton import make_skeleton

SIGMAS, SIDE = np.array([0.03, 0.1, 0.06]), 100
SKELETON = make_skeleton(["head", "tail", "wing"])


def write(path, seed, count=400, **changes):
    """Annotate the same objects with noise of `SIGMAS`; the third keypoint of odd ones is not labeled."""
    truth, noise = np.random.default_rng(0), np.random.default_rng(seed)
    images, annotations = [], []
    for index in range(1, count + 1):
        points = truth.uniform(20, 80, (3, 2)) + noise.normal(0, 1, (3, 2)) * (SIGMAS * SIDE / np.sqrt(2))[:, None]
        visibility = np.array([2, 2, 0 if index % 2 else 1])
        keypoints = np.column_stack([points, visibility]).ravel().tolist()
        images.append({"id": index + seed, "file_name": f"{index}.jpg", "width": 120, "height": 120})
        annotations.append(
            {"id": index, "image_id": index + seed, "category_id": 1, "bbox": [10, 10, SIDE, SIDE], "area": SIDE**2,
             "keypoints": keypoints, **changes}
        )  # fmt: skip
    category = {"id": 1, "name": "bee", "keypoints": list(SKELETON.names)}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


@pytest.mark.parametrize("repeats", [2, 3])
def test_the_noise_of_the_annotations_is_found(tmp_path, repeats):
    files = [write(tmp_path / f"{seed}.json", seed) for seed in range(repeats)]

    sigmas, objects = estimate_sigmas(files, SKELETON)
    np.testing.assert_allclose(sigmas, SIGMAS, rtol=0.12)
    assert objects.tolist() == [400, 400, 200]


def test_objects_are_matched_by_image_and_box(tmp_path):
    files = [write(tmp_path / "a.json", 0), write(tmp_path / "b.json", 1, bbox=[90, 90, 20, 20])]

    with pytest.raises(DataError, match=r"a\.json: no keypoint of an object that .*b\.json annotates too"):
        estimate_sigmas(files, SKELETON)


def test_the_command_prints_a_line_for_the_config(tmp_path, capsys):
    main([str(write(tmp_path / "a.json", 0)), str(write(tmp_path / "b.json", 1))])

    *rows, line = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(SKELETON.names)
    assert line.startswith("skeleton.sigmas=[0.0")
