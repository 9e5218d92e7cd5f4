"""COCOeval for keypoints with vectorized OKS: one annotated person against all results of its image at once.

pycocotools computes OKS pair by pair, which takes most of the evaluation time. The similarities here are equal to the
last bit, so no metric changes; matching, accumulation and metrics remain those of pycocotools.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.geometry import Array


class KeypointEval(COCOeval):  # type: ignore[misc]
    """COCOeval of keypoint ``results`` against ``annotations``, with K OKS constants ``sigmas``."""

    def __init__(self, annotations: COCO, results: COCO, sigmas: Sequence[float]) -> None:
        super().__init__(annotations, results, "keypoints")
        self.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)

    def computeOks(self, image_id: int, category_id: int) -> Array | list[Any]:  # noqa: N802
        """Return the (results, persons) OKS of an image, highest score first; [] if either side is empty."""
        persons, results = self._gts[image_id, category_id], self._dts[image_id, category_id]
        if not persons or not results:
            return []
        order = np.argsort([-result["score"] for result in results], kind="stable")[: self.params.maxDets[-1]]
        xyv = np.array([results[index]["keypoints"] for index in order], dtype=np.float64)
        keypoints_image = xyv.reshape(len(order), -1, 3)[..., :2]
        variances = (2 * self.params.kpt_oks_sigmas) ** 2
        return np.column_stack([_similarities(person, keypoints_image, variances) for person in persons])


def _similarities(person: Mapping[str, Any], keypoints_image: Array, variances: Array) -> Array:
    """Return the (N,) OKS of one annotated person with (N, K, 2) keypoints, over the labeled keypoints."""
    xyv = np.array(person["keypoints"], dtype=np.float64).reshape(-1, 3)
    labeled = xyv[:, 2] > 0
    if labeled.any():
        offsets = keypoints_image - xyv[:, :2]
    else:
        # COCO matches (and then ignores) a person without keypoints by the distance from its box enlarged three times.
        corner, size = np.array(person["bbox"], dtype=np.float64).reshape(2, 2)
        labeled = np.ones(len(xyv), dtype=bool)
        offsets = np.maximum(0, corner - size - keypoints_image) + np.maximum(0, keypoints_image - (corner + 2 * size))
    # Operation order and memory layout determine the last bit: compress returns contiguous rows.
    exponents = (offsets**2).sum(axis=-1) / variances / (person["area"] + np.spacing(1)) / 2
    similarities: Array = np.exp(-np.compress(labeled, exponents, axis=1)).sum(axis=1) / labeled.sum()
    return similarities
