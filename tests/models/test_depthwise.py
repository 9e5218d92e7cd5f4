"""Depthwise convolutions with a fast backward pass, compared with PyTorch's convolution."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose.models.depthwise import Conv2d, conv2d

SIZES = [(8, 6), (7, 9), (5, 5), (1, 4)]
KERNELS = [(5, 1), (5, 2), (3, 2), (5, 3)]


def gradients(y: Tensor, upstream: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return (y, *torch.autograd.grad(y, inputs, upstream))


def example(
    size: tuple[int, int], side: int, channels_last: bool = False, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, 4, *size), generator=generator, dtype=torch.float64).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weight = torch.randn((4, 1, side, side), generator=generator, dtype=torch.float64).to(dtype)
    return x.requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "stride"), KERNELS)
def test_outputs_and_gradients_equal_pytorch(
    size: tuple[int, int], side: int, stride: int, channels_last: bool
) -> None:
    x, weight = example(size, side, channels_last)
    y = conv2d(x, weight, (stride, stride), (side // 2, side // 2), (1, 1), 4)
    if stride < 3:
        assert "Depthwise" in type(y.grad_fn).__name__
    upstream = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    expected = functional.conv2d(x, weight, None, stride, side // 2, 1, 4)
    for ours, reference in zip(
        gradients(y, upstream, x, weight), gradients(expected, upstream, x, weight), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("side", "stride"), [(5, 1), (5, 2), (3, 2)])
def test_gradients_of_channels_last_inputs_are_channels_last(side: int, stride: int, batch: int) -> None:
    """They were not at stride 2 in bf16, which made the batch norm before the layer ten times slower."""
    x = torch.randn(batch, 4, 8, 6).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(4, 1, side, side).bfloat16().requires_grad_()
    y = conv2d(x, weight, (stride, stride), (side // 2, side // 2), (1, 1), 4)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("side", "stride"), KERNELS)
def test_autocast_computes_in_bf16_within_rounding(side: int, stride: int) -> None:
    x, weight = example((16, 12), side, dtype=torch.float32)
    exact = functional.conv2d(x, weight, None, stride, side // 2, 1, 4)
    upstream = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d(x, weight, (stride, stride), (side // 2, side // 2), (1, 1), 4)
    assert y.dtype == torch.bfloat16
    for ours, reference in zip(
        gradients(y, upstream, x, weight), gradients(exact, upstream.float(), x, weight), strict=True
    ):
        assert (ours.float() - reference).norm() < 0.01 * reference.norm()


def test_frozen_weight_or_input_gets_no_gradient() -> None:
    for frozen in (0, 1):
        pair = example((8, 6), 5)
        pair[frozen].requires_grad_(False)
        conv2d(*pair, (1, 1), (2, 2), (1, 1), 4).sum().backward()
        assert pair[frozen].grad is None
        assert pair[1 - frozen].grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 1},
        {"groups": 2},
        {"padding": 0},
        {"dilation": 2},
        {"stride": (1, 2)},
        {"padding": "same"},
        {"bias": True},
        {"padding_mode": "reflect"},
        {"kernel_size": (3, 5), "padding": (1, 2)},
    ],
    ids=str,
)
def test_other_convolutions_use_pytorch(options: dict[str, object]) -> None:
    options = {"kernel_size": 5, "padding": 2, "groups": 4, "bias": False} | options
    ours = Conv2d(4, 4, **options).double()  # type: ignore[arg-type]
    reference = nn.Conv2d(4, 4, **options).double()  # type: ignore[arg-type]
    reference.load_state_dict(ours.state_dict())
    x, _ = example((8, 6), 5)
    y, expected = ours(x), reference(x)
    assert "Depthwise" not in type(y.grad_fn).__name__
    torch.testing.assert_close(y, expected)


def test_inference_and_empty_batch_use_pytorch() -> None:
    layer = Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    with torch.no_grad():
        assert layer(torch.zeros(1, 4, 8, 8)).grad_fn is None
    assert layer(torch.zeros(0, 4, 8, 8)).shape == (0, 4, 8, 8)


@pytest.mark.parametrize(("side", "stride"), KERNELS)
def test_second_derivatives_equal_finite_differences(side: int, stride: int) -> None:
    """They were silently 0: the fast gradients had no graph of their own."""
    x, weight = example((6, 5), side)

    def function(x: Tensor, weight: Tensor) -> Tensor:
        return conv2d(x, weight, (stride, stride), (side // 2, side // 2), (1, 1), 4)

    assert torch.autograd.gradgradcheck(function, (x, weight), fast_mode=True)


@pytest.mark.parametrize(("side", "stride"), KERNELS)
def test_autocast_keeps_float64(side: int, stride: int) -> None:
    x, weight = example((8, 6), side)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d(x, weight, (stride, stride), (side // 2, side // 2), (1, 1), 4)
        expected = functional.conv2d(x, weight, None, stride, side // 2, 1, 4)
    assert y.dtype == expected.dtype == torch.float64
    torch.testing.assert_close(y, expected)
