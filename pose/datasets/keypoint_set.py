"""The keypoint set of a run: read from the annotations, described in the log, compared with annotation files."""

import logging
from collections.abc import Iterator, Sequence

from pose.config.pose import Config
from pose.config.skeleton import SkeletonConfig, make_skeleton, reads_annotations, resolved
from pose.datasets.coco_json import CategoryRow, read_annotations
from pose.errors import DataError
from pose.skeleton import COCO, DEFAULT_SIGMA, Skeleton, canonical_names, unpaired_sides

logger = logging.getLogger(__name__)

MIN_HALF_BODY = 3
"""Keypoints of a half-body group that a half-body crop needs (`pose.datasets.augment.half_body_view`)."""

_NO_PAIRS = (
    "left and right would be learned as the same point; set skeleton.flip_pairs=[[LEFT, RIGHT], ...] by name, "
    "or [] if the keypoints have no sides"
)
_NO_HALVES = "set skeleton.half_body to the names of the upper group, or augment.half_body_probability=0"


def resolve_keypoints(config: Config) -> Config:
    """Return the config with its whole keypoint set written out, so that a weight file with it needs no annotations.

    Names and limbs come from the category in the training annotations if the config says so; the rest follows from the
    names where the config does not set it.

    Raises:
        DataError: the annotations cannot be read, or do not have one category with keypoints, or an option of the
            skeleton is wrong.
    """
    option = config.skeleton
    if option == "coco":
        return config
    if reads_annotations(option):
        category = _category_with_keypoints(config)
        given = option.model_dump() if isinstance(option, SkeletonConfig) else {}
        limbs = given.get("limbs") if given.get("limbs") is not None else _limbs(category, config)
        option = SkeletonConfig(**{**given, "names": category.keypoints, "limbs": limbs})
    return config.model_copy(update={"skeleton": resolved(make_skeleton(option))})


def _category_with_keypoints(config: Config) -> CategoryRow:
    path, name = config.data.root / config.data.train_annotations, config.data.category
    categories = read_annotations(path).categories
    candidates = [c for c in categories if c.keypoints and name in (None, c.name)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DataError(f"{path}: {several_categories(candidates)}")
    wanted = "a category" if name is None else f"a category '{name}' (data.category)"
    raise DataError(
        f"{path}: skeleton: expected {wanted} with 'keypoints' (their names), got the categories "
        f"{[c.name for c in categories]}; add the names to the file, or write them in skeleton.names"
    )


def _limbs(category: CategoryRow, config: Config) -> list[tuple[int, int]]:
    """Return the category's limbs, which COCO counts from 1, counted from 0."""
    limbs = [(a - 1, b - 1) for a, b in category.skeleton or ()]
    count = len(category.keypoints or ())
    if not all(0 <= index < count for limb in limbs for index in limb):
        raise DataError(
            f"{config.data.root / config.data.train_annotations}: category '{category.name}': 'skeleton': expected "
            f"pairs of keypoint numbers in 1..{count}, got {str(category.skeleton)[:60]}; or set skeleton.limbs"
        )
    return limbs


def several_categories(categories: Sequence[CategoryRow]) -> str:
    """Return the error message for a file in which several categories could be meant."""
    names = [category.name for category in categories]
    return (
        f"{len(names)} categories have keypoints: {', '.join(names)}; set data.category to one of them, or give their "
        "annotations one category_id to train on all"
    )


def difference(found: Sequence[str], skeleton: Skeleton) -> str | None:
    """Say how the keypoint names of a category differ from a skeleton's; None if they are equal."""
    names, expected = list(found), list(skeleton.names)
    if names == expected:
        return None
    if sorted(map(str, names)) == sorted(expected):
        first = next(index for index, (a, b) in enumerate(zip(names, expected, strict=True)) if a != b)
        return f"keypoints in another order: number {first + 1} is '{names[first]}', expected '{expected[first]}'"
    missing, unknown = [n for n in expected if n not in names], [n for n in names if n not in expected]
    parts = [f"lacks {missing}"] * bool(missing) + [f"has {unknown}"] * bool(unknown)
    return f"{len(names)} keypoints, expected the {len(expected)} of the config's skeleton: {' and '.join(parts)}"


def keypoint_notes(config: Config, skeleton: Skeleton) -> Iterator[tuple[bool, str]]:
    """Yield (is a warning, text) about the keypoint set: names, flip pairs, half-body groups, sigmas.

    Args:
        config: as the user wrote it; which of its options are set decides the warnings.
        skeleton: the resolved keypoint set.
    """
    option, augment = config.skeleton, config.augment
    yield False, f"flip pairs: {skeleton.paired_names}"
    if option == "coco":
        return
    declared = isinstance(option, SkeletonConfig) and option.flip_pairs is not None
    mirroring = [("augment.flip_probability", augment.flip_probability > 0), ("test.flip", config.test.flip)]
    flips = " and ".join(name for name, used in mirroring if used)
    if flips and not skeleton.flip_pairs and not declared:
        yield True, f"no flip pairs, but {flips} mirrors images: {_NO_PAIRS}"
    elif flips and not declared and (alone := unpaired_sides(skeleton)):
        yield True, f"no flip partner for {', '.join(alone)}: set skeleton.flip_pairs"
    names = skeleton.names
    upper = [names[index] for index in skeleton.upper_body]
    lower = [name for name in names if name not in upper]
    if augment.half_body_probability and len(names) > augment.half_body_min_keypoints:
        yield False, f"half body: upper {', '.join(upper) or 'none'}; lower {', '.join(lower) or 'none'}"
        if min(len(upper), len(lower)) < MIN_HALF_BODY:
            yield True, f"a half-body group has fewer than {MIN_HALF_BODY} keypoints: {_NO_HALVES}"
    yield False, f"sigmas: {_describe_sigmas(skeleton)}"


def _describe_sigmas(skeleton: Skeleton) -> str:
    shown = ", ".join(f"{name} {sigma:g}" for name, sigma in zip(skeleton.names, skeleton.sigmas, strict=True))
    by_name = dict(zip(COCO.names, COCO.sigmas, strict=True))
    defaults = [by_name.get(name, DEFAULT_SIGMA) for name in canonical_names(skeleton.names)]
    if defaults != list(skeleton.sigmas):
        return shown
    return f"{shown} (defaults: COCO's by name, else {DEFAULT_SIGMA:g}; dyconv-pose estimate-sigmas measures them)"


def log_keypoints(config: Config, skeleton: Skeleton) -> None:
    """Log `keypoint_notes`."""
    for is_warning, text in keypoint_notes(config, skeleton):
        logger.log(logging.WARNING if is_warning else logging.INFO, "%s%s", "warning: " if is_warning else "", text)
