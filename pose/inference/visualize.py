"""Images of poses: skeletons on a frame, and sheets of many crops.

The person's left is blue, the right orange, the middle white: a pair that people with any color vision tell apart
(Okabe & Ito). Everything scales with the person, so that far people stay readable and near ones are not smeared.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.geometry import Array
from pose.images import Image
from pose.inference.predictor import Poses
from pose.skeleton import Skeleton

Color = tuple[int, int, int]

LEFT: Color = (240, 165, 50)
RIGHT: Color = (20, 130, 250)
MIDDLE: Color = (245, 245, 245)
OUTLINE: Color = (35, 30, 30)
SHEET: Color = (38, 34, 32)
"""All BGR."""

BOX_OPACITY = 0.55
SHIFT = 4
"""OpenCV draws with this many bits of a pixel's fraction."""
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
) -> Image:
    """Return a copy of an image with its people drawn on it, near (large) ones first.

    Args:
        image: (H, W, 3) uint8 BGR.
        poses: N persons, in its pixels.
        skeleton: names the limbs and sides.
        scores: (N,) shown at the boxes, 1 at most (heatmaps can peak above it); by default the mean keypoint scores.
        keypoint_threshold: keypoints scored lower are not drawn, nor limbs that end there.
        boxes: draw the boxes with their scores.
        opacity: of all that is drawn, 0 to 1.
    """
    if not len(poses.keypoints):
        return np.array(image)
    shown = np.asarray(poses.person_scores if scores is None else scores, dtype=np.float64)
    near_first = np.argsort(-np.prod(poses.bboxes_xywh[:, 2:], axis=1), kind="stable")
    background = _with_boxes(image, poses.bboxes_xywh) if boxes else image
    canvas = background.copy()
    for person in near_first:
        keypoints = np.asarray(poses.keypoints[person], dtype=np.float64)
        visible = (poses.scores[person] >= keypoint_threshold) & np.isfinite(keypoints).all(axis=1)
        _draw_person(canvas, keypoints, visible, skeleton)
    if boxes:
        for person in near_first:
            _draw_score(canvas, poses.bboxes_xywh[person], float(shown[person]))
    return _blend(canvas, background, opacity)


def _with_boxes(image: Image, bboxes_xywh: ArrayLike) -> Image:
    """A copy with thin, half transparent boxes: they say where was looked, the skeletons are what was found."""
    canvas = image.copy()
    line = 1 if max(image.shape) < 1200 else 2
    for x, y, w, h in np.asarray(bboxes_xywh, dtype=np.float64):
        left, top, right, bottom = _inside(canvas, [x, y, x + w, y + h])
        cv2.rectangle(canvas, (left, top), (right, bottom), MIDDLE, line)
    return _blend(canvas, image, BOX_OPACITY)


def _blend(front: Image, back: Image, opacity: float) -> Image:
    return np.asarray(cv2.addWeighted(front, opacity, back, 1 - opacity, 0), dtype=np.uint8)


def _draw_person(canvas: Image, keypoints: Array, visible: NDArray[np.bool_], skeleton: Skeleton) -> None:
    """Limbs on one dark outline, then the keypoints as dots."""
    if not visible.any():
        return
    limb_radius, dot_radius, rim = _widths(keypoints[visible])
    colors = side_colors(skeleton)
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


def _widths(keypoints: Array) -> tuple[float, float, float]:
    """Radii of limbs and dots and the outline's width, in pixels, from the person's extent."""
    extent = float(np.ptp(keypoints, axis=0).max())
    limb = float(np.clip(0.009 * extent, 0.7, 6.0))
    return limb, 1.55 * limb + 0.4, float(np.clip(0.3 * limb, 0.5, 1.6))


def side_colors(skeleton: Skeleton) -> list[Color]:
    """Color of each keypoint by its side of the body."""
    colors = [MIDDLE] * skeleton.num_keypoints
    for left, right in skeleton.flip_pairs:
        colors[left], colors[right] = LEFT, RIGHT
    return colors


def _limb_color(a: Color, b: Color) -> Color:
    """A limb takes its end's side; between the sides it is of the middle."""
    if a in (MIDDLE, b):
        return b
    return a if b == MIDDLE else MIDDLE


def _capsules(starts: Array, ends: Array, radius: float) -> NDArray[np.int32]:
    """Outlines (N, P, 2) of lines (N, 2) with round ends, discs where both ends are one, in OpenCV's fixed point."""
    x, y = (ends - starts).T
    half_turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
    angles = np.arctan2(y, x)[:, None] + np.concatenate([half_turn, half_turn + np.pi])
    centers = np.stack([ends, starts], axis=1).repeat(len(half_turn), axis=1)
    points = centers + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    # Far outside is clipped, where 32 bits would overflow.
    return np.asarray(np.round(points.clip(-20000, 20000) * 2**SHIFT), dtype=np.int32)


def _fill(canvas: Image, outline: NDArray[np.int32], color: Color) -> None:
    cv2.fillConvexPoly(canvas, outline, color, cv2.LINE_AA, SHIFT)


def _draw_score(canvas: Image, bbox_xywh: ArrayLike, score: float) -> None:
    """The score on a plate above the box's left corner, or inside where there is no room."""
    x, y, w, h = np.asarray(bbox_xywh, dtype=np.float64)
    left, top, _, _ = _inside(canvas, [x, y, x + w, y + h])
    draw_label(canvas, f"{min(score, 1):.2f}", (left, top), float(np.clip(max(canvas.shape) / 85, 8, 18)))


def _inside(canvas: Image, box_xyxy: ArrayLike) -> list[int]:
    """Box corners on whole pixels of the image."""
    height, width = canvas.shape[:2]
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    corners: list[int] = np.clip(np.round(np.asarray(box_xyxy)), 0, limits).astype(int).tolist()
    return corners


def draw_label(canvas: Image, text: str, bottom_left: tuple[int, int], text_height: float) -> None:
    """Write text on a dark plate that stands on a point, moved so that it never leaves the image."""
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
    poses: "Sequence[Poses]",
    skeleton: Skeleton,
    columns: int = 6,
    *,
    truths: "Sequence[Poses] | None" = None,
    cell_wh: tuple[int, int] = (192, 256),
    keypoint_threshold: float = 0.3,
) -> Image:
    """Return a sheet of images or crops with their predictions, each beside its ground truth where that is given.

    Args:
        images: (H, W, 3) uint8 BGR of any sizes; each is fitted into a cell before it is drawn on.
        poses: predicted, one `Poses` an image, in its pixels.
        skeleton: of the keypoints.
        columns: of the sheet.
        truths: annotated, one an image, scores positive where labelled.
        cell_wh: width and height of a cell in pixels.
        keypoint_threshold: of the predictions.
    """
    tiles = []
    for index, (image, predicted) in enumerate(zip(images, poses, strict=True)):
        tile = _fitted(image, predicted, skeleton, cell_wh, keypoint_threshold)
        if truths is not None:
            truth = _fitted(image, truths[index], skeleton, cell_wh, np.finfo(np.float64).tiny)
            for half, text in ((truth, "annotated"), (tile, "predicted")):
                draw_label(half, text, (0, cell_wh[1]), 9)
            tile = np.hstack([truth, tile])
        tiles.append(tile)
    return tile_images(tiles, columns)


def tile_images(tiles: Sequence[Image], columns: int, gap: int = 6) -> Image:
    """Lay images of one size out in rows of ``columns`` on a dark ground."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), SHEET, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (np.array(divmod(index, columns)) * (height + gap, width + gap) + gap).tolist()
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _fitted(image: Image, poses: Poses, skeleton: Skeleton, cell_wh: tuple[int, int], threshold: float) -> Image:
    """An image in the middle of a cell, its poses drawn at the cell's resolution."""
    height, width = image.shape[:2]
    ratio = min(cell_wh[0] / width, cell_wh[1] / height)
    size_wh = max(1, round(width * ratio)), max(1, round(height * ratio))
    offset = np.array([(cell_wh[0] - size_wh[0]) // 2, (cell_wh[1] - size_wh[1]) // 2])
    cell = np.full((cell_wh[1], cell_wh[0], 3), SHEET, dtype=np.uint8)
    resized = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    cell[offset[1] : offset[1] + size_wh[1], offset[0] : offset[0] + size_wh[0]] = resized
    # cv2.resize aligns pixel edges, keypoints count from pixel centres.
    moved = replace(poses, keypoints=((poses.keypoints + 0.5) * ratio - 0.5 + offset).astype(np.float32))
    return draw_poses(cell, moved, skeleton, keypoint_threshold=threshold, boxes=False)
