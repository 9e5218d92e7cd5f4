"""OKS-NMS, image by image: 500 images with about 21 boxes each.

Without ``--peer``, ours, which first compares everybody with everybody, is compared with the textbook's way: the best
person left with the rest, again and again. People and predictions are invented.
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
from ._invented import add_images_argument, invent
from ._timing import Budget

PICTURES = 500
THRESHOLD = 0.9
BARS = {HRNET: 1 / 10}
TEXTBOOK = "the best left against the rest"

People = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
"""Of one image: keypoints (N, 17, 3) with their scores, areas (N,), scores (N,)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the peer and the number of images."""
    add_peer_argument(parser)
    add_images_argument(parser, PICTURES)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, images: int = PICTURES
) -> Iterator[Comparison]:
    """Time ours and the others in one budget; yields a comparison with each.

    Raises:
        PoseError: ``peer`` is no checkout of HRNet's code, or keeps other persons.
    """
    _, predictions = invent(images, rng)
    crowds = _by_image(predictions)
    calls: dict[str, Callable[[], list[NDArray[np.intp]]]] = {
        "ours": lambda: [oks_nms(*people, THRESHOLD, COCO.sigmas) for people in crowds],
        TEXTBOOK: lambda: [_textbook_nms(*people) for people in crowds],
    }
    if peer is not None:
        calls[HRNET] = partial(_hrnet_nms, load_hrnet(peer, "nms.nms").oks_nms, crowds)
    kept = calls["ours"]()
    for name, call in calls.items():
        for ours, others in zip(kept, call(), strict=True):
            require_same("persons kept", name, ours, others, 0)
    case = f"OKS-NMS of {len(predictions):,} persons in {len(crowds):,} images"
    yield from compare_first(case, calls, budget, rng, BARS)


def _by_image(predictions: Predictions) -> list[People]:
    scores = rescore(predictions.box_scores, predictions.keypoint_scores)
    keypoints = np.concatenate([predictions.keypoints_image, predictions.keypoint_scores[..., None]], axis=-1)
    rows = (np.flatnonzero(predictions.image_ids == image_id) for image_id in np.unique(predictions.image_ids))
    return [(keypoints[row], predictions.areas[row], scores[row]) for row in rows]


def _textbook_nms(
    keypoints: NDArray[np.floating], areas: NDArray[np.floating], scores: NDArray[np.floating]
) -> NDArray[np.intp]:
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[oks(keypoints[best], areas[best], keypoints[left], areas[left], COCO.sigmas) <= THRESHOLD]
    return np.array(kept)


def _hrnet_nms(nms: Callable[..., list[np.intp]], crowds: Sequence[People]) -> list[NDArray[np.intp]]:
    persons = [[{"keypoints": k, "area": a, "score": s} for k, a, s in zip(*people, strict=True)] for people in crowds]
    return [np.array(nms(people, THRESHOLD)) for people in persons]
