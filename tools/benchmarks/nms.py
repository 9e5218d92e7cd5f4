"""OKS-NMS per image: 500 images with about 21 boxes each.

Ours first computes the OKS of all pairs of persons in an image. The baseline is the usual greedy loop, which compares
the best remaining person with the rest, and with --peer also HRNet's code. People and predictions are synthetic.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.evaluation.coco_results import Predictions
from pose.evaluation.oks import oks, oks_nms, rescore
from pose.skeleton import COCO

from . import Comparison, compare_first, require_same
from ._hrnet import HRNET, add_peer_argument, load_hrnet
from ._synthetic import add_images_argument, synthetic_people
from ._timing import Budget

IMAGES = 500
THRESHOLD = 0.9
TARGETS = {HRNET: 1 / 10}
GREEDY_LOOP = "greedy loop"

People = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
"""People of one image: keypoints (N, 17, 3) x, y, score; areas (N,); scores (N,)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer`` and ``--pictures``."""
    add_peer_argument(parser)
    add_images_argument(parser, IMAGES)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, images: int = IMAGES
) -> Iterator[Comparison]:
    """Time ours and the others in one budget; yields a comparison with each.

    Raises:
        PoseError: ``peer`` is not a checkout of HRNet's code, or keeps other persons.
    """
    _, predictions = synthetic_people(images, rng)
    people_by_image = _by_image(predictions)
    calls: dict[str, Callable[[], list[NDArray[np.intp]]]] = {
        "ours": lambda: [oks_nms(*people, THRESHOLD, COCO.sigmas) for people in people_by_image],
        GREEDY_LOOP: lambda: [_greedy_nms(*people) for people in people_by_image],
    }
    if peer is not None:
        calls[HRNET] = partial(_hrnet_nms, load_hrnet(peer, "nms.nms").oks_nms, people_by_image)
    kept = calls["ours"]()
    for name, call in calls.items():
        for ours, others in zip(kept, call(), strict=True):
            require_same("kept persons", name, ours, others, 0)
    case = f"OKS-NMS of {len(predictions):,} persons in {len(people_by_image):,} images"
    yield from compare_first(case, calls, budget, rng, TARGETS)


def _by_image(predictions: Predictions) -> list[People]:
    scores = rescore(predictions.box_scores, predictions.keypoint_scores)
    keypoints = np.concatenate([predictions.keypoints_image, predictions.keypoint_scores[..., None]], axis=-1)
    rows = (np.flatnonzero(predictions.image_ids == image_id) for image_id in np.unique(predictions.image_ids))
    return [(keypoints[row], predictions.areas[row], scores[row]) for row in rows]


def _greedy_nms(
    keypoints: NDArray[np.floating], areas: NDArray[np.floating], scores: NDArray[np.floating]
) -> NDArray[np.intp]:
    remaining, kept = np.argsort(-scores, kind="stable"), []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        similarity = oks(keypoints[best], areas[best], keypoints[remaining], areas[remaining], COCO.sigmas)
        remaining = remaining[similarity <= THRESHOLD]
    return np.array(kept)


def _hrnet_nms(nms: Callable[..., list[np.intp]], people_by_image: Sequence[People]) -> list[NDArray[np.intp]]:
    persons_by_image = [
        [{"keypoints": k, "area": a, "score": s} for k, a, s in zip(*people, strict=True)] for people in people_by_image
    ]
    return [np.array(nms(persons, THRESHOLD)) for persons in persons_by_image]
