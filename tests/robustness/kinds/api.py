"""The Python API of prediction: images, boxes, `Poses`, and the functions on arrays."""

import datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import PIL.Image
import torch
from harness import Answer, Case
from mutate import VALUES, Raw, brief

from kinds.weights import image
from pose.errors import PoseError
from pose.evaluation.oks import oks_nms
from pose.geometry import iou
from pose.heatmap import decode, encode, flip_average
from pose.skeleton import COCO

DTYPES = ("f2", "f4", "f8", "i1", "u1", "i4", "i8", "u8", "?", "c8", "S3", "U3", "O", "M8[s]", "m8[s]")
NUMBERS = (0, 1, -1, 0.5, 10, 60, 100, 1e6, 1e12, 3e38, 1e300, np.nan, np.inf, -np.inf, 1e-40)
BAD, OPEN, GOOD = "refused", "either", "right"


@lru_cache
def predictor(world: Path) -> Any:
    from pose import PosePredictor

    return PosePredictor(world / "weights.pt", "cpu", flip=False)


def plain(rng: Random) -> Any:
    """Return a Python value by chance."""
    value = rng.choice(VALUES)
    return str(value)[:50] if isinstance(value, Raw) else value


# --- boxes and images


def some_boxes(rng: Random) -> tuple[Any, str, str]:
    """Return boxes, a text, and the expected outcome."""
    good = [
        [rng.uniform(0, 30), rng.uniform(0, 20), rng.uniform(5, 30), rng.uniform(5, 25)]
        for _ in range(rng.choice((1, 1, 3)))
    ]
    match rng.randrange(12):
        case 0:
            kind = rng.choice(DTYPES)
            with np.errstate(all="ignore"):
                try:
                    boxes = np.array(good).astype(kind)
                except (TypeError, ValueError):
                    boxes = np.array(good, object)
            wrong = boxes.dtype.kind in "?bcSUMmO" or (boxes.dtype.kind in "fiu" and not (boxes[:, 2:] > 0).all())
            return boxes, f"boxes of {boxes.dtype}", BAD if wrong else GOOD
        case 1:
            rows = [list(row) for row in good]
            value = rng.choice(NUMBERS)
            rows[-1][rng.randrange(4)] = value
            return rows, f"boxes with {value}", OPEN if abs(value) < 1e30 else BAD
        case 2:
            rows = [list(row) for row in good]
            value = plain(rng)
            rows[-1][rng.randrange(4)] = value
            return rows, f"boxes with {brief(value)}", OPEN if isinstance(value, (int, float)) else BAD
        case 3:
            value = plain(rng)
            return value, f"boxes {brief(value)}", OPEN
        case 4:
            shape = rng.choice(((4,), (1, 5), (1, 3), (2, 2, 4), (0, 4), (0,), (1, 4, 1), (4, 1)))
            return np.full(shape, 10.0), f"boxes of shape {shape}", GOOD if 0 in shape else BAD
        case 5:
            mask = np.zeros((len(good), 4), bool)
            mask[0, rng.randrange(4)] = True
            return np.ma.masked_array(good, mask), "masked boxes", BAD
        case 6:
            value = rng.choice(
                (datetime.datetime(2020, 1, 1), b"1234", "1234", 1 + 2j, torch.ones(1, 4), {1: 2}, {1, 2}, iter(good))
            )
            return value, f"boxes of {type(value).__name__}", OPEN if isinstance(value, torch.Tensor) else BAD
        case 7:
            return torch.tensor(good), "boxes as tensor", GOOD
        case 8:
            return [[True, False, True, True]], "boxes of True", BAD
        case 9:
            return [[str(v) for v in good[0]]], "boxes of text", BAD
        case 10:
            return [tuple(good[0]), good[0][:3]], "ragged boxes", BAD
        case _:
            return good, "good boxes", GOOD


def some_image(rng: Random, world: Path) -> tuple[Any, str, str]:
    """Return an image, a text, and the expected outcome."""
    match rng.randrange(10):
        case 0:
            kind = rng.choice(DTYPES)
            try:
                source = image().astype(kind)
            except (TypeError, ValueError):
                source = image().astype(object)
            return source, f"image of {source.dtype}", GOOD if source.dtype == np.uint8 else BAD
        case 1:
            shape = rng.choice(
                (
                    (48, 64),
                    (48, 64, 4),
                    (48, 64, 1),
                    (3, 48, 64),
                    (0, 64, 3),
                    (48, 0, 3),
                    (1, 1, 3),
                    (0,),
                    (),
                    (1, 2, 3, 4),
                )
            )
            return (
                np.zeros(shape, np.uint8),
                f"image of {shape}",
                GOOD if shape == (1, 1, 3) else OPEN if len(shape) == 4 else BAD,
            )
        case 2:
            mode = rng.choice(("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "HSV", "YCbCr", "I", "F", "I;16", "LA"))
            return PIL.Image.new(mode, (64, 48)), f"PIL image {mode}", OPEN
        case 3:
            value = rng.choice((0.5, 2.0, -1.0, float("nan"), float("inf")))
            kind = rng.choice((torch.float32, torch.float16, torch.float64, torch.int32, torch.bool, torch.complex64))
            tensor = torch.full((3, 48, 64), value).to(kind) if np.isfinite(value) else torch.full((3, 48, 64), value)
            good = tensor.is_floating_point() and 0 <= value <= 1
            return tensor, f"tensor of {tensor.dtype} {value}", GOOD if good else BAD
        case 4:
            value = plain(rng)
            return value, f"image {brief(value)}", OPEN
        case 5:
            return image()[::2, ::-1], "a view of an image", GOOD
        case 6:
            name = rng.choice(
                (
                    "a\x00b",
                    "\udcff",
                    "x" * 300,
                    "",
                    ".",
                    "loop",
                    "/proc/self/mem",
                    b"x",
                    "http://127.0.0.1:9/a",
                    "http://[",
                )
            )
            return name, f"path {brief(name)}", BAD
        case 7:
            return [image(), image()], "two images", OPEN
        case 8:
            return np.ma.masked_array(image(), mask=True), "masked image", OPEN
        case _:
            return image(), "good image", GOOD


def predictor_calls(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a call of a predictor, or of a method of its poses."""
    (folder / "loop").symlink_to("loop")
    if rng.random() < 0.3:
        return _poses_method(rng, world)
    source, source_text, source_status = some_image(rng, world) if rng.random() < 0.5 else (image(), "good image", GOOD)
    boxes, boxes_text, boxes_status = some_boxes(rng) if rng.random() < 0.7 else ([[5, 5, 20, 30]], "good boxes", GOOD)
    style: Any = "xywh"
    if rng.random() < 0.1:
        style = plain(rng)
    statuses = {source_status, boxes_status, GOOD if style == "xywh" else OPEN if style == "xyxy" else BAD}
    expected = BAD if BAD in statuses else OPEN if OPEN in statuses else GOOD

    def check(answer: Answer) -> str | None:
        for poses in answer.value if isinstance(answer.value, list) else [answer.value]:
            if not (np.isfinite(poses.keypoints).all() and np.isfinite(poses.scores).all()):
                return "keypoints or scores that are not finite"
            if not np.isfinite(poses.bboxes_xywh).all():
                return "boxes that are not finite"
        return None

    what = f"predictor({source_text}, {boxes_text}, {brief(style)})"
    return Case(what, lambda: predictor(world)(source, boxes, boxes_format=style), expected, check)


def _poses_method(rng: Random, world: Path) -> Case:
    poses = predictor(world)(image(), [[5, 5, 20, 30], [1, 1, 40, 40]])
    value = plain(rng)
    calls = {
        "[]": (lambda: poses[value], (IndexError,)),
        "to_coco": (lambda: poses.to_coco(value), (TypeError, ValueError)),
        "to_csv": (lambda: poses.to_csv(value), (TypeError,)),
        "plot threshold": (lambda: poses.plot(image(), keypoint_threshold=value), (TypeError,)),
        "plot color": (lambda: poses.plot(image(), color=value), ()),
        "plot image": (lambda: poses.plot(value), ()),
        "save": (lambda: poses.save(value, image()), (TypeError,)),
    }
    name = rng.choice(list(calls))
    if name in ("to_csv", "save") and isinstance(value, str) and value.startswith("/"):
        value = "x"  # never write to a device

    def check(answer: Answer) -> str | None:
        if name == "to_coco" and isinstance(value, int):
            return None if {row["image_id"] for row in answer.value} == {value} else "another image_id"
        return f"image_id {brief(value)} gives {answer.value[0]['image_id']}" if name == "to_coco" else None

    act, errors = calls[name]
    return Case(f"poses.{name}({brief(value)})", act, check=check, errors=(PoseError, *errors))


# --- arrays


def some_maps(rng: Random) -> Any:
    shape = rng.choice(
        ((2, 17, 16, 12), (17, 16, 12), (16, 12), (0, 17, 16, 12), (1, 1, 1, 1), (1, 2, 3, 3), (12,), (), (1, 1, 0, 5))
    )
    maps = (
        np.random.default_rng(rng.randrange(1 << 30))
        .normal(size=shape)
        .astype(rng.choice(("f4", "f2", "f8", "i4", "u1", "?")))
    )
    if maps.size and maps.dtype.kind == "f" and rng.random() < 0.3:
        maps.reshape(-1)[rng.randrange(maps.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e30))
    return maps


def arrays(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a function on arrays; the answers are compared with a slow computation."""
    errors = (PoseError, ValueError, TypeError, IndexError)
    match rng.randrange(4):
        case 0 | 1:
            maps, method = some_maps(rng), rng.choice(("quarter", "dark", "dark", plain(rng)))
            sigma = rng.choice((2, 2.0, 1, 0.5, 0, -1, 1e-3, 50, float("nan"), "2", None))

            def check(answer: Answer) -> str | None:
                keypoints, scores = answer.value
                if not maps.size or maps.ndim < 2:
                    return None
                flat = maps.reshape(-1, maps.shape[-2] * maps.shape[-1]).astype(np.float64)
                if np.isnan(flat).any():
                    return None
                with np.errstate(over="ignore"):
                    peaks = flat.max(axis=1).astype(np.float32)
                if not np.array_equal(scores.reshape(-1), peaks):
                    return "scores that are not the peaks"
                size = np.array([maps.shape[-1], maps.shape[-2]])
                inside = (keypoints >= -1e-6) & (keypoints <= size)
                return None if np.isfinite(keypoints).all() and inside.all() else f"keypoints outside of {maps.shape}"

            what = f"decode({maps.dtype} {maps.shape}, {brief(method)}, {brief(sigma)})"
            return Case(what, lambda: decode(maps, method, sigma), check=check, errors=errors)
        case 2:
            points = np.random.default_rng(rng.randrange(1 << 30)).uniform(-20, 80, (17, 2))
            points[rng.randrange(17)] = rng.choice(NUMBERS)
            visible = np.array([rng.choice((0, 1, 2)) for _ in range(17)])

            def check_targets(answer: Answer) -> str | None:
                maps, weights = answer.value
                if not np.isfinite(maps).all() or not set(np.unique(weights)) <= {0, 1}:
                    return "targets that are not finite"
                return "a target without weight" if maps[weights == 0].any() else None

            return Case("encode", lambda: encode(points, visible, (16, 16)), check=check_targets, errors=errors)
        case _:
            maps = some_maps(rng)
            boxes = np.random.default_rng(rng.randrange(1 << 30)).uniform(0, 50, (3, 4))
            points = boxes[:, None, :2] + np.zeros((3, 17, 2))
            scores = np.array([rng.choice(NUMBERS) for _ in range(3)])

            def act() -> Any:
                return (
                    iou(boxes, boxes),
                    oks_nms(points, np.ones(3), scores, 0.9, COCO.sigmas),
                    flip_average(maps, maps, ()),
                )

            def check_all(answer: Answer) -> str | None:
                overlaps, kept, _ = answer.value
                good = np.isfinite(overlaps).all() and overlaps.min() >= 0 and overlaps.max() <= 1 + 1e-9
                return None if good and len(set(np.asarray(kept).tolist())) == len(kept) else "overlaps or kept rows"

            return Case(f"iou, oks_nms {scores.tolist()}, flip_average", act, check=check_all, errors=errors)
