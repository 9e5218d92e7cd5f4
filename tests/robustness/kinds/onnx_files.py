"""Exported models, detectors and teachers: damaged files of ours, and models of other people."""

from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from harness import Answer, Case, command
from mutate import VALUES, brief, damage_bytes, damage_tree, dump_json
from world import write_onnx

from kinds.coco_files import link
from kinds.weights import BOX, image

SHAPES: tuple[tuple[int | str, ...], ...] = (
    ("N", 3, "H", "W"), (1, 3, 64, 64), (1, 3, 256, 192), ("N", 3, 256, 192), (1, 256, 192, 3), (4, 3, 64, 64),
    (3, 64, 64), (3, "H", "W"), (1, 3), (), (1, 3, 0, 0), (1, 3, 100000, 100000), (1, 3, 1, 1), (1, 1, 64, 64),
    (1, 4, 64, 64), (0, 3, 64, 64), (1, 3, 3, 3), (1, "C", "H", "W"), ("N", "H", "W", 3), (1, 3, 64, 64, 1),
    (1, 3, 416, 416), (1, 3, "H", 64),
)  # fmt: skip
OUTPUT_SHAPES: tuple[tuple[int, ...], ...] = (
    (1, 17, 64, 48), (1, 17, 16, 16), (2, 4), (2,), (1, 2, 5), (1, 2), (1, 84, 6), (1, 84, 85), (1, 2, 4), (1, 80, 2),
    (1, 1, 2), (1, 17, 2), (1, 1, 17, 3), (), (0,), (0, 4), (1, 0, 5), (1, 100, 6), (1, 2, 6), (1, 17, 64, 49),
    (3, 17, 64, 48), (1, 5, 2),
)  # fmt: skip
TYPES = {1: np.float32, 2: np.uint8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
NAMES = ("image", "images", "crops", "input", "x", "", "scale_factor")
OUTPUT_NAMES = ("boxes", "labels", "scores", "dets", "heatmaps", "keypoints", "output", "b")


def backend_files(name: str) -> tuple[str, ...]:
    return ("model.onnx",) if name == "model.onnx" else ("model.xml", "model.bin")


def run_exported(folder: Path, name: str) -> Any:
    """Return keypoints and scores, (1, K, 3), of an exported model."""
    from pose import ExportedPredictor

    poses = ExportedPredictor(folder / name, threads=1)(image(), BOX)
    return np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1)


@lru_cache
def expected_keypoints(world: Path, name: str) -> Any:
    return run_exported(world, name)


def exports(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged exported model, of one with other metadata, or of a model of other people."""
    name = rng.choice([name for name in ("model.onnx", "model.onnx", "model.xml") if (world / name).exists()])
    damaged = rng.random()
    same_or_refused = False
    if damaged < 0.55:
        files = backend_files(name)
        hurt = rng.choice(files)
        for file in files:
            (folder / file).write_bytes((world / file).read_bytes())
        content, what = damage_bytes(rng, (world / hurt).read_bytes())
        (folder / hurt).write_bytes(content)
        what, same_or_refused = f"{hurt}: {what}", True
    elif damaged < 0.8:
        name = "model.onnx"
        what = _other_metadata(rng, world / name, folder / name)
    else:
        name, what = "model.onnx", foreign_model(rng, folder / "model.onnx", dict(_properties(world / "model.onnx")))

    def check(answer: Answer) -> str | None:
        if not np.isfinite(answer.value).all() or np.abs(answer.value).max() > 1e6:
            return "keypoints or scores that are not finite"
        if not np.logical_and(answer.value[..., 2] > -1e-3, answer.value[..., 2] < 10).all() and not same_or_refused:
            return None
        if same_or_refused and not np.array_equal(answer.value, expected_keypoints(world, name)):
            return "damaged bytes, and other keypoints"
        return None

    if rng.random() < 0.85:
        return Case(f"predict: {what}", lambda: run_exported(folder, name), check=check)
    link(world, folder, "config.yaml", "persons.json", "images", "boxes.json", "photos")
    if rng.random() < 0.5:
        arguments = ("--cfg", "config.yaml", "--weights", name, "--gt-boxes", "--output", "out")
        return Case(f"test: {what}", command("test", *arguments))
    arguments = ("photos/photo.png", "--weights", name, "--detector", "none", "--save", "json", "--output", "out")
    return Case(f"predict: {what}", command("predict", *arguments))


@lru_cache
def _properties(path: Path) -> tuple[tuple[str, str], ...]:
    import onnx

    return tuple((p.key, p.value) for p in onnx.load(str(path)).metadata_props)


def _other_metadata(rng: Random, source: Path, target: Path) -> str:
    import json

    import onnx

    model = onnx.load(str(source))
    properties = {p.key: p.value for p in model.metadata_props}
    key = rng.choice(list(properties))
    try:
        tree, what = damage_tree(rng, json.loads(properties[key]))
        properties[key] = dump_json(tree)
    except ValueError:
        value = rng.choice(VALUES)
        properties[key], what = str(value), brief(value)
    if rng.random() < 0.1:
        del properties[key]
        what = "removed"
    del model.metadata_props[:]
    for name, value in properties.items():
        if len(value) < 10000:
            onnx.helper.set_model_props(
                model, {**{p.key: p.value for p in model.metadata_props}, name: _encodable(value)}
            )
    onnx.save(model, str(target))
    return f"metadata {key}: {what}"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def foreign_model(rng: Random, path: Path, properties: dict[str, str] | None = None) -> str:
    """Write a model with inputs and outputs by chance, now and then with the metadata of one of ours."""
    import onnx

    shape, kind = rng.choice(SHAPES), rng.choice((1, 1, 1, *TYPES))
    outputs, stated = {}, {}
    for name in rng.sample(OUTPUT_NAMES, rng.choice((0, 1, 1, 2, 3, 3))):
        dtype = rng.choice((np.float32, np.float32, np.int64, *TYPES.values()))
        value = np.full(rng.choice(OUTPUT_SHAPES), rng.choice((0, 1, 0.5, 7, -1, 1e30, np.nan, np.inf)))
        with np.errstate(all="ignore"):
            outputs[name] = value.astype(dtype)
        if rng.random() < 0.15:
            stated[name] = rng.choice(("N", 5)), *value.shape[1:]
    inputs = rng.choice((1, 1, 1, 1, 2))
    name = rng.choice(NAMES[:1] * 5 + NAMES)
    write_onnx(path, shape, outputs, input_type=kind, input_name=name, stated=stated, inputs=inputs)
    if properties and rng.random() < 0.5:
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, str(path))
    shapes = {name: (value.dtype.name, value.shape) for name, value in outputs.items()}
    return f"{inputs} inputs {name} {shape} type {kind}, outputs {shapes}"


# --- detectors and teachers


def detectors(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged detector, or of a model that may be none."""
    path = folder / "detector.onnx"
    if rng.random() < 0.25:
        content, what = damage_bytes(rng, (world / "detector.onnx").read_bytes())
        path.write_bytes(content)
    elif rng.random() < 0.5:
        what = _likely_detector(rng, path)
    else:
        what = foreign_model(rng, path)

    def detect() -> Any:
        from pose.inference.detectors import load_detector

        return load_detector(str(path))([image()])[0]

    def check(answer: Answer) -> str | None:
        boxes, scores = answer.value
        if boxes.shape != (len(scores), 4) or not np.isfinite(boxes).all() or not np.isfinite(scores).all():
            return f"boxes {boxes.shape}, scores {scores.shape}, not finite"
        if len(boxes) and (boxes[:, :2].min() < 0 or (boxes[:, :2] + boxes[:, 2:] - (64, 48)).max() > 1e-3):
            return f"boxes outside the image: {boxes.tolist()[:2]}"
        return (
            f"scores {scores.tolist()[:3]}"
            if len(scores) and not 0 <= scores.min() <= scores.max() <= 1 + 1e-6
            else None
        )

    target = rng.random()
    if target < 0.8:
        return Case(f"detect: {what}", detect, check=check)
    link(world, folder, "photos")
    if target < 0.9:
        act = command("detect", "--detector", "detector.onnx", "--images", "photos", "--output", "boxes.json")
        return Case(f"detect: {what}", act)
    return Case(f"detector set: {what}", command("detector", "set", "detector.onnx"))


def _likely_detector(rng: Random, path: Path) -> str:
    """Write a model with the inputs and outputs of a known format, and values by chance."""
    value = rng.choice((0.5, 3.0, -5.0, 0.0, 1e30, np.nan, np.inf, 700.0))
    count = rng.choice((0, 1, 2, 84, 3549))
    boxes = np.full((count, 4), value, np.float32)
    if count and rng.random() < 0.5:
        boxes[:, 2:] += 20
    scores = np.full(count, rng.choice((0.9, 2.0, -1.0, np.nan)), np.float32)
    labels = np.full(count, rng.choice((0, 1, 2, -1)))
    match rng.randrange(4):
        case 0:
            outputs = {"boxes": boxes, "labels": labels, "scores": scores[: rng.choice((count, max(0, count - 1)))]}
            shape: tuple[int | str, ...] = rng.choice((("N", 3, "H", "W"), (3, "H", "W"), (1, 3, 64, 64)))
        case 1:
            outputs = {"dets": np.concatenate([boxes, scores[:, None]], axis=1)[None], "labels": labels[None]}
            shape = (1, 3, 64, 64)
        case 2:
            outputs = {"boxes": boxes[None], "scores": scores[None, None].repeat(rng.choice((1, 80)), 1)}
            shape = (1, 3, 64, 64)
        case _:
            outputs = {
                "output": np.full((1, 84 if rng.random() < 0.7 else 83, rng.choice((85, 6, 5))), value, np.float32)
            }
            shape = (1, 3, 64, 64)
    write_onnx(path, shape, outputs)
    return f"{ {name: array.shape for name, array in outputs.items()} } of {value}, {shape}"


def teachers(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged teacher, or of a model that may be none."""
    path = folder / "teacher.onnx"
    if rng.random() < 0.3:
        content, what = damage_bytes(rng, (world / "teacher.onnx").read_bytes())
        path.write_bytes(content)
    else:
        what = foreign_model(rng, path)

    def predict() -> Any:
        from pose.config.pose import InputConfig
        from pose.inference.teacher import Teacher
        from pose.skeleton import COCO

        return Teacher(path, COCO, InputConfig())(image(), BOX)

    def check(answer: Answer) -> str | None:
        finite = np.isfinite(answer.value.keypoints).all() and np.isfinite(answer.value.scores).all()
        return None if finite else "keypoints or scores that are not finite"

    if rng.random() < 0.85:
        return Case(f"teacher: {what}", predict, check=check)
    link(world, folder, "photos", "detector.onnx")
    flags = ("--detector", "detector.onnx", "--teacher", "teacher.onnx", "--output", "labels.json")
    return Case(f"label: {what}", command("label", "--images", "photos", *flags))
