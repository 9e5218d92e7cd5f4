"""Outputs of a command: which files each input gives, and one writer for all of them."""

import csv
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ParamSpec

from numpy.typing import ArrayLike

from pose.errors import MediaError, near_name
from pose.evaluation.coco_results import format_results
from pose.files import replacing_with, to_json, writing
from pose.inference.formats import csv_header, csv_rows
from pose.inference.poses import Poses
from pose.video.inputs import Input
from pose.video.readers import Frame, FrameSource
from pose.video.writers import ImageWriter, PoseWriter, open_json_writer, open_writer

FORMATS = ("image", "video", "json", "csv", "coco")
"""Drawn images, a drawn video, and the keypoints in three formats of text."""

NOTHING = "none"
"""In place of formats: nothing is written."""
PERSON_CATEGORY = 1
"""Category of persons in COCO's files."""


def parse_formats(text: str) -> tuple[str, ...]:
    """Parse the formats to save, separated by commas.

    Raises:
        MediaError: a format is unknown.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (*FORMATS, NOTHING):
            raise MediaError(
                f"--save: expected some of {', '.join(FORMATS)}, or none, got '{name}'{near_name(name, FORMATS)}"
            )
    if not names or (NOTHING in names and len(names) > 1):
        raise MediaError(f"--save: expected some of {', '.join(FORMATS)}, or none alone, got '{text}'")
    return tuple(name for name in names if name != NOTHING)


def output_paths(folder: Path, item: Input, formats: Collection[str]) -> dict[str, Path]:
    """Return the path of each output of an input; that of ``image`` is a folder.

    Args:
        folder: folder of all outputs.
        item: the input.
        formats: some of `FORMATS`. A source of images has no ``video``.
    """
    paths = {
        "image": folder if item.has_images else folder / item.name,
        "video": folder / f"{item.name}.mp4",
        "json": folder / f"{item.name}.json",
        "csv": folder / f"{item.name}.csv",
        "coco": folder / f"{item.name}_coco.json",
    }
    return {name: path for name, path in paths.items() if name in formats and not (name == "video" and item.has_images)}


def written_files(item: Input, paths: Mapping[str, Path]) -> list[Path]:
    """Return the files that the outputs of an input consist of, as far as they are known before it is read."""
    files = [path for name, path in paths.items() if name != "image"]
    return files + [paths["image"] / name for name in item.file_names if "image" in paths]


@contextmanager
def open_outputs(
    paths: Mapping[str, Path], source: FrameSource, keypoint_names: Sequence[str]
) -> Iterator[tuple[ImageWriter | None, PoseWriter | None]]:
    """Open the outputs of a source; provide a writer of drawn frames and one of keypoints, None where there is none.

    Args:
        paths: see `output_paths`.
        source: the frames.
        keypoint_names: K names.

    Raises:
        MediaError: a file cannot be written.
    """
    with ExitStack() as renames, ExitStack() as stack:
        if "image" in paths:
            with writing(paths["image"]):
                paths["image"].mkdir(parents=True, exist_ok=True)
        image_writers = [
            stack.enter_context(open_writer(paths[name], source, renames=renames))
            for name in ("image", "video")
            if name in paths
        ]
        pose_writers = []
        if "json" in paths:
            pose_writers.append(stack.enter_context(open_json_writer(paths["json"], source, keypoint_names, renames)))
        if "csv" in paths:
            pose_writers.append(stack.enter_context(open_csv_writer(paths["csv"], keypoint_names, renames)))
        if "coco" in paths:
            pose_writers.append(stack.enter_context(open_coco_writer(paths["coco"], renames)))
        yield call_all(image_writers), call_all(pose_writers)


Arguments = ParamSpec("Arguments")


def call_all(writers: Sequence[Callable[Arguments, None]]) -> Callable[Arguments, None] | None:
    """Return one writer that calls all of them, or None if there is none."""
    if not writers:
        return None

    def write(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        for writer in writers:
            writer(*args, **kwargs)

    return write


@contextmanager
def open_csv_writer(
    path: Path, keypoint_names: Sequence[str], renames: ExitStack | None = None
) -> Iterator[PoseWriter]:
    """Open a writer of all keypoints as CSV with one line per person and frame.

    The columns are ``frame`` (index from 0), ``time_s`` (empty for images) and ``file_name``, then those of
    `pose.inference.formats.csv_header`. ``renames`` as for `pose.files.replacing_with`.
    """
    with replacing_with(path, renames) as temporary:
        with writing(path):
            file = temporary.open("w", encoding="utf-8", newline="")
        rows = csv.writer(file, lineterminator="\n")

        def write(frame: Frame, poses: Poses, scores: ArrayLike) -> None:
            time_s = "" if frame.time_s is None else round(frame.time_s, 4)
            with writing(path):
                rows.writerows([frame.index, time_s, frame.file_name, *row] for row in csv_rows(poses, scores))

        with file:
            with writing(path):
                rows.writerow(["frame", "time_s", "file_name", *csv_header(keypoint_names)])
            yield write
            with writing(path):
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def open_coco_writer(path: Path, renames: ExitStack | None = None) -> Iterator[PoseWriter]:
    """Open a writer of all persons as a COCO keypoint result file, see `Frame.image_id` for the ids.

    ``renames`` as for `pose.files.replacing_with`.
    """
    separator = "["
    with replacing_with(path, renames) as temporary:
        with writing(path):
            file = temporary.open("w", encoding="utf-8")

        def write(frame: Frame, poses: Poses, scores: ArrayLike) -> None:
            nonlocal separator
            ids = [frame.image_id] * len(poses)
            for row in format_results(ids, poses.keypoints, poses.scores, scores, PERSON_CATEGORY):
                with writing(path):
                    file.write(separator + to_json(row, path))
                separator = ",\n"

        with file:
            yield write
            with writing(path):
                file.write("[]\n" if separator == "[" else "]\n")
                file.flush()
                os.fsync(file.fileno())
