"""Flip averaging against hand calculation; `tests/golden` compares it with the reference's numbers."""

import numpy as np
import pytest
import torch

from pose.inference import flip_average
from pose.skeleton import COCO


def random_maps(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 17, 8, 6)).astype(np.float32)


def mirrored(maps: np.ndarray) -> np.ndarray:
    """Heatmaps of the mirrored crop from a perfectly mirror-symmetric model."""
    return maps[:, COCO.flip_order, :, ::-1]


def test_without_shift_the_average_of_a_symmetric_model_is_unchanged():
    maps = random_maps()

    np.testing.assert_array_equal(flip_average(maps, mirrored(maps), COCO.flip_pairs, shift=0), maps)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_shift_moves_the_mirrored_maps_right_and_keeps_the_first_columns(shift):
    maps = random_maps()
    back = maps.copy()
    back[..., shift:] = maps[..., : maps.shape[-1] - shift]

    np.testing.assert_allclose(flip_average(maps, mirrored(maps), COCO.flip_pairs, shift), (maps + back) / 2, rtol=1e-6)


def test_the_default_shift_is_one_column():
    maps, other = random_maps(1), random_maps(2)

    np.testing.assert_array_equal(
        flip_average(maps, other, COCO.flip_pairs), flip_average(maps, other, COCO.flip_pairs, shift=1)
    )


def test_left_and_right_keypoints_are_swapped():
    maps = np.zeros((1, 17, 8, 6), dtype=np.float32)
    other = maps.copy()
    other[0, COCO.names.index("left_wrist"), 3, 1] = 1

    averaged = flip_average(maps, other, COCO.flip_pairs, shift=0)

    assert averaged[0, COCO.names.index("right_wrist"), 3, 4] == 0.5
    assert averaged.sum() == 0.5


def test_tensors_and_arrays_give_equal_results():
    maps, other = random_maps(3), random_maps(4)

    from_tensors = flip_average(torch.from_numpy(maps), torch.from_numpy(other), COCO.flip_pairs)

    np.testing.assert_array_equal(from_tensors.numpy(), flip_average(maps, other, COCO.flip_pairs))


def test_the_inputs_are_not_modified():
    maps, other = random_maps(5), random_maps(6)
    before = maps.copy(), other.copy()

    flip_average(maps, other, COCO.flip_pairs)

    np.testing.assert_array_equal(maps, before[0])
    np.testing.assert_array_equal(other, before[1])
