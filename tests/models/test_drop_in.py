"""`DynamicConv2d` and its siblings in the place of torch's layers: the features of docs/drop_in.md, one by one."""

import copy
import inspect
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicConv1d, DynamicConv3d, DynamicConvTranspose2d, DynamicLinear
from pose.models.fused_conv import BatchFreeDynamicConv2d, FusedDynamicConv2d, OneSampleDynamicConv2d
from pose.models.kernel_attention import DynamicLayer, KernelAttention, set_temperature

SIBLINGS: dict[type[DynamicLayer], type[nn.Module]] = {
    DynamicConv2d: nn.Conv2d,
    DynamicConv1d: nn.Conv1d,
    DynamicConv3d: nn.Conv3d,
    DynamicConvTranspose2d: nn.ConvTranspose2d,
    DynamicLinear: nn.Linear,
}

LAYERS: dict[str, tuple[type[DynamicLayer], tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "1d": (DynamicConv1d, (4, 6, 3), {"padding": 1}, (4, 9)),
    "1d_grouped_strided": (DynamicConv1d, (4, 6, 3), {"stride": 2, "dilation": 2, "groups": 2, "bias": False}, (4, 9)),
    "1d_same_reflect": (DynamicConv1d, (4, 6, 4), {"padding": "same", "padding_mode": "reflect"}, (4, 9)),
    "2d_pointwise": (DynamicConv2d, (4, 6, 1), {"bias": False}, (4, 7, 6)),
    "2d": (DynamicConv2d, (4, 6, 3), {"padding": 1}, (4, 7, 6)),
    "2d_depthwise": (DynamicConv2d, (4, 8, 5), {"padding": 2, "groups": 4}, (4, 7, 6)),
    "3d": (DynamicConv3d, (4, 6, 3), {"padding": 1}, (4, 3, 5, 4)),
    "3d_depthwise": (DynamicConv3d, (4, 4, (1, 3, 3)), {"stride": (1, 2, 2), "groups": 4}, (4, 3, 5, 4)),
    "3d_same_circular": (DynamicConv3d, (4, 6, 2), {"padding": "same", "padding_mode": "circular"}, (4, 3, 5, 4)),
    "transpose": (DynamicConvTranspose2d, (4, 6, 4), {"stride": 2, "padding": 1}, (4, 5, 3)),
    "transpose_grouped": (
        DynamicConvTranspose2d,
        (4, 6, 3),
        {"stride": (2, 3), "output_padding": 1, "groups": 2, "dilation": 2, "bias": False},
        (4, 5, 3),
    ),
    "linear": (DynamicLinear, (4, 6), {}, (4,)),
    "linear_tokens": (DynamicLinear, (4, 6), {"bias": False}, (5, 4)),
    "linear_grid": (DynamicLinear, (4, 6), {}, (3, 2, 4)),
}
"""Class, positional arguments, options, shape of one sample."""


def randomized(layer: nn.Module) -> Any:
    """Randomize in float64, with attention that is far from uniform and differs between inputs."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    for attention in layer.modules():
        if isinstance(attention, KernelAttention) and attention.fc1 is not None:
            nn.init.ones_(attention.fc1.bias)
    set_temperature(layer, 2.0)
    return layer.double()


def make(name: str, **options: Any) -> Any:
    cls, arguments, defaults, _ = LAYERS[name]
    return cls(*arguments, **defaults | options)  # type: ignore[arg-type]


def make_static(name: str) -> nn.Module:
    cls, arguments, options, _ = LAYERS[name]
    return SIBLINGS[cls](*arguments, **options).double()


def example(name: str, *batch: int) -> Tensor:
    return torch.randn(*batch, *LAYERS[name][3], dtype=torch.double)


def copy_static(static: nn.Module, layer: DynamicLayer) -> None:
    """Set all K kernels and biases to those of a static layer."""
    with torch.no_grad():
        layer.weight.copy_(static.weight.expand_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(static.bias.expand_as(layer.bias))


# --- the interface


@pytest.mark.parametrize("layer", SIBLINGS, ids=lambda layer: layer.__name__)
def test_arguments_have_the_names_order_and_defaults_of_torch(layer: type[DynamicLayer]) -> None:
    ours, torchs = (inspect.signature(cls).parameters for cls in (layer, SIBLINGS[layer]))
    first = dict(itertools.islice(ours.items(), len(torchs)))
    assert list(first) == list(torchs)
    assert [p.default for p in first.values()] == [p.default for p in torchs.values()]
    assert [p.kind for p in first.values()] == [p.kind for p in torchs.values()]
    own = {name: p for name, p in ours.items() if name not in torchs}
    assert list(own) == ["num_kernels", "reduction", "temperature", "attention"]
    assert all(p.kind is p.KEYWORD_ONLY for p in own.values())


@pytest.mark.parametrize("name", LAYERS)
def test_equal_kernels_give_the_layer_of_torch(name: str) -> None:
    static, layer = make_static(name), randomized(make(name))
    copy_static(static, layer)
    for batch in (1, 3):
        x = example(name, batch)
        torch.testing.assert_close(layer(x), static(x))


@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_sample_has_its_own_kernel(name: str, attention: str) -> None:
    """Compared with torch's layer, loaded for each sample with the aggregated kernel; gradients too."""
    static, layer = make_static(name), randomized(make(name, reduction=1, attention=attention))
    set_temperature(layer, 3.0)
    x = (2 * example(name, 3)).requires_grad_()
    features = x.movedim(-1, 1) if isinstance(layer, DynamicLinear) else x
    means = features.flatten(2).mean(2) if features.dim() > 2 else features
    fc1, fc2 = layer.attention.fc1, layer.attention.fc2
    if attention == "softmax":
        weights = torch.softmax(fc2(fc1(means).relu()) / layer.attention.temperature, 1)
    else:
        weights = torch.sigmoid(fc2(means))
    assert weights.std(0).max() > 0.005
    expected = []
    for sample, pi in zip(x, weights, strict=True):
        parameters = {"weight": torch.einsum("k,k...->...", pi, layer.weight)}
        if layer.bias is not None:
            parameters["bias"] = pi @ layer.bias
        expected.append(functional_call(static, parameters, (sample[None],)))
    reference, ours = torch.cat(expected), layer(x)
    torch.testing.assert_close(ours, reference)
    direction = torch.randn_like(reference)
    inputs = [x, *layer.parameters()]
    for ours_grad, reference_grad in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(reference, inputs, direction), strict=True
    ):
        torch.testing.assert_close(ours_grad, reference_grad)


PADDINGS = [
    {"kernel_size": kernel, "dilation": dilation, "padding": padding, "groups": groups}
    for kernel in (1, 3, 4, (2, 5))
    for dilation in (1, 2)
    for padding in ("same", "valid")
    for groups in (1, 4)
]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("options", [*PADDINGS, {"kernel_size": 3, "padding": (2, 1), "stride": 2}], ids=str)
def test_padding_same_valid_and_all_modes_equal_torch(options: dict[str, Any], mode: str) -> None:
    static = nn.Conv2d(4, 8, padding_mode=mode, **options).double()
    layer = randomized(DynamicConv2d(4, 8, padding_mode=mode, **options))
    copy_static(static, layer)
    norm = nn.BatchNorm2d(8).double().eval()
    for batch in (1, 3):
        x = torch.randn(batch, 4, 12, 11, dtype=torch.double)
        torch.testing.assert_close(layer(x), static(x))
        torch.testing.assert_close(BatchFreeDynamicConv2d(layer)(x), static(x))
    torch.testing.assert_close(OneSampleDynamicConv2d(layer)(x[:1]), static(x[:1]))
    expected = norm(layer(x))
    fused = FusedDynamicConv2d(copy.deepcopy(layer), norm)
    torch.testing.assert_close(fused(x), expected)
    torch.testing.assert_close(fused(x[:1]), expected[:1])


def test_fused_layer_without_bias_pads_a_single_sample_too() -> None:
    """The fast path for one sample reads the padding of the convolution only."""
    layer = randomized(DynamicConv2d(4, 8, 4, padding="same", bias=False))
    norm = nn.BatchNorm2d(8).double().eval()
    x = torch.randn(1, 4, 7, 6, dtype=torch.double)
    expected = norm(layer(x))
    torch.testing.assert_close(FusedDynamicConv2d(layer, norm)(x), expected)


def test_sizes_may_be_lists_and_integers_of_numpy() -> None:
    layer = DynamicConv2d(
        np.int64(4), np.int32(6), [3, np.int16(5)], stride=np.array([2, 1]), padding=torch.Size([1, 2]),
        groups=np.int64(2), num_kernels=np.int64(3), reduction=np.int64(2),
    )  # fmt: skip
    static = nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2), groups=2)
    assert (layer.kernel_size, layer.stride, layer.padding) == (static.kernel_size, static.stride, static.padding)
    assert layer.weight.shape == (3, *static.weight.shape)
    assert all(type(size) is int for size in (*layer.kernel_size, layer.in_channels, layer.groups, layer.num_kernels))
    assert layer(torch.randn(2, 4, 9, 8)).shape == static(torch.randn(2, 4, 9, 8)).shape


@pytest.mark.parametrize("name", LAYERS)
def test_one_sample_without_batch_axis_is_accepted(name: str) -> None:
    layer = randomized(make(name))
    x = example(name, 1)
    if isinstance(layer, DynamicLinear) and x.dim() > 2:
        pytest.skip("rows without a batch axis are a batch of rows, as for torch.nn.Linear")
    torch.testing.assert_close(layer(x[0]), layer(x)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_empty_batch_gives_an_empty_output_and_zero_gradients(name: str) -> None:
    layer = make(name)
    x = example(name, 0).float().requires_grad_()
    y = layer(x)
    assert y.shape == (0, *layer(example(name, 2).float()).shape[1:])
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("name", ["linear", "2d_pointwise"])
def test_products_without_a_kernel_for_each_sample_equal_those_with_one(name: str) -> None:
    """Of more than K samples with at most K rows or pixels; a batch of one is aggregated."""
    layer = randomized(make(name))
    x = example(name, 7)[..., :1, :1] if name == "2d_pointwise" else example(name, 7)
    torch.testing.assert_close(layer(x), torch.cat([layer(sample) for sample in x.split(1)]))


@pytest.mark.parametrize("name", LAYERS)
def test_device_meta_allocates_nothing(name: str) -> None:
    layer = make(name, device="meta")
    assert all(value.is_meta for value in (*layer.parameters(), *layer.buffers()))
    y = layer(example(name, 2).float().to("meta"))
    assert y.shape == make(name)(example(name, 2).float()).shape
    assert not any(value.is_meta for value in layer.to_empty(device="cpu").state_dict().values())


@pytest.mark.parametrize("name", LAYERS)
def test_dtype_float64_is_that_of_parameters_buffers_and_outputs(name: str) -> None:
    layer = make(name, dtype=torch.float64)
    assert {value.dtype for value in layer.state_dict().values()} == {torch.float64}
    assert layer(example(name, 2)).dtype == torch.float64


@pytest.mark.parametrize("name", LAYERS)
def test_reset_parameters_initializes_as_a_new_layer_does(name: str) -> None:
    torch.manual_seed(3)
    new = make(name, temperature=7.0).state_dict()
    layer = randomized(make(name)).float()
    set_temperature(layer, 7.0)
    torch.manual_seed(3)
    layer.reset_parameters()
    torch.testing.assert_close(layer.state_dict(), new, rtol=0, atol=0)


BAD_ARGUMENTS: list[tuple[type[DynamicLayer], dict[str, Any], str]] = [
    (DynamicConv2d, {"in_channels": 4.0}, "in_channels: expected a whole number, got 4.0"),
    (DynamicConv2d, {"groups": "2"}, "groups: expected a whole number, got '2'"),
    (DynamicConv2d, {"kernel_size": 2.5}, "kernel_size: expected a whole number or 2 of them, got 2.5"),
    (DynamicConv2d, {"kernel_size": (3, 3, 3)}, "kernel_size: expected a whole number or 2"),
    (DynamicConv2d, {"stride": [1, None]}, "stride: expected a whole number or 2"),
    (DynamicConv2d, {"padding": "full"}, "'valid', or 'same' with stride 1, got 'full'"),
    (DynamicConv2d, {"padding": "same", "stride": 2}, "'same' with stride 1"),
    (DynamicConv2d, {"padding_mode": "mirror"}, "expected padding_mode of zeros, reflect, replicate, circular"),
    (DynamicConv2d, {"num_kernels": 1.5}, "num_kernels: expected a whole number, got 1.5"),
    (DynamicConv1d, {"kernel_size": (3, 3)}, "DynamicConv1d: kernel_size: expected a whole number or 1"),
    (DynamicConv3d, {"groups": 3}, "DynamicConv3d: expected channels divisible by groups, got 4 -> 6 in 3 groups"),
    (DynamicConvTranspose2d, {"padding_mode": "reflect"}, "DynamicConvTranspose2d: expected padding as numbers and"),
    (DynamicConvTranspose2d, {"padding": "same"}, "DynamicConvTranspose2d: expected padding as numbers and"),
    (DynamicConvTranspose2d, {"output_padding": (1, 1, 1)}, "output_padding: expected a whole number or 2"),
    (DynamicLinear, {"in_features": 0}, "DynamicLinear: expected positive sizes, got 0 and 6"),
    (DynamicLinear, {"out_features": 1.0}, "out_features: expected a whole number, got 1.0"),
    (DynamicConv1d, {"stride": True}, "DynamicConv1d: stride: expected a whole number or 1 of them, got True"),
    (DynamicConv2d, {"dilation": (1, True)}, "dilation: expected a whole number or 2 of them, got (1, True)"),
    (DynamicConv3d, {"groups": True}, "DynamicConv3d: groups: expected a whole number, got True"),
    (DynamicLinear, {"num_kernels": True}, "DynamicLinear: num_kernels: expected a whole number, got True"),
    (DynamicLinear, {"attention": "tanh"}, "DynamicLinear: expected attention 'softmax' or 'sigmoid', got 'tanh'"),
]


@pytest.mark.parametrize(("layer", "options", "message"), BAD_ARGUMENTS, ids=lambda value: str(value)[:60])
def test_bad_argument_is_one_line_that_names_it(
    layer: type[DynamicLayer], options: dict[str, Any], message: str
) -> None:
    defaults = {"in_features": 4, "out_features": 6}
    if layer is not DynamicLinear:
        defaults = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    with pytest.raises(ValueError) as raised:
        layer(**defaults | options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


# --- what is done to a model


def small_model() -> nn.Sequential:
    """Hold all forms of the layer: dense, depthwise, pointwise, asymmetric padding."""
    return nn.Sequential(
        DynamicConv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        DynamicConv2d(8, 8, 5, padding=2, groups=8, bias=False),
        DynamicConv2d(8, 6, 1, num_kernels=3),
        DynamicConv2d(6, 6, 4, padding="same", padding_mode="reflect"),
    )


def images(batch: int, size: int = 12) -> Tensor:
    return torch.randn(batch, 3, size, size + 2, generator=torch.Generator().manual_seed(1))


def test_memory_format_of_the_model_changes_nothing_but_speed() -> None:
    model = small_model().eval()
    expected = [model(images(batch)) for batch in (1, 3)]
    converted = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for y, batch in zip(expected, (1, 3), strict=True):
        output = converted(images(batch).to(memory_format=torch.channels_last))
        torch.testing.assert_close(output, y)
        assert output.is_contiguous(memory_format=torch.channels_last)
    assert converted[0].weight.is_contiguous()
    with pytest.raises(RuntimeError, match="rank 5 tensor"):  # as nn.Conv2d does
        model.to(memory_format=torch.channels_last_3d)


def test_export_with_free_batch_and_size_runs_any() -> None:
    model = small_model().eval()
    dims = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=8), 3: torch.export.Dim("width", min=8)}
    exported = torch.export.export(model, (images(3),), dynamic_shapes=({**dims},)).module()
    for batch, size in ((1, 12), (5, 12), (2, 17), (1, 9)):
        torch.testing.assert_close(exported(images(batch, size)), model(images(batch, size)))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_exports_with_a_free_batch(name: str) -> None:
    layer = make(name).eval()
    x = example(name, 3).float()
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    for batch in (1, 5):
        x = example(name, batch).float()
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_captures_one_graph_and_gives_the_same(dynamic: bool) -> None:
    torch._dynamo.reset()
    model = small_model()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for batch in (2, 4, 1):
        x = images(batch)
        ours, expected = compiled(x), model(x)
        torch.testing.assert_close(ours, expected)
        ours, expected = (torch.autograd.grad(y.square().sum(), model[0].weight)[0] for y in (ours, expected))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_fx_traces_the_layer_as_one_node() -> None:
    model = nn.Sequential(small_model(), FusedDynamicConv2d(DynamicConv2d(6, 6, 1), nn.BatchNorm2d(6).eval())).eval()
    traced = torch.fx.symbolic_trace(model)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "1"]
    for batch in (1, 3):
        torch.testing.assert_close(traced(images(batch)), model(images(batch)))


def test_fx_says_that_a_layer_alone_cannot_be_traced() -> None:
    with pytest.raises(ValueError, match="DynamicConv2d: expected a model that holds this layer"):
        torch.fx.symbolic_trace(DynamicConv2d(3, 4, 1))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_pickles_compute_the_same(name: str, duplicate: Callable[[nn.Module], nn.Module]) -> None:
    layer = randomized(make(name))
    x = example(name, 2)
    other = duplicate(layer)
    assert torch.equal(other(x), layer(x))
    assert other.weight.data_ptr() != layer.weight.data_ptr()


@pytest.mark.parametrize("name", LAYERS)
def test_state_dict_carries_everything_to_a_new_layer(name: str) -> None:
    layer, other = randomized(make(name)), make(name).double()
    other.load_state_dict(layer.state_dict())
    x = example(name, 2)
    assert torch.equal(other(x), layer(x))


# --- derivatives


def loss(parameters: dict[str, Tensor], model: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = functional_call(model, parameters, (x,))
    return y.square().sum()


@pytest.mark.parametrize("name", LAYERS)
def test_func_grad_equals_autograd_and_vmap_gives_those_of_each_sample(name: str) -> None:
    layer = randomized(make(name))
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    x = example(name, 3)
    gradients = grad(loss)(parameters, layer, x)
    of_samples = vmap(grad(loss), in_dims=(None, None, 0))(parameters, layer, x[:, None])
    layer(x).square().sum().backward()
    for key, value in layer.named_parameters():
        torch.testing.assert_close(gradients[key], value.grad)
        torch.testing.assert_close(of_samples[key].sum(0), value.grad)


@pytest.mark.parametrize("name", ["2d", "2d_depthwise", "1d", "linear"])
def test_vmap_runs_an_ensemble_on_a_batch(name: str) -> None:
    layers = [randomized(make(name)) for _ in range(2)]
    stacked, _ = torch.func.stack_module_state(layers)
    buffers = dict(layers[0].named_buffers())
    x = example(name, 3)
    outputs = vmap(lambda state: functional_call(layers[0], (state, buffers), (x,)))(stacked)
    torch.testing.assert_close(outputs, torch.stack([layer(x) for layer in layers]))


def gradient_penalty(model: nn.Module, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    return gradient.square().sum()


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_gradient_penalty_through_a_5x5_kernel_equals_finite_differences(batch: int, groups: int) -> None:
    """It was 0 through the fast depthwise convolution, whose gradients had no graph."""
    layer = randomized(DynamicConv2d(4, 4, 5, padding=2, groups=groups, bias=False))
    x = torch.randn(batch, 4, 6, 5, dtype=torch.double, requires_grad=True)
    (ours,) = torch.autograd.grad(gradient_penalty(layer, x), layer.weight)
    direction = torch.randn_like(layer.weight)
    step, values = 1e-6, []
    for sign in (1, -1):
        moved = copy.deepcopy(layer)
        with torch.no_grad():
            moved.weight.add_(sign * step * direction)
        values.append(gradient_penalty(moved, x).item())
    numeric = (values[0] - values[1]) / (2 * step)
    assert numeric == pytest.approx((ours * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives_equal_finite_differences(name: str) -> None:
    layer = randomized(make(name, num_kernels=2, reduction=4))
    names, values = zip(*layer.named_parameters(), strict=True)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradgradcheck(function, (example(name, 2).requires_grad_(), *values), fast_mode=True)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant: bool) -> None:
    model = small_model()[3:].double()
    x = torch.randn(2, 8, 6, 6, dtype=torch.double, requires_grad=True)
    expected = torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])
    checkpoint(model, x, use_reentrant=use_reentrant).square().sum().backward()
    for value, reference in zip([x, *model.parameters()], expected, strict=True):
        torch.testing.assert_close(value.grad, reference)


def test_distributed_data_parallel_trains_it(tmp_path: Any) -> None:
    model = small_model()[3:]
    x = torch.randn(2, 8, 6, 6)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        nn.parallel.DistributedDataParallel(model)(x).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    for value, reference in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(value.grad, reference)


# --- mixed precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_autocast_computes_in_its_dtype(name: str, dtype: torch.dtype) -> None:
    layer, static = make(name), make_static(name).float()
    x = example(name, 2).float()
    for training in (True, False):
        with torch.set_grad_enabled(training), torch.autocast("cpu", dtype):
            y, reference = layer(x), static(x)
        assert y.dtype == reference.dtype == dtype
        assert (y.float() - layer(x)).abs().max() < 0.05 * layer(x).abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_autocast_keeps_float64(name: str, dtype: torch.dtype) -> None:
    """The fast depthwise convolution cast it down."""
    layer, static = randomized(make(name)), make_static(name)
    x = example(name, 2).requires_grad_()
    expected = layer(x)
    with torch.autocast("cpu", dtype):
        y, reference = layer(x), static(x)
    assert y.dtype == reference.dtype == torch.float64
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_fp16_autocast_of_a_large_bright_image_does_not_overflow(batch: int, training: bool) -> None:
    """The sum of its pixels is 1.5 * 224 * 224 = 75,264, above fp16's 65,504."""
    x = torch.full((batch, 3, 224, 224), 1.5)
    layer = DynamicConv2d(3, 8, 1, bias=False)
    norm = nn.BatchNorm2d(8).eval()
    attention = layer.attention(x)
    fused = FusedDynamicConv2d(copy.deepcopy(layer), norm)
    with torch.set_grad_enabled(training), torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(layer.attention(x).float(), attention, rtol=0, atol=1e-3)
        torch.testing.assert_close(layer(x).float(), layer(x).float().clamp(-100, 100), rtol=0, atol=0)
        assert fused(x).isfinite().all()


def test_fp16_attention_of_a_large_bright_image_does_not_overflow() -> None:
    attention = KernelAttention(2, 3, 1, temperature=1.0, kind="softmax")
    x = torch.full((1, 2, 224, 224), 1.5)
    expected = attention(x)
    torch.testing.assert_close(attention.half()(x.half()).float(), expected, rtol=0, atol=1e-3)
