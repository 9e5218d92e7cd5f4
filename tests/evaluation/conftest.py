"""Constructed persons whose keypoints are far apart, so that each planted error is one error of a known class."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import coco

from pose.evaluation.coco_ap import load_ground_truth
from pose.files import write_text
from pose.geometry import Array
from pose.skeleton import COCO

AREA = 100.0**2
SPACING = 250.0
GRID = SPACING * np.stack(np.divmod(np.arange(17), 5)[::-1], axis=1).astype(np.float64)
"""Keypoints of the person at (0, 0) in 5 columns, so far apart that no point has a similarity of .1 with two."""


def distance_at(similarity: float, keypoint: int) -> float:
    """Return the distance in pixels at which a keypoint has a similarity."""
    return float(np.sqrt(-2 * np.log(similarity) * AREA) * 2 * COCO.sigmas[keypoint])


@dataclass
class Scene:
    """Annotations and results that a test puts together."""

    folder: Path
    annotations: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    images: set[int] = field(default_factory=set)

    def person(self, image_id: int = 1, left: float = 0, labeled: Sequence[int] = range(17), **other: Any) -> Array:
        """Add a person; return its (17, 2) keypoints."""
        keypoints = GRID + np.array([left, 0])
        visibility = np.isin(np.arange(17), labeled) * 2
        self.images.add(image_id)
        self.annotations.append(
            {
                "id": 100 + len(self.annotations),
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "area": AREA,
                "bbox": [left, 0.0, 4 * SPACING, 3 * SPACING],
                "num_keypoints": len(labeled),
                "keypoints": np.column_stack([keypoints, visibility]).ravel().tolist(),
                **other,
            }
        )
        return keypoints

    def result(self, keypoints: Array, score: float = 0.9, image_id: int = 1, peaks: float = 0.8) -> None:
        """Add a result."""
        self.images.add(image_id)
        xyv = np.column_stack([keypoints, np.full(17, peaks)]).ravel().tolist()
        self.results.append({"image_id": image_id, "category_id": 1, "keypoints": xyv, "score": score})

    def file(self) -> Path:
        """Write the annotation file."""
        path = self.folder / "annotations.json"
        images = [{"id": n, "file_name": f"{n}.png", "width": 4000, "height": 1000} for n in sorted(self.images)]
        category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
        content = {"images": images, "annotations": self.annotations, "categories": [category]}
        write_text(path, json.dumps(content))
        return path

    def ground_truth(self) -> coco.COCO:
        """Return the annotations as they are evaluated."""
        return load_ground_truth(self.file(), 1, 17)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Return an empty scene."""
    return Scene(tmp_path)


@pytest.fixture
def jittered() -> Callable[[Array, float], Array]:
    """Return a function that moves all keypoints to a similarity, along x."""

    def move(keypoints: Array, similarity: float) -> Array:
        return keypoints + np.array([[distance_at(similarity, index), 0] for index in range(17)])

    return move
