"""Steadier keypoints on a video: a One Euro filter for each keypoint of each person.

Casiez, Roussel & Vogel, *1 Euro Filter*, CHI 2012: a low-pass whose cutoff rises with the speed. Slow movement is
smoothed the most, where trembling shows; fast movement the least, where lag would. Speeds are in sizes of the person:
near and far people are treated alike.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pose.evaluation.oks import oks
from pose.geometry import Array
from pose.inference.predictor import Poses
from pose.video.pipeline import FramePoses
from pose.video.tracking import SEEN

CUTOFF_HZ = 1.0
"""Of a keypoint at rest."""
CUTOFF_HZ_PER_SPEED = 8.0
"""More for each size of the person (the root of the box's area) that a keypoint moves in a second."""
SPEED_CUTOFF_HZ = 1.0
"""Of the speed itself."""
SAME_PERSON = 0.2
"""OKS with somebody in the frame before, at least; somebody else starts afresh."""


@dataclass(frozen=True)
class _State:
    """Smoothed people of a frame, their velocities (N, K, 2) in pixels a second, and the frame's time."""

    poses: Poses
    velocities: Array
    time_s: float


def smooth_poses(results: Iterable[FramePoses], sigmas: ArrayLike) -> Iterator[FramePoses]:
    """Yield the frames of a video with smoothed keypoints; boxes and scores stay, images pass as they are.

    Args:
        results: in order.
        sigmas: (K,) OKS constants, to know people again.
    """
    state = None
    for result in results:
        time_s = result.frame.time_s
        if time_s is None:
            state = None
            yield result
            continue
        if state is None or time_s <= state.time_s:
            state = _State(result.poses, np.zeros(result.poses.keypoints.shape), time_s)
        else:
            state = _filter(state, result.poses, time_s, sigmas)
        yield result._replace(poses=state.poses)


def _filter(before: _State, poses: Poses, time_s: float, sigmas: ArrayLike) -> _State:
    elapsed_s = time_s - before.time_s
    keypoints = poses.keypoints.astype(np.float64)
    velocities = np.zeros_like(keypoints)
    for person, known in _same_people(poses, before.poses, sigmas):
        seen = np.minimum(poses.scores[person], before.poses.scores[known])[:, None] >= SEEN
        step = keypoints[person] - before.poses.keypoints[known]
        velocity = before.velocities[known]
        velocity = velocity + _share(SPEED_CUTOFF_HZ, elapsed_s) * (step / elapsed_s - velocity)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / np.sqrt(_areas(poses)[person])
        share = _share(CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * speed, elapsed_s)
        keypoints[person] -= np.where(seen, (1 - share) * step, 0)
        velocities[person] = np.where(seen, velocity, 0)
    return _State(replace(poses, keypoints=keypoints.astype(np.float32)), velocities, time_s)


def _share(cutoff_hz: float | Array, elapsed_s: float) -> float | Array:
    """Return how far an exponential low-pass goes towards a new value."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * elapsed_s))


def _same_people(poses: Poses, before: Poses, sigmas: ArrayLike) -> Iterator[tuple[int, int]]:
    """Yield the numbers of who is in both frames, the most alike first, each once."""
    if not len(poses) or not len(before):
        return
    alike = oks(poses.keypoints[:, None], _areas(poses)[:, None], before.keypoints, _areas(before), sigmas)
    while alike.max() >= SAME_PERSON:
        person, known = np.unravel_index(alike.argmax(), alike.shape)
        yield int(person), int(known)
        alike[person], alike[:, known] = 0, 0


def _areas(poses: Poses) -> Array:
    return np.asarray(poses.bboxes_xywh[:, 2:].prod(axis=1), dtype=np.float64)
