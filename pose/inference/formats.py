"""`Poses` in other formats: JSON rows, CSV rows, and the key points of the package supervision."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.errors import PoseError
from pose.geometry import Array

if TYPE_CHECKING:
    from pose.inference.poses import Poses


def person_rows(poses: "Poses", scores: ArrayLike | None = None) -> list[dict[str, Any]]:
    """Return one JSON row per person, see `Poses.to_dict`; pixels have 2 decimals, scores 4.

    Args:
        poses: N persons.
        scores: (N,) person scores; by default `Poses.person_scores`.
    """
    person_scores = np.asarray(poses.person_scores if scores is None else scores)
    # Rounded in float64: a rounded float32 would print as 1.230000019.
    keypoints = np.dstack([_rounded(poses.keypoints, 2), _rounded(poses.scores, 4)[..., None]]).tolist()
    columns = _rounded(poses.bboxes_xywh, 2).tolist(), _rounded(person_scores, 4).tolist(), keypoints
    rows = [dict(zip(("bbox_xywh", "score", "keypoints"), row, strict=True)) for row in zip(*columns, strict=True)]
    if poses.ids is None:
        return rows
    return [{"id": int(number) or None} | row for number, row in zip(poses.ids, rows, strict=True)]


def csv_header(names: Sequence[str]) -> list[str]:
    """Return the column names of `csv_rows`.

    ``id``, ``score``, ``bbox_x``, ``bbox_y``, ``bbox_w``, ``bbox_h``, then ``NAME_x``, ``NAME_y``, ``NAME_score`` of
    each keypoint.
    """
    keypoints = [f"{name}_{part}" for name in names for part in ("x", "y", "score")]
    return ["id", "score", "bbox_x", "bbox_y", "bbox_w", "bbox_h", *keypoints]


def csv_rows(poses: "Poses", scores: ArrayLike | None = None) -> list[list[object]]:
    """Return one CSV row per person, as `person_rows`; the id of a person without a number is empty."""
    return [
        [
            row.get("id") or "",
            row["score"],
            *row["bbox_xywh"],
            *(value for point in row["keypoints"] for value in point),
        ]
        for row in person_rows(poses, scores)
    ]


def _rounded(values: NDArray[np.floating], decimals: int) -> Array:
    return np.asarray(np.round(values.astype(np.float64), decimals))


def supervision_key_points(poses: "Poses") -> Any:
    """Return poses as ``supervision.KeyPoints``, see `Poses.to_supervision`.

    Raises:
        PoseError: the package supervision is not installed.
    """
    try:
        import supervision
    except ImportError:
        raise PoseError(
            "Poses.to_supervision: needs the package supervision; pip install 'dyconv-pose[supervision]'"
        ) from None
    data: dict[str, Any] = {"class_name": np.full(len(poses), "person")}
    if poses.ids is not None:
        data["tracker_id"] = np.asarray(poses.ids)
    return supervision.KeyPoints(
        xy=poses.keypoints.astype(np.float32),
        keypoint_confidence=poses.scores.astype(np.float32),
        detection_confidence=poses.person_scores.astype(np.float32),
        class_id=np.zeros(len(poses), dtype=int),
        data=data,
    )
