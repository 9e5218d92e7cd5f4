"""Results of a prediction: `Poses`, the persons of one image, and `Pose`, one of them.

    >>> poses = PosePredictor()("street.jpg", boxes)
    >>> len(poses), poses.names[:2]
    (3, ('nose', 'left_eye'))
    >>> x, y, score = poses[0]["left_wrist"]
    >>> poses.save("street_poses.jpg")

Images, files and other formats are written by the methods of `Poses`; drawing is in `pose.inference.visualize`.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pose.errors import DataError, MediaError, near_name
from pose.evaluation.coco_results import Result, format_results
from pose.files import write_text
from pose.geometry import Float32
from pose.images import Image, write_image
from pose.inference.arrays import check_array, check_id
from pose.inference.formats import csv_header, csv_rows, person_rows, supervision_key_points
from pose.inference.sources import Source, load_image
from pose.skeleton import Skeleton

Rows = slice | Sequence[int] | Sequence[bool] | NDArray[np.integer] | NDArray[np.bool_]
"""Selection of persons: a slice, indices, or a mask."""


@dataclass(frozen=True, eq=False)
class Pose:
    """One person.

    Attributes:
        keypoints: (K, 2) x, y in image pixels.
        scores: (K,) heatmap peak values, about 0 to 1.
        bbox_xywh: (4,) the person's box, in image pixels.
        names: K keypoint names.
        score: score of the person, see `Poses.person_scores`.
        id: number of the person in a video; None without a number, see `Poses.ids`.
    """

    keypoints: Float32
    scores: Float32
    bbox_xywh: Float32
    names: tuple[str, ...]
    score: float
    id: int | None = None

    def __getitem__(self, name: str) -> Float32:
        """Return x, y and score of a keypoint, (3,).

        Raises:
            DataError: no keypoint has this name.
        """
        index = _keypoint_index(self.names, name)
        return np.array([*self.keypoints[index], self.scores[index]], dtype=np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class Poses:
    """The N persons of one image.

    ``len(poses)`` is N, and iteration gives one `Pose` per person. ``poses[0]`` is a person, ``poses[1:]`` or
    ``poses[mask]`` are `Poses` of some persons, and ``poses["nose"]`` is x, y and score of a keypoint of all persons,
    (N, 3).

    Attributes:
        keypoints: (N, K, 2) x, y in image pixels.
        scores: (N, K) heatmap peak values, about 0 to 1.
        bboxes_xywh: (N, 4) person boxes that were the input, in image pixels.
        skeleton: keypoint set; predictors set it.
        ids: (N,) numbers of the persons, from 1, the same in all frames of a video; 0 for a person that was seen in too
            few frames to be counted. None without tracking.
        bbox_scores: (N,) scores of the boxes; None without a detector.
        source: file or address of the image; None if the image was given as pixels.
    """

    keypoints: Float32
    scores: Float32
    bboxes_xywh: Float32
    skeleton: Skeleton | None = None
    ids: NDArray[np.integer] | None = None
    bbox_scores: NDArray[np.floating] | None = None
    source: str | Path | None = None

    def __post_init__(self) -> None:
        """Check types, shapes and values.

        Raises:
            DataError: an array has another shape or type, or keypoints, scores or boxes are not finite.
        """
        count, columns = np.shape(self.keypoints)[:1], np.shape(self.keypoints)[1:2]
        check_array("Poses.keypoints", self.keypoints, (*count, *columns, 2))
        check_array("Poses.scores", self.scores, (*count, *columns))
        check_array("Poses.bboxes_xywh", self.bboxes_xywh, (*count, 4))
        if self.ids is not None:
            check_array("Poses.ids", self.ids, count, "iu")
        if self.bbox_scores is not None:
            check_array("Poses.bbox_scores", self.bbox_scores, count)
        if self.skeleton is not None and columns != (self.skeleton.num_keypoints,):
            raise DataError(
                f"Poses: expected {self.skeleton.num_keypoints} keypoints as in the skeleton, got {columns}"
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        persons = "1 person" if len(self) == 1 else f"{len(self)} persons"
        scores = ", ".join(f"{score:.2f}" for score in self.person_scores)
        source = f", source {self.source}" if self.source is not None else ""
        return f"<Poses: {persons} with {self.scores.shape[1]} keypoints, scores [{scores}]{source}>"

    @property
    def person_scores(self) -> NDArray[np.floating]:
        """(N,) mean keypoint score of each person, times the score of its box if a detector gave one."""
        if not len(self):
            return np.zeros(0, dtype=np.float32)
        means: Float32 = self.scores.mean(axis=1)
        return means if self.bbox_scores is None else self.bbox_scores * means

    @property
    def names(self) -> tuple[str, ...]:
        """K keypoint names.

        Raises:
            DataError: these poses were made without a skeleton.
        """
        return self._known_skeleton().names

    # --- selection

    def __iter__(self) -> Iterator[Pose]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Pose: ...

    @overload
    def __getitem__(self, index: str) -> Float32: ...

    @overload
    def __getitem__(self, index: Rows) -> "Poses": ...

    def __getitem__(self, index: int | str | Rows) -> "Pose | Float32 | Poses":
        """Return a person, some persons, or a keypoint of all persons.

        Args:
            index: a person's index; a slice, indices or a mask; or a keypoint name.

        Raises:
            DataError: no keypoint has this name.
            IndexError: there is no such person.
        """
        if isinstance(index, str):
            column = _keypoint_index(self.names, index)
            return np.concatenate([self.keypoints[:, column], self.scores[:, column, None]], axis=1)
        if isinstance(index, (int, np.integer)):
            index = range(len(self))[index]
            person_id = None if self.ids is None else int(self.ids[index]) or None
            score = float(self.person_scores[index])
            person = self.keypoints[index], self.scores[index], self.bboxes_xywh[index]
            return Pose(*person, self.names, score, person_id)
        rows = np.arange(len(self))[index]
        return replace(
            self,
            keypoints=self.keypoints[rows],
            scores=self.scores[rows],
            bboxes_xywh=self.bboxes_xywh[rows],
            ids=None if self.ids is None else self.ids[rows],
            bbox_scores=None if self.bbox_scores is None else self.bbox_scores[rows],
        )

    # --- other formats

    def to_dict(self) -> dict[str, Any]:
        """Return the poses as values that JSON can hold.

        ``{"source", "keypoint_names", "persons": [{"bbox_xywh", "score", "keypoints": [[x, y, score], ...]}, ...]}``;
        with tracking each person has its ``"id"`` first, null if it has no number.
        """
        source = None if self.source is None else str(self.source)
        return {"source": source, "keypoint_names": list(self.names), "persons": person_rows(self)}

    def to_coco(self, image_id: int, category_id: int = 1) -> list[Result]:
        """Return the persons as rows of a COCO keypoint result file, for ``COCO.loadRes`` and `write_results`.

        Args:
            image_id: the image's id in the annotation file.
            category_id: category of the persons in the annotation file.

        Raises:
            DataError: an id is not an integer.
        """
        image, category = check_id(image_id, "image_id"), check_id(category_id, "category_id")
        return format_results([image] * len(self), self.keypoints, self.scores, self.person_scores, category)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the poses as CSV with a header and one line per person; `csv_header` names the columns.

        Args:
            path: file to write the text to, too.

        Raises:
            MediaError: the file cannot be written.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([csv_header(self.names), *csv_rows(self)])
        if path is not None:
            write_text(path, text.getvalue())
        return text.getvalue()

    def to_supervision(self) -> Any:
        """Return the poses as ``supervision.KeyPoints``; numbers of tracked persons are in ``data["tracker_id"]``.

        Raises:
            PoseError: the package supervision is not installed.
        """
        return supervision_key_points(self)

    # --- images

    def plot(
        self,
        image: Source | None = None,
        *,
        color: Literal["side", "person"] = "side",
        keypoint_threshold: float = 0.3,
        boxes: bool = True,
    ) -> Image:
        """Return the image with the persons drawn on it, (H, W, 3) uint8 BGR.

        Args:
            image: the image; can be left out if it was read from a file or an address, which is then read again.
            color: ``side``: left blue, right orange; ``person``: one color for each person (by its number, if tracked).
            keypoint_threshold: minimum score of keypoints to draw.
            boxes: draw the boxes and scores.

        Raises:
            DataError: no image was given and these poses have no source, or it cannot be read.
        """
        from pose.inference.visualize import draw_poses

        image = self.source if image is None else image
        if image is None:
            raise DataError("Poses: an image given as pixels is not kept; call plot(image) or save(path, image)")
        return draw_poses(
            load_image(image),
            self,
            self._known_skeleton(),
            scores=self.person_scores,
            keypoint_threshold=keypoint_threshold,
            boxes=boxes,
            color=color,
        )

    def save(self, path: str | Path, image: Source | None = None, **options: Any) -> None:
        """Write the image with the persons drawn on it.

        Args:
            path: image file to write; not the source.
            image: as in `plot`.
            options: of `plot`.

        Raises:
            DataError: as `plot`.
            MediaError: the file is the source, its suffix is not that of an image, or it cannot be written.
        """
        if any(isinstance(item, (str, Path)) and is_same_file(item, path) for item in (self.source, image)):
            raise MediaError(f"{path}: is the image itself; give the drawn image another name")
        write_image(path, self.plot(image, **options))

    def _known_skeleton(self) -> Skeleton:
        if self.skeleton is None:
            raise DataError(
                "Poses: made without a skeleton; pass skeleton=, as in Poses(..., skeleton=pose.skeleton.COCO)"
            )
        return self.skeleton


def is_same_file(a: str | Path, b: str | Path) -> bool:
    """Return whether two paths are one file, whether it exists or not."""
    try:
        return os.path.realpath(a) == os.path.realpath(b)
    except ValueError:  # no file can have one of these names
        return False


def _keypoint_index(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise DataError(f"keypoint '{name}': expected one of {', '.join(names)}{near_name(name, names)}")
    return names.index(name)
