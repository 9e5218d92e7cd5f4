"""Visualization: draw skeletons and boxes on an image, and sheets of many images.

The person's left side is blue, the right orange, the middle white; blue and orange can be told apart with any color
vision (Okabe & Ito). Or each person has a color of its own. Line widths scale with the person, so that small and large
persons are equally readable.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.geometry import Array
from pose.images import Image
from pose.inference.poses import Poses
from pose.skeleton import Skeleton

Color = tuple[int, int, int]

LEFT: Color = (240, 165, 50)
RIGHT: Color = (20, 130, 250)
MIDDLE: Color = (245, 245, 245)
OUTLINE: Color = (35, 30, 30)
SHEET: Color = (38, 34, 32)
"""Background of sheets. All colors are BGR."""

PERSONS: tuple[Color, ...] = (
    (240, 165, 50), (20, 130, 250), (110, 200, 60), (200, 110, 230), (60, 220, 245), (90, 90, 240), (230, 215, 90),
    (190, 180, 255), (50, 160, 160), (245, 130, 130),
)  # fmt: skip
"""Colors of persons, by number or index; they repeat."""

BOX_OPACITY = 0.55
SHIFT = 4
"""Fractional bits of coordinates that are passed to OpenCV's drawing functions."""
FONT = cv2.FONT_HERSHEY_DUPLEX


def draw_poses(
    image: Image,
    poses: Poses,
    skeleton: Skeleton,
    *,
    scores: ArrayLike | None = None,
    keypoint_threshold: float = 0.3,
    boxes: bool = True,
    opacity: float = 0.9,
    color: Literal["side", "person"] = "side",
) -> Image:
    """Draw persons on a copy of an image, large (near) ones first.

    Args:
        image: (H, W, 3) uint8 BGR.
        poses: N persons, in image pixels.
        skeleton: keypoint set, which gives limbs and sides.
        scores: (N,) scores to print at the boxes, clipped to 1 (heatmap peaks can exceed it); by default the mean
            keypoint scores.
        keypoint_threshold: minimum score of keypoints to draw; limbs need both ends.
        boxes: draw the boxes and scores.
        opacity: opacity of the drawing, 0 to 1.
        color: ``side``: left blue, right orange; ``person``: one color per person, by its number if it is tracked,
            otherwise by its position in ``poses``.

    Raises:
        TypeError: the threshold is not a number.
    """
    if not isinstance(keypoint_threshold, (int, float, np.number)):
        raise TypeError(f"keypoint_threshold: expected a number, got {type(keypoint_threshold).__name__}")
    if not len(poses.keypoints):
        return np.array(image)
    box_scores = np.asarray(poses.person_scores if scores is None else scores, dtype=np.float64)
    large_first = np.argsort(-np.prod(poses.bboxes_xywh[:, 2:], axis=1), kind="stable")
    by_person = [person_color(poses, person) for person in range(len(poses))] if color == "person" else None
    background = _draw_boxes(image, poses.bboxes_xywh, by_person) if boxes else image
    canvas = background.copy()
    for person in large_first:
        keypoints = np.asarray(poses.keypoints[person], dtype=np.float64)
        visible = (poses.scores[person] >= keypoint_threshold) & np.isfinite(keypoints).all(axis=1)
        _draw_person(canvas, keypoints, visible, skeleton, None if by_person is None else by_person[person])
    if boxes:
        for person in large_first:
            number = 0 if poses.ids is None else int(poses.ids[person])
            _draw_score(canvas, poses.bboxes_xywh[person], float(box_scores[person]), number)
    return _blend(canvas, background, opacity)


def person_color(poses: Poses, person: int) -> Color:
    """Return the color of a person, by its number if it is tracked, otherwise by its position."""
    if poses.ids is not None and not poses.ids[person]:
        return MIDDLE
    return PERSONS[int(person if poses.ids is None else poses.ids[person]) % len(PERSONS)]


def _draw_boxes(image: Image, bboxes_xywh: ArrayLike, colors: Sequence[Color] | None) -> Image:
    """Draw thin, half-transparent boxes on a copy: they are the input, the skeletons are the result."""
    canvas = image.copy()
    line_width = 1 if max(image.shape) < 1200 else 2
    for index, (x, y, w, h) in enumerate(np.asarray(bboxes_xywh, dtype=np.float64)):
        left, top, right, bottom = _clip_box(canvas, [x, y, x + w, y + h])
        cv2.rectangle(canvas, (left, top), (right, bottom), MIDDLE if colors is None else colors[index], line_width)
    return _blend(canvas, image, BOX_OPACITY)


def _blend(front: Image, back: Image, opacity: float) -> Image:
    return np.asarray(cv2.addWeighted(front, opacity, back, 1 - opacity, 0), dtype=np.uint8)


def _draw_person(
    canvas: Image, keypoints: Array, visible: NDArray[np.bool_], skeleton: Skeleton, color: Color | None
) -> None:
    """Draw the limbs on a common dark outline, then the keypoints as dots, in one color or in those of the sides."""
    if not visible.any():
        return
    limb_radius, dot_radius, rim = _line_widths(keypoints[visible])
    colors = side_colors(skeleton) if color is None else [color] * skeleton.num_keypoints
    limbs = [(a, b) for a, b in skeleton.limbs if visible[a] and visible[b]]
    starts, ends = keypoints[np.array(limbs, dtype=np.intp).reshape(-1, 2)].swapaxes(0, 1)
    for outline in _capsules(starts, ends, limb_radius + rim):
        _fill(canvas, outline, OUTLINE)
    for outline, (a, b) in zip(_capsules(starts, ends, limb_radius), limbs, strict=True):
        _fill(canvas, outline, _limb_color(colors[a], colors[b]))
    dots = np.flatnonzero(visible)
    rims, discs = (_capsules(keypoints[dots], keypoints[dots], radius) for radius in (dot_radius + rim, dot_radius))
    for index, dark, bright in zip(dots, rims, discs, strict=True):
        _fill(canvas, dark, OUTLINE)
        _fill(canvas, bright, colors[index])


def _line_widths(keypoints: Array) -> tuple[float, float, float]:
    """Return limb radius, dot radius and outline width in pixels, from the size of the person."""
    extent = float(np.ptp(keypoints, axis=0).max())
    limb = float(np.clip(0.009 * extent, 0.7, 6.0))
    return limb, 1.55 * limb + 0.4, float(np.clip(0.3 * limb, 0.5, 1.6))


def side_colors(skeleton: Skeleton) -> list[Color]:
    """Return the color of each keypoint, by its side of the body."""
    colors = [MIDDLE] * skeleton.num_keypoints
    for left, right in skeleton.flip_pairs:
        colors[left], colors[right] = LEFT, RIGHT
    return colors


def _limb_color(a: Color, b: Color) -> Color:
    """Return the color of a limb: that of its side, or the middle color if it connects left and right."""
    if a in (MIDDLE, b):
        return b
    return a if b == MIDDLE else MIDDLE


def _capsules(starts: Array, ends: Array, radius: float) -> NDArray[np.int32]:
    """Return outlines (N, P, 2) of line segments with round caps, in OpenCV's fixed point; discs for equal ends."""
    x, y = (ends - starts).T
    half_turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
    angles = np.arctan2(y, x)[:, None] + np.concatenate([half_turn, half_turn + np.pi])
    centers = np.stack([ends, starts], axis=1).repeat(len(half_turn), axis=1)
    points = centers + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    # Clip points far outside the image, which would overflow 32 bits.
    return np.asarray(np.round(points.clip(-20000, 20000) * 2**SHIFT), dtype=np.int32)


def _fill(canvas: Image, outline: NDArray[np.int32], color: Color) -> None:
    cv2.fillConvexPoly(canvas, outline, color, cv2.LINE_AA, SHIFT)


def _draw_score(canvas: Image, bbox_xywh: ArrayLike, score: float, number: int) -> None:
    """Draw a person's number (if not 0) and score above the top left corner of a box, or inside at the image's edge."""
    x, y, w, h = np.asarray(bbox_xywh, dtype=np.float64)
    left, top, _, _ = _clip_box(canvas, [x, y, x + w, y + h])
    text = f"#{number} {min(score, 1):.2f}" if number else f"{min(score, 1):.2f}"
    draw_label(canvas, text, (left, top), float(np.clip(max(canvas.shape) / 85, 8, 18)))


def _clip_box(canvas: Image, box_xyxy: ArrayLike) -> list[int]:
    """Return box corners rounded to pixels and clipped to the image."""
    height, width = canvas.shape[:2]
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    corners: list[int] = np.clip(np.round(np.asarray(box_xyxy)), 0, limits).astype(int).tolist()
    return corners


def draw_label(canvas: Image, text: str, bottom_left: tuple[int, int], text_height: float) -> None:
    """Draw text on a dark plate with a given bottom left corner, moved so that it stays inside the image."""
    scale = text_height / cv2.getTextSize("0", FONT, 1.0, 1)[0][1]
    (text_width, _), _ = cv2.getTextSize(text, FONT, scale, 1)
    margin = max(2, round(text_height * 0.35))
    plate_wh = text_width + 2 * margin, round(text_height) + 2 * margin
    left = max(0, min(bottom_left[0], canvas.shape[1] - plate_wh[0]))
    top = max(0, min(bottom_left[1] - plate_wh[1], canvas.shape[0] - plate_wh[1]))
    cv2.rectangle(canvas, (left, top), (left + plate_wh[0] - 1, top + plate_wh[1] - 1), OUTLINE, cv2.FILLED)
    origin = left + margin, top + margin + round(text_height)
    cv2.putText(canvas, text, origin, FONT, scale, MIDDLE, 1, cv2.LINE_AA)


def prediction_sheet(
    images: Sequence[Image],
    poses: Sequence[Poses],
    skeleton: Skeleton,
    columns: int = 6,
    *,
    truths: Sequence[Poses] | None = None,
    cell_wh: tuple[int, int] = (192, 256),
    keypoint_threshold: float = 0.3,
) -> Image:
    """Return a sheet of images with their predictions, each next to its ground truth if that is given.

    Args:
        images: (H, W, 3) uint8 BGR of any size; each is resized to fit a cell and then drawn on.
        poses: predictions, one `Poses` per image, in image pixels.
        skeleton: keypoint set.
        columns: number of columns.
        truths: annotations, one `Poses` per image, with positive scores where labeled.
        cell_wh: width and height of a cell in pixels.
        keypoint_threshold: minimum score of predicted keypoints to draw.
    """
    tiles = []
    for index, (image, predicted) in enumerate(zip(images, poses, strict=True)):
        tile = _draw_cell(image, predicted, skeleton, cell_wh, keypoint_threshold)
        if truths is not None:
            truth = _draw_cell(image, truths[index], skeleton, cell_wh, np.finfo(np.float64).tiny)
            for cell, text in ((truth, "annotated"), (tile, "predicted")):
                draw_label(cell, text, (0, cell_wh[1]), 9)
            tile = np.hstack([truth, tile])
        tiles.append(tile)
    return tile_images(tiles, columns)


def tile_images(tiles: Sequence[Image], columns: int, gap: int = 6) -> Image:
    """Arrange images of equal size in rows of ``columns`` on a dark background."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), SHEET, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (np.array(divmod(index, columns)) * (height + gap, width + gap) + gap).tolist()
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _draw_cell(image: Image, poses: Poses, skeleton: Skeleton, cell_wh: tuple[int, int], threshold: float) -> Image:
    """Return an image resized to fit the middle of a cell, with poses drawn at the cell's resolution."""
    height, width = image.shape[:2]
    ratio = min(cell_wh[0] / width, cell_wh[1] / height)
    size_wh = max(1, round(width * ratio)), max(1, round(height * ratio))
    offset = np.array([(cell_wh[0] - size_wh[0]) // 2, (cell_wh[1] - size_wh[1]) // 2])
    cell = np.full((cell_wh[1], cell_wh[0], 3), SHEET, dtype=np.uint8)
    resized = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    cell[offset[1] : offset[1] + size_wh[1], offset[0] : offset[0] + size_wh[0]] = resized
    # cv2.resize aligns pixel edges; keypoints are relative to pixel centers.
    poses_cell = replace(poses, keypoints=((poses.keypoints + 0.5) * ratio - 0.5 + offset).astype(np.float32))
    return draw_poses(cell, poses_cell, skeleton, keypoint_threshold=threshold, boxes=False)
