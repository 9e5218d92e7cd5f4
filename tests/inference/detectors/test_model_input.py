"""The input of a detector: resize, padding, color order, normalization, layout."""

import numpy as np
import pytest

from pose.inference.detectors.model_input import ModelInput, letterbox

BGR = (10, 20, 30)


def plain(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), BGR, np.uint8)


def test_letterbox_fits_the_image_into_the_top_left_corner():
    canvas, scale_xy = letterbox(plain(100, 50), (416, 320))
    assert canvas.shape == (320, 416, 3)
    assert scale_xy.tolist() == [4.16, 4.16]
    assert (canvas[:208] == BGR).all()
    assert (canvas[208:] == 114).all()


def test_keep_aspect_pads_and_scales_both_axes_alike():
    tensor, scale_xy = ModelInput("x", "NCHW", (32, 64), keep_aspect=True, rgb=False).prepare(plain(64, 64))
    assert tensor.shape == (1, 3, 64, 32)
    assert scale_xy.tolist() == [0.5, 0.5]
    assert (tensor[0, :, :32] == np.array(BGR)[:, None, None]).all()
    assert (tensor[0, :, 32:] == 114).all()


def test_stretching_scales_each_axis():
    tensor, scale_xy = ModelInput("x", "NCHW", (32, 64), keep_aspect=False, rgb=False).prepare(plain(64, 16))
    assert scale_xy.tolist() == [0.5, 4]
    assert (tensor == np.array(BGR)[:, None, None]).all()


def test_an_input_of_any_size_takes_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor, scale_xy = ModelInput("x", "CHW", None, True, rgb=True, std=(255, 255, 255)).prepare(image)
    np.testing.assert_allclose(tensor, image[..., ::-1].transpose(2, 0, 1) / 255, rtol=1e-6)
    assert scale_xy.tolist() == [1, 1]


@pytest.mark.parametrize(("rgb", "expected"), [(False, (4.5, 9, 13.5)), (True, (14.5, 9, 3.5))])
def test_mean_and_std_are_in_the_order_of_the_colors(rgb, expected):
    model_input = ModelInput("x", "NCHW", (8, 8), True, rgb=rgb, mean=(1, 2, 3), std=(2, 2, 2))
    tensor, _ = model_input.prepare(plain(8, 8))
    np.testing.assert_allclose(tensor[0, :, 0, 0], expected)
    assert tensor.dtype == np.float32


def test_the_layout_is_that_of_the_model():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    tensors = {
        layout: ModelInput("x", layout, (8, 6), True, rgb=False).prepare(image)[0] for layout in ("NCHW", "NHWC", "CHW")
    }
    assert tensors["NHWC"].shape == (1, 6, 8, 3)
    np.testing.assert_array_equal(tensors["NHWC"][0], image)
    np.testing.assert_array_equal(tensors["NCHW"][0], image.transpose(2, 0, 1))
    np.testing.assert_array_equal(tensors["CHW"], image.transpose(2, 0, 1))
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
