"""Inflated models compute what the static ones do, and their kernels separate in training."""

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pose.config.pose import Config, ModelConfig
from pose.models import build_pose_net
from pose.models.backbones.blocks import ConvBNAct, ConvLayer, InvertedResidual
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.inflate import inflate
from pose.models.kernel_attention import set_temperature

BOTH = {"dynamic_backbone": True, "dynamic_head": True}


def make_model(**options: Any) -> nn.Module:
    """Build a MobileNetV2 with few blocks and a narrow type-B head."""
    return build_pose_net(Config(model=ModelConfig(**{"width": 0.35, "depth": 0.4, "head_width": 0.25} | options)))


def randomized(model: nn.Module) -> nn.Module:
    """Randomize as after training: activations of similar size in all layers and non-trivial batch norm statistics."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def inflated(static: nn.Module, dynamic: nn.Module, **options: Any) -> nn.Module:
    dynamic.load_state_dict(inflate(static.state_dict(), dynamic, **options))
    return dynamic


@torch.no_grad()
def relative_error(outputs: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest output."""
    return ((outputs - expected).abs().max() / expected.abs().max()).item()


def dynamic_layers(model: nn.Module) -> dict[str, DynamicConv2d]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, DynamicConv2d)}


def assert_same_outputs(static: nn.Module, dynamic: nn.Module, training: bool, temperature: float = 30.0) -> None:
    """Compare in float64: float32 alone changes the outputs of such a deep random model by 1e-5 and more."""
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    inflated(static.double().train(training), dynamic.double().train(training))
    set_temperature(dynamic, temperature)
    with torch.no_grad():
        expected, outputs = static(images), dynamic(images)
    assert (expected[0] - expected[1]).abs().max() > 0.1 * expected.abs().max()  # not only bias
    assert relative_error(outputs, expected) < 1e-5
    torch.testing.assert_close(dict(dynamic.named_buffers()), dict(static.named_buffers()) | temperatures(dynamic))


def temperatures(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_buffers() if name.endswith("temperature")}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("num_kernels", [1, 2, 4, 6])
@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_inflated_model_has_the_outputs_of_the_static_model(attention: str, num_kernels: int, training: bool) -> None:
    dynamic = make_model(**BOTH, attention=attention, num_kernels=num_kernels)

    assert_same_outputs(randomized(make_model()), dynamic, training)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 30.0, 1000.0])
def test_inflated_model_has_the_same_outputs_at_any_temperature(temperature: float, training: bool) -> None:
    assert_same_outputs(randomized(make_model()), make_model(**BOTH), training, temperature)


@pytest.mark.parametrize(
    "options",
    [
        {"dynamic_backbone": True},
        {"dynamic_head": True},
        {"dynamic_backbone": True, "dynamic_last": True},
        BOTH | {"dynamic_last": True},
        {},
    ],
    ids=lambda options: "+".join(options) or "none",
)
def test_partly_dynamic_models_have_the_outputs_of_the_static_model(options: dict[str, bool]) -> None:
    assert_same_outputs(randomized(make_model()), make_model(**options), training=False)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_full_size_model_differs_only_by_single_precision_error(training: bool) -> None:
    full = {"width": 1.0, "depth": 1.0, "head_width": 1.0}
    static = randomized(make_model(**full)).train(training)
    dynamic = inflated(static, make_model(**full, **BOTH)).train(training)
    exact = deepcopy(static).double()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = exact(images.double())
        ours, single_precision = relative_error(dynamic(images), expected), relative_error(static(images), expected)

    assert ours < 3 * single_precision
    assert ours < 1e-3


LAYERS: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel_size": 1},
    "pointwise_strided": {"kernel_size": 1, "stride": 2, "bias": True},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 8},
    "depthwise_strided": {"kernel_size": 5, "stride": 2, "padding": 2, "groups": 8, "bias": True},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2, "bias": True},
    "dense": {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": True},
}
LAYERS = {kind: {"bias": False} | options for kind, options in LAYERS.items()}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", LAYERS)
def test_inflated_layer_equals_the_static_convolution(kind: str, attention: str, batch: int) -> None:
    static = nn.Conv2d(8, 16, **{"bias": False} | LAYERS[kind]).double()
    x = torch.randn(batch, 8, 9, 7, dtype=torch.double)
    dynamic = inflated(static, DynamicConv2d(8, 16, **LAYERS[kind], attention=attention, temperature=0.5).double())

    assert relative_error(dynamic(x), static(x)) < 1e-6


def test_kernels_are_equal_for_softmax_and_differ_by_a_tenth_of_the_deviation_for_sigmoid() -> None:
    static = nn.Conv2d(32, 48, 3, bias=False)
    kernels = inflated(static, DynamicConv2d(32, 48, 3, bias=False, num_kernels=4)).weight
    sigmoids = inflated(static, DynamicConv2d(32, 48, 3, bias=False, num_kernels=4, attention="sigmoid")).weight * 2

    assert torch.equal(kernels, static.weight.expand_as(kernels))
    torch.testing.assert_close(sigmoids.mean(0), static.weight, rtol=0, atol=1e-6)
    deviation = (sigmoids - sigmoids.mean(0)).square().sum(0).div(4 - 1).mean().sqrt()
    assert (deviation / static.weight.std()).item() == pytest.approx(0.1, rel=0.02)


def small_model(conv_layer: ConvLayer) -> nn.Module:
    """Build depthwise, 1x1 and dense convolutions with enough channels that no attention has only dead hidden units."""
    return nn.Sequential(
        ConvBNAct(3, 32, 3),
        ConvBNAct(32, 32, 3, conv_layer=conv_layer),
        InvertedResidual(32, 64, 32, conv_layer=conv_layer),
        nn.Conv2d(32, 2, 1),
    )


def examples() -> tuple[Tensor, Tensor]:
    """Return inputs of different color and contrast, and random targets with a different mean per sample."""
    images = torch.randn(16, 3, 8, 8) * torch.linspace(0.2, 2, 16)[:, None, None, None] + torch.randn(16, 3, 1, 1)
    return images, torch.randn(16, 2, 8, 8) + 3 * torch.randn(16, 2, 1, 1)


def train(model: nn.Module, steps: int) -> None:
    images, targets = examples()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(images) - targets).square().mean().backward()
        optimizer.step()


def kernel_deviation(layer: DynamicConv2d) -> float:
    return (layer.weight - layer.weight.mean(0)).square().mean().sqrt().item()


def attention_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the attention (N, K) of each layer for the examples."""
    weights: dict[str, Tensor] = {}
    hooks = [
        layer.attention.register_forward_hook(lambda _, __, output, name=name: weights.update({name: output.detach()}))
        for name, layer in dynamic_layers(model).items()
    ]
    model(examples()[0])
    for hook in hooks:
        hook.remove()
    return weights


@pytest.mark.parametrize(("attention", "num_kernels"), [("softmax", 4), ("softmax", 2), ("sigmoid", 4)])
def test_training_separates_the_kernels_and_makes_attention_depend_on_the_input(
    attention: str, num_kernels: int
) -> None:
    conv_layer = partial(DynamicConv2d, num_kernels=num_kernels, attention=attention, temperature=1.0)
    model = inflated(small_model(nn.Conv2d), small_model(conv_layer))
    before = deepcopy(model)
    start = attention_weights(model)

    train(model, steps=40)

    after, weights = dynamic_layers(model), attention_weights(model)
    assert len(after) == 4
    for name, layer in dynamic_layers(before).items():
        moved = after[name].weight - layer.weight
        assert (moved - moved.mean(0)).abs().max() > 1e-4, name  # different updates per kernel
        if attention == "softmax":  # sigmoid attention varies even with similar kernels
            assert kernel_deviation(after[name]) > 1e-3, name
        assert weights[name].std(0).max() > 5e-3, name
        assert (weights[name] - start[name]).abs().max() > 1e-3, name
        for linear in ("fc1", "fc2") if attention == "softmax" else ("fc2",):
            change = after[name].attention.get_submodule(linear).weight - layer.attention.get_submodule(linear).weight
            assert change.abs().max() > 0.05, (name, linear)


def test_kernels_stay_equal_with_uniform_initial_attention() -> None:
    """Equal kernels get equal gradients and their attention gets none, so it must not be uniform at the start."""
    model = inflated(small_model(nn.Conv2d), small_model(partial(DynamicConv2d, temperature=1.0)))
    for layer in dynamic_layers(model).values():
        nn.init.zeros_(layer.attention.fc2.weight)
        nn.init.zeros_(layer.attention.fc2.bias)
    start = deepcopy(model)

    train(model, steps=40)

    weights = attention_weights(model)
    for name, layer in dynamic_layers(model).items():
        assert not torch.allclose(layer.weight, start.get_submodule(name).weight)  # training changed the weights
        torch.testing.assert_close(layer.weight, layer.weight[:1].expand_as(layer.weight), rtol=0, atol=1e-5)
        torch.testing.assert_close(weights[name], torch.full_like(weights[name], 0.25), rtol=0, atol=1e-3)


def test_dynamic_state_is_passed_through_unchanged() -> None:
    trained, model = make_model(**BOTH), make_model(**BOTH)
    state = trained.state_dict()

    passed = inflate(state, model)

    assert list(passed) == list(state)
    assert all(passed[name] is state[name] for name in state)


def test_only_static_layers_of_a_partly_dynamic_state_are_inflated() -> None:
    half = inflated(randomized(make_model()), make_model(dynamic_backbone=True))
    for layer in dynamic_layers(half).values():
        nn.init.normal_(layer.attention.fc2.weight)

    assert_same_outputs(half, make_model(**BOTH), training=False)


def test_static_state_for_a_static_model_is_unchanged() -> None:
    state = make_model().state_dict()

    assert inflate(state, make_model()) == state


def test_only_the_seed_determines_the_differences_of_sigmoid_kernels() -> None:
    static, model = make_model().state_dict(), make_model(**BOTH, attention="sigmoid")
    first = inflate(static, model)
    torch.rand(7)
    repeated, other = inflate(static, model), inflate(static, model, seed=1)

    torch.testing.assert_close(repeated, first, rtol=0, atol=0)
    banks = [f"{name}.weight" for name in dynamic_layers(model)]
    assert all(not torch.equal(first[name], other[name]) for name in banks)
    assert all(torch.equal(first[name], other[name]) for name in first.keys() - set(banks))


def test_layers_of_equal_shape_get_different_random_differences() -> None:
    static = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False))
    static[1].load_state_dict(static[0].state_dict())
    layers = (DynamicConv2d(8, 8, 1, bias=False, attention="sigmoid") for _ in range(2))
    model = inflated(static, nn.Sequential(*layers))

    assert not torch.allclose(model[0].weight, model[1].weight)


def test_inflate_changes_neither_state_nor_model_nor_global_random_state() -> None:
    static, model = make_model().state_dict(), make_model(**BOTH)
    before, model_before = deepcopy(static), deepcopy(model.state_dict())
    rng_state = torch.get_rng_state()

    state = inflate(static, model)
    for value in state.values():
        if value.is_floating_point() and not any(value is original for original in static.values()):
            value += 1

    torch.testing.assert_close(static, before, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), model_before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), rng_state)


@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_attention_keeps_its_initialization_but_for_the_last_sigmoid_layer(attention: str) -> None:
    static, model = make_model(), make_model(**BOTH, attention=attention)
    set_temperature(model, 7.0)
    initial = deepcopy(model)

    inflated(static, model)

    for name, layer in dynamic_layers(model).items():
        before = initial.get_submodule(name).attention
        if attention == "softmax":
            assert torch.equal(layer.attention.fc1.weight, before.fc1.weight)
        assert layer.attention.temperature == 7.0
        assert torch.equal(layer.attention.fc2.weight, before.fc2.weight) == (attention == "softmax")
        if attention == "sigmoid":
            assert not layer.attention.fc2.weight.any()
            assert not layer.attention.fc2.bias.any()
