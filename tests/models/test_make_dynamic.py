"""Public models made dynamic: equal outputs at the start, gradients, saving, fusing, ONNX, and the choice of layers."""

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import pose
from pose.models.depthwise import Conv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicConv1d, DynamicConvTranspose2d, DynamicLinear
from pose.models.fuse import fuse
from pose.models.fused_conv import BatchFreeDynamicConv2d, FusedDynamicConv2d
from pose.models.kernel_attention import KernelAttention

NO_WEIGHTS: dict[str, Any] = {"weights": None}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(width_mult=0.35, **NO_WEIGHTS),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(**NO_WEIGHTS),
    "resnet18": lambda: torchvision.models.resnet18(**NO_WEIGHTS),
    "efficientnet_b0": lambda: torchvision.models.efficientnet_b0(**NO_WEIGHTS),
    "shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(**NO_WEIGHTS),
    "mnasnet0_5": lambda: torchvision.models.mnasnet0_5(**NO_WEIGHTS),
    "regnet_y_400mf": lambda: torchvision.models.regnet_y_400mf(**NO_WEIGHTS),
    "convnext": lambda: torchvision.models.ConvNeXt(
        [torchvision.models.convnext.CNBlockConfig(*sizes) for sizes in ((24, 48, 1), (48, 96, 2), (96, None, 1))]
    ),
    "lraspp_mobilenet_v3_large": lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights_backbone=None, **NO_WEIGHTS
    ),
    "ssdlite320_mobilenet_v3_large": lambda: torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights_backbone=None, **NO_WEIGHTS
    ),
}


def lively(model: nn.Module) -> nn.Module:
    """Randomize batch norms and layer scales: with those of a new model, deep layers hardly depend on the image."""
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model.eval()


def images(batch: int = 2, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


def tensors(output: Any) -> Iterator[Tensor]:
    """Yield all tensors of an output."""
    if isinstance(output, Tensor):
        yield output
    else:
        for value in output.values() if isinstance(output, dict) else output:
            yield from tensors(value)


def run(model: nn.Module, x: Tensor) -> Tensor:
    """Return all outputs as one vector; of a detector those of its head, before the choice of boxes."""
    output = model.head(list(model.backbone(x).values())) if hasattr(model, "anchor_generator") else model(x)
    return torch.cat([tensor.flatten() for tensor in tensors(output)])


def assert_same(model: nn.Module, reference: nn.Module, x: Tensor | None = None) -> None:
    """Compare in float64, where rounding is far below any error."""
    x = images() if x is None else x
    with torch.no_grad():
        expected, outputs = run(reference.double(), x), run(model.double(), x)
    assert expected.std() > 1e-3
    assert (outputs - expected).abs().max() < 1e-12 * expected.abs().max()


def dynamic_layers(model: nn.Module) -> dict[str, DynamicConv2d]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, DynamicConv2d)}


def with_input_dependent_attention(model: nn.Module) -> nn.Module:
    """Give the attention as a trained one, and each kernel its own values."""
    for layer in model.modules():
        if isinstance(layer, KernelAttention):
            nn.init.normal_(layer.fc2.weight, std=3.0)
        if isinstance(layer, DynamicConv2d):
            with torch.no_grad():
                layer.weight.mul_(torch.empty_like(layer.weight).uniform_(0.8, 1.2))
    pose.set_temperature(model, 2.0)
    return model


@pytest.fixture(scope="module", params=MODELS)
def static(request: pytest.FixtureRequest) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lively(MODELS[request.param]())


@pytest.fixture(scope="module")
def dynamic(static: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return pose.make_dynamic(static)


def test_all_convolutions_but_the_first_are_dynamic(static: nn.Module, dynamic: nn.Module) -> None:
    convs = [name for name, layer in static.named_modules() if isinstance(layer, nn.Conv2d)]
    assert list(dynamic_layers(dynamic)) == convs[1:]
    assert type(dynamic) is type(static)
    assert not dynamic_layers(static)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_outputs_are_those_of_the_static_model(static: nn.Module, dynamic: nn.Module, training: bool) -> None:
    pair = [copy.deepcopy(model).train(training) for model in (dynamic, static)]
    for layer in (layer for model in pair for layer in model.modules()):
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, torchvision.ops.StochasticDepth):
            layer.p = 0.0
    assert_same(*pair)


def test_gradients_reach_every_kernel_and_attention(dynamic: nn.Module) -> None:
    model = with_input_dependent_attention(copy.deepcopy(dynamic)).double()
    run(model, images()).square().sum().backward()
    for name, layer in dynamic_layers(model).items():
        assert layer.weight.grad is not None
        assert all(gradient.any() for gradient in layer.weight.grad), name
        assert layer.attention.fc2.weight.grad is not None
        assert layer.attention.fc2.bias.grad.any(), name


def test_saved_weights_load_into_a_new_dynamic_model(static: nn.Module, dynamic: nn.Module) -> None:
    model = with_input_dependent_attention(copy.deepcopy(dynamic))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = pose.make_dynamic(static)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(other, model)


def test_fused_model_has_the_same_outputs(dynamic: nn.Module) -> None:
    model = with_input_dependent_attention(copy.deepcopy(dynamic)).double()
    fused = fuse(model, strict=False)
    for batch in (1, 2):
        assert_same(fused, model, images(batch))
    norms = [name for name, layer in fused.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not norms
    assert all(layer.temperature == 1 for layer in fused.modules() if isinstance(layer, KernelAttention))


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_onnx_file_of_the_fused_model_has_the_same_outputs(name: str, tmp_path: Any) -> None:
    """With a free batch in the form for ONNX Runtime, and with one image as the model is."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = with_input_dependent_attention(pose.make_dynamic(lively(MODELS[name]())))
    fused = fuse(model)
    free = copy.deepcopy(fused)
    for parent in list(free.modules()):
        for child, layer in parent.named_children():
            if isinstance(layer, FusedDynamicConv2d):
                setattr(parent, child, BatchFreeDynamicConv2d(layer.conv, layer.shift))
    for graph, batches, axes in ((fused, (1,), None), (free, (1, 3), {"images": {0: "batch"}})):
        file = tmp_path / "model.onnx"
        torch.onnx.export(
            graph, (images(1, torch.float),), str(file), input_names=["images"], dynamic_axes=axes, dynamo=False
        )
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        for batch in batches:
            x = images(batch, torch.float)
            with torch.no_grad():
                expected = model(x)
            (output,) = session.run(None, {"images": x.numpy()})
            assert (torch.from_numpy(output) - expected).abs().max() < 1e-4 * expected.abs().max()


# --- which layers, and how


class Reversed(nn.Conv2d):
    """A subclass with its own forward pass."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flip(-1))


def small_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", padding_mode="reflect"),
        nn.Sequential(nn.Conv2d(8, 8, 4, padding="same", groups=8), Conv2d(8, 8, 5, padding=2, groups=8, bias=False)),
        Reversed(8, 8, 1),
        nn.Conv2d(8, 6, (3, 1), (2, 1), (1, 0), dilation=2, groups=2),
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["1.0", "1.1", "3"]),
        ({"skip_first": False}, ["0", "1.0", "1.1", "3"]),
        ({"include": "1.*"}, ["1.0", "1.1"]),
        ({"include": ["0", "1.1", "3"]}, ["1.1", "3"]),
        ({"include": lambda name: name.endswith("0"), "skip_first": False}, ["0", "1.0"]),
        ({"exclude": ["1.0", "3"]}, ["1.1"]),
        ({"exclude": lambda name: name == "3"}, ["1.0", "1.1"]),
        ({"include": "1.?", "exclude": "*.1"}, ["1.0"]),
    ],
    ids=["all", "first too", "pattern", "names", "function", "exclude names", "exclude function", "both"],
)
def test_names_choose_the_layers(options: dict[str, Any], names: list[str]) -> None:
    model = small_model()
    dynamic = pose.make_dynamic(model, **options)
    assert list(dynamic_layers(dynamic)) == names
    assert_same(dynamic, model, torch.randn(2, 3, 9, 8, dtype=torch.double))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["1.*", "layer3.*"]}, "include: expected the name of an nn.Conv2d, got 'layer3.*'; no match"),
        ({"include": "0"}, "expected at least one nn.Conv2d to replace, got none of 4"),
        ({"exclude": "*"}, "expected at least one nn.Conv2d"),
        ({"num_kernels": 0}, "num_kernels >= 1"),
        ({"attention": "tanh"}, "'softmax' or 'sigmoid'"),
    ],
)
def test_wrong_arguments_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        pose.make_dynamic(small_model(), **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_options_reach_every_layer_and_outputs_stay(attention: Any) -> None:
    model = small_model()
    dynamic = pose.make_dynamic(model, 3, 5.0, reduction=2, attention=attention)
    for layer in dynamic_layers(dynamic).values():
        assert layer.num_kernels == 3
        assert layer.attention.temperature == 5
        if attention == "softmax":
            assert layer.attention.fc1.out_features == layer.in_channels // 2
        assert layer.attention.kind == attention
        assert torch.equal(layer.weight[0], layer.weight[1]) == (attention == "softmax")
    if attention == "softmax":
        assert_same(dynamic, model, torch.randn(2, 3, 9, 8, dtype=torch.double))
    else:  # the random differences between its kernels are of float32
        x = torch.randn(2, 3, 9, 8, dtype=torch.double)
        torch.testing.assert_close(dynamic.double()(x), model.double()(x), rtol=1e-5, atol=1e-5)


def test_a_convolution_itself_becomes_dynamic() -> None:
    conv = nn.Conv2d(3, 4, 3)
    dynamic = pose.make_dynamic(conv, skip_first=False)
    assert isinstance(dynamic, DynamicConv2d)
    assert_same(dynamic, conv)


def test_a_layer_with_two_names_stays_one_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    model.append(model[1])
    dynamic = pose.make_dynamic(model)
    assert isinstance(dynamic[1], DynamicConv2d)
    assert dynamic[1] is dynamic[2]
    assert_same(dynamic, model)


def test_layers_that_compute_something_else_stay() -> None:
    hooked = nn.Conv2d(3, 3, 1)
    hooked.register_forward_hook(lambda layer, inputs, output: output + 1)
    normalized = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    model = nn.Sequential(hooked, normalized, nn.Conv2d(3, 3, 1), Reversed(3, 3, 1))
    dynamic = pose.make_dynamic(model, skip_first=False)
    assert list(dynamic_layers(dynamic)) == ["2"]
    assert_same(dynamic, model)


def test_dtype_mode_and_requires_grad_are_kept() -> None:
    model = small_model().to(torch.bfloat16)
    model[1].requires_grad_(False)
    model[1].eval()
    dynamic = pose.make_dynamic(model)
    for parts, is_trained in ((dynamic[1], False), (dynamic[3:], True)):
        assert all(parameter.requires_grad is is_trained for parameter in parts.parameters())
        assert all(layer.training is is_trained for layer in parts.modules() if isinstance(layer, DynamicConv2d))
    assert all(value.dtype == torch.bfloat16 for value in dynamic.state_dict().values())


def test_device_is_kept() -> None:
    dynamic = pose.make_dynamic(small_model().to("meta"))
    assert all(value.is_meta for value in dynamic.state_dict().values())


def test_the_model_and_the_numbers_of_its_layers_are_not_changed() -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    dynamic = pose.make_dynamic(model)
    with torch.no_grad():
        for parameter in dynamic.parameters():
            parameter.add_(1)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    torch.manual_seed(5)
    first = pose.make_dynamic(model).state_dict()
    torch.manual_seed(5)
    torch.testing.assert_close(pose.make_dynamic(model).state_dict(), first, rtol=0, atol=0)


# --- helpers for training


def test_attention_parameters_are_those_of_all_attentions() -> None:
    dynamic = pose.make_dynamic(small_model())
    names = {id(parameter): name for name, parameter in dynamic.named_parameters()}
    attention = [names[id(parameter)] for parameter in pose.attention_parameters(dynamic)]
    assert attention == [name for name in names.values() if ".attention." in name]
    assert len(attention) == 4 * 3
    assert pose.attention_parameters(small_model()) == []


def test_kernels_separate_in_training() -> None:
    """With an attention group and annealing, as in docs/make_dynamic.md."""
    model = with_input_dependent_attention(pose.make_dynamic(small_model()))
    attention = pose.attention_parameters(model)
    others = [parameter for parameter in model.parameters() if all(parameter is not other for other in attention)]
    optimizer = torch.optim.SGD([{"params": others}, {"params": attention, "weight_decay": 0.0}], 0.01)
    x = torch.randn(4, 3, 9, 8) * torch.tensor([0.2, 1.0, 2.0, 4.0])[:, None, None, None]
    before = model(x).square().mean().item()
    for epoch in range(5):
        pose.set_temperature(model, max(1.0, 30.0 - 6 * epoch))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert model(x).square().mean().item() < before
    for layer in dynamic_layers(model).values():
        assert not torch.allclose(layer.weight[0], layer.weight[1])


def test_report_counts_parameters_and_multiply_adds() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(8, 4, 1))
    report = pose.dynamic_report(pose.make_dynamic(model), torch.zeros(1, 3, 8, 6))
    attention = 8 * 2 + 2 + 2 * 4 + 4
    depthwise, pointwise = 8 * 9 + 8, 8 * 4 + 4
    static = [8 * 27 * 48, 8 * 9 * 12, 8 * 4 * 12]
    added = [8 * 48 + 8 * 2 + 2 * 4 + 4 * depthwise, 8 * 12 + 8 * 2 + 2 * 4 + 4 * pointwise]
    total = sum(parameter.numel() for parameter in model.parameters())
    dynamic_total = total + 3 * (depthwise + pointwise) + 2 * attention
    assert [" ".join(line.replace(",", "").split()) for line in report.splitlines()] == [
        "layer kernel K params static dynamic MAdds static dynamic",
        f"1 depthwise 3x3 4 {depthwise} {4 * depthwise + attention} {static[1]} {static[1] + added[0]}",
        f"2 1x1 4 {pointwise} {4 * pointwise + attention} {static[2]} {static[2] + added[1]}",
        f"total 2 dynamic layers {total} {dynamic_total} {sum(static)} {sum(static) + sum(added)}",
    ]
    assert len(pose.dynamic_report(model).splitlines()) == 2


def test_report_knows_all_dynamic_layers_and_leaves_the_model_as_it_is() -> None:
    model = nn.Sequential(
        DynamicConv2d(3, 4, 3), DynamicConvTranspose2d(4, 4, 2, groups=2), nn.Flatten(2), DynamicConv1d(4, 4, 3),
        DynamicLinear(7 * 5 - 2, 5),
    )  # fmt: skip
    report = pose.dynamic_report(model, torch.zeros(1, 3, 8, 6))
    assert [tuple(filter(None, line.split("  ")))[1].strip() for line in report.splitlines()[1:-1]] == [
        "3x3",
        "2x2, 2 groups",
        "3",
        "linear",
    ]
    assert all(layer.training for layer in model.modules())
    assert not any(layer._forward_hooks for layer in model.modules())


def test_report_takes_the_inputs_of_any_model() -> None:
    model = pose.make_dynamic(MODELS["ssdlite320_mobilenet_v3_large"]())
    last = pose.dynamic_report(model, [torch.zeros(3, 64, 64)]).splitlines()[-1]
    assert last.startswith("total, ")
    assert len(last.split()) == 8
