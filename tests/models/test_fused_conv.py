"""Inference variants of the dynamic convolution compared with the layer followed by batch norm."""

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
KINDS = {kind: {"bias": False} | options for kind, options in KINDS.items()}


def randomized(kind: str) -> tuple[DynamicConv2d, nn.BatchNorm2d]:
    conv = DynamicConv2d(4, 8, temperature=2.0, **KINDS[kind]).double()
    norm = nn.BatchNorm2d(8, eps=0.1).double().eval()
    for value in (*conv.parameters(), *norm.parameters(), norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv, norm


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_and_batch_free_variants_equal_convolution_and_batch_norm(kind: str, batch: int) -> None:
    conv, norm = randomized(kind)
    x = torch.randn(batch, 4, 9, 8, dtype=torch.double)
    expected = norm(conv(x))

    fused = FusedDynamicConv2d(conv, norm)

    torch.testing.assert_close(fused(x), expected)
    torch.testing.assert_close(BatchFreeDynamicConv2d(fused.conv, fused.shift)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_variant_equals_convolution_with_and_without_batch_norm(kind: str) -> None:
    conv, norm = randomized(kind)
    x = torch.randn(1, 4, 9, 8, dtype=torch.double)
    without_norm, expected = conv(x), norm(conv(x))

    torch.testing.assert_close(OneSampleDynamicConv2d(conv)(x), without_norm)
    fused = FusedDynamicConv2d(conv, norm)
    torch.testing.assert_close(OneSampleDynamicConv2d(fused.conv, fused.shift)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_free_variant_works_without_batch_norm(kind: str) -> None:
    conv, _ = randomized(kind)
    x = torch.randn(3, 4, 9, 8, dtype=torch.double)

    torch.testing.assert_close(BatchFreeDynamicConv2d(conv)(x), conv(x))


def test_batch_norm_without_affine_parameters_is_fused() -> None:
    conv, _ = randomized("pointwise")
    norm = nn.BatchNorm2d(8, affine=False).double().eval()
    nn.init.normal_(norm.running_mean)
    x = torch.randn(2, 4, 9, 8, dtype=torch.double)
    expected = norm(conv(x))

    torch.testing.assert_close(FusedDynamicConv2d(conv, norm)(x), expected)


def test_single_sample_path_uses_weights_that_were_copied_converted_and_loaded() -> None:
    conv, norm = randomized("pointwise")
    fused = copy.deepcopy(FusedDynamicConv2d(conv, norm)).float()
    other = FusedDynamicConv2d(*randomized("pointwise")).float()
    x = torch.randn(1, 4, 9, 8)

    fused.load_state_dict(other.state_dict())

    torch.testing.assert_close(fused(x), other.conv(x, other.shift))
    torch.testing.assert_close(fused(x.bfloat16().float()), fused.conv(x.bfloat16().float(), fused.shift))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_single_large_bright_sample_does_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    """The sum of its pixels is 100 * 128 * 96, far above fp16's 65,504."""
    fused = FusedDynamicConv2d(*randomized("pointwise"))
    x = torch.full((1, 4, 128, 96), 100.0)
    expected = fused.float()(x)

    output = fused.to(dtype)(x.to(dtype)).float()

    assert (output - expected).abs().max() < 0.05 * expected.abs().max()


def test_single_sample_path_has_gradients_for_input_and_weights() -> None:
    fused = FusedDynamicConv2d(*randomized("pointwise"))
    x = torch.randn(1, 4, 5, 3, dtype=torch.double, requires_grad=True)
    inputs = [x, fused.shift, *fused.conv.parameters()]

    gradients = torch.autograd.grad(fused(x).square().sum(), inputs)
    expected = torch.autograd.grad(fused.conv(x, fused.shift).square().sum(), inputs)

    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference)
