"""Recorded and modified attention, compared with single samples and with the definition of entropy."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose.models.attention_probe import (
    AttentionRecord,
    LayerAttention,
    argmax_only,
    attention_modes,
    average,
    changed_attention,
    constant,
    dynamic_layers,
    shuffle_across,
    shuffle_within,
)
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicLinear
from pose.models.kernel_attention import set_temperature


@pytest.fixture
def model() -> nn.Sequential:
    """Layers with inputs at strides 2, 2, 4, 2 after a static stem, with attention far from uniform."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        DynamicConv2d(8, 8, 1, bias=False, reduction=1),
        DynamicConv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False, num_kernels=3, reduction=1),
        DynamicConv2d(8, 6, 1, bias=False, num_kernels=1),
        nn.Upsample(scale_factor=2),
        DynamicConv2d(6, 5, (3, 1), padding=(1, 0), bias=True, reduction=1, attention="sigmoid"),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    set_temperature(model, 2.0)
    return model.double().eval().requires_grad_(False)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 16, 12, dtype=torch.float64)


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# --- recording


def test_dynamic_layers_lists_all_dynamic_convolutions_with_several_kernels(model: nn.Sequential) -> None:
    assert list(dynamic_layers(model)) == ["1", "2", "5"]
    assert dynamic_layers(nn.Sequential(nn.Conv2d(3, 4, 1))) == {}


def test_record_holds_the_attention_of_all_batches_in_order(model: nn.Sequential, images: Tensor) -> None:
    with AttentionRecord(model) as record:
        model(images[:3])
        model(images[3:])

    x = images
    expected = {}
    for name, layer in model.named_children():
        if name in ("1", "2", "5"):
            expected[name] = layer.attention(x)
        x = layer(x)
    layers = record.layers()
    assert [layer.name for layer in layers] == list(expected)
    for layer in layers:
        assert layer.weights.dtype == torch.float64
        torch.testing.assert_close(layer.weights, expected[layer.name])


def test_record_describes_layers_by_kernel_and_stride(model: nn.Sequential, images: Tensor) -> None:
    with AttentionRecord(model) as record:
        model(images)

    described = [(layer.kind, layer.stride) for layer in record.layers()]
    assert described == [("1x1", 2), ("depthwise 3x3", 2), ("3x1", 2)]


def test_a_dynamic_classifier_is_the_deepest_layer_and_its_attention_can_be_changed(images: Tensor) -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    linear = DynamicLinear(3, 4, num_kernels=8, attention="sigmoid")
    model = nn.Sequential(pooled, linear).double().eval().requires_grad_(False)
    with AttentionRecord(model) as record:
        model(images)

    (layer,) = record.layers()
    assert (layer.name, layer.kind, layer.stride) == ("1", "linear", 16)
    torch.testing.assert_close(layer.weights, torch.sigmoid(linear.attention.fc2(images.mean((2, 3)))))
    with changed_attention(model, {"1": average}):
        means = layer.weights.mean(1)[:, None]
        expected = means * (images.mean((2, 3)) @ linear.weight.sum(0).T + linear.bias.sum(0))
        torch.testing.assert_close(model(images), expected)


def test_stride_is_rounded_for_odd_input_sizes(model: nn.Sequential) -> None:
    with AttentionRecord(model) as record:
        model(torch.randn(1, 3, 21, 21, dtype=torch.float64))  # inputs of 11 and 12 rows

    assert [layer.stride for layer in record.layers()] == [2, 2, 2]


def test_record_leaves_out_layers_without_forward_pass(model: nn.Sequential, images: Tensor) -> None:
    with AttentionRecord(model) as record:
        pass
    model(images)

    assert record.layers() == []


def test_recording_does_not_change_outputs_and_removes_its_hooks(model: nn.Sequential, images: Tensor) -> None:
    before = model(images)
    with AttentionRecord(model):
        during = model(images)

    assert torch.equal(during, before)
    assert count_hooks(model) == 0
    with pytest.raises(ZeroDivisionError), AttentionRecord(model):
        raise ZeroDivisionError
    assert count_hooks(model) == 0


# --- statistics


def layer_of(*rows: list[float]) -> LayerAttention:
    return LayerAttention("a", "1x1", 4, torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize(
    ("row", "entropy"),
    [
        ([0.25, 0.25, 0.25, 0.25], 1),
        ([0, 0, 1, 0], 0),
        ([0.5, 0, 0.5, 0], 0.5),
        ([0.1, 0.2, 0.7], (0.1 * math.log(10) + 0.2 * math.log(5) + 0.7 * math.log(10 / 7)) / math.log(3)),
        ([0.3, 0.3, 0.3, 0.3], 1),
        ([0.2, 0.4, 1.4], (0.1 * math.log(10) + 0.2 * math.log(5) + 0.7 * math.log(10 / 7)) / math.log(3)),
    ],
    ids=["uniform", "single", "two of four", "uneven", "uniform sigmoid", "uneven sigmoid"],
)
def test_entropy_is_1_for_uniform_weights_and_0_for_a_single_kernel(row: list[float], entropy: float) -> None:
    assert layer_of(row).entropy.item() == pytest.approx(entropy)


@pytest.mark.parametrize(
    ("rows", "variation"),
    [
        ([[0.1, 0.2, 0.7]] * 3, 0),
        ([[1.0, 0, 0, 0], [0, 1, 0, 0]], 0.5),
        ([[1.0, 0], [0, 1]], 1),
        ([[0.75, 0.25], [0.25, 0.75]], 1 - (0.75 * math.log2(4 / 3) + 0.25 * 2)),
    ],
)
def test_variation_is_the_mutual_information_of_input_and_kernel(rows: list[list[float]], variation: float) -> None:
    assert layer_of(*rows).variation == pytest.approx(variation, abs=1e-12)


def test_variation_of_equal_inputs_is_not_negative() -> None:
    rows = torch.rand(1, 7, dtype=torch.float64).softmax(1).expand(1000, 7)
    assert 0 <= LayerAttention("a", "1x1", 4, rows).variation < 1e-12


@pytest.mark.parametrize(
    ("rows", "kernels"),
    [
        ([[0, 1, 0, 0]] * 2, 1),
        ([[0.25] * 4] * 2, 4),
        ([[1, 0, 0, 0], [0, 1, 0, 0]], 2),
        ([[0.8, 0.2], [0.8, 0.2]], 0.8**-0.8 * 0.2**-0.2),
        ([[1.6, 0.4], [1.6, 0.4]], 0.8**-0.8 * 0.2**-0.2),
    ],
    ids=["one for all", "uniform", "one each", "uneven", "uneven sigmoid"],
)
def test_effective_kernels_count_what_all_inputs_together_use(rows: list[list[float]], kernels: float) -> None:
    assert layer_of(*rows).effective_kernels == pytest.approx(kernels)


def test_as_dict_has_all_statistics() -> None:
    statistics = layer_of([0.5, 0.5], [1, 0]).as_dict()

    assert statistics.pop("effective_kernels") == pytest.approx(0.75**-0.75 * 0.25**-0.25)

    assert statistics.pop("variation") == pytest.approx((0.75 * math.log2(4 / 3) + 0.25 * 2) - 0.5)
    assert statistics == {
        "name": "a", "kind": "1x1", "stride": 4,
        "entropy_mean": 0.5, "entropy_std": 0.5, "mean_weights": [0.75, 0.25],
    }  # fmt: skip


# --- changes


def convolve(layer: DynamicConv2d, weights: list[float], x: Tensor) -> Tensor:
    """Convolve one sample (C, H, W) with the kernels aggregated by given weights."""
    kernel = sum(pi * w for pi, w in zip(weights, layer.weight, strict=True))
    bias = None if layer.bias is None else sum(pi * b for pi, b in zip(weights, layer.bias, strict=True))
    return functional.conv2d(x[None], kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)[0]


@pytest.mark.parametrize("name", ["1", "2"])
def test_average_gives_the_convolution_with_the_mean_kernel(name: str, model: nn.Sequential) -> None:
    layer = dynamic_layers(model)[name]
    x = torch.randn(5, 8, 6, 5, dtype=torch.float64)

    with changed_attention(model, {name: average}):
        changed = layer(x)

    expected = functional.conv2d(x, layer.weight.mean(0), None, layer.stride, layer.padding, 1, layer.groups)
    torch.testing.assert_close(changed, expected)


@pytest.mark.parametrize("name", ["1", "2", "5"])
def test_argmax_only_gives_the_sum_of_weights_to_the_largest_kernel(name: str, model: nn.Sequential) -> None:
    layer = dynamic_layers(model)[name]
    x = torch.randn(20, layer.in_channels, 6, 5, dtype=torch.float64) + torch.randn(20, layer.in_channels, 1, 1)
    weights = layer.attention(x)

    with changed_attention(model, {name: argmax_only}):
        changed = layer(x)

    for sample, row, output in zip(x, weights.tolist(), changed, strict=True):
        expected = [sum(row) if value == max(row) else 0.0 for value in row]
        torch.testing.assert_close(output, convolve(layer, expected, sample))
    assert len(set(weights.argmax(1).tolist())) > 1  # otherwise one static kernel would pass


def test_average_keeps_the_sum_of_sigmoid_weights_of_each_input() -> None:
    weights = torch.tensor([[0.1, 0.5], [1.0, 0.2]])
    torch.testing.assert_close(average(weights), torch.tensor([[0.3, 0.3], [0.6, 0.6]]))


def test_constant_weights_give_a_static_convolution(model: nn.Sequential) -> None:
    layer = dynamic_layers(model)["5"]
    x = torch.randn(3, 6, 6, 5, dtype=torch.float64)

    with changed_attention(model, {"5": constant(torch.tensor([0.1, 0.2, 0.3, 0.4]))}):
        changed = layer(x)

    for sample, output in zip(x, changed, strict=True):
        torch.testing.assert_close(output, convolve(layer, [0.1, 0.2, 0.3, 0.4], sample), rtol=1e-6, atol=1e-6)


def test_shuffle_within_permutes_the_weights_of_each_input() -> None:
    weights = torch.rand(200, 4).softmax(1)

    first = shuffle_within(torch.Generator().manual_seed(3))(weights)
    again = shuffle_within(torch.Generator().manual_seed(3))(weights)

    assert torch.equal(first, again)
    assert torch.equal(first.sort(1).values, weights.sort(1).values)
    orders = {tuple(row.argsort().argsort()[old.argsort()].tolist()) for row, old in zip(first, weights, strict=True)}
    assert len(orders) == 9  # all orders of four without a fixed point, each near 22 times
    assert not (first == weights).any()


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_shuffle_across_gives_each_input_the_weights_of_another(count: int) -> None:
    weights = torch.arange(count * 2.0).view(count, 2)

    shuffled = shuffle_across(weights)

    assert sorted(shuffled.tolist()) == weights.tolist()
    assert not (shuffled == weights).any()


def test_shuffle_across_takes_the_same_other_image_in_all_layers(model: nn.Sequential, images: Tensor) -> None:
    with changed_attention(model, dict.fromkeys(dynamic_layers(model), shuffle_across)):
        changed = model(images)

    x = images
    for layer in model:
        weights = layer.attention(x)[[3, 4, 0, 1, 2]] if isinstance(layer, DynamicConv2d) else None
        if weights is None or layer.num_kernels == 1:
            x = layer(x)
        else:
            x = torch.stack([convolve(layer, row, sample) for row, sample in zip(weights.tolist(), x, strict=True)])
    torch.testing.assert_close(changed, x)


def test_shuffle_across_keeps_the_weights_of_a_batch_of_one() -> None:
    weights = torch.rand(1, 4)
    assert torch.equal(shuffle_across(weights), weights)


def test_changed_attention_affects_only_named_layers_and_is_undone(model: nn.Sequential, images: Tensor) -> None:
    before = model(images)
    first = model[1](model[0](images))

    with changed_attention(model, {"2": average}):
        assert torch.equal(model[1](model[0](images)), first)
        assert not torch.allclose(model(images), before)

    assert torch.equal(model(images), before)
    assert count_hooks(model) == 0
    with pytest.raises(ZeroDivisionError), changed_attention(model, {"1": argmax_only}):
        raise ZeroDivisionError
    assert count_hooks(model) == 0


@pytest.mark.parametrize("name", ["0", "3", "nowhere"])
def test_changed_attention_rejects_layers_without_attention(name: str, model: nn.Sequential) -> None:
    with pytest.raises(KeyError), changed_attention(model, {"1": average, name: average}):
        pass
    assert count_hooks(model) == 0


# --- modes


@pytest.fixture
def layers() -> list[LayerAttention]:
    rows = torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=torch.float64)
    return [LayerAttention(name, "1x1", stride, rows) for name, stride in zip("abcd", (2, 16, 4, 16), strict=True)]


def test_modes_are_the_rows_of_the_paper_and_the_mean_of_all_inputs(layers: list[LayerAttention]) -> None:
    modes = attention_modes(layers, torch.Generator())

    assert list(modes) == [
        "averaged", "mean of all inputs", "largest only", "shuffled within each image", "shuffled across images",
        "on from stride 16 to deeper", "on from stride 4 to deeper", "on up to stride 2", "on up to stride 4",
        "only at stride 2", "only at stride 4", "only at stride 16",
        "off at stride 2", "off at stride 4", "off at stride 16",
    ]  # fmt: skip
    assert all(set(modes[name]) == set("abcd") for name in list(modes)[:5])


def test_modes_by_stride_average_the_attention_that_is_off(layers: list[LayerAttention]) -> None:
    modes = attention_modes(layers, torch.Generator())

    assert modes["only at stride 16"] == {"a": average, "c": average}
    assert modes["off at stride 16"] == {"b": average, "d": average}
    assert modes["only at stride 2"] == dict.fromkeys("bcd", average)


def test_mean_of_all_inputs_is_computed_per_layer(layers: list[LayerAttention]) -> None:
    change = attention_modes(layers, torch.Generator())["mean of all inputs"]["b"]

    torch.testing.assert_close(change(torch.rand(3, 2)), torch.tensor([[0.4, 0.6]] * 3))


@pytest.mark.parametrize("kernels", [2, 3, 5, 8])
def test_shuffle_within_leaves_no_kernel_its_weight(kernels: int) -> None:
    weights = torch.rand(500, kernels, dtype=torch.float64)

    shuffled = shuffle_within(torch.Generator().manual_seed(0))(weights)

    assert torch.equal(shuffled.sort(1).values, weights.sort(1).values)
    assert not (shuffled == weights).any()


class _Digits(nn.Module):
    """Layers at input strides 1, 2 and 4 whose attention shows in a digit of the output each, 1 as trained.

    Each layer has two kernels, which map channel 0 to 10^i and to 0, and gives the first one all weight where channel 1
    is positive, else none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DynamicConv2d(2, 1, 1, reduction=2, num_kernels=2, bias=False) for _ in range(3))
        for digit, layer in enumerate(self.layers):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.attention.fc1.bias)
            nn.init.zeros_(layer.attention.fc2.bias)
            layer.weight.data[0, 0, 0] = 10.0**digit
            layer.attention.fc1.weight.data.copy_(torch.tensor([[0.0, 1.0]]))
            layer.attention.fc2.weight.data.copy_(torch.tensor([[1e6], [0.0]]))
            layer.attention.temperature.fill_(1)

    def forward(self, images: Tensor) -> Tensor:
        maps = [functional.avg_pool2d(images, 2**level) for level in range(3)]
        return sum(layer(x).mean((1, 2, 3)) for layer, x in zip(self.layers, maps, strict=True))


def test_each_mode_changes_the_attention_of_the_layers_it_names() -> None:
    """Off is half a unit of a digit: both kernels weigh 1/2."""
    model = _Digits().double().eval()
    images = torch.ones(4, 2, 8, 8, dtype=torch.float64)
    with AttentionRecord(model) as record:
        outputs = {"as trained": model(images)}
    layers = record.layers()
    assert [layer.stride for layer in layers] == [1, 2, 4]
    for mode, changes in attention_modes(layers, torch.Generator().manual_seed(0)).items():
        with changed_attention(model, changes):
            outputs[mode] = model(images)

    assert {mode: output.unique().tolist() for mode, output in outputs.items()} == {
        "as trained": [111.0],
        "averaged": [55.5],
        "mean of all inputs": [111.0],
        "largest only": [111.0],
        "shuffled within each image": [0.0],
        "shuffled across images": [111.0],
        "on from stride 4 to deeper": [105.5],
        "on from stride 2 to deeper": [110.5],
        "on up to stride 1": [56.0],
        "on up to stride 2": [61.0],
        "only at stride 1": [56.0],
        "only at stride 2": [60.5],
        "only at stride 4": [105.5],
        "off at stride 1": [110.5],
        "off at stride 2": [106.0],
        "off at stride 4": [61.0],
    }
