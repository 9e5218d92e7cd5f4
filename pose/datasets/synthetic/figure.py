"""Draw one person of the synthetic data set: skin, hair, clothes and face on an articulated body.

Each body part is the convex hull of spheres in orthographic projection, filled with a texture tile: pattern of the
garment and shading of a cylinder. Parts are drawn from far to near. A label map records which part of which person each
pixel shows; visibility, masks and areas are computed from it.

To add clothes or hair, add spheres to `_clothes` or `_head`, and new part names to `PART_NAMES`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose.datasets.synthetic.body import Body
from pose.datasets.synthetic.paint import (
    TILE,
    Canvas,
    Labels,
    circle,
    cloth_color,
    convex_hull,
    fill,
    make_tile,
    weighted_choice,
)
from pose.geometry import Array
from pose.skeleton import COCO

_SIDES = ("left", "right")
_LIMBS = ("upper_arm", "forearm", "hand", "thigh", "shank", "shoe")
_CENTRAL_PARTS = ("pelvis", "shirt", "neck", "head", "hair", "skirt")
PART_NAMES = (*_CENTRAL_PARTS, *(f"{side}_{limb}" for side in _SIDES for limb in _LIMBS))
PERSON_STRIDE = 32
"""A label is ``person * PERSON_STRIDE + part``, both counted from 1; 0 is background."""

# The parts on which a keypoint is visible; {} is the side of the keypoint.
KEYPOINT_PARTS = {
    "nose": ("head",), "eye": ("head",), "ear": ("head",),
    "shoulder": ("shirt", "{}_upper_arm"), "elbow": ("{}_upper_arm", "{}_forearm"), "wrist": ("{}_forearm", "{}_hand"),
    "hip": ("shirt", "pelvis", "skirt", "{}_thigh"), "knee": ("skirt", "{}_thigh", "{}_shank"),
    "ankle": ("{}_shank", "{}_shoe"),
}  # fmt: skip

SKIN_BGR = ((198, 220, 245), (160, 190, 232), (120, 160, 215), (85, 125, 180), (60, 90, 140), (40, 60, 98))
HAIR_BGR = ((25, 25, 28), (35, 50, 75), (60, 100, 150), (110, 180, 225), (160, 160, 165), (40, 70, 170), (150, 60, 120))
PATTERNS = {"plain": 0.4, "rings": 0.17, "stripes": 0.13, "checks": 0.12, "noise": 0.18}

_CIRCLE = circle(16)


@dataclass(frozen=True)
class Appearance:
    """Skin, hair and clothes of a person; tiles are (TILE, TILE, 3) BGR, x along the limb and y across it.

    Attributes:
        skin: tile.
        hair: tile.
        shirt: tile.
        trousers: tile; also of shorts and skirt.
        shoes: tile; also of a cap.
        sleeves: ``long``, ``short`` or ``none``.
        legwear: ``long``, ``shorts`` or ``skirt``.
        hairstyle: ``short``, ``long``, ``bun``, ``bald`` or ``cap``.
    """

    skin: Canvas
    hair: Canvas
    shirt: Canvas
    trousers: Canvas
    shoes: Canvas
    sleeves: str
    legwear: str
    hairstyle: str


@dataclass(frozen=True)
class Part:
    """One drawn body part.

    Attributes:
        name: one of `PART_NAMES`.
        spheres: centers (3,) and radii in statures.
        tile: (TILE, TILE, 3) BGR texture.
        depth_offset: added to the depth; negative moves the part toward the viewer.
        axis: start and end (3,) of the tile; by default the centers of the first and the last sphere.
    """

    name: str
    spheres: Sequence[tuple[Array, float]]
    tile: Canvas
    depth_offset: float = 0.0
    axis: tuple[Array, Array] | None = None

    @property
    def depth(self) -> float:
        """Mean depth of the spheres plus the offset."""
        return float(np.mean([point[2] for point, _ in self.spheres])) + self.depth_offset


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Sample clothes, skin and hair."""
    skin = np.array(SKIN_BGR[rng.integers(len(SKIN_BGR))]) * rng.uniform(0.92, 1.05)
    hair = np.array(HAIR_BGR[rng.choice(len(HAIR_BGR), p=(0.3, 0.22, 0.15, 0.13, 0.1, 0.06, 0.04))])
    return Appearance(
        skin=make_tile(rng, skin, "plain"),
        hair=make_tile(rng, hair * rng.uniform(0.8, 1.2), "stripes", contrast=0.15),
        shirt=make_tile(rng, cloth_color(rng), weighted_choice(rng, PATTERNS)),
        trousers=make_tile(rng, cloth_color(rng), weighted_choice(rng, PATTERNS | {"plain": 1.2})),
        shoes=make_tile(rng, cloth_color(rng), "plain"),
        sleeves=weighted_choice(rng, {"long": 0.45, "short": 0.4, "none": 0.15}),
        legwear=weighted_choice(rng, {"long": 0.62, "shorts": 0.26, "skirt": 0.12}),
        hairstyle=weighted_choice(rng, {"short": 0.5, "long": 0.28, "bun": 0.08, "bald": 0.06, "cap": 0.08}),
    )


def draw_person(
    canvas: Canvas, labels: Labels, body: Body, appearance: Appearance, origin: Array, stature_px: float, person: int
) -> None:
    """Draw a person on the canvas and the label map.

    Args:
        canvas: (H, W, 3) BGR, changed in place.
        labels: (H, W) label map, changed in place.
        body: pose.
        appearance: skin, hair and clothes.
        origin: (2,) midpoint of the hips in image pixels.
        stature_px: stature in image pixels.
        person: number of the person, from 1.
    """
    parts = sorted([*_clothes(body, appearance), *_head(body, appearance)], key=lambda part: -part.depth)
    for part in parts:
        # parts farther from the viewer are slightly darker
        light = np.float32(np.clip(1 - 0.8 * part.depth, 0.75, 1.1))
        part = replace(part, tile=part.tile * light)
        draw_part(canvas, labels, part, origin, stature_px, person * PERSON_STRIDE + PART_NAMES.index(part.name) + 1)
        if part.name == "head":
            _draw_face(canvas, body, appearance, origin, stature_px)


def draw_part(canvas: Canvas, labels: Labels, part: Part, origin: Array, stature_px: float, label: int) -> None:
    """Draw the convex hull of a part's spheres, textured along its axis.

    Args:
        canvas: (H, W, 3) BGR, changed in place.
        labels: (H, W) label map, changed in place.
        part: body part.
        origin: (2,) midpoint of the hips in image pixels.
        stature_px: stature in image pixels.
        label: value for the label map.
    """
    centers = origin + stature_px * np.array([point[:2] for point, _ in part.spheres])
    radii = stature_px * np.array([radius for _, radius in part.spheres])
    outline = convex_hull((centers[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2))
    start, end = part.axis or (part.spheres[0][0], part.spheres[-1][0])
    axis = (end - start)[:2]
    length = float(np.hypot(*axis))
    unit = axis / length if length > 1e-6 else np.array([0.0, 1.0])
    normal = np.array([-unit[1], unit[0]])
    along, across = outline @ unit, outline @ normal
    u, v = (along.min(), along.max()), (across.min(), across.max())
    tile_to_image = np.column_stack(
        [unit * (u[1] - u[0]) / TILE, normal * (v[1] - v[0]) / TILE, unit * u[0] + normal * v[0]]
    )
    fill(canvas, outline, part.tile, tile_to_image, labels, label)


def visible_keypoints(labels: Labels, body: Body, keypoints_image: Array, person: int) -> NDArray[np.bool_]:
    """Return (17,) whether each keypoint is visible, from the finished label map.

    Args:
        labels: (H, W) label map.
        body: pose.
        keypoints_image: (17, 2) in image pixels; the result is undefined outside the image.
        person: number of the person.
    """
    height, width = labels.shape
    x, y = np.clip(np.round(keypoints_image).astype(int), 0, (width - 1, height - 1)).T
    valid_labels = [_keypoint_labels(name, person) for name in COCO.names]
    visible = [label in valid for label, valid in zip(labels[y, x].tolist(), valid_labels, strict=True)]
    return np.array(visible) & body.facing


def _keypoint_labels(name: str, person: int) -> list[int]:
    side, _, joint = name.rpartition("_")
    parts = [part.format(side) for part in KEYPOINT_PARTS[joint]]
    return [person * PERSON_STRIDE + PART_NAMES.index(part) + 1 for part in parts]


def _clothes(body: Body, appearance: Appearance) -> Iterator[Part]:
    """Yield all parts below the head."""
    at, girth = body.points, body.girth
    waist = [(at["left_waist"], 0.056 * girth), (at["right_waist"], 0.056 * girth)]
    hips = [(at["left_hip"], 0.052 * girth), (at["right_hip"], 0.052 * girth)]
    shoulders = [(at["left_shoulder"], 0.042), (at["right_shoulder"], 0.042)]
    middle, bottom = (at["left_waist"] + at["right_waist"]) / 2, (at["left_hip"] + at["right_hip"]) / 2
    yield Part("pelvis", [*waist, *hips], appearance.trousers, 0.03, (middle, bottom))
    top = [(at["neck"], 0.035), *shoulders, (at["chest"], 0.075 * girth), *waist]
    yield Part("shirt", top, appearance.shirt, 0.01, (at["neck"], middle))
    yield Part("neck", [(at["neck"], 0.033), (at["head"], 0.03)], appearance.skin, 0.02)
    if appearance.legwear == "skirt":
        left_hem, right_hem = (at[f"{side}_hip"] * 0.25 + at[f"{side}_knee"] * 0.75 for side in _SIDES)
        hems = [(left_hem, 0.07 * girth), (right_hem, 0.07 * girth)]
        yield Part("skirt", [*waist, *hips, *hems], appearance.trousers, -0.012, (middle, (left_hem + right_hem) / 2))
    for side in _SIDES:
        yield from _arm(body, appearance, side)
        yield from _leg(body, appearance, side)


def _arm(body: Body, appearance: Appearance, side: str) -> Iterator[Part]:
    shoulder, elbow, wrist, hand = (body.points[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist", "hand"))
    girth = body.girth
    sleeve_tile = appearance.shirt if appearance.sleeves == "long" else appearance.skin
    upper = [(shoulder, 0.041 * girth), (elbow, 0.031 * girth)]
    yield Part(f"{side}_upper_arm", upper, sleeve_tile, -0.02)
    if appearance.sleeves == "short":
        sleeve = [(shoulder, 0.043 * girth), (shoulder * 0.4 + elbow * 0.6, 0.042 * girth)]
        yield Part(f"{side}_upper_arm", sleeve, appearance.shirt, -0.025 + 0.2 * (elbow - shoulder)[2])
    yield Part(f"{side}_hand", [(wrist, 0.02), (hand, 0.021)], appearance.skin, -0.02)
    yield Part(f"{side}_forearm", [(elbow, 0.03 * girth), (wrist, 0.021 * girth)], sleeve_tile, -0.03)


def _leg(body: Body, appearance: Appearance, side: str) -> Iterator[Part]:
    hip, knee, ankle, heel, toe = (body.points[f"{side}_{name}"] for name in ("hip", "knee", "ankle", "heel", "toe"))
    girth = body.girth
    thigh_tile = appearance.skin if appearance.legwear == "skirt" else appearance.trousers
    shank_tile = appearance.trousers if appearance.legwear == "long" else appearance.skin
    yield Part(f"{side}_thigh", [(hip, 0.058 * girth), (knee, 0.042 * girth)], thigh_tile, 0.0)
    yield Part(f"{side}_shank", [(knee, 0.041 * girth), (ankle, 0.026 * girth)], shank_tile, 0.02)
    yield Part(f"{side}_shoe", [(heel, 0.024), (ankle, 0.024), (toe, 0.02)], appearance.shoes, 0.0)


def _head(body: Body, appearance: Appearance) -> Iterator[Part]:
    """Yield head and hair; `_draw_face` adds the face."""
    at = body.points
    width = float(np.linalg.norm(body.head[:, 0]))
    crown = at["head"] + body.head @ (0.0, -0.25, 0.12)
    chin = at["head"] + body.head @ (0.0, 0.35, -0.1)
    tile = appearance.skin if appearance.hairstyle == "bald" else appearance.hair
    yield Part("head", [(crown, width * 1.04), (chin, width * 0.88)], tile, -0.015)
    if appearance.hairstyle == "long":
        back = at["head"] + body.head @ (0.0, 0.0, 0.3)
        yield Part("hair", [(back, width), (at["hair_tip"], width * 0.8)], appearance.hair)
    if appearance.hairstyle == "cap":
        dome, peak = (at["head"] + body.head @ direction for direction in ((0.0, -0.42, 0.08), (0.0, -0.5, -1.15)))
        yield Part("hair", [(dome, width * 1.02), (peak, width * 0.3)], appearance.shoes, -0.03)
    if appearance.hairstyle == "bun":
        bun = at["head"] + body.head @ (0.0, -0.9, 0.75)
        yield Part("hair", [(bun, width * 0.45), (bun, width * 0.45)], appearance.hair)


def _draw_face(canvas: Canvas, body: Body, appearance: Appearance, origin: Array, stature_px: float) -> None:
    """Draw the part of the face that is turned to the viewer: skin, then ears, eyes, nose and mouth."""
    skin = appearance.skin[TILE // 2, TILE // 2]
    front = _FACE_CAP @ body.head.T
    front = front[front[:, 2] < 0]
    if len(front) > 2:
        outline = origin + stature_px * (body.points["head"] + front)[:, :2]
        fill(canvas, convex_hull(outline), skin)
    width = float(np.linalg.norm(body.head[:, 0]))
    facing = dict(zip(COCO.names, body.facing, strict=True))
    spots = [("left_ear", 0.26, skin * 0.88), ("right_ear", 0.26, skin * 0.88)]
    spots += [(eye, radius, color) for eye in ("left_eye", "right_eye") for radius, color in _EYE]
    spots += [("nose", 0.17, skin * np.float32(0.72))]
    for name, radius, color in spots:
        if facing[name]:
            center = origin + stature_px * body.points[name][:2]
            fill(canvas, center + stature_px * width * radius * _CIRCLE, color)
    mouth = (body.points["head"] + _MOUTH @ body.head.T)[:, :2]
    if facing["nose"] and (body.head @ (0.0, 0.5, -0.85))[2] < -0.02:
        fill(canvas, convex_hull(origin + stature_px * mouth), np.array((60, 50, 150)))


def _face_cap() -> Array:
    """Return unit vectors that cover the face: a spherical cap around a point slightly below the nose."""
    tilt, polar = np.deg2rad(20.0), np.deg2rad(np.linspace(0, 66, 7))
    azimuth = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    polar, azimuth = (grid.ravel() for grid in np.meshgrid(polar, azimuth))
    cap = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), -np.cos(polar)], axis=1)
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.stack([cap[:, 0], cap[:, 1] * cos - cap[:, 2] * sin, cap[:, 1] * sin + cap[:, 2] * cos], axis=1)


_FACE_CAP = _face_cap()
_EYE = ((0.24, np.array((245, 245, 245), np.float32)), (0.16, np.array((30, 25, 25), np.float32)))
_MOUTH = np.array([(-0.3, 0.5, -0.85), (0.3, 0.5, -0.85), (0.0, 0.6, -0.8)])
