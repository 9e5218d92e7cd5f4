"""Crop caches."""

from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from harness import Answer, Case, command
from mutate import damage_bytes

from kinds.coco_files import link
from pose.config.loader import load_config
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache.file import make_stamp, open_crop_cache
from pose.skeleton import COCO

VIEW = np.array([[1.0, 0, 0], [0, 1, 0]])


@lru_cache
def stamp_of(world: Path) -> Any:
    config = load_config(world / "config.yaml")
    persons = annotated_persons(world / "persons.json", world / "images", COCO)
    return make_stamp(persons, COCO, config.input, config.augment)


def crops_in(path: Path, world: Path) -> list[Any]:
    cache = open_crop_cache(path, stamp_of(world))
    return [cache.crop(row, VIEW, (64, 64)) for row in range(len(cache))]


@lru_cache
def expected_crops(world: Path) -> list[Any]:
    return crops_in(world / "persons.crops", world)


def caches(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged crop cache."""
    path = folder / "persons.crops"
    content, what = damage_bytes(rng, (world / "persons.crops").read_bytes())
    path.write_bytes(content)

    def check(answer: Answer) -> str | None:
        same = len(answer.value) == len(expected_crops(world))
        same = same and all(map(np.array_equal, answer.value, expected_crops(world)))
        return None if same else "damaged bytes, and other crops"

    if rng.random() < 0.8:
        return Case(f"read: {what}", lambda: crops_in(path, world), check=check)
    link(world, folder, "persons.json", "images", "config.yaml", "boxes.json")
    if rng.random() < 0.8:
        act = command("build-cache", "--cfg", "config.yaml", "data.crop_cache=persons.crops")
        return Case(f"build-cache over it: {what}", act, writes=frozenset({"persons.crops"}))
    arguments = ("--cfg", "config.yaml", "--run-dir", "new", "--device", "cpu", "data.crop_cache=persons.crops")
    return Case(f"train: {what}", command("train", *arguments))
