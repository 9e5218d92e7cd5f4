"""Backgrounds of the synthetic data set: rooms, streets and plain texture, with clutter that may resemble limbs."""

import cv2
import numpy as np

from pose.datasets.synthetic.paint import Canvas, background_color, box, circle, convex_hull, fill, weighted_choice
from pose.geometry import Array

SCENE_PROBABILITIES = {"room": 0.4, "street": 0.35, "texture": 0.25}
CLUTTER_MEAN, CLUTTER_CONTRAST = 5.0, 0.5
"""Mean number of random shapes, and their contrast to the background (0 invisible, 1 and above fully opaque)."""
GRAIN_STD = (2.0, 10.0)
"""Range of the standard deviation of low-frequency noise, in gray levels."""


def draw_background(rng: np.random.Generator, image_wh: tuple[int, int]) -> Canvas:
    """Draw a random (H, W, 3) BGR background."""
    canvas = _gradient(rng, image_wh, 0.6)
    scene = weighted_choice(rng, SCENE_PROBABILITIES)
    if scene == "room":
        _draw_room(rng, canvas)
    elif scene == "street":
        _draw_street(rng, canvas)
    canvas += _grain(rng, image_wh, 2.0 if scene == "texture" else 1.0)
    for _ in range(rng.poisson(CLUTTER_MEAN)):
        _draw_clutter(rng, canvas)
    return canvas


def _gradient(rng: np.random.Generator, image_wh: tuple[int, int], strength: float) -> Canvas:
    corners = np.array([background_color(rng) for _ in range(4)]).reshape(2, 2, 3)
    mean = corners.mean(axis=(0, 1))
    corners = (mean + (corners - mean) * strength).astype(np.float32)
    return np.asarray(cv2.resize(corners, image_wh, interpolation=cv2.INTER_LINEAR), np.float32)


def _grain(rng: np.random.Generator, image_wh: tuple[int, int], strength: float) -> Canvas:
    width, height = image_wh
    cells = int(rng.integers(4, 40))
    grain = rng.normal(0, strength * rng.uniform(*GRAIN_STD), (cells * height // width + 2, cells)).astype(np.float32)
    return np.asarray(cv2.resize(grain, image_wh, interpolation=cv2.INTER_CUBIC)[..., None], np.float32)


def _draw_room(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw a wall with picture frames, a floor of boards, and a baseboard."""
    height, width = canvas.shape[:2]
    floor = height * rng.uniform(0.45, 0.65)
    for _ in range(rng.integers(0, 4)):
        left, top = rng.uniform((0, 0), (width, floor * 0.6))
        right, bottom = left + height * rng.uniform(0.15, 0.4), top + height * rng.uniform(0.12, 0.4)
        border = height * 0.012
        fill(canvas, box(left, top, right, min(bottom, floor)), background_color(rng))
        inner = box(left + border, top + border, right - border, min(bottom, floor) - border)
        fill(canvas, inner, background_color(rng) * 0.5 + 110)
    boards = background_color(rng)
    _draw_ground(rng, canvas, floor, boards)
    for x in np.arange(-1.0, 2.0, rng.uniform(0.12, 0.3)) * width:
        seam = [(x, floor), (x + 1.2, floor), (x * 2 - width / 2 + 2.4, height), (x * 2 - width / 2, height)]
        fill(canvas, np.array(seam), boards * 0.75)
    fill(canvas, box(0, floor - height * 0.02, width, floor), boards * 0.6)


def _draw_street(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw sky, houses with windows, trees and ground."""
    height, width = canvas.shape[:2]
    horizon = height * rng.uniform(0.35, 0.55)
    sky = np.array([rng.uniform(180, 245), rng.uniform(170, 225), rng.uniform(150, 225)])
    fill(canvas, box(0, 0, width, horizon), sky)
    x = width * rng.uniform(-0.2, 0.2)
    while x < width:
        breadth, top = height * rng.uniform(0.2, 0.5), horizon * rng.uniform(0.0, 0.7)
        if rng.random() < 0.7:
            _draw_house(rng, canvas, box(x, top, x + breadth, horizon))
        x += breadth * rng.uniform(0.9, 1.3)
    _draw_ground(rng, canvas, horizon, background_color(rng))
    for _ in range(rng.integers(0, 3)):
        _draw_tree(rng, canvas, np.array([rng.uniform(0, width), horizon]), height * rng.uniform(0.15, 0.35))


def _draw_ground(rng: np.random.Generator, canvas: Canvas, top: float, color: Array) -> None:
    height, width = canvas.shape[:2]
    strips = 4
    for index, edge in enumerate(np.linspace(top, height, strips, endpoint=False)):
        fill(canvas, box(0, edge, width, height), color * (0.85 + 0.08 * index))


def _draw_house(rng: np.random.Generator, canvas: Canvas, outline: Array) -> None:
    """Draw a house front; the windows are a tile that is stretched over it."""
    rows, columns = rng.integers(2, 6, 2)
    tile = np.empty((rows * 8, columns * 8, 3), np.float32)
    tile[:] = background_color(rng)
    window = background_color(rng) * rng.uniform(0.4, 1.0)
    for row in range(rows):
        for column in range(columns):
            tile[row * 8 + 2 : row * 8 + 6, column * 8 + 2 : column * 8 + 6] = window
    (left, top), (right, bottom) = outline[0], outline[2]
    tile_to_image = np.array([[(right - left) / tile.shape[1], 0, left], [0, (bottom - top) / tile.shape[0], top]])
    fill(canvas, outline, tile, tile_to_image)


def _draw_tree(rng: np.random.Generator, canvas: Canvas, foot: Array, size: float) -> None:
    fill(canvas, box(-0.06, -0.6, 0.06, 0.1) * size + foot, np.array((40, 60, 80)))
    leaves = np.array((rng.uniform(30, 70), rng.uniform(80, 150), rng.uniform(40, 110)))
    for _ in range(6):
        center = foot + size * rng.uniform((-0.3, -1.2), (0.3, -0.6))
        fill(canvas, center + circle(14) * size * rng.uniform(0.18, 0.32), leaves * rng.uniform(0.75, 1.15))


def _draw_clutter(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw a rectangle, an ellipse, a polygon, or a long thin shape like a limb."""
    height, width = canvas.shape[:2]
    size = height * rng.uniform(0.03, 0.22)
    shapes = (
        box(-1, -1, 1, 1) * rng.uniform(0.4, 1.3, 2),
        circle(20) * rng.uniform(0.5, 1, 2),
        circle(int(rng.integers(3, 7))),
        np.concatenate([circle(12) * 0.14 + (0, -1), circle(12) * 0.11 + (0, 1)]),
    )
    points = size * shapes[rng.integers(len(shapes))]
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    center = rng.uniform((0, 0), (width, height))
    background = canvas[int(center[1]), int(center[0])]
    opacity = min(rng.uniform(0.4, 2.0) * CLUTTER_CONTRAST, 1.0)
    fill(canvas, convex_hull(points @ rotation.T + center), background + (background_color(rng) - background) * opacity)
