"""Identities: every person of a video keeps one number, also after some frames without a detection.

The persons of a frame are matched to the tracks of earlier frames by the mean of OKS and IoU: OKS tells persons apart
whose boxes overlap, IoU still matches a person who moves fast. A track without a match is kept for a while and moves on
at its last velocity, as the buffer of lost tracks in ByteTrack (Zhang et al., ECCV 2022).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pose.geometry import Array
from pose.inference.poses import Poses
from pose.inference.search import MIN_KEYPOINT_SCORE
from pose.video.matching import box_iou, match_greedily, pose_oks
from pose.video.pipeline import FramePoses

MIN_SIMILARITY = 0.15
"""Minimum mean of OKS and IoU for the same person."""
MAX_LOST_S = 1.0
"""Seconds for which a track waits for its person; whoever appears later gets a new number."""
MIN_FRAMES = 3
"""Frames in which a person must be seen to get a number; a false detection is rarely repeated."""
DUPLICATE_OKS = 0.8
"""A new person more similar than this to another one of the same frame is a second detection of that one."""
VELOCITY_TIME_S = 0.2
"""Time constant of the average of the velocity, in seconds."""


@dataclass(eq=False)
class Track:
    """One person over time, as seen last.

    Attributes:
        keypoints: (K, 2) in image pixels.
        scores: (K,) keypoint scores.
        bbox_xywh: (4,) in image pixels.
        time_s: time of that frame.
        velocity: (2,) mean velocity of the keypoints in pixels per second.
        frames: number of frames in which the person was seen.
        number: of the person, from 1; 0 until the person was seen in `MIN_FRAMES` frames.
    """

    keypoints: Array
    scores: Array
    bbox_xywh: Array
    time_s: float
    velocity: Array
    frames: int = 1
    number: int = 0

    def see(self, keypoints: Array, scores: Array, bbox_xywh: Array, time_s: float) -> None:
        """Update the track with its person in a later frame."""
        elapsed_s = time_s - self.time_s
        visible = np.minimum(scores, self.scores) >= MIN_KEYPOINT_SCORE
        if visible.any():
            velocity = (keypoints - self.keypoints)[visible].mean(axis=0) / elapsed_s
            self.velocity = self.velocity + (1 - np.exp(-elapsed_s / VELOCITY_TIME_S)) * (velocity - self.velocity)
        self.keypoints, self.scores, self.bbox_xywh, self.time_s = keypoints, scores, bbox_xywh, time_s
        self.frames += 1


class IdentityTracker:
    """Finds the track of every person of a frame.

    Args:
        sigmas: (K,) OKS constants.

    Attributes:
        tracks: whose persons were seen within `MAX_LOST_S`.
        count: number of persons with a number so far.
    """

    def __init__(self, sigmas: ArrayLike) -> None:
        self.sigmas = sigmas
        self.tracks: list[Track] = []
        self.count = 0
        self._time_s = -np.inf

    def update(self, poses: Poses, time_s: float) -> list[Track | None]:
        """Return the track of each person of the next frame; None for a second detection of another person.

        Args:
            poses: N persons.
            time_s: time of the frame. One that is not later than the frame before ends all tracks.
        """
        # The tracks of the last frame are kept at any frame rate.
        oldest_s = min(time_s - MAX_LOST_S, self._time_s)
        self.tracks = [track for track in self.tracks if track.time_s >= oldest_s and time_s > self._time_s]
        found: list[Track | None] = [None] * len(poses)
        for person, index in self._match(poses, time_s):
            found[person] = self.tracks[index]
            self.tracks[index].see(poses.keypoints[person], poses.scores[person], poses.bboxes_xywh[person], time_s)
        duplicate = pose_oks(poses, poses, self.sigmas) > DUPLICATE_OKS
        for person in range(len(poses)):
            if found[person] is None and not any(duplicate[person, [track is not None for track in found]]):
                row = poses.keypoints[person], poses.scores[person], poses.bboxes_xywh[person]
                found[person] = track = Track(*row, time_s, velocity=np.zeros(2))
                self.tracks.append(track)
        self._time_s = time_s
        self.number_persons(MIN_FRAMES)
        return found

    def number_persons(self, min_frames: int) -> None:
        """Give the next numbers to those persons without one who were seen in ``min_frames`` frames or more."""
        for track in self.tracks:
            if track.number == 0 and track.frames >= min_frames:
                self.count += 1
                track.number = self.count

    def _match(self, poses: Poses, time_s: float) -> Iterator[tuple[int, int]]:
        """Yield pairs of a person and the index of its track."""
        if not len(poses) or not self.tracks:
            return iter(())
        predicted = _predict(self.tracks, time_s)
        similarity = (pose_oks(poses, predicted, self.sigmas) + box_iou(poses, predicted)) / 2
        return match_greedily(similarity, MIN_SIMILARITY)


def _predict(tracks: Sequence[Track], time_s: float) -> Poses:
    """Return the persons of tracks, moved on at their velocities."""
    steps = np.array([track.velocity * (time_s - track.time_s) for track in tracks])
    keypoints = np.array([track.keypoints for track in tracks]) + steps[:, None]
    bboxes_xywh = np.array([track.bbox_xywh for track in tracks]) + np.pad(steps, ((0, 0), (0, 2)))
    return Poses(keypoints, np.array([track.scores for track in tracks]), bboxes_xywh)


def assign_ids(results: Iterable[FramePoses], sigmas: ArrayLike) -> Iterator[FramePoses]:
    """Yield the frames of a video with `Poses.ids`; images are unchanged.

    Frames are held back, fewer than `MIN_FRAMES`, so that a new person has a number from its first frame. In a video of
    fewer frames everybody has one.

    Args:
        results: in order.
        sigmas: (K,) OKS constants.
    """
    tracker = IdentityTracker(sigmas)
    waiting: deque[tuple[FramePoses, list[Track | None]]] = deque()
    is_short = True
    for result in results:
        if result.frame.time_s is None:
            yield result
            continue
        waiting.append((result, tracker.update(result.poses, result.frame.time_s)))
        if len(waiting) == MIN_FRAMES:
            is_short = False
            yield _with_ids(*waiting.popleft())
    if is_short:
        tracker.number_persons(1)
    for result, tracks in waiting:
        yield _with_ids(result, tracks)


def _with_ids(result: FramePoses, tracks: Sequence[Track | None]) -> FramePoses:
    ids = np.array([0 if track is None else track.number for track in tracks], dtype=np.intp)
    return result._replace(poses=replace(result.poses, ids=ids))
