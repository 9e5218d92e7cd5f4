"""Deployed forms of the dynamic convolution against the layer itself and the batch norm behind it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fused_conv import BatchFreeDynamicConv2d, FusedDynamicConv2d, OneSampleDynamicConv2d

KINDS: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel_size": 1},
    "pointwise_strided": {"kernel_size": 1, "stride": 2},
    "pointwise_uneven_stride_bias": {"kernel_size": 1, "stride": (2, 3), "bias": True},
    "pointwise_padded": {"kernel_size": 1, "padding": 1},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "depthwise_strided_bias": {"kernel_size": 5, "stride": 2, "padding": 2, "groups": 4, "bias": True},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "dense": {"kernel_size": 3, "padding": 1, "bias": True},
    "dense_dilated_strided": {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2},
    "dense_rectangular": {"kernel_size": (3, 1), "stride": (1, 2), "padding": (1, 0)},
    "one_kernel": {"kernel_size": 3, "num_kernels": 1},
    "one_kernel_depthwise": {"kernel_size": 3, "num_kernels": 1, "groups": 4},
    "sigmoid_bias": {"kernel_size": 1, "attention": "sigmoid", "bias": True},
    "sigmoid_depthwise": {"kernel_size": 3, "attention": "sigmoid", "groups": 4},
}


def lively(kind: str) -> tuple[DynamicConv2d, nn.BatchNorm2d]:
    conv = DynamicConv2d(4, 8, temperature=2.0, **KINDS[kind]).double()
    norm = nn.BatchNorm2d(8, eps=0.1).double().eval()
    for value in (*conv.parameters(), *norm.parameters(), norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv, norm


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_folded_and_batch_free_forms_equal_convolution_and_norm(kind: str, batch: int) -> None:
    conv, norm = lively(kind)
    x = torch.randn(batch, 4, 9, 8, dtype=torch.double)
    expected = norm(conv(x))

    folded = FusedDynamicConv2d(conv, norm)

    torch.testing.assert_close(folded(x), expected)
    torch.testing.assert_close(BatchFreeDynamicConv2d(folded.conv, folded.shift)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_of_one_sample_equals_convolution_with_and_without_norm(kind: str) -> None:
    conv, norm = lively(kind)
    x = torch.randn(1, 4, 9, 8, dtype=torch.double)
    alone, expected = conv(x), norm(conv(x))

    torch.testing.assert_close(OneSampleDynamicConv2d(conv)(x), alone)
    folded = FusedDynamicConv2d(conv, norm)
    torch.testing.assert_close(OneSampleDynamicConv2d(folded.conv, folded.shift)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_free_form_needs_no_norm(kind: str) -> None:
    conv, _ = lively(kind)
    x = torch.randn(3, 4, 9, 8, dtype=torch.double)

    torch.testing.assert_close(BatchFreeDynamicConv2d(conv)(x), conv(x))


def test_a_norm_without_weights_of_its_own_is_folded_too() -> None:
    conv, _ = lively("pointwise")
    norm = nn.BatchNorm2d(8, affine=False).double().eval()
    nn.init.normal_(norm.running_mean)
    x = torch.randn(2, 4, 9, 8, dtype=torch.double)
    expected = norm(conv(x))

    torch.testing.assert_close(FusedDynamicConv2d(conv, norm)(x), expected)


def test_one_sample_follows_weights_that_were_copied_moved_and_loaded() -> None:
    conv, norm = lively("pointwise")
    folded = copy.deepcopy(FusedDynamicConv2d(conv, norm)).float()
    other = FusedDynamicConv2d(*lively("pointwise")).float()
    x = torch.randn(1, 4, 9, 8)

    folded.load_state_dict(other.state_dict())

    torch.testing.assert_close(folded(x), other.conv(x, other.shift))
    torch.testing.assert_close(folded(x.bfloat16().float()), folded.conv(x.bfloat16().float(), folded.shift))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_one_large_bright_sample_in_half_precision_keeps_its_range(dtype: torch.dtype) -> None:
    """The sum of its pixels is 100 * 128 * 96, far above fp16's 65,504."""
    folded = FusedDynamicConv2d(*lively("pointwise"))
    x = torch.full((1, 4, 128, 96), 100.0)
    expected = folded.float()(x)

    found = folded.to(dtype)(x.to(dtype)).float()

    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_gradients_reach_input_and_weights_of_one_sample() -> None:
    folded = FusedDynamicConv2d(*lively("pointwise"))
    x = torch.randn(1, 4, 5, 3, dtype=torch.double, requires_grad=True)
    wanted = [x, folded.shift, *folded.conv.parameters()]

    found = torch.autograd.grad(folded(x).square().sum(), wanted)
    expected = torch.autograd.grad(folded.conv(x, folded.shift).square().sum(), wanted)

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
