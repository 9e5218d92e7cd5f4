"""pycocotools' evaluation of keypoints, with one person's OKS taken with all results of its image at once.

pycocotools takes them pair by pair, which is most of the time of an evaluation. The numbers are the same to the last
bit, so that no figure changes; matching, accumulation and the figures stay pycocotools' own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.geometry import Array


class KeypointEval(COCOeval):  # type: ignore[misc]
    """COCOeval of results (``found``) against annotations (``truth``), for K OKS constants ``sigmas``."""

    def __init__(self, truth: COCO, found: COCO, sigmas: Sequence[float]) -> None:
        super().__init__(truth, found, "keypoints")
        self.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)

    def computeOks(self, image_id: int, category_id: int) -> Array | list[Any]:  # noqa: N802
        """Return the (results, persons) similarities of an image, best scored first, or [] where one side is empty."""
        persons, results = self._gts[image_id, category_id], self._dts[image_id, category_id]
        if not persons or not results:
            return []
        order = np.argsort([-result["score"] for result in results], kind="stable")[: self.params.maxDets[-1]]
        xyv = np.array([results[index]["keypoints"] for index in order], dtype=np.float64)
        points = xyv.reshape(len(order), -1, 3)[..., :2]
        variances = (2 * self.params.kpt_oks_sigmas) ** 2
        return np.column_stack([_similarities(person, points, variances) for person in persons])


def _similarities(person: Mapping[str, Any], points: Array, variances: Array) -> Array:
    """Return the OKS of one annotated person with (N, K, 2) points, over the labelled keypoints."""
    xyv = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)
    counted = xyv[:, 2] > 0
    if counted.any():
        offsets = points - xyv[:, :2]
    else:
        # Who has no keypoints is matched, and then ignored, by distance from its box grown threefold.
        corner, size = np.array(person["bbox"], dtype=np.float64).reshape(2, 2)
        counted = np.ones(len(xyv), dtype=bool)
        offsets = np.maximum(0, corner - size - points) + np.maximum(0, points - (corner + 2 * size))
    # The order of operations and the layout in memory decide the last bit: compress gives rows that lie side by side.
    exponents = (offsets**2).sum(axis=-1) / variances / (person["area"] + np.spacing(1)) / 2
    similarities: Array = np.exp(-np.compress(counted, exponents, axis=1)).sum(axis=1) / counted.sum()
    return similarities
