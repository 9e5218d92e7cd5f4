"""Heatmaps to keypoints in the image: 128 persons with 17 heatmaps each in one call.

Ours takes the heatmap-to-image matrix of each crop, which is available from cropping; HRNet's code computes it from
center and scale, each as in its own test code. The baseline is our code called for one heatmap at a time, and with
--peer also HRNet's.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pose.geometry import Array, Float32, View, invert, view_to_matrix
from pose.heatmap import encode
from pose.inference.pytorch import keypoints_in_image

from . import Comparison, compare_first, require_same
from ._hrnet import HRNET, PIXEL_STD, add_peer_argument, hrnet_config, load_hrnet
from ._timing import Budget

PERSONS, KEYPOINTS = 128, 17
INPUT_WH, HEATMAP_WH = (192, 256), (48, 64)
NOISE = 0.02
"""Standard deviation of the heatmap noise."""
TARGETS = {HRNET: 1 / 25}
ONE_BY_ONE = "one map at a time"
TOLERANCE_PX = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer``."""
    add_peer_argument(parser)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, persons: int = PERSONS
) -> Iterator[Comparison]:
    """Time ours and the others in one budget; yields a comparison with each.

    Raises:
        PoseError: ``peer`` is not a checkout of HRNet's code, or returns other keypoints.
    """
    heatmaps = _synthetic_heatmaps(persons, rng)
    centers, heights = rng.uniform(100, 400, (persons, 2)), rng.uniform(50, 500, persons)
    scales = np.column_stack([heights * (INPUT_WH[0] / INPUT_WH[1]), heights])
    views = [View((x, y), (w, h)) for x, y, w, h in np.column_stack([centers, scales]).tolist()]
    heatmap_to_image = np.stack([invert(view_to_matrix(view, HEATMAP_WH)) for view in views])
    calls = {
        "ours": partial(keypoints_in_image, torch.from_numpy(heatmaps), heatmap_to_image),
        ONE_BY_ONE: partial(_decode_one_by_one, heatmaps, heatmap_to_image),
    }
    if peer is not None:
        get_final_preds = load_hrnet(peer, "core.inference").get_final_preds
        calls[HRNET] = partial(get_final_preds, hrnet_config(), heatmaps, centers, scales / PIXEL_STD)
    keypoints, scores = calls["ours"]()
    for name, call in calls.items():
        other_keypoints, other_scores = call()
        require_same("keypoints (px)", name, keypoints, other_keypoints, TOLERANCE_PX)
        require_same("scores", name, scores, other_scores.reshape(scores.shape), 0)
    case = f"{persons} x {KEYPOINTS} heatmaps of {HEATMAP_WH[1]}x{HEATMAP_WH[0]} to keypoints"
    yield from compare_first(case, calls, budget, rng, TARGETS)


def _synthetic_heatmaps(persons: int, rng: np.random.Generator) -> Float32:
    """Return (persons, 17, 64, 48) heatmaps similar to a model's: a random peak in each, and noise.

    Values are rounded, so that two are equal or clearly different: of two that differ by rounding error, HRNet's code
    takes the greater one, and ours none (`pose.heatmap.TIE`).
    """
    keypoints_input = rng.uniform((0, 0), INPUT_WH, (persons * KEYPOINTS, 2))
    peaks, _ = encode(keypoints_input, np.ones(len(keypoints_input)), HEATMAP_WH)
    noise = rng.normal(0, NOISE, peaks.shape).astype(np.float32)
    return np.round(peaks + noise, 3).reshape(persons, KEYPOINTS, *peaks.shape[1:])


def _decode_one_by_one(heatmaps: Float32, heatmap_to_image: Array) -> tuple[Float32, Float32]:
    decoded = [
        [keypoints_in_image(torch.from_numpy(heatmap[None, None]), matrix[None]) for heatmap in maps]
        for maps, matrix in zip(heatmaps, heatmap_to_image, strict=True)
    ]
    keypoints, scores = (np.array([[one[part] for one in person] for person in decoded]) for part in (0, 1))
    return keypoints.reshape(*heatmaps.shape[:2], 2), scores.reshape(heatmaps.shape[:2])
