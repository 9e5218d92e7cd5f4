"""Keypoint sets: names, left-right pairs, limbs, half-body groups and OKS sigmas.

All code that depends on the keypoint set reads a `Skeleton`; only the embedded data set assumes COCO's keypoints. To
use your own set, write it in the config (``skeleton: {names: [...], ...}``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.errors import DataError

DEFAULT_SIGMA = 0.05
"""OKS sigma of a keypoint that COCO does not have: between those of wrist (.062) and ear (.035)."""

_UPPER_BODY_PARTS = ("nose", "eye", "ear", "head", "neck", "shoulder", "elbow", "wrist", "hand", "thorax")


@dataclass(frozen=True)
class Skeleton:
    """A keypoint set. Indices are 0-based, in the order of ``names``.

    Attributes:
        names: K keypoint names.
        flip_pairs: (left, right) index pairs, swapped by a horizontal flip.
        limbs: (a, b) index pairs to draw.
        sigmas: K OKS constants (COCO's ``kpt_oks_sigmas``).
        upper_body: indices of the upper half-body group (above the hips); all others form the lower group.
    """

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints, K."""
        return len(self.names)

    @property
    def flip_order(self) -> NDArray[np.intp]:
        """(K,) index array that swaps left and right: ``flipped = keypoints[flip_order]``."""
        order = np.arange(self.num_keypoints)
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order


def make_skeleton(
    names: Sequence[str],
    limbs: Sequence[tuple[int, int]] = (),
    sigmas: Sequence[float] | None = None,
) -> Skeleton:
    """Build a skeleton. Flip pairs come from ``left``/``right`` in the names, default sigmas from COCO by name.

    Args:
        names: K unique keypoint names.
        limbs: (a, b) index pairs, 0-based.
        sigmas: K positive OKS constants.

    Raises:
        DataError: names are empty or repeated, a limb index is out of range, or sigmas are not K positive numbers.
    """
    if not names or len(set(names)) != len(names):
        raise DataError(f"skeleton: expected unique, non-empty keypoint names, got {list(names)}")
    outside = [limb for limb in limbs if not all(0 <= index < len(names) for index in limb)]
    if outside:
        raise DataError(f"skeleton: limbs: expected keypoint indices in 0..{len(names) - 1}, got {outside}")
    if sigmas is None:
        sigmas = [_coco_sigma(name) for name in names]
    if len(sigmas) != len(names) or min(sigmas) <= 0:
        raise DataError(f"skeleton: expected {len(names)} positive sigmas, one per keypoint, got {list(sigmas)}")
    index_of = {name: index for index, name in enumerate(names)}
    pairs = tuple(
        (index, index_of[name.replace("left", "right")])
        for name, index in index_of.items()
        if "left" in name and name.replace("left", "right") in index_of
    )
    upper = tuple(i for i, name in enumerate(names) if any(part in name for part in _UPPER_BODY_PARTS))
    return Skeleton(tuple(names), pairs, tuple((a, b) for a, b in limbs), tuple(sigmas), upper)


_COCO_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
# cocoapi, pycocotools/cocoeval.py, Params.setKpParams
_COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip
_COCO_LIMBS = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip


def _coco_sigma(name: str) -> float:
    return dict(zip(_COCO_NAMES, _COCO_SIGMAS, strict=True)).get(name, DEFAULT_SIGMA)


COCO = make_skeleton(_COCO_NAMES, _COCO_LIMBS, _COCO_SIGMAS)
"""The 17 keypoints of COCO persons."""
