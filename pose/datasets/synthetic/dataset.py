"""Write the synthetic data set: drawn people or butterflies in COCO format, with simulated detector boxes.

The quickstart and the tests use it; it needs no download and no license. Each image has its own generator, seeded with
(seed, split, index), so the number of images does not change any image. `scene` draws an image, `figure` a person, and
`body` samples a pose. Constants at the top of these modules and of this one set the difficulty; increase `VERSION` when
one of them changes.
"""

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.datasets.synthetic import butterflies
from pose.datasets.synthetic.scene import Scene, ScenePerson, draw_scene
from pose.errors import DataError
from pose.files import to_json
from pose.geometry import Array
from pose.json_file import read_json
from pose.skeleton import COCO

VERSION = 1
"""Version of the generator; a data set of another version is replaced."""
STAMP = "synthetic.json"
"""File with the parameters of the data set."""
CONTENT = ("annotations", "train", "val", STAMP)
"""Files and folders of the data set."""
CROPS_SUFFIX = ".crops"
"""Suffix of a crop cache, which the folder may contain; it is deleted when the data set is replaced."""

JPEG_QUALITY = (80, 95)
# Simulated detector: missed persons, duplicate boxes, and mean number of false positives per image.
MISS_PROBABILITY, DUPLICATE_PROBABILITY, FALSE_POSITIVES_MEAN = 0.04, 0.12, 0.7
BOX_SHIFT_STD, BOX_SCALE_STD = 0.02, 0.04
"""Jitter of boxes: standard deviation of the center (as a fraction of the sides) and of the log of the sides."""
MIN_IMAGE_SIDE = 48
OLD_SUFFIX = ".old"
_SPLITS = {"train": 0, "val": 1}
_FIRST_ID = {"train": 1, "val": 1_000_001}

CATEGORY: dict[str, Any] = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": list(COCO.names),
    "skeleton": [[a + 1, b + 1] for a, b in COCO.limbs],
}


_SUBJECTS = {"people": (draw_scene, CATEGORY), "butterflies": (butterflies.draw_butterflies, butterflies.CATEGORY)}
"""Drawing function and category of each subject."""


def write_dataset(
    root: Path,
    *,
    train_images: int,
    val_images: int,
    image_wh: tuple[int, int],
    seed: int,
    subject: Literal["people", "butterflies"] = "people",
) -> None:
    """Write the data set into ``root``, or do nothing if it is up to date.

    Writes ``annotations/person_keypoints_{train,val}.json``, ``annotations/person_detections_val.json``, ``train/``,
    ``val/`` and a stamp, all in a temporary folder that is renamed: an interrupted call leaves no partial data set, and
    concurrent calls are safe.

    Args:
        root: folder to create; a folder with other files is rejected.
        train_images: number of training images.
        val_images: number of validation images.
        image_wh: width and height of the images in pixels.
        seed: not negative; the same seed draws the same images.
        subject: what is drawn.

    Raises:
        DataError: ``root`` has other content, or an argument is out of range.
    """
    if seed < 0 or min(train_images, val_images) < 1 or min(image_wh) < MIN_IMAGE_SIDE:
        raise DataError(
            f"synthetic data set: expected seed >= 0, at least one image per split and sides >= {MIN_IMAGE_SIDE} px, "
            f"got seed {seed}, {train_images} and {val_images} images, {image_wh[0]}x{image_wh[1]}"
        )
    root = Path(root).absolute()
    counts = {"train": train_images, "val": val_images}
    stamp = {"generator_version": VERSION, "subject": subject, "seed": seed, "image_wh": list(image_wh), **counts}
    if _is_written(root, stamp):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}"
    try:
        (temporary / "annotations").mkdir(parents=True)
        for split, count in counts.items():
            _write_split(temporary, split, count, image_wh, seed, subject)
        _write_json(temporary / STAMP, stamp)
        _move_into_place(temporary, root, stamp)
    finally:
        for leftover in (temporary, temporary.with_name(temporary.name + OLD_SUFFIX)):
            shutil.rmtree(leftover, ignore_errors=True)


def noisy_detections(
    rng: np.random.Generator, people: Sequence[ScenePerson], image_wh: tuple[int, int]
) -> list[tuple[list[float], float]]:
    """Simulate an imperfect detector: jittered boxes with misses, duplicates and false positives.

    Args:
        rng: source of all randomness.
        people: persons of the image.
        image_wh: width and height of the image in pixels.

    Returns:
        (bbox_xywh, score) pairs in image pixels.
    """
    detections = []
    for person in people:
        box = mask_box(person.mask)
        if rng.random() > MISS_PROBABILITY:
            quality = min(1.0, box[3] / (0.35 * image_wh[1]))
            detections.append((_jitter(rng, box, 1.0), rng.uniform(0.35, 0.6) + 0.38 * quality * rng.uniform(0.5, 1.0)))
        if rng.random() < DUPLICATE_PROBABILITY:
            detections.append((_jitter(rng, box, 3.0), rng.uniform(0.05, 0.45)))
    for _ in range(rng.poisson(FALSE_POSITIVES_MEAN)):
        size = image_wh[1] * rng.uniform(0.15, 0.7) * np.array([rng.uniform(0.3, 0.7), 1.0])
        corner = rng.uniform((0, 0), np.maximum(np.array(image_wh) - size, 1))
        detections.append((np.concatenate([corner, size]), rng.uniform(0.02, 0.4)))
    clipped = [(_clip(box, image_wh), round(float(score), 3)) for box, score in detections]
    return [(box, score) for box, score in clipped if min(box[2:]) >= 2]


def mask_box(mask: NDArray[np.bool_]) -> Array:
    """Return the (4,) xywh bounding box of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], dtype=np.float64)


def _is_written(root: Path, stamp: dict[str, Any]) -> bool:
    """Return whether ``root`` has the data set of this stamp; raise if the folder has other content."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder for the synthetic data set, got a file; choose another data.root")
    names = {path.name for path in root.iterdir()}
    if not names:
        return False
    unknown = {name for name in names - set(CONTENT) if not name.endswith(CROPS_SUFFIX)}
    if STAMP not in names or unknown:
        shown = sorted(unknown) or sorted(names)
        raise DataError(
            f"{root}: has {shown[:4]}, which are not files of the synthetic data set; "
            "choose another data.root or empty the folder"
        )
    try:
        return read_json(root / STAMP, dict[str, Any], "a stamp") == stamp
    except DataError:
        return False


def _move_into_place(temporary: Path, root: Path, stamp: dict[str, Any]) -> None:
    """Rename the temporary folder to ``root``; keep the data set of a concurrent process if it was faster."""
    if root.exists() and not _is_written(root, stamp):
        # a synthetic data set with other parameters, or empty; deleted after the new one is in place
        os.rename(root, temporary.with_name(temporary.name + OLD_SUFFIX))
    try:
        os.rename(temporary, root)
    except OSError:
        if not _is_written(root, stamp):
            raise


def _write_split(temporary: Path, split: str, count: int, image_wh: tuple[int, int], seed: int, subject: str) -> None:
    draw, category = _SUBJECTS[subject]
    (temporary / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for index in range(count):
        rng = np.random.default_rng((seed, _SPLITS[split], index))
        scene = draw(rng, image_wh)
        image_id = _FIRST_ID[split] + index
        name = f"{image_id:012d}.jpg"
        _write_image(temporary / split / name, scene, int(rng.integers(*JPEG_QUALITY)))
        images.append({"id": image_id, "file_name": name, "width": image_wh[0], "height": image_wh[1]})
        for person in scene.people:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **_annotation(person)})
        for box, score in noisy_detections(rng, scene.people, image_wh):
            detections.append({"image_id": image_id, "category_id": 1, "bbox": box, "score": score})
    info = {"description": f"{subject} drawn by dyconv-pose", "version": str(VERSION)}
    content = {"info": info, "images": images, "annotations": annotations, "categories": [category]}
    _write_json(temporary / "annotations" / f"person_keypoints_{split}.json", content)
    if split == "val":
        _write_json(temporary / "annotations" / f"person_detections_{split}.json", detections)


def _annotation(person: ScenePerson) -> dict[str, Any]:
    keypoints = np.column_stack([person.keypoints_image.round(2), person.visibility])
    return {
        "category_id": 1,
        "bbox": mask_box(person.mask).tolist(),
        "area": float(person.mask.sum()),
        "iscrowd": int(person.crowd),
        "num_keypoints": int((person.visibility > 0).sum()),
        "keypoints": [int(value) if value == int(value) else value for value in keypoints.ravel().tolist()],
        "segmentation": _run_lengths(person.mask) if person.crowd else _polygons(person.mask),
    }


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return COCO's uncompressed RLE: lengths of alternating runs in column-major order, starting with zeros."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"counts": counts.tolist() if edges[-1] < mask.size else counts[:-1].tolist(), "size": list(mask.shape)}


def _polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour.ravel().tolist() for contour in contours if len(contour) >= 3]
    return rings or [_box_ring(mask_box(mask).tolist())]


def _box_ring(box: Sequence[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def _jitter(rng: np.random.Generator, box: Array, strength: float) -> Array:
    center = box[:2] + box[2:] / 2 + box[2:] * rng.normal(0, BOX_SHIFT_STD * strength, 2)
    size = box[2:] * np.exp(rng.normal(0, BOX_SCALE_STD * strength, 2))
    return np.concatenate([center - size / 2, size])


def _clip(box: Array, image_wh: tuple[int, int]) -> list[float]:
    first = np.clip(box[:2], 0, image_wh)
    last = np.clip(box[:2] + box[2:], 0, image_wh)
    return [round(float(value), 2) for value in (*first, *(last - first))]


def _write_image(path: Path, scene: Scene, quality: int) -> None:
    _, encoded = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(encoded.tobytes())


def _write_json(path: Path, content: Any) -> None:
    path.write_text(to_json(content, path), encoding="utf-8")
