"""The undamaged files, from which all damaged ones are made: a tiny data set, models, a run, images, a video."""

import contextlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from harness import command

from pose.skeleton import COCO

IMAGES_WH = {1: (160, 120), 2: (100, 140), 3: (120, 120)}
CONFIG = """\
base: quickstart
name: tiny
data:
  root: .
  synthetic: null
  train_annotations: persons.json
  train_images: images
  val_annotations: persons.json
  val_images: images
  val_detections: boxes.json
model: {width: 0.1, depth: 0.1, head_width: 0.05, num_kernels: 2, reduction: 64}
input: {size_hw: [64, 64]}
train: {epochs: 1, batch_size: 4, workers: 0, validate_every: 1, warmup_steps: 0, ema_decay: 0.5}
"""
CLASSIFIER = """\
base: imagenet/dy_mobilenetv2_w0.5
name: classes
data: {root: classes}
input: {size: 32, resize: 36}
model: {width: 0.1, depth: 0.1, num_kernels: 2, reduction: 64}
train: {epochs: 1, batch_size: 4, workers: 0, learning_rate: 0.02}
"""
PERSONS = (
    (11, 1, [20, 10, 50, 90], 17, 0), (12, 1, [90, 30, 40, 60], 5, 0), (13, 1, [0, 0, 160, 120], 3, 1),
    (21, 2, [10, 20, 60, 100], 12, 0), (22, 2, [50, 70, 45, 60], 9, 0), (31, 3, [30, 5, 40, 110], 17, 0),
    (32, 3, [80, 10, 20, 40], 0, 0),
)  # fmt: skip
"""Id, image id, box, labeled keypoints, crowd."""


def make_world(folder: Path) -> None:
    """Write all files; takes some seconds. Run it in a process of its own: it starts threads of libraries."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        rng = np.random.default_rng(7)
        _write_data(rng)
        _write_images(rng)
        _write_videos(rng)
        _write_classes(rng)
        _write_onnx()
        Path("config.yaml").write_text(CONFIG)
        Path("classes.yaml").write_text(CLASSIFIER)
        _run("train", "--cfg", "config.yaml", "--run-dir", "run", "--device", "cpu", "augment.photometric=none")
        _run("train-imagenet", "--cfg", "classes.yaml", "--run-dir", "class_run", "--device", "cpu")
        _run("pack-weights", "--weights", "run/best.pt", "--output", "weights.pt")
        _run("build-cache", "--cfg", "config.yaml", "data.crop_cache=persons.crops")
        _run("plot-runs", "--runs", "a=run", "b=run", "--save-csv", "curves")
        inspection = {"layers": [_layer(f"backbone.{i}", 1 + i % 2) for i in range(4)]}
        Path("inspection.json").write_text(json.dumps(inspection))
        for name in ("model.onnx", "model.xml"):
            with contextlib.suppress(SystemExit):  # the backend is not installed: its cases are skipped
                _run("export", "--weights", "run/best.pt", "--output", name, "--decode")
    finally:
        os.chdir(before)


def _run(name: str, *argv: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command(name, *argv)()


def _layer(name: str, stride: int) -> dict[str, Any]:
    return {"name": name, "kind": "conv", "stride": stride, "entropy_mean": 0.9, "entropy_std": 0.1, "variation": 0.2}


def _write_data(rng: np.random.Generator) -> None:
    folder = Path("images")
    folder.mkdir()
    images, annotations, results = [], [], []
    for image_id, (width, height) in IMAGES_WH.items():
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{image_id}.png"), cv2.GaussianBlur(noise, (0, 0), 3))
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height})
    for person_id, image_id, (x, y, w, h), labeled, crowd in PERSONS:
        keypoints = np.column_stack([rng.uniform((x, y), (x + w, y + h), (17, 2)), rng.integers(1, 3, 17)]).round(2)
        keypoints[rng.permutation(17)[labeled:]] = 0
        annotations.append(
            {
                "id": person_id,
                "image_id": image_id,
                "category_id": 1,
                "bbox": [x, y, w, h],
                "area": 0.5 * w * h,
                "iscrowd": crowd,
                "num_keypoints": labeled,
                "keypoints": keypoints.ravel().tolist(),
            }
        )
        guess = keypoints.copy()
        guess[:, :2] += rng.normal(0, 2, (17, 2))
        guess[:, 2] = rng.uniform(0.3, 1, 17)
        score = float(rng.uniform(0.3, 1))
        results.append(
            {"image_id": image_id, "category_id": 1, "keypoints": guess.round(2).ravel().tolist(), "score": score}
        )
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    Path("persons.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    boxes = [(1, [-4.5, 10, 70, 95], 0.9), (1, [88, 28.5, 44, 66], 0.6), (2, [9, 15, 64, 108], 0.95)]
    rows = [{"image_id": i, "category_id": 1, "bbox": box, "score": score} for i, box, score in boxes]
    Path("boxes.json").write_text(json.dumps(rows))
    Path("results.json").write_text(json.dumps(results))


def _write_images(rng: np.random.Generator) -> None:
    folder = Path("photos")
    folder.mkdir()
    noise = cv2.GaussianBlur(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), (0, 0), 2)
    for suffix in ("png", "jpg", "webp", "tif", "bmp"):
        cv2.imwrite(str(folder / f"photo.{suffix}"), noise)
    rgb = PIL.Image.fromarray(np.ascontiguousarray(noise[..., ::-1]))
    rgb.save(folder / "photo.gif")
    rgb.convert("LAB").save(folder / "lab.tif")
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("RGBA").save(folder / "alpha.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rotated.jpg", exif=exif)


def _write_videos(rng: np.random.Generator) -> None:
    for name, codec in (("video.mp4", "mp4v"), ("video.avi", "MJPG")):
        writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*codec), 12.5, (64, 48))
        for _ in range(6):
            writer.write(cv2.GaussianBlur(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), (0, 0), 2))
        writer.release()


def _write_classes(rng: np.random.Generator) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for level, name in ((40, "dark"), (200, "light")):
            folder = Path("classes") / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(level - 30, level + 30, (40, 40, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{number}.png"), image)


def _write_onnx() -> None:
    """Write a detector and a teacher with constant outputs, if the package onnx is installed."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        return
    boxes = np.array([[2.0, 2, 30, 40], [30, 4, 60, 44]], np.float32)
    outputs = {"boxes": boxes, "labels": np.array([1, 1]), "scores": np.array([0.9, 0.6], np.float32)}
    write_onnx(Path("detector.onnx"), ["N", 3, "H", "W"], outputs)
    heatmaps = np.zeros((1, 17, 64, 48), np.float32)
    heatmaps[:, :, 30, 20] = 1
    write_onnx(Path("teacher.onnx"), ["N", 3, 256, 192], {"heatmaps": heatmaps})


def write_onnx(
    path: Path,
    shape: Sequence[int | str],
    outputs: dict[str, Any],
    *,
    input_type: int = 1,
    input_name: str = "image",
    stated: dict[str, Sequence[int | str]] | None = None,
    inputs: int = 1,
) -> None:
    """Write an ONNX model with constant outputs.

    Args:
        path: of the file.
        shape: of each input.
        outputs: arrays by name.
        input_type: ONNX's number of the inputs' type; 1 is float.
        input_name: of the first input.
        stated: shapes that the file states for outputs, by name; default: their own.
        inputs: number of inputs.
    """
    import onnx
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("Shape", [input_name], ["image_shape"])]
    infos = []
    for name, value in outputs.items():
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value))))
        kind = helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
        infos.append(helper.make_tensor_value_info(name, kind, (stated or {}).get(name, np.shape(value))))
    names = [input_name, *(f"more{number}" for number in range(inputs - 1))]
    values = [helper.make_tensor_value_info(name, input_type, shape) for name in names]
    graph = helper.make_graph(nodes, "model", values, infos)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
