"""Temporal smoothing of keypoints: a One Euro filter for each keypoint of each person.

Casiez, Roussel & Vogel, *1 Euro Filter*, CHI 2012: a low-pass filter whose cutoff frequency increases with speed. It
smooths slow motion most, where jitter is visible, and fast motion least, where lag would be. Speed is measured relative
to the size of the person, so that small and large persons are filtered alike.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pose.evaluation.oks import oks
from pose.geometry import Array
from pose.inference.predictor import Poses
from pose.inference.search import MIN_KEYPOINT_SCORE
from pose.video.pipeline import FramePoses

CUTOFF_HZ = 1.0
"""Cutoff frequency for a keypoint at rest."""
CUTOFF_HZ_PER_SPEED = 8.0
"""Increase of the cutoff frequency per unit of speed: one person size (square root of the box area) per second."""
SPEED_CUTOFF_HZ = 1.0
"""Cutoff frequency of the filter of the speed itself."""
MIN_OKS = 0.2
"""Minimum OKS between two frames for the same person; a person without a match starts a new track."""


@dataclass(frozen=True)
class _State:
    """Smoothed poses of a frame, their velocities (N, K, 2) in pixels per second, and the time of the frame."""

    poses: Poses
    velocities: Array
    time_s: float


def smooth_poses(results: Iterable[FramePoses], sigmas: ArrayLike) -> Iterator[FramePoses]:
    """Yield the frames of a video with smoothed keypoints; boxes and scores are unchanged, as are images.

    Args:
        results: in order.
        sigmas: (K,) OKS constants, to match persons across frames.
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


def _filter(previous: _State, poses: Poses, time_s: float, sigmas: ArrayLike) -> _State:
    elapsed_s = time_s - previous.time_s
    keypoints = poses.keypoints.astype(np.float64)
    velocities = np.zeros_like(keypoints)
    for person, match in _match_by_oks(poses, previous.poses, sigmas):
        scores = np.minimum(poses.scores[person], previous.poses.scores[match])
        visible = scores[:, None] >= MIN_KEYPOINT_SCORE
        step = keypoints[person] - previous.poses.keypoints[match]
        velocity = previous.velocities[match]
        velocity = velocity + _alpha(SPEED_CUTOFF_HZ, elapsed_s) * (step / elapsed_s - velocity)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / np.sqrt(_areas(poses)[person])
        alpha = _alpha(CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * speed, elapsed_s)
        keypoints[person] -= np.where(visible, (1 - alpha) * step, 0)
        velocities[person] = np.where(visible, velocity, 0)
    return _State(replace(poses, keypoints=keypoints.astype(np.float32)), velocities, time_s)


def _alpha(cutoff_hz: float | Array, elapsed_s: float) -> float | Array:
    """Return the weight of the new value in an exponential low-pass filter."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * elapsed_s))


def _match_by_oks(poses: Poses, previous: Poses, sigmas: ArrayLike) -> Iterator[tuple[int, int]]:
    """Greedily match persons across frames by OKS; yield pairs of indices into ``poses`` and ``previous``."""
    if not len(poses) or not len(previous):
        return
    similarity = oks(poses.keypoints[:, None], _areas(poses)[:, None], previous.keypoints, _areas(previous), sigmas)
    while similarity.max() >= MIN_OKS:
        person, match = np.unravel_index(similarity.argmax(), similarity.shape)
        yield int(person), int(match)
        similarity[person], similarity[:, match] = 0, 0


def _areas(poses: Poses) -> Array:
    return np.asarray(poses.bboxes_xywh[:, 2:].prod(axis=1), dtype=np.float64)
