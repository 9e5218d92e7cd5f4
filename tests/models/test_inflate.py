"""An inflated model starts as the static one it was made of, and is free to become another."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pose.config.pose import Config, ModelConfig
from pose.models import build_pose_net
from pose.models.backbones.blocks import ConvBNAct, ConvLayer, InvertedResidual
from pose.models.dynamic_conv import DynamicConv2d, set_temperature
from pose.models.inflate import inflate

BOTH = {"dynamic_backbone": True, "dynamic_head": True}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make_model(**model: Any) -> nn.Module:
    """MobileNetV2 with few blocks and a thin type-B head."""
    return build_pose_net(Config(model=ModelConfig(**{"width": 0.35, "depth": 0.4, "head_width": 0.25} | model)))


def lively(net: nn.Module) -> nn.Module:
    """As after training: signals of one size throughout, and a batch norm that does something in evaluation."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net


def inflated(static: nn.Module, dynamic: nn.Module, **options: Any) -> nn.Module:
    dynamic.load_state_dict(inflate(static.state_dict(), dynamic, **options))
    return dynamic


@torch.no_grad()
def distance(one: Tensor, other: Tensor) -> float:
    """Largest difference, as a part of the largest output."""
    return ((one - other).abs().max() / other.abs().max()).item()


def dynamic_layers(net: nn.Module) -> dict[str, DynamicConv2d]:
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, DynamicConv2d)}


def assert_starts_alike(static: nn.Module, dynamic: nn.Module, training: bool, temperature: float = 30.0) -> None:
    """In double precision, as single precision alone moves the outputs of so deep a random model by 1e-5 and more."""
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    inflated(static.double().train(training), dynamic.double().train(training))
    set_temperature(dynamic, temperature)
    with torch.no_grad():
        expected, found = static(images), dynamic(images)
    assert (expected[0] - expected[1]).abs().max() > 0.1 * expected.abs().max()  # not all bias
    assert distance(found, expected) < 1e-5
    torch.testing.assert_close(dict(dynamic.named_buffers()), dict(static.named_buffers()) | temperatures(dynamic))


def temperatures(net: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in net.named_buffers() if name.endswith("temperature")}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("num_kernels", [1, 2, 4, 6])
@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_a_dynamic_model_starts_with_the_static_models_outputs(
    attention: str, num_kernels: int, training: bool
) -> None:
    dynamic = make_model(**BOTH, attention=attention, num_kernels=num_kernels)

    assert_starts_alike(lively(make_model()), dynamic, training)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 30.0, 1000.0])
def test_it_starts_so_at_any_temperature(temperature: float, training: bool) -> None:
    assert_starts_alike(lively(make_model()), make_model(**BOTH), training, temperature)


@pytest.mark.parametrize(
    "where",
    [
        {"dynamic_backbone": True},
        {"dynamic_head": True},
        {"dynamic_backbone": True, "dynamic_last": True},
        BOTH | {"dynamic_last": True},
        {},
    ],
    ids=lambda where: "+".join(where) or "nowhere",
)
def test_models_dynamic_in_parts_start_alike(where: dict[str, bool]) -> None:
    assert_starts_alike(lively(make_model()), make_model(**where), training=False)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_full_model_differs_by_no_more_than_single_precision_does_anyway(training: bool) -> None:
    full = {"width": 1.0, "depth": 1.0, "head_width": 1.0}
    static = lively(make_model(**full)).train(training)
    dynamic = inflated(static, make_model(**full, **BOTH)).train(training)
    exact = deepcopy(static).double()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = exact(images.double())
        ours, single_precision = distance(dynamic(images), expected), distance(static(images), expected)

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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", LAYERS)
def test_one_layer_starts_as_the_convolution_it_was(kind: str, attention: str, batch: int) -> None:
    static = nn.Conv2d(8, 16, **{"bias": False} | LAYERS[kind]).double()
    x = torch.randn(batch, 8, 9, 7, dtype=torch.double)
    dynamic = inflated(static, DynamicConv2d(8, 16, **LAYERS[kind], attention=attention, temperature=0.5).double())

    assert distance(dynamic(x), static(x)) < 1e-6


def test_under_softmax_the_kernels_start_equal_under_sigmoid_a_tenth_of_a_deviation_apart() -> None:
    static = nn.Conv2d(32, 48, 3, bias=False)
    kernels = inflated(static, DynamicConv2d(32, 48, 3, num_kernels=4)).weight
    sigmoids = inflated(static, DynamicConv2d(32, 48, 3, num_kernels=4, attention="sigmoid")).weight * 2

    assert torch.equal(kernels, static.weight.expand_as(kernels))
    torch.testing.assert_close(sigmoids.mean(0), static.weight, rtol=0, atol=1e-6)
    apart = (sigmoids - sigmoids.mean(0)).square().sum(0).div(4 - 1).mean().sqrt()
    assert (apart / static.weight.std()).item() == pytest.approx(0.1, rel=0.02)


def small_model(conv_layer: ConvLayer) -> nn.Module:
    """Depthwise, 1x1 and dense convolutions with enough channels that no attention's hidden units are all dead."""
    return nn.Sequential(
        ConvBNAct(3, 32, 3),
        ConvBNAct(32, 32, 3, conv_layer=conv_layer),
        InvertedResidual(32, 64, 32, conv_layer=conv_layer),
        nn.Conv2d(32, 2, 1),
    )


def examples() -> tuple[Tensor, Tensor]:
    """Inputs of several colors and contrasts, and random targets with a level of each sample's own."""
    images = torch.randn(16, 3, 8, 8) * torch.linspace(0.2, 2, 16)[:, None, None, None] + torch.randn(16, 3, 1, 1)
    return images, torch.randn(16, 2, 8, 8) + 3 * torch.randn(16, 2, 1, 1)


def train(net: nn.Module, steps: int) -> None:
    images, targets = examples()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(images) - targets).square().mean().backward()
        optimizer.step()


def apart(layer: DynamicConv2d) -> float:
    return (layer.weight - layer.weight.mean(0)).square().mean().sqrt().item()


def attention_weights(net: nn.Module) -> dict[str, Tensor]:
    """(N, K) of each layer, for the examples."""
    found: dict[str, Tensor] = {}
    hooks = [
        layer.attention.register_forward_hook(lambda _, __, weights, name=name: found.update({name: weights.detach()}))
        for name, layer in dynamic_layers(net).items()
    ]
    net(examples()[0])
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("attention", "num_kernels"), [("softmax", 4), ("softmax", 2), ("sigmoid", 4)])
def test_trained_its_kernels_part_and_its_attention_tells_inputs_apart(attention: str, num_kernels: int) -> None:
    conv_layer = partial(DynamicConv2d, num_kernels=num_kernels, attention=attention, temperature=1.0)
    net = inflated(small_model(nn.Conv2d), small_model(conv_layer))
    before = deepcopy(net)
    start = attention_weights(net)

    train(net, steps=40)

    after, weights = dynamic_layers(net), attention_weights(net)
    assert len(after) == 4
    for name, layer in dynamic_layers(before).items():
        moved = after[name].weight - layer.weight
        assert (moved - moved.mean(0)).abs().max() > 1e-4, name  # each on its own
        if attention == "softmax":  # sigmoids need no kernels far apart to weigh them differently
            assert apart(after[name]) > 1e-3, name
        assert weights[name].std(0).max() > 5e-3, name
        assert (weights[name] - start[name]).abs().max() > 1e-3, name
        for linear in ("fc1", "fc2"):
            change = after[name].attention.get_submodule(linear).weight - layer.attention.get_submodule(linear).weight
            assert change.abs().max() > 0.05, (name, linear)


def test_with_a_flat_attention_the_kernels_would_stay_one_for_ever() -> None:
    """Equal kernels get equal gradients, and an attention between them none: why it must not start flat."""
    net = inflated(small_model(nn.Conv2d), small_model(partial(DynamicConv2d, temperature=1.0)))
    for layer in dynamic_layers(net).values():
        nn.init.zeros_(layer.attention.fc2.weight)
        nn.init.zeros_(layer.attention.fc2.bias)
    start = deepcopy(net)

    train(net, steps=40)

    weights = attention_weights(net)
    for name, layer in dynamic_layers(net).items():
        assert not torch.allclose(layer.weight, start.get_submodule(name).weight)  # it did train
        torch.testing.assert_close(layer.weight, layer.weight[:1].expand_as(layer.weight), rtol=0, atol=1e-5)
        torch.testing.assert_close(weights[name], torch.full_like(weights[name], 0.25), rtol=0, atol=1e-3)


def test_a_dynamic_state_passes_through_untouched() -> None:
    trained, net = make_model(**BOTH), make_model(**BOTH)
    state = trained.state_dict()

    passed = inflate(state, net)

    assert list(passed) == list(state)
    assert all(passed[name] is state[name] for name in state)


def test_what_is_dynamic_already_stays_and_the_rest_is_inflated() -> None:
    half = inflated(lively(make_model()), make_model(dynamic_backbone=True))
    for layer in dynamic_layers(half).values():
        nn.init.normal_(layer.attention.fc2.weight)

    assert_starts_alike(half, make_model(**BOTH), training=False)


def test_a_static_model_takes_a_static_state_as_it_is() -> None:
    state = make_model().state_dict()

    assert inflate(state, make_model()) == state


def test_the_seed_decides_how_the_kernels_of_sigmoids_differ_and_nothing_else_does() -> None:
    static, net = make_model().state_dict(), make_model(**BOTH, attention="sigmoid")
    one = inflate(static, net)
    torch.rand(7)
    again, other = inflate(static, net), inflate(static, net, seed=1)

    torch.testing.assert_close(again, one, rtol=0, atol=0)
    banks = [f"{name}.weight" for name in dynamic_layers(net)]
    assert all(not torch.equal(one[name], other[name]) for name in banks)
    assert all(torch.equal(one[name], other[name]) for name in one.keys() - set(banks))


def test_layers_of_one_shape_get_differences_of_their_own() -> None:
    static = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False))
    static[1].load_state_dict(static[0].state_dict())
    layers = (DynamicConv2d(8, 8, 1, attention="sigmoid") for _ in range(2))
    net = inflated(static, nn.Sequential(*layers))

    assert not torch.allclose(net[0].weight, net[1].weight)


def test_neither_the_state_nor_the_model_nor_torchs_random_state_changes() -> None:
    static, net = make_model().state_dict(), make_model(**BOTH)
    before, model_before = deepcopy(static), deepcopy(net.state_dict())
    random = torch.get_rng_state()

    found = inflate(static, net)
    for value in found.values():
        if value.is_floating_point() and not any(value is one for one in static.values()):
            value += 1

    torch.testing.assert_close(static, before, rtol=0, atol=0)
    torch.testing.assert_close(net.state_dict(), model_before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_the_attention_starts_as_the_model_drew_it_but_for_the_last_layer_of_sigmoids(attention: str) -> None:
    static, net = make_model(), make_model(**BOTH, attention=attention)
    set_temperature(net, 7.0)
    drawn = deepcopy(net)

    inflated(static, net)

    for name, layer in dynamic_layers(net).items():
        was = drawn.get_submodule(name).attention
        assert torch.equal(layer.attention.fc1.weight, was.fc1.weight)
        assert layer.attention.temperature == 7.0
        assert torch.equal(layer.attention.fc2.weight, was.fc2.weight) == (attention == "softmax")
        if attention == "sigmoid":
            assert not layer.attention.fc2.weight.any()
            assert not layer.attention.fc2.bias.any()
