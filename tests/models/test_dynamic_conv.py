"""Every form of the dynamic convolution compared with a loop over samples, and properties of the attention."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pose.engine import perceptron
from pose.engine.perceptron import xor_perceptron
from pose.models import dynamic_conv, pointwise
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.kernel_attention import KernelAttention, set_temperature

KINDS: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel_size": 1},
    "pointwise_strided": {"kernel_size": 1, "stride": 2},
    "pointwise_uneven_stride_bias": {"kernel_size": 1, "stride": (2, 3), "bias": True},
    "pointwise_padded": {"kernel_size": 1, "padding": 1},
    "pointwise_grouped": {"kernel_size": 1, "groups": 2},
    "pointwise_dilated": {"kernel_size": 1, "dilation": 3},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "depthwise_strided_bias": {"kernel_size": 5, "stride": 2, "padding": 2, "groups": 4, "bias": True},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "dense": {"kernel_size": 3, "padding": 1, "bias": True},
    "dense_dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "dense_rectangular": {"kernel_size": (3, 1), "stride": (1, 2), "padding": (1, 0)},
    "one_kernel": {"kernel_size": 3, "num_kernels": 1},
    "sigmoid": {"kernel_size": 1, "attention": "sigmoid"},
    "sigmoid_dense": {"kernel_size": 3, "attention": "sigmoid"},
    "sigmoid_depthwise_bias": {"kernel_size": 3, "groups": 4, "attention": "sigmoid", "num_kernels": 8, "bias": True},
}
KINDS = {kind: {"bias": False} | options for kind, options in KINDS.items()}


def randomized(layer: DynamicConv2d) -> DynamicConv2d:
    """Randomize in float64, with attention far from uniform: initially all samples have nearly the same kernel."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    set_temperature(layer, 2.0)
    return layer.double()


def loop_over_samples(layer: DynamicConv2d, x: Tensor) -> Tensor:
    """The definition, implemented independently."""
    attention = layer.attention
    pooled = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    if attention.kind == "sigmoid":  # CondConv: sigmoid(GAP(x) R)
        weights = 1 / (1 + torch.exp(-(pooled @ attention.fc2.weight.T + attention.fc2.bias)))
    else:
        hidden = (pooled @ attention.fc1.weight.T + attention.fc1.bias).clamp(min=0)
        weights = torch.exp((hidden @ attention.fc2.weight.T + attention.fc2.bias) / attention.temperature)
        weights = weights / weights.sum(1, keepdim=True)
    outputs = []
    for sample, pi in zip(x, weights, strict=True):
        kernel = sum(p * w for p, w in zip(pi, layer.weight, strict=True))
        bias = None if layer.bias is None else sum(p * b for p, b in zip(pi, layer.bias, strict=True))
        outputs.append(
            functional.conv2d(sample[None], kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        )
    return torch.cat(outputs)


def assert_same_value_and_gradients(layer: DynamicConv2d, x: Tensor) -> None:
    x = x.clone().requires_grad_()
    inputs = [x, *layer.parameters()]
    ours, reference = layer(x), loop_over_samples(layer, x)
    torch.testing.assert_close(ours, reference)
    direction = torch.randn_like(reference)
    for ours_grad, reference_grad in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(reference, inputs, direction), strict=True
    ):
        torch.testing.assert_close(ours_grad, reference_grad)


@pytest.fixture(params=["matmul", "conv"])
def pointwise_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both pointwise forms on small inputs, with chunks of two kernels, and depthwise forms."""
    monkeypatch.setattr(dynamic_conv, "REORDER_SIZE", 0 if request.param == "conv" else 1 << 60)
    monkeypatch.setattr(dynamic_conv, "CONV_WORK", 0 if request.param == "conv" else 1 << 60)
    monkeypatch.setattr(pointwise, "_chunk_size", lambda rows, bank: 2)
    return str(request.param)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("outputs", [3, 6], ids=["fewer_outputs", "more_outputs"])
@pytest.mark.parametrize(("size", "stride"), [((1, 1), 1), ((1, 3), 1), ((3, 5), (3, 2))])
def test_maps_of_few_pixels_equal_a_loop_over_samples_and_aggregate_no_kernel(
    size: tuple[int, int], stride: int, outputs: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"stride": stride, "bias": False, "num_kernels": 3, "reduction": 2}
    layer = randomized(DynamicConv2d(4, outputs, 1, **options))  # type: ignore[arg-type]
    x = torch.randn(5, 4, *size, dtype=torch.double).to(memory_format=layout)
    monkeypatch.setattr(dynamic_conv, "aggregate", None)
    assert_same_value_and_gradients(layer, x)
    parameters = [parameter.detach().requires_grad_() for parameter in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradgradcheck(function, (x.requires_grad_(), *parameters), fast_mode=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer.float()(x.detach().float())
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(4, 2), (9, 8)], ids=["in_chunks", "whole"])
def test_training_keeps_no_aggregated_kernel_of_a_pointwise_layer(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    layer = DynamicConv2d(16, 24, 1, bias=False)
    x = torch.randn(5, 16, *size).to(memory_format=layout).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    assert any(tensor.data_ptr() == x.data_ptr() for tensor in kept)
    assert not [tensor.shape for tensor in kept if tensor.numel() == len(x) * 16 * 24]


@pytest.mark.parametrize(("size", "chunk"), [((20, 960, 160), 4), ((3072, 24, 16), 32), ((48, 2048, 2048), 1)])
def test_matrices_are_aggregated_in_chunks_where_they_are_larger_than_the_rows(
    size: tuple[int, int, int], chunk: int
) -> None:
    pixels, outputs, inputs = size
    rows, bank = (torch.empty(shape, device="meta") for shape in ((32, pixels, inputs), (4, outputs, inputs)))
    assert pointwise._chunk_size(rows, bank) == chunk


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_equal_a_loop_over_samples(
    kind: str, batch: int, layout: torch.memory_format, pointwise_form: str
) -> None:
    outputs = 8 if KINDS[kind].get("groups") == 4 else 6
    layer = randomized(DynamicConv2d(4, outputs, **{"num_kernels": 3, "reduction": 2} | KINDS[kind]))
    x = torch.randn(batch, 4, 9, 8, dtype=torch.double).to(memory_format=layout)
    assert_same_value_and_gradients(layer, x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), loop_over_samples(layer, x))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_input_gives_channels_last_output(kind: str, batch: int, training: bool) -> None:
    layer = DynamicConv2d(4, 8, **KINDS[kind])
    x = torch.randn(batch, 4, 9, 8).to(memory_format=torch.channels_last)
    with torch.set_grad_enabled(training):
        assert layer(x).is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 3), inputs=st.integers(1, 3), outputs=st.integers(1, 3), batch=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), dilation=st.integers(1, 2), bias=st.booleans(),
    num_kernels=st.integers(1, 5), reduction=st.integers(1, 8), attention=st.sampled_from(["softmax", "sigmoid"]),
)  # fmt: skip
def test_any_shape_equals_a_loop_over_samples(
    groups: int, inputs: int, outputs: int, batch: int, kernel: tuple[int, int], **options: Any
) -> None:
    layer = randomized(DynamicConv2d(groups * inputs, groups * outputs, kernel, groups=groups, **options))
    assert_same_value_and_gradients(layer, torch.randn(batch, groups * inputs, 7, 6, dtype=torch.double))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["pointwise", "depthwise_strided_bias", "grouped", "dense_dilated", "sigmoid"])
def test_gradients_equal_finite_differences(kind: str, batch: int) -> None:
    layer = randomized(DynamicConv2d(4, 4, **{"num_kernels": 2} | KINDS[kind]))
    x = torch.randn(batch, 4, 5, 5, dtype=torch.double, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(function, (x, *values))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_kernels_give_a_static_convolution(kind: str) -> None:
    if KINDS[kind].get("attention") == "sigmoid":
        pytest.skip("sigmoid weights do not sum to 1")
    options = dict(KINDS[kind])
    outputs = 8 if options.get("groups") == 4 else 6
    layer = randomized(DynamicConv2d(4, outputs, **options))
    options.pop("num_kernels", None)
    static = nn.Conv2d(4, outputs, **options).double()
    with torch.no_grad():
        layer.weight.copy_(static.weight.expand_as(layer.weight))
        if layer.bias is not None and static.bias is not None:
            layer.bias.copy_(static.bias.expand_as(layer.bias))
        x = torch.randn(3, 4, 9, 8, dtype=torch.double)
        torch.testing.assert_close(layer(x), static(x))


def test_single_softmax_kernel_gives_a_static_convolution() -> None:
    layer = randomized(DynamicConv2d(4, 6, 3, bias=False, num_kernels=1))
    x = torch.randn(2, 4, 6, 6, dtype=torch.double)
    torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight[0]))


def test_high_temperature_gives_the_mean_kernel() -> None:
    layer = randomized(DynamicConv2d(4, 6, 3, bias=False))
    x = torch.randn(2, 4, 6, 6, dtype=torch.double)
    set_temperature(layer, 1e12)
    torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight.mean(0)))


def test_low_temperature_selects_one_kernel() -> None:
    attention = KernelAttention(4, 3, 2, temperature=1e-6, kind="softmax").double()
    weights = attention(torch.randn(5, 4, 3, 3, dtype=torch.double))
    torch.testing.assert_close(weights.amax(1), torch.ones(5, dtype=torch.double))


def test_sigmoid_attention_ignores_the_temperature() -> None:
    layer = randomized(DynamicConv2d(4, 6, 1, attention="sigmoid"))
    x = torch.randn(2, 4, 6, 6, dtype=torch.double)
    before = layer(x)
    set_temperature(layer, 7.0)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=0)


def test_samples_of_a_batch_are_independent() -> None:
    layer = randomized(DynamicConv2d(4, 4, 3, groups=4))
    x = torch.randn(3, 4, 6, 6, dtype=torch.double)
    torch.testing.assert_close(layer(x), torch.cat([layer(sample[None]) for sample in x]))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batch_gives_an_empty_output_of_the_right_shape(kind: str) -> None:
    options = {"groups": 1} | KINDS[kind]
    layer = DynamicConv2d(4, 8, **options)
    x = torch.zeros(0, 4, 9, 8, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, *layer(torch.zeros(1, 4, 9, 8)).shape[1:])
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert all(p.grad is None or torch.all(p.grad == 0) for p in layer.parameters())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_autocast_computes_in_half_precision(kind: str, batch: int, pointwise_form: str) -> None:
    layer = DynamicConv2d(4, 8, **KINDS[kind])
    x = torch.randn(batch, 4, 9, 8)
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient), torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_equals_a_loop_over_samples(kind: str) -> None:
    layer = randomized(DynamicConv2d(4, 8, **KINDS[kind])).cuda()
    assert_same_value_and_gradients(layer, torch.randn(3, 4, 9, 8, dtype=torch.double, device="cuda"))


def test_large_pointwise_layers_use_convolution_and_small_ones_matmul() -> None:
    assert dynamic_conv._conv_is_faster(torch.empty(1, 128, 32, 24), 384, (1, 1))
    assert not dynamic_conv._conv_is_faster(torch.empty(1, 256, 8, 6), 768, (1, 1))
    assert not dynamic_conv._conv_is_faster(torch.empty(1, 128, 32, 24, device="meta"), 384, (1, 1))
    assert not dynamic_conv._conv_is_faster(torch.empty(1, 128, 32, 24), 384, (2, 2))


def test_kernels_are_initialized_independently_like_static_ones() -> None:
    layer = DynamicConv2d(64, 96, 3)
    for one, other in itertools.combinations(layer.weight, 2):
        assert not torch.equal(one, other)
    expected_std = (2 / (96 * 9)) ** 0.5
    for kernel in layer.weight:
        assert abs(kernel.std().item() / expected_std - 1) < 0.03
        assert abs(kernel.mean().item()) < 0.03 * expected_std


def test_attention_has_at_least_one_hidden_unit() -> None:
    assert DynamicConv2d(3, 6, 1, reduction=4).attention.fc1.out_features == 1
    assert DynamicConv2d(17, 6, 1, reduction=4).attention.fc1.out_features == 4


def test_channel_means_do_not_overflow_in_fp16() -> None:
    attention = KernelAttention(2, 3, 1, temperature=1.0, kind="softmax")
    x = torch.full((1, 2, 64, 48), 100.0)
    torch.testing.assert_close(attention.half()(x.half()).float(), attention.float()(x), rtol=0.02, atol=1e-3)


def test_temperature_is_saved_and_loaded(tmp_path: Any) -> None:
    model = nn.Sequential(DynamicConv2d(3, 6, 1), nn.Sequential(DynamicConv2d(6, 6, 3, groups=6)))
    set_temperature(model, 12.5)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = nn.Sequential(DynamicConv2d(3, 6, 1), nn.Sequential(DynamicConv2d(6, 6, 3, groups=6)))
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    x = torch.randn(2, 3, 5, 5)
    assert [m.temperature.item() for m in loaded.modules() if isinstance(m, KernelAttention)] == [12.5, 12.5]
    assert torch.equal(model(x), loaded(x))


def test_set_temperature_does_not_change_static_models() -> None:
    static = nn.Sequential(nn.Conv2d(3, 6, 1))
    before = {name: value.clone() for name, value in static.state_dict().items()}
    set_temperature(static, 5.0)
    assert all(torch.equal(value, before[name]) for name, value in static.state_dict().items())


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-320, float("nan")])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        set_temperature(DynamicConv2d(3, 6, 1), temperature)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "groups"),
        ({"groups": 0}, "groups=0"),
        ({"out_channels": 0}, "4, 0"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"stride": 0}, "stride"),
        ({"dilation": (1, 0)}, "dilation"),
        ({"padding": -1}, "padding"),
        ({"num_kernels": 0}, "num_kernels"),
        ({"reduction": 0}, "reduction"),
        ({"temperature": 0.0}, "temperature"),
        ({"attention": "tanh"}, "'softmax' or 'sigmoid'"),
    ],
)
def test_invalid_argument_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DynamicConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3} | options)


# --- one dynamic perceptron solves XOR (paper, appendix A.3)

CORNERS = torch.tensor(perceptron.CORNERS)
XOR = torch.tensor([0.0, 1.0, 1.0, 0.0])


@torch.no_grad()
def apply_to_corners(layer: DynamicConv2d) -> Tensor:
    """Apply the layer to each corner as the two channels of a one-pixel image."""
    return layer(CORNERS[:, :, None, None]).flatten()


def test_one_dynamic_perceptron_solves_xor_exactly() -> None:
    layer = xor_perceptron()
    assert torch.equal(apply_to_corners(layer).relu(), XOR)
    with torch.no_grad():
        single = torch.cat([layer(corner[None, :, None, None]).flatten() for corner in CORNERS])
    assert torch.equal(single.relu(), XOR)


def test_uniform_attention_does_not_solve_xor() -> None:
    """With equal weights the two kernels give one static kernel, with output 1 at every corner."""
    layer = xor_perceptron()
    set_temperature(layer, 1e9)
    torch.testing.assert_close(apply_to_corners(layer), torch.ones(4))


def test_no_static_perceptron_solves_xor() -> None:
    """The outputs of a static kernel have equal sums over the two ones and the two zeros.

    No monotonic activation separates them: if both ones exceeded both zeros, so would their sum.
    """
    for _ in range(10):
        layer = randomized(DynamicConv2d(2, 1, 1, bias=True, num_kernels=1)).float()
        outputs = apply_to_corners(layer)
        torch.testing.assert_close(outputs[XOR == 1].sum(), outputs[XOR == 0].sum())
