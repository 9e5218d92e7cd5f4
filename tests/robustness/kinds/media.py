"""Images and videos."""

import json
import os
import struct
import zlib
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from harness import Answer, Case, command
from mutate import damage_bytes

from kinds.coco_files import RUNTIMES, link
from kinds.weights import BOX
from pose.images import read_image
from pose.video.readers import open_source

MAX_FRAMES = 200
CHECKSUMMED = (".png",)
"""Formats whose files can be told damaged by their checksums."""


@lru_cache
def pixels_of(path: Path) -> Any:
    return read_image(path, upright=True)


def images(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged image file, or of something else with the name of an image."""
    source = rng.choice(sorted((world / "photos").iterdir()))
    path = folder / source.name
    equal = False
    kind = rng.random()
    if kind < 0.72:
        content, what = damage_bytes(rng, source.read_bytes())
        path.write_bytes(content)
        equal = source.suffix in CHECKSUMMED
    elif kind < 0.82:
        width, height = rng.choice(
            ((1, 30000), (30000, 1), (1, 1), (100000, 100000), (65535, 65535), (0, 0), (2**31, 1))
        )
        path = folder / "made.png"
        path.write_bytes(png_header(width, height, pixels=width * height < 10**6))
        what = f"PNG of {width}x{height}"
    elif kind < 0.9:
        path = folder / f"other{rng.choice(('.png', '.jpg', '.tif', '.webp', '.gif', '.mp4', ''))}"
        path.write_bytes(source.read_bytes())
        what = f"{source.suffix} as {path.suffix}"
    else:
        what = _no_regular_file(rng, folder, path)

    def check(answer: Answer) -> str | None:
        found = answer.value
        if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or not found.size:
            return f"an image of {found.dtype} {found.shape}"
        if (
            equal
            and kind < 0.72
            and not (found.shape == pixels_of(source).shape and (found == pixels_of(source)).all())
        ):
            return f"a damaged {source.suffix} with other pixels"
        return None

    runtime = rng.choice(RUNTIMES)
    target = rng.random()
    if target < 0.6:
        return Case(f"read {path.name}: {what}", lambda: read_image(path, upright=True), check=check)

    def predict() -> Any:
        from pose import PosePredictor

        predictor = PosePredictor(world / "weights.pt", "cpu", flip=False, runtime=runtime)
        return predictor(path, rng.choice((BOX, None, "image")))

    def check_poses(answer: Answer) -> str | None:
        poses = answer.value
        return None if np.isfinite(poses.keypoints).all() and np.isfinite(poses.scores).all() else "not finite"

    if target < 0.75:
        return Case(f"predictor {path.name}: {what}", predict, check=check_poses)
    model = ("--weights", str(world / "weights.pt"), "--device", "cpu", "--no-flip", "--runtime", runtime)
    if target < 0.88:
        detector = rng.choice(("none", "pose", str(world / "detector.onnx")))
        arguments = (
            rng.choice((path.name, ".", f"*{path.suffix}")),
            "--detector",
            detector,
            "--save",
            "json,coco,csv,image",
        )
        return Case(f"predict {path.name}: {what}", command("predict", *arguments, *model, "--output", "out"))
    if target < 0.95:
        link(world, folder, "persons.json", "config.yaml")
        (folder / "images").mkdir()
        for name in ("2.png", "3.png"):
            (folder / "images" / name).symlink_to(world / "images" / name)
        if path.is_file() or path.is_symlink():
            path.rename(folder / "images/1.png")
        commands = (
            ("check-data", "--annotations", "persons.json", "--images", "images"),
            ("build-cache", "--cfg", "config.yaml", "data.crop_cache=new.crops"),
            ("detect", "--detector", str(world / "detector.onnx"), "--images", "images", "--output", "found.json"),
        )
        chosen = rng.choice(commands)
        return Case(f"{chosen[0]} {path.name}: {what}", command(*chosen))
    arguments = (
        "--input",
        path.name,
        "--output",
        rng.choice(("drawn.png", "drawn", "drawn.jpg")),
        "--detector",
        "none",
    )
    return Case(f"demo-video {path.name}: {what}", command("demo-video", *arguments, *model))


def png_header(width: int, height: int, pixels: bool) -> bytes:
    """Return a small PNG of any size, of one colour (or without pixels)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes((width + 7) // 8)) * height if pixels else b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _no_regular_file(rng: Random, folder: Path, path: Path) -> str:
    """Make something else of this name: a named pipe, a folder, a device, a link to nothing or to itself."""
    match rng.randrange(6):
        case 0:
            os.mkfifo(path)
            return "a named pipe"
        case 1:
            path.mkdir()
            return "a folder"
        case 2:
            path.symlink_to("/dev/zero")
            return "a link to /dev/zero"
        case 3:
            path.symlink_to(path.name)
            return "a link to itself"
        case 4:
            path.symlink_to("nothing")
            return "a link to nothing"
        case _:
            path.write_bytes(b"")
            return "empty"


# --- videos


def videos(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged video."""
    source = world / rng.choice(("video.mp4", "video.avi"))
    path = folder / source.name
    if rng.random() < 0.9:
        content, what = damage_bytes(rng, source.read_bytes())
        path.write_bytes(content)
    else:
        what = _no_regular_file(rng, folder, path)

    def read() -> list[tuple[int, ...]]:
        frames = open_source(path)
        try:
            return [frame.image.shape for frame in islice(frames, MAX_FRAMES)]
        finally:
            close = getattr(frames.frames, "close", None)
            if close is not None:
                close()

    def check(answer: Answer) -> str | None:
        shapes = answer.value
        if not shapes or len(shapes) >= MAX_FRAMES:
            return f"{len(shapes)} frames of 6"
        return None if all(shape[2] == 3 and min(shape) > 0 for shape in shapes) else f"a frame of {shapes[:2]}"

    if rng.random() < 0.75:
        return Case(f"read {path.name}: {what}", read, check=check)
    output = rng.choice(
        ("drawn.mp4", "drawn", "drawn.avi", "drawn.webm", "drawn.mkv", "drawn.png", path.name, "x" * 300)
    )
    flags = ("--weights", str(world / "weights.pt"), "--device", "cpu", "--no-flip", "--max-frames", "20")
    flags += "--runtime", rng.choice(RUNTIMES)
    detector = rng.choice(("none", "pose", str(world / "detector.onnx")))
    arguments = ("--input", path.name, "--output", output, "--detector", detector, "--json", "poses.json")

    def check_drawn(answer: Answer) -> str | None:
        frames = json.loads((folder / "poses.json").read_text())
        count = len(frames["frames"] if isinstance(frames, dict) else frames)
        drawn = folder / output
        if drawn.suffix in (".mp4", ".avi", ".webm", ".mkv"):
            found = count_frames(drawn)
            return None if found == count else f"{found} frames can be read back of {count}"
        return None if drawn.exists() else "no output"

    return Case(
        f"demo-video {path.name} to {output[:20]}: {what}", command("demo-video", *arguments, *flags), check=check_drawn
    )


def count_frames(path: Path) -> int:
    """Return the number of frames that OpenCV reads from a video."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count
