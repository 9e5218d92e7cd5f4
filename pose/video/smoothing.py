"""Temporal smoothing of keypoints: a One Euro filter for each keypoint of each person.

Casiez, Roussel & Vogel, *1 Euro Filter*, CHI 2012: a low-pass filter whose cutoff frequency increases with speed. It
smooths slow motion most, where jitter is visible, and fast motion least, where lag would be. Speed is measured relative
to the size of the person, so that small and large persons are filtered alike.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pose.geometry import Array
from pose.inference.poses import Poses
from pose.inference.search import MIN_KEYPOINT_SCORE
from pose.video.matching import box_areas, match_greedily, pose_oks
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
    for person, match in _match(poses, previous.poses, sigmas):
        scores = np.minimum(poses.scores[person], previous.poses.scores[match])
        visible = scores[:, None] >= MIN_KEYPOINT_SCORE
        step = keypoints[person] - previous.poses.keypoints[match]
        velocity = previous.velocities[match]
        velocity = velocity + _alpha(SPEED_CUTOFF_HZ, elapsed_s) * (step / elapsed_s - velocity)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / np.sqrt(box_areas(poses)[person])
        alpha = _alpha(CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * speed, elapsed_s)
        keypoints[person] -= np.where(visible, (1 - alpha) * step, 0)
        velocities[person] = np.where(visible, velocity, 0)
    return _State(replace(poses, keypoints=keypoints.astype(np.float32)), velocities, time_s)


def _alpha(cutoff_hz: float | Array, elapsed_s: float) -> float | Array:
    """Return the weight of the new value in an exponential low-pass filter."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * elapsed_s))


def _match(poses: Poses, previous: Poses, sigmas: ArrayLike) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices of the same person into ``poses`` and ``previous``: by the ids if both have them."""
    if poses.ids is None or previous.ids is None:
        yield from match_greedily(pose_oks(poses, previous, sigmas), MIN_OKS)
    else:
        same = (poses.ids[:, None] == previous.ids) & (poses.ids[:, None] > 0)
        yield from ((int(person), int(match)) for person, match in np.argwhere(same))
