"""Config of the keypoint set: names, limbs, flip pairs, half-body group and sigmas."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from pose import skeleton as skeletons
from pose.config.base import Section
from pose.errors import DataError, near_name

MAX_KEYPOINTS = 1000


class SkeletonConfig(Section):
    """A custom keypoint set. All options but ``names`` may be left out."""

    names: Annotated[tuple[str, ...], Field(max_length=MAX_KEYPOINTS)] | None = None
    """Keypoint names, in the order of the annotations; null: those of the category in ``data.train_annotations``."""
    limbs: tuple[tuple[int, int], ...] | None = None
    """Pairs of keypoint indices (0-based) to draw as lines; null: those of the category if it gives the names."""
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    """Pairs of names (left, right) that a horizontal flip swaps; null: names that differ in left and right only
    (``left_x``, ``x_l``, ``LX``, ``LeftX``, ``x.L``); []: none."""
    half_body: tuple[str, ...] | None = None
    """Names of the upper half-body group, all others form the lower; null: names with a part of the upper human body
    (nose to wrist)."""
    sigmas: tuple[float, ...] | None = None
    """OKS sigmas; null: COCO's for COCO's keypoint names, 0.05 for others."""


SkeletonOption = Literal["coco", "from_annotations"] | SkeletonConfig


def reads_annotations(option: SkeletonOption) -> bool:
    """Return whether the names of a ``skeleton`` option come from the annotations."""
    return option == "from_annotations" or (isinstance(option, SkeletonConfig) and option.names is None)


def make_skeleton(option: SkeletonOption) -> skeletons.Skeleton:
    """Return the `pose.skeleton.Skeleton` of a ``skeleton`` option.

    Raises:
        DataError: the names are not known before the annotations are read, or an option names another keypoint.
    """
    if option == "coco":
        return skeletons.COCO
    if option == "from_annotations" or option.names is None:
        raise DataError(
            "skeleton: its names come from the annotations, which this command does not read; write them in "
            "skeleton.names, or give a trained weight file, which has them"
        )
    return skeletons.make_skeleton(
        option.names,
        option.limbs or (),
        option.sigmas,
        None if option.flip_pairs is None else [(a, b) for a, b in _indices("flip_pairs", option, option.flip_pairs)],
        None if option.half_body is None else _indices("half_body", option, [option.half_body])[0],
    )


def _indices(field: str, option: SkeletonConfig, groups: Sequence[Sequence[str]]) -> list[list[int]]:
    names = option.names or ()
    for name in (name for group in groups for name in group):
        if name not in names:
            raise DataError(
                f"skeleton: {field}: expected names of keypoints, got '{name}'"
                f"{near_name(name, names) or f'; the names are {list(names)}'}"
            )
    return [[names.index(name) for name in group] for group in groups]


def resolved(skeleton: skeletons.Skeleton) -> SkeletonConfig:
    """Return the option that makes a skeleton, with nothing left to derive."""
    return SkeletonConfig(
        names=skeleton.names,
        limbs=skeleton.limbs,
        flip_pairs=tuple((skeleton.names[a], skeleton.names[b]) for a, b in skeleton.flip_pairs),
        half_body=tuple(skeleton.names[index] for index in skeleton.upper_body),
        sigmas=skeleton.sigmas,
    )
