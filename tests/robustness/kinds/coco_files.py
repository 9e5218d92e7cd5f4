"""COCO annotations, detector boxes and keypoint results."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from harness import Answer, Case, command
from mutate import damage_text, damage_tree, dump_json, same_numbers

from kinds.coco_rules import Status, annotations_status, is_strict, lenient_json, rows_status, wrong_persons
from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.coco import annotated_persons, detected_persons
from pose.datasets.coco_json import read_results
from pose.datasets.samples import TestCrops, TrainingSamples
from pose.errors import PoseError
from pose.skeleton import COCO

INPUT = InputConfig(size_hw=(64, 64))
RUNTIMES = ("pytorch", "pytorch", "pytorch", "auto")
"""PyTorch most often: it starts soonest, and the damage is elsewhere."""
AUGMENT = AugmentConfig(half_body_min_keypoints=0)


@lru_cache
def original(path: Path) -> Any:
    return json.loads(path.read_text())


def link(world: Path, folder: Path, *names: str) -> None:
    """Link undamaged files into the folder of a case, unless it has its own."""
    for name in names:
        if not (folder / name).exists():
            (folder / name).symlink_to(world / name)


def damaged_json(rng: Random, source: Path, target: Path) -> tuple[Any, str]:
    """Write a damaged copy of a JSON file; return its content (an exception if it is no JSON), and what was done."""
    tree = original(source)
    kind = rng.random()
    if kind < 0.08:
        tree, what = same_numbers(tree), "same numbers"
        content = json.dumps(tree, indent=1).encode()
    elif kind < 0.2:
        content, what = damage_text(rng, json.dumps(tree))
    else:
        tree, what = damage_tree(rng, tree)
        for _ in range(rng.choice((0, 0, 0, 1))):
            if isinstance(tree, (dict, list)) and tree:
                tree, more = damage_tree(rng, tree)
                what += f", {more}"
        content = dump_json(tree).encode("utf-8", "surrogatepass")
    target.write_bytes(content)
    try:
        return lenient_json(content), what
    except ValueError as error:
        return error, what


def status_of(content: Any, judge: Callable[[Any], Status], file: Path) -> Status:
    """Return the status of what `damaged_json` returned.

    Another encoding than UTF-8, and NaN where nothing is read, may be accepted or refused.
    """
    if isinstance(content, ValueError):
        return "bad"
    status = judge(content)
    return "open" if status == "valid" and not is_strict(file.read_bytes()) else status


# --- annotations


def load(annotations: Path, images: Path) -> Any:
    """Load the persons for training, and the first training sample of each."""
    persons = annotated_persons(annotations, images, COCO)
    samples = TrainingSamples(persons, COCO, INPUT, AUGMENT, 0)
    for row in range(len(persons)):
        sample = samples[0, row]
        if not (sample.heatmaps.isfinite().all() and sample.weights.isfinite().all()):
            raise AssertionError(f"targets of person {persons.ids[row]} are not finite")
    return persons


def check_test_boxes(annotations: Path, boxes: Path, images: Path) -> str | None:
    """Return an error if `test` refuses a list of images with detector boxes that check-data passes."""
    try:
        detected_persons(boxes, annotations, images, COCO)
    except PoseError as error:
        return f"check-data passes what test refuses: {error}"
    return None


def annotations(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of damaged annotations, for one of the commands that read them."""
    content, what = damaged_json(rng, world / "persons.json", folder / "persons.json")
    status = status_of(content, annotations_status, folder / "persons.json")
    if status == "valid" and {image["file_name"] for image in content["images"]} - {"1.png", "2.png", "3.png"}:
        status = "open"  # there is no such image
    link(world, folder, "images", "boxes.json", "results.json", "config.yaml", "run", "detector.onnx")
    path, images = folder / "persons.json", folder / "images"
    expected = {"bad": "refused", "valid": "right", "open": "either"}[status]

    def check_loaded(answer: Answer) -> str | None:
        return wrong_persons(answer.value, content, status)

    def check_trains(answer: Answer) -> str | None:
        if any(category.get("keypoints") != list(COCO.names) for category in content["categories"]):
            return None  # a keypoint set of its own
        try:
            return wrong_persons(load(path, images), content, status)
        except PoseError as error:
            return f"check-data passes what training refuses: {error}"

    def check_tests(answer: Answer) -> str | None:
        if any(category.get("keypoints") == list(COCO.names) for category in content.get("categories", [])):
            return check_test_boxes(path, folder / "boxes.json", images)
        return None  # a list of images without a keypoint set

    def check_split(answer: Answer) -> str | None:
        parts = [json.loads((folder / f"{name}.json").read_text()) for name in ("kept", "held")]
        for key in ("images", "annotations"):
            rows = [row for part in parts for row in part.get(key, [])]
            if sorted(map(repr, rows)) != sorted(map(repr, content.get(key, []))):
                return f"{key} of the two parts are not those of the file"
        return None

    def check_json(answer: Answer) -> str | None:
        return None if status != "bad" else "accepted"

    files = "--annotations", "persons.json"
    test = ("test", "--cfg", "config.yaml", "--weights", "run/best.pt", "--device", "cpu", "--output", "out")
    target = rng.random()
    if target < 0.45:
        return Case(f"load: {what}", lambda: load(path, images), expected, check_loaded)
    if target < 0.75:
        boxes = rng.choice(((), ("--detections", "boxes.json")))
        act = command("check-data", *files, "--images", "images", *boxes)
        if boxes and isinstance(content, dict) and content.get("annotations", []) == []:
            return Case(f"check-data with boxes, no annotations: {what}", act, "either", check_tests)
        # Missing images, orphans and duplicate ids are found by check-data alone.
        return Case(f"check-data: {what}", act, "refused" if status == "bad" else "either", check_trains)
    if target < 0.8:
        act = command("hold-out", *files, "--fraction", "0.4", "--kept", "kept.json", "--held-out", "held.json")
        return Case(f"hold-out: {what}", act, "either", check_split)
    if target < 0.84:
        link(world, folder, "curves")
        second = "persons.json" if rng.random() < 0.5 else str(world / "persons.json")
        return Case(f"estimate-sigmas: {what}", command("estimate-sigmas", "persons.json", second))
    if target < 0.88:
        return Case(f"test --gt-boxes: {what}", command(*test, "--gt-boxes"), expected)
    if target < 0.91:
        act = command("analyse", "--cfg", "config.yaml", "--results", "results.json", "--json", "figures.json")
        return Case(f"analyse: {what}", act)
    if target < 0.94:
        act = command("build-cache", "--cfg", "config.yaml", "data.crop_cache=new.crops")
        return Case(f"build-cache: {what}", act, expected)
    if target < 0.96:
        act = command("detect", "--detector", "detector.onnx", "--images", "images", *files, "--output", "found.json")
        return Case(f"detect: {what}", act)
    if target < 0.98:
        return Case(f"browse: {what}", command("browse", "--cfg", "config.yaml", "--samples", "2"), expected)
    act = command(
        "train", "--cfg", "config.yaml", "--run-dir", "new", "--device", "cpu", "train.validate_boxes=ground_truth"
    )
    return Case(f"train: {what}", act, "refused" if status == "bad" else "either")


# --- detector boxes and results


def detections(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of damaged detector boxes."""
    content, what = damaged_json(rng, world / "boxes.json", folder / "boxes.json")
    link(world, folder, "images", "persons.json", "config.yaml", "run", "photos")
    status = status_of(content, lambda rows: rows_status(rows, {1, 2, 3}, None), folder / "boxes.json")
    expected = {"bad": "refused", "valid": "right", "open": "either"}[status]
    path = folder / "boxes.json"

    def load_boxes() -> Any:
        persons = detected_persons(path, folder / "persons.json", folder / "images", COCO)
        crops = TestCrops(persons, INPUT)
        for row in range(len(crops)):
            if not crops[row].heatmap_to_image.isfinite().all():
                raise AssertionError("a matrix that is not finite")
        return persons

    def check(answer: Answer) -> str | None:
        persons = answer.value
        if not (np.isfinite(persons.bboxes_xywh).all() and np.isfinite(persons.scores).all()):
            return "boxes or scores that are not finite"
        kept = [row for row in content if row["category_id"] == 1 and row["score"] >= 0 and min(row["bbox"][2:]) > 0]
        if [row["bbox"] for row in kept] != persons.bboxes_xywh.tolist():
            return f"boxes {persons.bboxes_xywh.tolist()} differ from the file"
        if [row["score"] for row in kept] != persons.scores.tolist():
            return f"scores {persons.scores.tolist()} differ from the file"
        return None if [row["image_id"] for row in kept] == persons.image_ids.tolist() else "other image ids"

    def check_loads(answer: Answer) -> str | None:
        try:
            return check(Answer(load_boxes(), "", ""))
        except PoseError as error:
            return f"check-data passes what `test` refuses: {error}"

    target = rng.random()
    if target < 0.5:
        return Case(f"load: {what}", load_boxes, expected, check)
    if target < 0.75:
        act = command("check-data", "--annotations", "persons.json", "--detections", "boxes.json")
        return Case(f"check-data: {what}", act, "refused" if status == "bad" else "either", check_loads)
    if target < 0.88:
        flags = ("--weights", "run/best.pt", "--boxes", "boxes.json", "--device", "cpu", "--no-flip")
        flags += "--runtime", rng.choice(RUNTIMES)
        act = command("demo-video", "--input", "images", "--output", "drawn", "--json", "poses.json", *flags)
        return Case(f"demo-video --boxes: {what}", act)
    test = ("test", "--cfg", "config.yaml", "--weights", "run/best.pt", "--device", "cpu", "--output", "out")
    return Case(f"test --detections: {what}", command(*test, "--detections", "boxes.json"), expected)


def results(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged result file."""
    content, what = damaged_json(rng, world / "results.json", folder / "results.json")
    link(world, folder, "images", "persons.json", "config.yaml")
    status = status_of(content, lambda rows: rows_status(rows, {1, 2, 3}, 51), folder / "results.json")
    expected = {"bad": "refused", "valid": "right", "open": "either"}[status]
    path = folder / "results.json"

    def check(answer: Answer) -> str | None:
        rows = [(row["image_id"], row["keypoints"], row["score"]) for row in answer.value]
        return None if rows == [(r["image_id"], r["keypoints"], r["score"]) for r in content] else "other rows"

    if rng.random() < 0.75:
        return Case(f"read: {what}", lambda: read_results(path, 17), expected, check)
    arguments = ("--cfg", "config.yaml", "--json", "figures.json", "--results")
    if rng.random() < 0.7:
        return Case(f"analyse: {what}", command("analyse", *arguments, "results.json"), expected)
    other = str(world / "results.json")
    act = command("analyse", *arguments, other, "--compare", "results.json")
    return Case(f"analyse --compare: {what}", act, expected)
