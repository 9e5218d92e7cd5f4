"""Keypoint sets: names, left-right pairs, limbs, half-body groups and OKS sigmas.

All code that depends on the keypoint set reads a `Skeleton`; only the embedded data set assumes COCO's keypoints. To
use your own set, set ``skeleton`` in the config.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pose.errors import DataError

DEFAULT_SIGMA = 0.05
"""OKS sigma of a keypoint that COCO does not have: between those of wrist (.062) and ear (.035)."""

Side = Literal["left", "right"]

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
    def paired_names(self) -> str:
        """The flip pairs by name, ``left_eye<->right_eye``, or ``none``."""
        return ", ".join(f"{self.names[a]}<->{self.names[b]}" for a, b in self.flip_pairs) or "none"

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
    flip_pairs: Sequence[tuple[int, int]] | None = None,
    upper_body: Sequence[int] | None = None,
) -> Skeleton:
    """Build a skeleton; what is not given follows from the names.

    Args:
        names: K unique keypoint names.
        limbs: (a, b) index pairs, 0-based.
        sigmas: K positive OKS constants; by default COCO's where `canonical_names` has a name of COCO, else
            `DEFAULT_SIGMA`.
        flip_pairs: (left, right) index pairs; by default those of `find_flip_pairs`.
        upper_body: indices of the upper half-body group; by default the names with a part of the upper human body.

    Raises:
        DataError: names are empty or repeated, an index is out of range, a keypoint is in two flip pairs, or sigmas are
            not K positive numbers.
    """
    if not names or len(set(names)) != len(names):
        raise DataError(f"skeleton: expected unique, non-empty keypoint names, got {list(names)}")
    canonical = canonical_names(names)
    if sigmas is None:
        sigmas = [_COCO_SIGMA_OF.get(name, DEFAULT_SIGMA) for name in canonical]
    if flip_pairs is None:
        flip_pairs = find_flip_pairs(names)
    if upper_body is None:
        upper_body = [i for i, name in enumerate(canonical) if any(part in name for part in _UPPER_BODY_PARTS)]
    _check_indices("limbs", limbs, len(names))
    _check_indices("flip_pairs", flip_pairs, len(names))
    _check_indices("half_body", [(index,) for index in upper_body], len(names))
    paired = [index for pair in flip_pairs for index in pair]
    if len(set(paired)) != len(paired):
        repeated = next(names[index] for index in paired if paired.count(index) > 1)
        raise DataError(f"skeleton: flip_pairs: expected each keypoint in one pair, got '{repeated}' twice")
    if len(sigmas) != len(names) or min(sigmas) <= 0:
        raise DataError(f"skeleton: expected {len(names)} positive sigmas, one per keypoint, got {list(sigmas)}")
    return Skeleton(
        tuple(names),
        tuple((a, b) for a, b in flip_pairs),
        tuple((a, b) for a, b in limbs),
        tuple(sigmas),
        tuple(upper_body),
    )


def _check_indices(option: str, groups: Sequence[tuple[int, ...]], count: int) -> None:
    outside = [list(group) for group in groups if not all(0 <= index < count for index in group)]
    if outside:
        raise DataError(f"skeleton: {option}: expected keypoint indices in 0..{count - 1}, got {outside}")


# --- left and right in names

_WORD_BOUNDARY = re.compile(
    r"[\W_]+"  # separators
    r"|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"  # EyeLeft, LEye
    r"|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"  # l1
)
_SIDE_OF: dict[str, Side] = {"left": "left", "right": "right", "l": "left", "r": "right"}


def find_flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the (left, right) index pairs of the names that differ in their side only, in the order of the left ones.

    A side is a word of the name (``left_eye``, ``EyeRight``, ``wing_l``, ``L_ear``, ``LEar``, ``ear.R``), ``left`` or
    ``right`` at an end of a word (``lefteye``), or a capital L or R at an end of the name (``Lwing``, ``LF_paw``).
    """
    pairs: dict[int, int] = {}
    for split in (_split_side, _split_capital):
        unpaired = [index for index in range(len(names)) if index not in {*pairs, *pairs.values()}]
        indices_of: dict[tuple[Side | None, str], list[int]] = {}
        for index in unpaired:
            indices_of.setdefault(split(names[index]), []).append(index)
        for (side, stem), left in indices_of.items():
            right = indices_of.get(("right", stem), [])
            if side == "left" and len(left) == len(right) == 1:
                pairs[left[0]] = right[0]
    return tuple(sorted(pairs.items()))


def unpaired_sides(skeleton: Skeleton) -> list[str]:
    """Return the keypoints whose names say left or right, but which are in no flip pair."""
    paired = {index for pair in skeleton.flip_pairs for index in pair}
    return [name for index, name in enumerate(skeleton.names) if index not in paired and _split_side(name)[0]]


def canonical_names(names: Sequence[str]) -> list[str]:
    """Return names in COCO's spelling (``left_eye`` for ``LEye`` or ``eye.L``), to find equal names in other sets."""
    paired = {index for pair in find_flip_pairs(names) for index in pair}
    canonical = []
    for index, name in enumerate(names):
        side, stem = _split_side(name)
        if side is None and index in paired:
            side, stem = _split_capital(name)
        canonical.append(f"{side}_{stem}" if side else stem)
    return canonical


def _split_side(name: str) -> tuple[Side | None, str]:
    """Return the side that one word of a name says (else None), and the other words in lower case, joined by ``_``."""
    words = [word.lower() for word in _WORD_BOUNDARY.split(name) if word]
    found = [(index, mark) for index, word in enumerate(words) for mark in _SIDE_OF if _has_mark(word, mark)]
    if len(found) != 1:
        return None, "_".join(words)
    index, mark = found[0]
    words[index] = words[index].removeprefix(mark) if words[index].startswith(mark) else words[index].removesuffix(mark)
    return _SIDE_OF[mark], "_".join(filter(None, words))


def _has_mark(word: str, mark: str) -> bool:
    return word == mark or (len(mark) > 1 and (word.startswith(mark) or word.endswith(mark)))


def _split_capital(name: str) -> tuple[Side | None, str]:
    """Return the side that a capital L or R at the start, else at the end, of a name says, and the rest."""
    for letter, rest in ((name[:1], name[1:]), (name[-1:], name[:-1])):
        if letter in ("L", "R") and rest:
            return _SIDE_OF[letter.lower()], _split_side(rest)[1]
    return None, name


# --- COCO

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


_COCO_SIGMA_OF = dict(zip(_COCO_NAMES, _COCO_SIGMAS, strict=True))

COCO = make_skeleton(_COCO_NAMES, _COCO_LIMBS, _COCO_SIGMAS)
"""The 17 keypoints of COCO persons."""
